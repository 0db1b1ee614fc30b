"""Choose the one grid of a run. Alignment is a value: a GeoBox, chosen once and passed on."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import bbox_union
from odc.geo.types import resxy_, xy_
from odc.geo.xr import xr_coords
from pyproj.exceptions import CRSError

from geomm.catalog import BandSource, Grid, Scene, grid_of, naming, open_source
from geomm.cube.arguments import check_axes, check_scale, check_size, scenes_of
from geomm.cube.extent import area_of, cut, degrees_around, extent_of, overlap
from geomm.errors import GridError
from geomm.types import BBox

SNAP_TOLERANCE = 0.01
"""Bounds within this part of a pixel of a grid line count as lying on it: files carry 1e-10 m of noise."""
FAR = 30.0
"""Degrees from where a CRS is used beyond which it is none for an area."""
UTM_WIDTH = 60.0
"""Degrees of longitude beyond which a UTM zone is of no use at all."""
UTM_LATITUDES = (-80.0, 84.0)
"""Beyond them there is no UTM zone."""


def common_geobox(
    scenes: Sequence[Scene],
    *,
    crs: str | None = None,
    resolution: float | None = None,
    aoi: BBox | Any | None = None,
) -> GeoBox:
    """Choose one grid for a set of scenes.

    Without options it is the native grid of the finest band, extended to the union of all scenes: pixels of that band
    are then copied, never resampled. Any GeoBox of your own can be used in its place.

    Args:
        scenes: at least one, of any sensors.
        crs: target CRS; ``utm`` for the zone of the middle of the area, ``equal-area`` for a Lambert azimuthal
            equal-area projection about it (pixels of equal ground area, for statistics); default the most frequent
            CRS of the scenes. A CRS of no scene gets a grid with corners at multiples of the pixel size.
        resolution: pixel size in units of the CRS; default the finest one of the scenes in that CRS, else, for a
            projected CRS, the finest one on the ground.
        aoi: west, south, east, north in degrees, to cut the grid to, west greater than east across the antimeridian; or
            a geometry in degrees, or a GeoDataFrame in any CRS, to whose bounds it is cut.

    Raises:
        CatalogError: there is no scene.
        GridError: the area does not overlap the scenes, a rotated grid, or a CRS that cannot hold the area: degrees
            across the antimeridian, UTM near a pole.
    """
    scenes = scenes_of(scenes)
    grids = list(dict.fromkeys(_grid(b) for s in scenes for b in s.bands.values()))
    placed = [GeoBox(g.shape, Affine(*g.transform), g.crs) for g in grids if g.transform is not None]
    if crs is None and any(not g.axis_aligned for g in placed):
        rotated = next(s.id for s in scenes if any((_grid(b).transform or (0, 0))[1] for b in s.bands.values()))
        raise GridError("the grid is rotated", where=f"item {rotated}", fix="give crs and resolution explicitly")
    shape, aoi = (None, None) if aoi is None else area_of(aoi)
    area = aoi or degrees_around(scenes)
    target = _choose_crs(crs, placed, area)
    same = [g for g in placed if g.crs == target and g.axis_aligned]
    reference = min(same, key=lambda g: abs(g.resolution.x), default=None)
    check_size(resolution)
    if resolution is None and reference is None and not target.projected:
        raise GridError(
            "the pixel size is unknown",
            where=f"CRS {crs}",
            why=f"no scene is in it; they are in {', '.join(sorted({g.crs for g in grids}))}",
            fix="give the resolution in units of that CRS",
        )
    size = resxy_(resolution, -resolution) if resolution else reference.resolution if reference else None
    if size is None:
        metres = min(_metres(g) for g in grids)
        size = resxy_(metres, -metres)
    origin = reference.affine if reference else Affine.identity()
    anchor = xy_((origin.c / abs(size.x)) % 1.0, (origin.f / abs(size.y)) % 1.0)
    bounds = bbox_union(extent_of(g, target) for g in grids)
    if aoi is not None:
        bounds = cut(bounds, aoi if shape is None else shape, target, scenes)
    if resolution is not None:
        check_scale(resolution, bounds, target, min(_metres(g) for g in grids))
    grid = GeoBox.from_bbox(bounds, target, resolution=size, anchor=anchor, tol=SNAP_TOLERANCE)
    _warn_if_empty(grid, scenes)
    return _exact(grid, origin) if reference else grid


def geobox_of(cube: Any) -> GeoBox:
    """Return the grid of a cube, of one of its nodes, or of a window of either.

    Raises:
        GridError: the object has no georeferenced ``y`` and ``x``, they are not evenly spaced, or rows go north.
    """
    dataset = cube.to_dataset() if hasattr(cube, "to_dataset") and hasattr(cube, "children") else cube
    check_axes(dataset)
    geobox = dataset.odc.geobox
    if geobox is None or geobox.crs is None:
        raise GridError("the cube has no grid", why="its coordinates carry no CRS", fix="assign one: .odc.assign_crs()")
    return geobox


def coords_of(geobox: GeoBox) -> dict[str, Any]:
    """Return the coordinates of a grid, pixel centres ``y`` and ``x`` and its CRS as ``spatial_ref``."""
    return dict(xr_coords(geobox, always_yx=True))


def ground_size(geobox: GeoBox) -> float:
    """Return the pixel size of a grid on the ground in metres, in its middle, rounded to two digits."""
    return _metres(Grid(str(geobox.crs), tuple(geobox.affine[:6]), (int(geobox.shape[0]), int(geobox.shape[1]))))


def group_sites(scenes: Sequence[Scene]) -> dict[str, list[Scene]]:
    """Group scenes into sites: sets whose footprints overlap, directly or through others.

    Returns:
        Site name (the alphabetically first item id) to its scenes, sorted by name.
    """
    sites: list[list[Scene]] = []
    for scene in scenes_of(scenes) if scenes else ():
        touching = [site for site in sites if any(overlap(scene.bbox, other.bbox) for other in site)]
        merged = [scene] + [other for site in touching for other in site]
        sites = [site for site in sites if site not in touching] + [merged]
    named = {min(s.id for s in site): sorted(site, key=lambda s: (s.time, s.id, s.sensor)) for site in sites}
    return dict(sorted(named.items()))


def _warn_if_empty(grid: GeoBox, scenes: Sequence[Scene]) -> None:
    """Warn of a grid that is nearly all outside of its scenes: they are different places."""
    covered = sum(max((_grid(b).shape[0] * _grid(b).shape[1] for b in s.bands.values()), default=0) for s in scenes)
    pixels = grid.shape[0] * grid.shape[1]
    if pixels > 1e9 and pixels > 20 * covered:
        warnings.warn(
            f"The grid has {pixels:.2g} pixels, the scenes together {covered:.2g}: they lie far apart. "
            "geomm.group_sites(scenes) puts those of each place together.",
            stacklevel=3,
        )


def _choose_crs(crs: str | None, placed: Sequence[GeoBox], area: BBox) -> CRS:
    west, south, east, north = area
    crossing = west > east
    middle = ((west + east + 360.0 * crossing) / 2 + 180.0) % 360.0 - 180.0, (south + north) / 2
    if crs is None and placed:
        target = CRS(Counter(str(g.crs) for g in placed).most_common(1)[0][0])
    elif crs in (None, "utm"):
        if not UTM_LATITUDES[0] <= middle[1] <= UTM_LATITUDES[1]:
            raise GridError(
                "there is no UTM zone near the poles",
                where=f"latitude {middle[1]:.2f}",
                why=f"UTM covers {UTM_LATITUDES[0]:g} to {UTM_LATITUDES[1]:g} degrees",
                fix=f"give crs='{'EPSG:3413' if middle[1] > 0 else 'EPSG:3031'}' and a resolution in metres",
            )
        if (east - west) % 360.0 > UTM_WIDTH or east - west >= 360.0:
            raise GridError(
                "the area is too wide for one UTM zone",
                where=f"west {west:.2f}, east {east:.2f}",
                why=f"beyond {UTM_WIDTH:g} degrees pixels are no longer of one size",
                fix="cut it with aoi, or give a crs and a resolution",
            )
        zone = int((middle[0] + 180.0) // 6) + 1
        target = CRS(f"EPSG:{(32600 if middle[1] >= 0 else 32700) + min(zone, 60)}")
    elif crs == "equal-area":
        lon, lat = (round(v) for v in middle)
        target = CRS(f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m +no_defs +type=crs")
    else:
        try:
            target = CRS(crs)
        except CRSError as error:
            raise GridError(
                "the CRS is unknown",
                where=str(crs),
                why=str(error)[:200],
                fix=_crs_fix(str(crs), middle),
            ) from error
        _check_use(target, middle)
    if crossing and target.geographic:
        raise GridError(
            "a grid in degrees cannot cross the antimeridian",
            where=f"area {area} (west, south, east, north)",
            why="its columns would run from 180 back to -180 degrees",
            fix="give crs='utm', or make one grid on each side",
        )
    return target


def _check_use(crs: CRS, middle: tuple[float, float]) -> None:
    """Refuse a CRS that is no map, or that of another part of the world.

    Raises:
        GridError: it is.
    """
    fix = "write crs='utm' for the zone of the area, or 'equal-area'"
    if not (crs.projected or crs.geographic):
        raise GridError("the CRS has no two axes on the ground", where=str(crs), why=crs.proj.name, fix=fix)
    use = crs.proj.area_of_use
    if use is None:
        return
    width = (use.east - use.west) % 360.0 or 360.0
    away = (middle[0] - use.west) % 360.0
    beside = 0.0 if away <= width else min(away - width, 360.0 - away)
    if max(beside, use.south - middle[1], middle[1] - use.north) > FAR:
        raise GridError(
            "the CRS is of another part of the world",
            where=str(crs),
            why=f"it is for {use.name[:80]}; the middle of the area is at {middle[0]:.2f}, {middle[1]:.2f}",
            fix=fix,
        )


def _crs_fix(crs: str, middle: tuple[float, float]) -> str:
    zone = re.fullmatch(r"utm[ _-]?(?:zone)?[ _-]?(\d{1,2})[ _-]?([a-z]?)", crs.strip(), re.IGNORECASE)
    if crs.strip().lower() == "utm":
        return "write it in lower case: crs='utm'"
    if zone and 1 <= int(zone[1]) <= 60:
        south = zone[2].lower() == "s" or (not zone[2] and middle[1] < 0)
        return (
            f"write crs='EPSG:{32700 + int(zone[1]) if south else 32600 + int(zone[1])}', or 'utm' for the right zone"
        )
    return "such as EPSG:32632, 'utm', 'equal-area'; codes are listed at epsg.org"


def _grid(source: BandSource) -> Grid:
    if source.grid is not None:
        return source.grid
    with open_source(source) as src, naming(source):
        return grid_of(src, source.href)


def _metres(grid: Grid) -> float:
    """Return the pixel size of a source on the ground, rounded to two digits, for files without a CRS of their own."""
    from pyproj import Geod

    if grid.transform is None:
        first = grid.gcps[0]
        other = max(grid.gcps, key=lambda p: abs(p[0] - first[0]) + abs(p[1] - first[1]))
        pixels = float(np.hypot(other[0] - first[0], other[1] - first[1]))
        a, b = (first[2], first[3]), (other[2], other[3])
    else:
        affine = Affine(*grid.transform)
        a, b = (affine * (grid.shape[1] / 2 + k, grid.shape[0] / 2 + k) for k in (0, 1))
        pixels = float(np.sqrt(2.0))
    lon, lat = CRS(grid.crs).transformer_to_crs(CRS("EPSG:4326"), always_xy=True)([a[0], b[0]], [a[1], b[1]])
    metres = Geod(ellps="WGS84").inv(lon[0], lat[0], lon[1], lat[1])[2] / pixels
    return float(f"{metres:.2g}")


def _exact(grid: GeoBox, origin: Affine) -> GeoBox:
    """Put the corner a whole number of pixels from an origin, free of the rounding of anchors."""
    a, e = grid.affine.a, grid.affine.e
    x = origin.c + round((grid.affine.c - origin.c) / a) * a
    y = origin.f + round((grid.affine.f - origin.f) / e) * e
    return GeoBox(grid.shape, Affine(a, 0.0, x, 0.0, e, y), grid.crs)
