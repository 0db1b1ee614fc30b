"""Where imagery lies: extents in a CRS, cut to an area of interest, and boxes of degrees around scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox, bbox_intersection

from geomm.catalog import Grid, Scene, bounds_of, in_degrees, turned
from geomm.errors import CatalogError, GridError
from geomm.types import BBox


def extent_of(grid: Grid, target: CRS) -> BoundingBox:
    """Return the extent of a source in a CRS."""
    if grid.transform is not None and CRS(grid.crs) == target:
        return GeoBox(grid.shape, Affine(*grid.transform), target).boundingbox
    if grid.transform is None:
        x, y = np.array([p[2:] for p in grid.gcps]).T
    else:
        edge = np.linspace(0.0, 1.0, 51)
        row, column = (
            np.concatenate(v) for v in ((edge, edge, edge * 0, edge * 0 + 1), (edge * 0, edge * 0 + 1, edge, edge))
        )
        x, y = Affine(*grid.transform) * (column * grid.shape[1], row * grid.shape[0])
    east, north = CRS(grid.crs).transformer_to_crs(target, always_xy=True)(x, y)[:2]
    return _box(east, north, target)


def cut(bounds: BoundingBox, aoi: Any, target: CRS, scenes: Sequence[Scene]) -> BoundingBox:
    """Return the part of an extent inside an area of interest, four bounds or a geometry in degrees."""
    if isinstance(aoi, shapely.Geometry):
        step = max(*np.subtract(aoi.bounds[2:], aoi.bounds[:2]), 1e-9) / 64
        lon, lat = shapely.get_coordinates(shapely.segmentize(aoi, step)).T
    else:
        west, south, east, north = aoi
        lon, lat = np.meshgrid(np.linspace(west, east + 360.0 * (west > east), 51), np.linspace(south, north, 51))
    x, y = CRS("EPSG:4326").transformer_to_crs(target, always_xy=True)(lon, lat)
    common = bbox_intersection([bounds, _box(x, y, target)])
    if common.left >= common.right or common.bottom >= common.top:
        there, other = degrees_around(scenes), turned(aoi.bounds if isinstance(aoi, shapely.Geometry) else aoi)
        swapped = other is not None and overlap(other, there)
        raise GridError(
            "the area of interest does not overlap the imagery",
            where=f"aoi {str(aoi)[:80]}",
            why=f"the scenes lie in {tuple(round(v, 4) for v in there)} (west, south, east, north)",
            fix="check that longitude comes before latitude" + (f": did you swap them? aoi={other}" if swapped else ""),
        )
    return common


def area_of(aoi: Any) -> tuple[Any, BBox]:
    """Return an area of interest as a geometry in degrees, None for four bounds, and its bounds."""
    try:
        return in_degrees(aoi), bounds_of(aoi)
    except CatalogError as error:
        what = error.what if "4" not in error.why else "the area of interest has four bounds"
        raise GridError(what, where=error.where, why=error.why, fix=error.fix) from error


def _box(x: Any, y: Any, crs: CRS) -> BoundingBox:
    known = np.isfinite(x) & np.isfinite(y)
    if not known.all():
        raise GridError(
            "the CRS cannot hold the area",
            where=str(crs),
            why="some of it has no coordinates there",
            fix="choose another crs",
        )
    return BoundingBox(float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y)), crs)


def degrees_around(scenes: Sequence[Scene]) -> BBox:
    """Return the smallest box of degrees around all scenes, across the antimeridian where that is smaller."""
    boxes = [s.bbox for s in scenes]
    south, north = min(b[1] for b in boxes), max(b[3] for b in boxes)
    west, east = min(b[0] for b in boxes), max(b[2] for b in boxes)
    crossing = any(b[0] > b[2] for b in boxes)
    turned = [(b[0] % 360.0, b[2] % 360.0 or 360.0) for b in boxes]  # longitudes 0 to 360: no seam at 180
    low, high = min(t[0] for t in turned), max(t[1] for t in turned)
    if crossing or (high - low < east - west and low < 180.0 < high):
        return (low + 180.0) % 360.0 - 180.0, south, (high + 180.0) % 360.0 - 180.0, north
    return west, south, east, north


def overlap(a: BBox, b: BBox) -> bool:
    """Tell whether two boxes in degrees have some ground in common; either may cross the antimeridian."""

    def parts(box: BBox) -> list[tuple[float, float]]:
        return [(box[0], box[2])] if box[0] <= box[2] else [(box[0], 180.0), (-180.0, box[2])]

    return a[1] < b[3] and b[1] < a[3] and any(p[0] < q[1] and q[0] < p[1] for p in parts(a) for q in parts(b))
