"""Choose the one grid of a run. Alignment is a value: a GeoBox, chosen once and passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import bbox_intersection, bbox_union, box
from odc.geo.types import resxy_, xy_

from geomm.catalog import BandSource, Scene
from geomm.errors import CatalogError, GridError
from geomm.types import BBox

SNAP_TOLERANCE = 0.01
"""Bounds within this part of a pixel of a grid line count as lying on it: files carry 1e-10 m of noise."""


def source_geobox(source: BandSource) -> GeoBox:
    """Return the native grid of a band."""
    return GeoBox(source.shape, Affine(*source.transform), source.crs)


def common_geobox(
    scenes: Sequence[Scene],
    *,
    crs: str | None = None,
    resolution: float | None = None,
    aoi: BBox | None = None,
) -> GeoBox:
    """Choose one grid for a set of scenes.

    Without options it is the native grid of the finest band, extended to the union of all scenes: pixels of that band
    are then copied, never resampled.

    Args:
        scenes: at least one, of any sensors.
        crs: target CRS; default the most frequent one.
        resolution: pixel size in units of the CRS; default the finest one.
        aoi: west, south, east, north in degrees, to cut the grid to.

    Raises:
        CatalogError: there is no scene.
        GridError: the area does not overlap the scenes, or a rotated grid.
    """
    if not scenes:
        raise CatalogError(
            "there is no scene", why="the search found nothing", fix="widen the area, the time or the sensors"
        )
    grids = [(source_geobox(b), s) for s in scenes for b in s.bands.values()]
    rotated = next((s for g, s in grids if not g.axis_aligned), None)
    if rotated is not None:
        raise GridError("the grid is rotated", where=f"item {rotated.id}", fix="give crs and resolution explicitly")
    target = crs or Counter(str(g.crs) for g, _ in grids).most_common(1)[0][0]
    same = [(g, s) for g, s in grids if g.crs == target]
    reference = min(same, key=lambda pair: abs(pair[0].resolution.x), default=None)
    if resolution is None and reference is None:
        raise GridError(
            "the pixel size is unknown",
            where=f"CRS {target}",
            why=f"no scene is in it; they are in {', '.join(sorted({str(g.crs) for g, _ in grids}))}",
            fix="give the resolution in units of that CRS",
        )
    size = resxy_(resolution, -resolution) if resolution else reference[0].resolution  # type: ignore[index]
    origin = reference[0].affine if reference else Affine.identity()
    anchor = xy_((origin.c / abs(size.x)) % 1.0, (origin.f / abs(size.y)) % 1.0)
    bounds = bbox_union(_in_crs(g, target) for g, _ in grids)
    if aoi is not None:
        wanted = box(*aoi, "EPSG:4326").to_crs(target, resolution=0.05).boundingbox
        overlap = bbox_intersection([bounds, wanted])
        if overlap.left >= overlap.right or overlap.bottom >= overlap.top:
            raise GridError(
                "the area of interest does not overlap the imagery",
                where=f"aoi {aoi}",
                why=f"the scenes lie in {tuple(round(v, 4) for v in _degrees(scenes))} (west, south, east, north)",
                fix="check that longitude comes before latitude",
            )
        bounds = overlap
    grid = GeoBox.from_bbox(bounds, target, resolution=size, anchor=anchor, tol=SNAP_TOLERANCE)
    return _exact(grid, origin) if reference else grid


def geobox_of(cube: Any) -> GeoBox:
    """Return the grid of a cube, of one of its nodes, or of a window of either.

    Raises:
        GridError: the object has no georeferenced ``y`` and ``x``.
    """
    dataset = cube.to_dataset() if hasattr(cube, "to_dataset") and hasattr(cube, "children") else cube
    geobox = dataset.odc.geobox
    if geobox is None or geobox.crs is None:
        raise GridError("the cube has no grid", why="its coordinates carry no CRS", fix="assign one: .odc.assign_crs()")
    return geobox


def group_sites(scenes: Sequence[Scene]) -> dict[str, list[Scene]]:
    """Group scenes into sites: sets whose footprints overlap, directly or through others.

    Returns:
        Site name (the alphabetically first item id) to its scenes, sorted by name.
    """
    sites: list[list[Scene]] = []
    for scene in scenes:
        touching = [site for site in sites if any(_overlap(scene.bbox, other.bbox) for other in site)]
        merged = [scene] + [other for site in touching for other in site]
        sites = [site for site in sites if site not in touching] + [merged]
    named = {min(s.id for s in site): sorted(site, key=lambda s: (s.time, s.id, s.sensor)) for site in sites}
    return dict(sorted(named.items()))


def aligned(source: GeoBox, target: GeoBox, tolerance: float = 1e-3) -> bool:
    """Tell whether the pixels of two grids coincide, to a part of a pixel over the whole source."""
    if source.crs != target.crs:
        return False
    step = ~target.affine * source.affine
    far = step * (source.shape.x, source.shape.y)
    near = (step.c, step.f)
    return all(abs(v - round(v)) <= tolerance for v in (*near, *far)) and abs(step.a - 1) < tolerance / source.shape.x


def _exact(grid: GeoBox, origin: Affine) -> GeoBox:
    """Put the corner a whole number of pixels from an origin, free of the rounding of anchors."""
    a, e = grid.affine.a, grid.affine.e
    x = origin.c + round((grid.affine.c - origin.c) / a) * a
    y = origin.f + round((grid.affine.f - origin.f) / e) * e
    return GeoBox(grid.shape, Affine(a, 0.0, x, 0.0, e, y), grid.crs)


def _in_crs(grid: GeoBox, crs: str) -> Any:
    return grid.boundingbox if grid.crs == crs else grid.footprint(crs, buffer=0, npoints=50).boundingbox


def _degrees(scenes: Sequence[Scene]) -> BBox:
    boxes = [s.bbox for s in scenes]
    return min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)


def _overlap(a: BBox, b: BBox) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
