"""What a search looks for: place, time, ids and clouds, and whether an item is that."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from geomm.catalog.interpret import flat, times
from geomm.errors import CatalogError
from geomm.sensors import SensorSpec
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


def parse_interval(text: Any) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Parse an RFC 3339 instant or interval into UTC start and end; None is open.

    A datetime at midnight without a time zone is its day, as its text is.

    >>> parse_interval("2024-05-01/..")
    (datetime.datetime(2024, 5, 1, 0, 0, tzinfo=datetime.timezone.utc), None)
    """
    if text is None:
        return None, None
    parts = _one_text(text).split("/")
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
            raise CatalogError(
                "the date cannot be understood", where=part, why="dates are ISO 8601", fix=_written(part.strip())
            ) from error
        if last and len(part) == len("2024-05-31"):
            moment += dt.timedelta(days=1, microseconds=-1)
        ends.append(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))
    start, end = ends
    if start is not None and end is not None and start > end:
        fix = f"write start/end: {parts[1]}/{parts[0]}"
        raise CatalogError("the time interval ends before it begins", where=str(text), fix=fix)
    return start, end


def _one_text(text: Any) -> str:
    """Return a date or an interval as one text."""
    if isinstance(text, dt.datetime) and text.tzinfo is None and text.time() == dt.time():
        text = text.date()
    if isinstance(text, (list, tuple, set)):
        fix = f"write one text: {'/'.join(map(str, text))!r}"
        if len(text) == 4:
            fix = f"the area comes first, the time second: search({text!r}, '2020-06-01')"
        raise CatalogError("the date cannot be understood", where=repr(text), why="an interval is one text", fix=fix)
    return str(text)


def check_words(*, ids: Any, cloud_cover: Any, sentinel2_offset: Any) -> None:
    """Check the smaller arguments of a search.

    Raises:
        CatalogError: ids that are one text, clouds that are no percentage, an offset that Sentinel-2 never has.
    """
    if isinstance(ids, str) or (ids is not None and not isinstance(ids, Iterable)):
        raise CatalogError("ids is one text", where=f"ids {ids!r}"[:80], fix=f"give a list: [{str(ids)!r:.80}]")
    if cloud_cover is not None and not (isinstance(cloud_cover, Real) and 0 <= float(cloud_cover) <= 100):
        where, fix = f"cloud_cover {cloud_cover!r}", "give the greatest, from 0 to 100: cloud_cover=20"
        raise CatalogError("the cloud cover is no percentage", where=where, fix=fix)
    if sentinel2_offset not in (None, 0, -1000):
        where, fix = (
            f"sentinel2_offset {sentinel2_offset!r}",
            "give -1000 from baseline 04.00 on, 0 before, or leave it out",
        )
        raise CatalogError("Sentinel-2 has no such offset", where=where, fix=fix)


def names_of(sensors: Any) -> list[str]:
    """Return names of sensors, once they are a list of texts.

    Raises:
        CatalogError: it is something else.
    """
    if isinstance(sensors, str):
        raise CatalogError("sensors is one text", where=f"sensors {sensors!r}", fix=f"give a list: [{sensors!r}]")
    wrong = sensors if not isinstance(sensors, Iterable) else next((s for s in sensors if not isinstance(s, str)), None)
    if wrong is not None:
        fix = f"give names: [{wrong.name!r}], the .name of a SensorSpec" if isinstance(wrong, SensorSpec) else ""
        fix = fix or "give a list of names, for example ['sentinel2-l2a']; geomm sensors lists them"
        raise CatalogError("sensors are a list of names", where=repr(wrong)[:80], fix=fix)
    return list(sensors)


def _written(part: str) -> str:
    """Return how a date is to be written, from the way that it was."""
    year_month = re.fullmatch(r"(\d{4})-(\d{1,2})", part)
    if year_month and 1 <= int(year_month[2]) <= 12:
        year, month = int(year_month[1]), int(year_month[2])
        return f"write {year}-{month:02}-01/{year}-{month:02}-{calendar.monthrange(year, month)[1]}"
    if re.fullmatch(r"\d{4}", part):
        return f"write {part}-01-01/{part}-12-31"
    day_first = re.fullmatch(r"(\d{1,2})[./](\d{1,2})[./](\d{4})", part)
    if day_first:
        return f"write {day_first[3]}-{int(day_first[2]):02}-{int(day_first[1]):02} (year, month, day)"
    ends = re.split(r"\s+(?:to|until|bis|-)\s+|\s*,\s*|\s*\.\.\s*", part)
    if len(ends) == 2 and all(ends):
        return f"write {'/'.join(ends)}"
    return "write 2024-05-31, or an interval 2024-05-01/2024-05-31"


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
