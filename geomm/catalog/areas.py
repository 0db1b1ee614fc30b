"""Areas of interest: boxes and geometries in degrees, and what people give in their place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geomm.errors import CatalogError
from geomm.types import BBox

_WHAT = "the area of interest is not west, south, east, north in degrees"


def area_of(aoi: Any) -> tuple[tuple[BBox, ...], Any]:
    """Return boxes that do not cross the antimeridian, and the exact geometry where one was given."""
    if aoi is None:
        return (), None
    west, south, east, north = bounds_of(aoi)
    area = _geometry(in_degrees(aoi))
    if west > east:
        return ((west, south, 180.0, north), (-180.0, south, east, north)), area
    return ((west, south, east, north),), area


def bounds_of(aoi: Any) -> BBox:
    """Return west, south, east and north of an area in degrees; west greater than east across the antimeridian.

    Args:
        aoi: four numbers in degrees; a geometry in degrees (GeoJSON, or any object with ``__geo_interface__``); or a
            table or geometry that knows its CRS, such as a GeoDataFrame, which is brought to degrees.

    Raises:
        CatalogError: it is none of these; the message says what it looks like.
    """
    if isinstance(aoi, (str, Path)):
        fix = "give four numbers: (9.0, 46.0, 9.2, 46.2), or read the file: geopandas.read_file(FILE)"
        raise CatalogError(_WHAT, where=f"aoi {str(aoi)!r}", why="it is one text", fix=fix)
    aoi = in_degrees(aoi)
    area = _geometry(aoi)
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
    """Bring what knows its CRS to degrees.

    Raises:
        CatalogError: it cannot be done.
    """
    if getattr(aoi, "crs", None) is None or not hasattr(aoi, "to_crs"):
        return aoi
    try:
        return aoi.to_crs("EPSG:4326")
    except Exception as error:
        fix, where = "bring it to degrees yourself: GeoDataFrame.to_crs(4326)", f"CRS {aoi.crs}"[:120]
        raise CatalogError(
            "the area of interest cannot be brought to degrees", where=where, why=str(error), fix=fix
        ) from error


def _geometry(aoi: Any) -> Any:
    """Return the shapely geometry of what is one, else None."""
    from shapely import union_all
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    if not isinstance(aoi, Mapping) and not hasattr(aoi, "__geo_interface__"):
        return None
    try:
        given = aoi if isinstance(aoi, Mapping) else aoi.__geo_interface__
        if given.get("type") == "FeatureCollection":
            return union_all([shape(f["geometry"]) for f in given["features"]])
        return shape(given["geometry"] if given.get("type") == "Feature" else given)
    except (ShapelyError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(
            "the area of interest is no geometry",
            where=str(aoi)[:80],
            why=str(error),
            fix="give (west, south, east, north) in degrees, a GeoJSON geometry, or a shapely geometry",
        ) from error
