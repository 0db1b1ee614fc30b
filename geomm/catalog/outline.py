"""Outlines: what planning needs to know of many items, without making scenes of them.

A scene of a thousand bands costs a millisecond to make, and an archive has many thousands of them of which a nightly
run wants thirty. An outline holds place, time, sensors and a fingerprint of the whole item.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomm.catalog.criteria import matches
from geomm.catalog.interpret import SENSORS_PROPERTY, Customs, flat, holds, names_of, offers, times
from geomm.catalog.parquet import conditions, known, quoted
from geomm.catalog.static import join
from geomm.errors import CatalogError
from geomm.types import BBox

if TYPE_CHECKING:
    from geomm.catalog.criteria import Query
    from geomm.sensors import SensorSpec

_NUMBERS = ("bigint", "integer", "smallint", "tinyint", "hugeint", "float", "double")
_EXACT = 2**53  # up to which whole numbers are floats
_TOLD = (SENSORS_PROPERTY, "platform", "eo:platform", "instruments", "eo:cloud_cover", "description")


type Search = tuple[Query, Any, float | None]
"""Query, exact area and greatest cloud cover."""


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
    """As much of an item as tells what it is."""

    id: str
    collection_id: str | None
    properties: Mapping[str, Any]
    assets: Mapping[str, Any]
    bbox: Sequence[float] = ()
    geometry: Any = None

    @property
    def common_metadata(self) -> _Light:
        """Where the times of an item are found."""
        return self

    @property
    def datetime(self) -> dt.datetime | None:
        """The instant, if there is one."""
        return _moment(self.properties.get("datetime"))

    @property
    def start_datetime(self) -> dt.datetime | None:
        """Start of the interval, if there is one."""
        return _moment(self.properties.get("start_datetime"))

    @property
    def end_datetime(self) -> dt.datetime | None:
        """End of the interval, if there is one."""
        return _moment(self.properties.get("end_datetime"))


@dataclass(frozen=True, slots=True)
class _LightAsset:
    """As much of an asset as tells which bands it holds."""

    media_type: str | None
    roles: Sequence[str] | None
    extra_fields: Mapping[str, Any]


def outline_items(
    items: Iterable[tuple[Mapping[str, Any], str]],
    search: Search,
    sensors: Sequence[SensorSpec],
    customs: Customs,
    rejected: list[tuple[str, str]] | None = None,
) -> Iterator[Outline]:
    """Yield the outlines of items that a search asks for and that hold any of some sensors.

    Args:
        items: JSON of every item, and where relative addresses in it count from.
        search: query, exact area and greatest cloud cover.
        sensors: of the table.
        customs: of the catalog.
        rejected: gets id and reason of items that cannot be understood; None to raise.
    """
    from shapely.errors import GEOSException

    for record, base in items:
        try:
            outline = _outline(record, base, search, sensors, customs)
        except (ValueError, KeyError, TypeError, AttributeError, GEOSException) as error:
            wrong = CatalogError(
                "an item cannot be read",
                where=f"item {record.get('id')!r}",
                why=f"{type(error).__name__}: {error}",
                fix="correct the item in its catalog, or leave it out of the search with ids",
            )
            if rejected is None:
                raise wrong from error
            rejected.append((str(record.get("id")), str(wrong)))
            continue
        if outline is not None:
            yield outline


def _outline(
    record: Mapping[str, Any], base: str, search: Search, sensors: Sequence[SensorSpec], customs: Customs
) -> Outline | None:
    from shapely.geometry import box, shape

    item = _light(record)
    if not matches(item, *search):
        return None
    names = names_of(item)
    held = tuple(s.name for s in sensors if holds(item, s, customs) and offers(names, s))
    if not held:
        return None
    assets = {k: {**a, "href": _state(join(base, a["href"]))} for k, a in record["assets"].items()}
    told = json.dumps({**record, "links": [], "assets": assets}, sort_keys=True, default=str)
    start, end = times(item)
    cloud = float(item.properties.get("eo:cloud_cover") or 0.0)
    footprint = shape(item.geometry) if item.geometry else box(*flat(item.bbox))
    digest = hashlib.sha256(told.encode()).hexdigest()[:32]
    return Outline(item.id, item.collection_id or "", start, end, flat(item.bbox), footprint, held, digest, cloud)


def _light(record: Mapping[str, Any]) -> _Light:
    assets = {k: _LightAsset(a.get("type"), a.get("roles"), a) for k, a in record["assets"].items()}
    return _Light(
        record["id"], record.get("collection"), record["properties"], assets, record.get("bbox") or (),
        record.get("geometry"),
    )  # fmt: skip


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _state(href: str) -> Any:
    """Return what tells a file from others: of a local one name, size and time, wherever its folder was moved to."""
    if "://" in href:
        return href
    try:
        about = os.stat(href)  # noqa: PTH116 - of many thousands, making paths takes most of the time
    except (OSError, ValueError):
        return href
    return href.rpartition("/")[2], about.st_size, about.st_mtime_ns


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
            layout = _layout(kinds.get("assets"))
            rows = engine.sql(_command(kinds, told, layout, where), params=[file, *values]).fetchall()
            command = f"SELECT DISTINCT md5(({layout})::VARCHAR), {layout} FROM read_parquet(?) WHERE {where}"  # noqa: S608
            layouts = {key: _assets(found) for key, found in engine.sql(command, params=[file, *values]).fetchall()}
        names = {k: names_of(_Light("", "", {}, found)) for k, found in layouts.items()}
        offered = {(k, s.name): offers(mine, s) for k, mine in names.items() for s in sensors}
        for row, outline in zip(rows, from_wkb([bytes(row[5]) for row in rows]), strict=True):
            about = {k: v for k, v in zip(told, row[8:], strict=True) if v is not None}
            light = _Light(row[0], row[1], about, {})
            held = tuple(s.name for s in sensors if offered[row[7], s.name] and holds(light, s, customs))
            if held:
                start, end = (dt.datetime.fromtimestamp(row[k] / 1e6, dt.UTC) for k in (2, 3))
                box = outline.bounds if row[4] is None else tuple(row[4][k] for k in ("xmin", "ymin", "xmax", "ymax"))
                cloud = float(about.get("eo:cloud_cover") or 0.0)
                yield Outline(row[0], row[1] or "", start, end, box, outline, held, row[6], cloud)
    except (duckdb.Error, OSError, KeyError, ValueError, TypeError) as error:
        raise CatalogError(
            "the catalog cannot be read",
            where=file,
            why=f"{type(error).__name__}: {str(error)[:300]}",
            fix="write the table again with `geomm catalog index CATALOG FILE`, or with stac-geoparquet",
        ) from error


def _layout(kind: Any) -> str:
    """Return an expression for what tells the bands of all assets: the same of most items of a collection."""
    if kind is None:  # no item has an asset
        return "NULL"
    assets = []
    for key, asset in kind.children:
        place, fields = f"assets.{quoted(key)}", dict(asset.children)
        told = [f"{quoted(n)} := {place}.{quoted(n)}" for n in ("type", "roles") if n in fields]
        for name in ("bands", "eo:bands"):
            inner = fields[name].children[0][1] if name in fields and fields[name].id == "list" else None
            if inner is not None and inner.id == "struct":
                called = "b.name" if "name" in dict(inner.children) else "NULL"
                told.append(
                    f"{quoted(name)} := list_transform({place}.{quoted(name)}, lambda b: struct_pack(name := {called}))"
                )
        assets.append(f"{quoted(key)} := if({place}.href IS NULL, NULL, struct_pack({', '.join(['_ := 0', *told])}))")
    return f"struct_pack({', '.join(assets)})"


def _assets(layout: Mapping[str, Any] | None) -> dict[str, _LightAsset]:
    """Return the assets of a layout."""
    there = {key: known(asset) for key, asset in (layout or {}).items() if asset is not None}
    return {key: _LightAsset(asset.get("type"), asset.get("roles"), asset) for key, asset in there.items()}


def _command(kinds: Mapping[str, Any], told: Sequence[str], layout: str, where: str) -> str:
    """Return the query: id, collection, times, box, geometry, hashes of all and of the layout, what tells sensors."""
    start, end = (
        f"epoch_us(coalesce({key}, datetime))" if key in kinds else "epoch_us(datetime)"
        for key in ("start_datetime", "end_datetime")
    )
    parts = [p for name in sorted(kinds) if name != "links" for p in _told_of(kinds[name], quoted(name), name)]
    collection, box = (c if c in kinds else "NULL" for c in ("collection", "bbox"))
    columns = [
        "id", collection, start, end, box, "geometry::BLOB", f"md5(concat_ws('|', {', '.join(parts)}))",
        f"md5(({layout})::VARCHAR)", *map(quoted, told),
    ]  # fmt: skip
    return f"SELECT {', '.join(columns)} FROM read_parquet(?) WHERE {where} ORDER BY id"  # noqa: S608 quoted names only


def _told_of(kind: Any, column: str, *path: str, depth: int = 0) -> Iterator[str]:
    """Yield expressions, NULL where nothing is told, that do not depend on what other items of the table have.

    A column, asset or field that only others have is NULL here, and left out; they come by their names, as others may
    have put them into another order; whole numbers are as good as floats, which a column of both holds.
    """
    if kind.id == "struct":
        for key, inner in sorted(kind.children):
            yield from _told_of(inner, f"{column}.{quoted(key)}", *path, key, depth=depth)
    else:
        label = json.dumps(path).replace("'", "''")
        yield f"'{label}=' || {_said(kind, column, depth)}"


def _said(kind: Any, column: str, depth: int) -> str:
    """Return what says a value as text: no two values say the same, whatever is in their texts."""
    if str(kind).startswith("GEOMETRY"):
        return f"md5({column}::BLOB)"
    if kind.id == "list":
        one = f"_{depth}"
        inner = f"coalesce({_said(kind.children[0][1], one, depth + 1)}, '-')"
        return f"'[' || array_to_string(list_transform({column}, lambda {one}: {inner}), ',') || ']'"
    if kind.id == "struct":  # of a list
        parts = ", ".join(_told_of(kind, column, depth=depth))
        return f"if({column} IS NULL, NULL, '{{' || concat_ws('|', {parts}) || '}}')"
    if kind.id in _NUMBERS:
        return f"if({column} BETWEEN -{_EXACT} AND {_EXACT}, ({column}::DOUBLE)::VARCHAR, {column}::VARCHAR)"
    if kind.id == "varchar":
        return f"strlen({column}) || ':' || {column}"
    return f"epoch_us({column})::VARCHAR" if kind.id.startswith("timestamp") else f"{column}::VARCHAR"
