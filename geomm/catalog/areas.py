"""Areas of interest: boxes and geometries in degrees, and what people give in their place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geomm.errors import CatalogError
from geomm.types import BBox

_GIVE = "give (west, south, east, north) in degrees, a GeoJSON geometry, or a shapely geometry"
_WHAT = "the area of interest is not west, south, east, north in degrees"


def area_of(aoi: Any) -> tuple[tuple[BBox, ...], Any]:
    """Return boxes that do not cross the antimeridian, and the exact geometry where one was given."""
    if aoi is None:
        return (), None
    west, south, east, north = bounds_of(aoi)
    area = in_degrees(aoi)
    if west > east:
        return ((west, south, 180.0, north), (-180.0, south, east, north)), area
    return ((west, south, east, north),), area


def bounds_of(aoi: Any) -> BBox:
    """Return west, south, east and north of an area in degrees; west greater than east across the antimeridian.

    Args:
        aoi: four numbers in degrees, or what :func:`in_degrees` takes.

    Raises:
        CatalogError: it is none of these; the message says what it looks like.
    """
    if isinstance(aoi, (str, Path)):
        fix = "give four numbers: (9.0, 46.0, 9.2, 46.2), or read the file: geopandas.read_file(FILE)"
        raise CatalogError(_WHAT, where=f"aoi {str(aoi)!r}", why="it is one text", fix=fix)
    area = in_degrees(aoi)
    try:
        bounds = tuple(float(v) for v in (area.bounds if area is not None else aoi))
    except (TypeError, ValueError) as error:
        fix = "give four numbers, longitude before latitude: (9.0, 46.0, 9.2, 46.2)"
        raise CatalogError(_WHAT, where=f"aoi {aoi!r}"[:80], why=str(error), fix=fix) from error
    why, fix = _trouble(bounds)
    if fix:
        raise CatalogError(_WHAT, where=f"aoi {bounds if area is not None else aoi}"[:120], why=why, fix=fix)
    west, south, east, north = bounds
    return west, south, east, north


def turned(bounds: BBox) -> BBox | None:
    """Return an area with longitude and latitude exchanged, or None where that would be none."""
    west, south, east, north = bounds
    other = (south, west, north, east)
    return None if _trouble(other)[1] else other


def meant(boxes: Sequence[BBox]) -> tuple[list[BBox], str]:
    """Return what an area in which nothing lies may have been meant as, and what would be exchanged.

    Args:
        boxes: none of them crosses the antimeridian; one that does was cut there in two.
    """
    if len(boxes) == 2 and (boxes[0][2], boxes[1][0]) == (180.0, -180.0):
        (west, south, _, north), (_, _, east, _) = boxes
        return [(east, south, west, north)], "west and east"
    return [other for box in boxes if (other := turned(box))], "longitude and latitude"


def _trouble(bounds: tuple[float, ...]) -> tuple[str, str]:
    """Return why four numbers are no area, and what to write; two empty texts for an area."""
    if len(bounds) != 4:
        fix = "give west, south, east, north: longitude before latitude"
        return f"it has {len(bounds)} numbers instead of 4", fix
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        return "not every bound is a number", "give four numbers; an empty geometry has no bounds"
    if max(abs(west), abs(east)) > 180.0 or max(abs(south), abs(north)) > 90.0:
        return _beyond(west, south, east, north)
    if south > north:
        fix = f"give longitude before latitude, and south before north: {(west, north, east, south)}"
        return "its south lies north of its north", fix
    return "", ""


def _beyond(west: float, south: float, east: float, north: float) -> tuple[str, str]:
    """Return why numbers are no degrees, and what to write."""
    if max(map(abs, (west, east))) <= 90.0 and max(map(abs, (south, north))) <= 180.0 and west <= east:
        fix = f"give longitude before latitude; did you swap them? {(south, west, north, east)}"
        return "latitudes go from -90 to 90", fix
    if max(map(abs, (west, south, east, north))) > 360.0:
        fix = "bring it to degrees, longitude before latitude: GeoDataFrame.to_crs(4326), or pyproj.Transformer"
        return "the numbers look like metres", fix
    return "longitudes go from -180 to 180, latitudes from -90 to 90", "give longitude before latitude, in degrees"


def in_degrees(aoi: Any) -> Any:
    """Return an area that is more than four bounds as a shapely geometry in degrees, None for four bounds.

    Args:
        aoi: what has a CRS of its own (GeoDataFrame, GeoSeries, odc-geo's ``Geometry``) is brought to degrees, in which
            GeoJSON and the geometries of shapely are already.

    Raises:
        CatalogError: it is empty, no geometry, or a table without a CRS.
    """
    import shapely
    from shapely.geometry import shape

    if not isinstance(aoi, Mapping) and not hasattr(aoi, "__geo_interface__"):
        return None
    try:
        if hasattr(aoi, "to_crs"):
            area = _brought(aoi)
        else:
            given = aoi if isinstance(aoi, Mapping) else aoi.__geo_interface__
            many = given.get("type") == "FeatureCollection"
            parts = [f["geometry"] for f in given["features"]] if many else [given.get("geometry", given)]
            area = shapely.union_all([shape(p) for p in parts]) if many else shape(parts[0])
        empty = area.is_empty
    except (shapely.errors.ShapelyError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CatalogError):
            raise
        where = str(aoi)[:80]
        raise CatalogError("the area of interest is no geometry", where=where, why=str(error), fix=_GIVE) from error
    if empty:
        raise CatalogError("the area of interest is empty", where=str(aoi)[:80], fix=_GIVE)
    return area


def _brought(table: Any) -> Any:
    """Return a table or a geometry with a CRS in degrees, its long edges bent as they are there."""
    import geopandas
    import shapely

    if table.crs is None:
        raise CatalogError("the area of interest has no CRS", fix='say which it is: .set_crs("EPSG:4326")')
    shapes = list(table.geometry) if hasattr(table, "geometry") else [table.geom]
    if all(s is None or s.is_empty for s in shapes):
        return shapely.GeometryCollection()
    bounds = shapely.total_bounds(shapes)
    step = max(bounds[2] - bounds[0], bounds[3] - bounds[1], 1e-9) / 64
    dense = geopandas.GeoSeries([shapely.segmentize(s, step) for s in shapes if s is not None], crs=str(table.crs))
    return dense.to_crs("EPSG:4326").union_all()


def footprint_of(bbox: BBox) -> dict[str, Any]:
    """Return a box as GeoJSON, cut in two at the antimeridian (RFC 7946, section 3.1.9)."""
    from shapely.geometry import MultiPolygon, box, mapping

    west, south, east, north = bbox
    if west <= east:
        return dict(mapping(box(*bbox)))
    return dict(mapping(MultiPolygon([box(west, south, 180.0, north), box(-180.0, south, east, north)])))
