"""What a search looks for: place, time, ids and clouds, and whether an item is that."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomm.catalog.interpret import flat, times
from geomm.errors import CatalogError
from geomm.types import BBox


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; a source may return more, never less."""

    boxes: tuple[BBox, ...] = ()
    """Boxes of degrees, any of which an item may touch; none of them crosses the antimeridian. Empty for everywhere."""
    start: dt.datetime | None = None
    """Earliest end of an item."""
    end: dt.datetime | None = None
    """Latest start of an item."""
    ids: tuple[str, ...] | None = None
    """Item ids, or None."""
    collections: tuple[str, ...] = ()
    """Collections, where the source has many; empty for all."""


def parse_interval(text: str | None) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Parse an RFC 3339 instant or interval into UTC start and end; None is open.

    >>> parse_interval("2024-05-01/..")
    (datetime.datetime(2024, 5, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    if text is None:
        return None, None
    parts = str(text).split("/")
    if len(parts) > 2:
        raise CatalogError("the time interval has more than two ends", where=text, fix="write start/end")
    ends: list[dt.datetime | None] = []
    for last, part in enumerate(parts if len(parts) == 2 else parts * 2):
        if part in ("", ".."):
            ends.append(None)
            continue
        try:
            moment = dt.datetime.fromisoformat(part)
        except ValueError as error:
            raise CatalogError("the date cannot be understood", where=part, fix="write 2024-05-31") from error
        if last and len(part) == len("2024-05-31"):
            moment += dt.timedelta(days=1, microseconds=-1)
        ends.append(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))
    start, end = ends
    if start is not None and end is not None and start > end:
        raise CatalogError("the time interval ends before it begins", where=str(text), fix="write start/end")
    return start, end


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
        raise CatalogError("the area of interest is no geometry", where=str(aoi)[:80], why=str(error)) from error
    if empty:
        raise CatalogError("the area of interest is empty", where=str(aoi)[:80])
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


def area_of(aoi: Any) -> tuple[tuple[BBox, ...], Any]:
    """Return boxes that do not cross the antimeridian, and the exact geometry where one was given."""
    if aoi is None:
        return (), None
    area = in_degrees(aoi)
    bounds = tuple(aoi) if area is None else area.bounds
    if len(bounds) != 4 or bounds[1] > bounds[3] or not (bounds[1] >= -90 and bounds[3] <= 90) or max(
        abs(bounds[0]), abs(bounds[2])
    ) > 180.0:  # fmt: skip
        raise CatalogError(
            "the area of interest is not west, south, east, north in degrees",
            where=f"aoi {aoi}",
            fix="give longitude before latitude",
        )
    west, south, east, north = (float(v) for v in bounds)
    if west > east:
        return ((west, south, 180.0, north), (-180.0, south, east, north)), area
    return ((west, south, east, north),), area


def matches(item: Any, query: Query, area: Any, cloud_cover: float | None) -> bool:
    """Tell whether an item is what a query, a geometry and a greatest cloud cover ask for."""
    if query.ids is not None and item.id not in query.ids:
        return False
    first, last = times(item)
    if (query.start and last < query.start) or (query.end and first > query.end):
        return False
    if cloud_cover is not None and (item.properties.get("eo:cloud_cover") or 0.0) > cloud_cover:
        return False
    if not item.bbox or (query.boxes and not any(touches(item.bbox, box) for box in query.boxes)):
        return False  # an item without a place cannot be loaded
    if area is None or not item.geometry:
        return True
    from shapely.geometry import shape

    return bool(shape(item.geometry).intersects(area))


def touches(bbox: Sequence[float], box: BBox) -> bool:
    """Tell whether an item's box, which may cross the antimeridian, touches one that does not."""
    west, south, east, north = flat(bbox)
    if south > box[3] or north < box[1]:
        return False
    return west <= box[2] and east >= box[0] if west <= east else west <= box[2] or east >= box[0]
