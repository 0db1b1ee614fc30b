"""Outlines: what planning needs to know of many items, without making scenes of them.

A scene of a thousand bands costs a millisecond to make, and an archive has many thousands of them of which a nightly
run wants thirty. An outline holds place, time, sensors and a fingerprint of the whole item.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.catalog.interpret import SENSORS_PROPERTY, Customs, flat, holds, times
from geomm.catalog.parquet import conditions, quoted
from geomm.errors import CatalogError
from geomm.types import BBox

if TYPE_CHECKING:
    from geomm.catalog.criteria import Query
    from geomm.sensors import SensorSpec

_NULLS = "'''[^'']+'': NULL(, )?'"
_NUMBERS = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "FLOAT")
_TOLD = (SENSORS_PROPERTY, "platform", "eo:platform", "instruments", "eo:cloud_cover", "description")


@dataclass(frozen=True, slots=True)
class Outline:
    """What an item is, but for its assets."""

    id: str
    """Item id."""
    collection: str
    """Its collection, or empty."""
    start: dt.datetime
    """Acquisition, or the start of the interval, UTC."""
    end: dt.datetime
    """The same, or the end of the interval."""
    bbox: BBox
    """West, south, east, north in degrees; west is greater than east where it crosses the antimeridian."""
    footprint: Any
    """Geometry in degrees (shapely)."""
    sensors: tuple[str, ...]
    """Sensors of the table that it holds, of those that were asked for."""
    fingerprint: str
    """Hash of all that the item says: another one where anything changed."""
    cloud_cover: float = 0.0
    """``eo:cloud_cover`` in percent; 0 where it is not said."""


@dataclass(frozen=True, slots=True)
class _Light:
    """As much of an item as tells which sensors it holds."""

    id: str
    collection_id: str | None
    properties: Mapping[str, Any]


def outline_items(items: Iterator[Any], sensors: Sequence[SensorSpec], customs: Customs) -> Iterator[Outline]:
    """Yield the outlines of STAC items that hold any of some sensors."""
    from shapely.geometry import shape

    for item in items:
        held = tuple(s.name for s in sensors if holds(item, s, customs))
        if not held:
            continue
        record = item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []}
        for key, asset in item.assets.items():
            record["assets"][key]["href"] = _state(asset.get_absolute_href() or asset.href)
        digest = hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:32]
        start, end = times(item)
        footprint = shape(item.geometry)
        yield Outline(item.id, item.collection_id or "", start, end, flat(item.bbox), footprint, held, digest)


def _state(href: str) -> Any:
    """Return what tells a file from others: of a local one name, size and time, wherever its folder was moved to."""
    try:
        about = Path(href).stat()
    except (OSError, ValueError):
        return href
    return Path(href).name, about.st_size, about.st_mtime_ns


def outline_parquet(file: str, query: Query, sensors: Sequence[SensorSpec], customs: Customs) -> Iterator[Outline]:
    """Yield the outlines of a stac-geoparquet file: the columns that matter, the others as a hash.

    Raises:
        CatalogError: the file cannot be read.
    """
    import duckdb
    from shapely import from_wkb

    try:
        with duckdb.connect(config={"threads": 2, "enable_external_file_cache": False}) as engine:
            table = engine.sql("SELECT * FROM read_parquet(?) LIMIT 0", params=[file])
            kinds = dict(zip(table.columns, table.types, strict=True))
            marks = tuple(key for s in sensors for key, _ in s.marks)
            told = [c for c in dict.fromkeys((*_TOLD, *marks)) if c in kinds]
            where, values = conditions(query, list(kinds))
            rows = engine.sql(_command(kinds, told, where), params=[file, *values]).fetchall()
        for row, outline in zip(rows, from_wkb([bytes(row[5]) for row in rows]), strict=True):
            about = {k: v for k, v in zip(told, row[7:], strict=True) if v is not None}
            held = tuple(s.name for s in sensors if holds(_Light(row[0], row[1], about), s, customs))
            if held:
                start, end = (dt.datetime.fromtimestamp(row[k] / 1e6, dt.UTC) for k in (2, 3))
                box = outline.bounds if row[4] is None else tuple(row[4][k] for k in ("xmin", "ymin", "xmax", "ymax"))
                cloud = float(about.get("eo:cloud_cover") or 0.0)
                yield Outline(row[0], row[1] or "", start, end, box, outline, held, row[6], cloud)
    except (duckdb.Error, OSError, KeyError, ValueError, TypeError) as error:
        raise CatalogError(
            "the catalog cannot be read", where=file, why=f"{type(error).__name__}: {str(error)[:300]}"
        ) from error


def _command(kinds: Mapping[str, Any], told: Sequence[str], where: str) -> str:
    """Return the query: id, collection, times, box, geometry, hash of all, and properties that tell sensors."""
    start, end = (
        f"epoch_us(coalesce({key}, datetime))" if key in kinds else "epoch_us(datetime)"
        for key in ("start_datetime", "end_datetime")
    )
    parts = [p for name in sorted(kinds) if name != "links" for p in _told_of(kinds[name], quoted(name), name)]
    collection, box = (c if c in kinds else "NULL" for c in ("collection", "bbox"))
    columns = [
        "id", collection, start, end, box, "geometry::BLOB", f"md5(concat_ws('|', {', '.join(parts)}))",
        *map(quoted, told),
    ]  # fmt: skip
    return f"SELECT {', '.join(columns)} FROM read_parquet(?) WHERE {where} ORDER BY id"  # noqa: S608 quoted names only


def _told_of(kind: Any, column: str, name: str) -> Iterator[str]:
    """Yield expressions, NULL where nothing is told, that do not depend on what other items of the table have.

    A column, asset or field that only others have is NULL here, and left out; whole numbers are as good as floats,
    which a column of both holds.
    """
    text, label = str(kind), "'" + name.replace("'", "''") + "=' || "
    if text.startswith("GEOMETRY"):
        yield f"{label}md5({column}::BLOB)"
    elif text.startswith("STRUCT") and not text.endswith("]"):
        for key, inner in sorted(kind.children, key=lambda child: str(child[0])):
            yield from _told_of(inner, f"{column}.{quoted(key)}", f"{name}.{key}")
    elif "STRUCT" in text:
        yield f"{label}replace(regexp_replace({column}::VARCHAR, {_NULLS}, '', 'g'), ', }}', '}}')"
    elif text.startswith("TIMESTAMP"):
        yield f"{label}epoch_us({column})"
    else:
        bare = text.rstrip("[]")
        number = "DOUBLE" + text[len(bare) :] if bare in _NUMBERS else text
        yield f"{label}({column}::{number})::VARCHAR"
