"""Read the header of a raster: what is on disk, without a pixel."""

from __future__ import annotations

import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from geomm.catalog.limits import check_dataset, check_tiff
from geomm.catalog.policy import POLICY, ReadPolicy, check, shown
from geomm.catalog.scene import Grid
from geomm.catalog.web import ask
from geomm.errors import GridError, ReadError, UnsafeSourceError
from geomm.types import BBox

_SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0c": "JP2OpenJPEG",
}
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")
"""An address with what may be a signature."""
# Only formats that hold their own pixels: VRT, WMS and the like read further files or hosts named in their content.

GDAL_SETTINGS = {
    "GDAL_CACHEMAX": 8 * 2**20,  # bytes; by default a share of the memory. geomm keeps decoded blocks itself
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecar files
    "GDAL_PAM_ENABLED": "NO",  # nor those that say what a file does not
    "GDAL_MAX_BAND_COUNT": POLICY.limits.bands,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    "GDAL_HTTP_MULTIRANGE": "YES",
}
"""How every source is opened."""


_mistrusted: set[str] = set()


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster file says of itself."""

    grid: Grid
    """Its pixels on the ground."""
    dtypes: tuple[str, ...]
    """One per band."""
    nodata: float | None
    """Declared nodata of the first band."""
    scales: tuple[float, ...]
    """Declared scale of every band, 1 where there is none."""
    offsets: tuple[float, ...]
    """Declared offset of every band, 0 where there is none."""
    descriptions: tuple[str, ...]
    """Band names, made up where the file has none."""
    bbox: BBox
    """West, south, east, north in degrees; west is greater than east across the antimeridian."""
    tags: dict[str, str]
    """Dataset tags."""


def driver_of(href: str | Path, path: Path | None) -> str:
    """Return the GDAL driver for a source: by its first bytes where it is a local file, else by its name.

    Raises:
        ReadError: the file is missing, or neither TIFF nor JPEG 2000.
    """
    if path is None:
        return "JP2OpenJPEG" if urlsplit(str(href)).path.lower().endswith(".jp2") else "GTiff"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # pipes and devices may never end
            raise UnsafeSourceError("the raster is not a file", where=shown(href), fix="name a regular file")
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ReadError(
            "the raster cannot be opened",
            where=shown(href),
            why=error.strerror or str(error),
            fix="check the path, and that you may read the file: ls -l FILE",
        ) from error
    if start not in _SIGNATURES:
        raise ReadError(
            "the raster is in a format that geomm does not open",
            where=shown(href),
            why=f"it starts with {start!r}, neither TIFF nor JPEG 2000",
            fix="convert it: gdal_translate -of COG SOURCE TARGET.tif",
        )
    return _SIGNATURES[start]


def open_dataset(href: str | Path, policy: ReadPolicy = POLICY) -> Any:
    """Open a raster with rasterio, restricted to formats that hold their own pixels and to what a policy allows.

    Read from it under ``rasterio.Env(**GDAL_SETTINGS)``, and close it. A band of a scene is opened with
    :func:`geomm.catalog.open_source`, which names it where that fails.

    Raises:
        UnsafeSourceError: the address is not allowed.
        UnavailableError: its server does not answer for now.
        LimitError: it claims more than the policy allows.
        ReadError: it cannot be opened, or is neither TIFF nor JPEG 2000.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    address = check(href, policy)
    path = Path(address.name) if address.kind == "local" else None
    driver = driver_of(href, path)
    if path is not None and driver == "GTiff":
        check_tiff(path, policy.limits)
    if address.kind == "web":
        ask(str(href), policy)
    with rasterio.Env(**GDAL_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if address.name in _mistrusted:
            _forget(address.name, driver)
        try:
            source = rasterio.open(address.name, driver=driver)
        except (RasterioError, ValueError) as error:  # ValueError: texts in the header that are no UTF-8
            if path is None:
                mistrust(href)
            raise ReadError(
                "the raster cannot be opened",
                where=shown(href),
                why=reason(error),
                fix="gdalinfo FILE shows whether it is a raster at all; have it delivered again if it is damaged",
            ) from error
        try:
            check_dataset(source, shown(href), policy.limits)
        except BaseException:
            source.close()
            raise
        return source


def mistrust(href: str | Path) -> None:
    """Let a remote file that could not be read be asked for anew when it is next opened.

    GDAL keeps what it received, whether it was whole or not, and that a file was not there.
    """
    _mistrusted.add(check(href, ReadPolicy(private=True)).name)


def _forget(name: str, driver: str) -> None:
    """Make GDAL drop what it keeps of a remote file: it does so as the file is closed."""
    import rasterio
    from rasterio.errors import RasterioError

    _mistrusted.discard(name)
    with rasterio.Env(CPL_VSIL_CURL_NON_CACHED=name[: name.index("/", 1) + 1], GDAL_HTTP_MAX_RETRY=0):
        try:
            rasterio.open(name, driver=driver).close()
        except RasterioError:
            return


def reason(error: BaseException) -> str:
    """Return what GDAL said, with what led to it."""
    said: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(said) < 8:
        if str(seen) and str(seen) not in said:
            said.append(str(seen))
        seen = seen.__cause__ or seen.__context__
    return _QUERY.sub(r"\1?...", ": ".join(said))[:1000]


def grid_of(source: Any, href: str | Path) -> Grid:
    """Return the grid of an open raster.

    Raises:
        GridError: it has neither a geotransform with a CRS nor ground control points.
    """
    points, points_crs = source.gcps
    if source.crs is not None and not source.transform.is_identity:
        return Grid(_name(source.crs), tuple(source.transform[:6]), source.shape)
    if len(points) >= 3 and points_crs is not None:
        table = tuple((float(p.row), float(p.col), float(p.x), float(p.y)) for p in points)
        return Grid(_name(points_crs), None, source.shape, table)
    raise GridError(
        "the raster is not georeferenced",
        where=str(href),
        why="it has no CRS and no ground control points" if source.crs is None else "it has no geotransform",
        fix="assign it first, for example gdal_edit -a_srs EPSG:32632 FILE",
    )


def probe(href: str | Path) -> Header:
    """Read the header of a raster.

    Raises:
        UnsafeSourceError: the address is not allowed.
        ReadError: it cannot be opened, or is neither TIFF nor JPEG 2000.
        GridError: it is not georeferenced.
    """
    with open_dataset(href) as src:
        names = tuple(d or f"band{i}" for i, d in enumerate(src.descriptions, start=1))
        grid = grid_of(src, href)
        return Header(
            grid,
            src.dtypes,
            src.nodata,
            src.scales,
            src.offsets,
            names if len(set(names)) == len(names) else tuple(f"band{i}" for i in range(1, src.count + 1)),
            degrees_of(grid),
            src.tags(),
        )


def degrees_of(grid: Grid) -> BBox:
    """Return west, south, east, north of a grid, from points all over it.

    West is greater than east where the grid crosses the antimeridian; a grid round a pole spans all longitudes.

    Raises:
        GridError: no point of the grid lies on the ground.
    """
    import numpy as np
    from affine import Affine
    from pyproj import CRS, Transformer

    if grid.transform is None:
        x, y = np.array([[p[2], p[3]] for p in grid.gcps]).T
    else:
        row, column = np.mgrid[0:1:33j, 0:1:33j].reshape(2, -1) * np.array(grid.shape)[:, None]
        x, y = Affine(*grid.transform) * (column, row)
    crs = CRS.from_user_input(grid.crs)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    known = np.isfinite(lon) & np.isfinite(lat)
    if not known.any():
        raise GridError(
            "the raster lies outside its CRS",
            where=f"{grid.crs}, transform {grid.transform}",
            fix="look at the file with gdalinfo, and set its CRS with gdal_edit.py -a_srs EPSG:CODE FILE",
        )
    lon, south, north = lon[known], float(lat[known].min()), float(lat[known].max())
    if crs.is_geographic and float(lon.max()) > 180.0:  # 0 to 360, or a little beyond 180
        if np.ptp(lon) >= 360.0:
            return -180.0, max(south, -90.0), 180.0, min(north, 90.0)
        west, east = ((float(v) + 180.0) % 360.0 - 180.0 for v in (lon.min(), lon.max()))
        return west, max(south, -90.0), east if east > -180.0 else 180.0, min(north, 90.0)
    if crs.is_geographic or np.ptp(lon) <= 180.0:
        return float(lon.min()), max(south, -90.0), float(lon.max()), min(north, 90.0)
    # Points on both sides of the antimeridian: the largest gap between longitudes is what the grid leaves out.
    ordered = np.unique(lon)
    gaps = np.diff(np.append(ordered, ordered[0] + 360.0))
    widest = int(np.argmax(gaps))
    if gaps[widest] < 90.0:  # points in all directions: a pole lies inside
        return -180.0, -90.0 if south < 0 else south, 180.0, north if south < 0 else 90.0
    return float(ordered[(widest + 1) % len(ordered)]), south, float(ordered[widest]), north


def _name(crs: Any) -> str:
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.to_wkt())
