"""Read the header of a raster: what is on disk, without a pixel."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from geomm.errors import GridError, ReadError
from geomm.types import BBox

_SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0c": "JP2OpenJPEG",
}
# Only formats that hold their own pixels: VRT, WMS and the like read further files or hosts named in their content.


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster file says of itself."""

    crs: str
    """Authority code where there is one, else WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients of the upper left corner."""
    shape: tuple[int, int]
    """Height and width."""
    dtypes: tuple[str, ...]
    """One per band."""
    nodata: float | None
    """Declared nodata of the first band."""
    descriptions: tuple[str, ...]
    """Band names, made up where the file has none."""
    bbox: BBox
    """West, south, east, north in degrees."""
    tags: dict[str, str]
    """Dataset tags."""


def driver_of(href: str | Path) -> str:
    """Return the GDAL driver for a source, by its first bytes where it is a local file.

    Raises:
        ReadError: the file is missing, or neither TIFF nor JPEG 2000.
    """
    if "://" in str(href):
        return "GTiff"
    try:
        with Path(href).open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ReadError("the raster cannot be opened", where=str(href), why=error.strerror or str(error)) from error
    if start not in _SIGNATURES:
        raise ReadError(
            "the raster is in a format that geomm does not open",
            where=str(href),
            why=f"it starts with {start!r}, neither TIFF nor JPEG 2000",
            fix="convert it: gdal_translate -of COG SOURCE TARGET.tif",
        )
    return _SIGNATURES[start]


def probe(href: str | Path) -> Header:
    """Read the header of a raster.

    Raises:
        ReadError: it cannot be opened, or is neither TIFF nor JPEG 2000.
        GridError: it has no CRS or no geotransform.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    from rasterio.warp import transform_bounds

    driver = driver_of(href)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(href, driver=driver) as src:
                if src.crs is None or src.transform.is_identity:
                    raise GridError(
                        "the raster is not georeferenced",
                        where=str(href),
                        why="it has no CRS" if src.crs is None else "it has no geotransform",
                        fix="assign it first, for example gdal_edit -a_srs EPSG:32632 FILE",
                    )
                code = src.crs.to_authority()
                names = tuple(d or f"band{i}" for i, d in enumerate(src.descriptions, start=1))
                return Header(
                    ":".join(code) if code else src.crs.to_wkt(),
                    tuple(src.transform[:6]),
                    src.shape,
                    src.dtypes,
                    src.nodata,
                    names if len(set(names)) == len(names) else tuple(f"band{i}" for i in range(1, src.count + 1)),
                    transform_bounds(src.crs, "EPSG:4326", *src.bounds),
                    src.tags(),
                )
    except RasterioIOError as error:
        raise ReadError("the raster cannot be opened", where=str(href), why=str(error)) from error
