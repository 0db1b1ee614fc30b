"""Items of stac-geoparquet files, found by DuckDB without reading the rest; and writing them."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from geomm.catalog.interpret import flat
from geomm.errors import CatalogError, OutputError
from geomm.whole import whole_file

if TYPE_CHECKING:
    from geomm.catalog.criteria import Query

ROWS = 8192
"""Rows of a group in files written here: what a search reads at least."""
_FIELDS = {
    "href", "type", "roles", "bands", "eo:bands", "raster:bands", "data_type", "nodata",
    "file:checksum", "file:size", "proj:code", "proj:epsg", "proj:wkt2", "proj:transform", "proj:shape",
}  # fmt: skip
"""Fields of an asset that mean something to a loader; the others are not read."""


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A stac-geoparquet file, or a folder of them."""

    path: str
    """File or folder."""

    def find(self, query: Query) -> Iterator[Any]:
        """Yield the items in the boxes and the interval of a query.

        Raises:
            CatalogError: a file cannot be read, or is not stac-geoparquet.
        """
        for file in self.files():
            yield from _find(file, query)

    def files(self) -> list[str]:
        """Return the files."""
        place = Path(self.path)
        return [str(p) for p in sorted(place.glob("*.parquet"))] if place.is_dir() else [self.path]


def write_parquet(items: Sequence[Any], path: str | Path) -> Path:
    """Write items as one stac-geoparquet file in which places lie close together, so that searches read little.

    Args:
        items: STAC items; their asset addresses become absolute.
        path: the file; an older one is replaced.

    Raises:
        CatalogError: there is no item, or they do not fit into one table.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    records = []
    for item in items:
        absolute = item.clone()
        absolute.make_asset_hrefs_absolute()
        records.append(absolute.to_dict(include_self_link=False, transform_hrefs=False))
    try:
        with whole_file(target) as aside:
            _write(records, aside, str(path))
    except OSError as error:
        raise OutputError(
            "the catalog cannot be written",
            where=str(path),
            why=str(error),
            fix="name a file in a folder that you may write to, and free space on its disk",
        ) from error
    return target


def parquet_of(records: Sequence[Mapping[str, Any]], name: str) -> bytes:
    """Return the content of a stac-geoparquet file; the same items, in any order, give the same bytes.

    Args:
        records: items as JSON types. Relative asset addresses stay as they are: readers count them from the folder of
            the file, as :class:`ParquetSource` does.
        name: of the file, for messages.

    Raises:
        CatalogError: there is no item, or they do not fit into one table.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "items.parquet"
        _write(records, path, name)
        return path.read_bytes()


def _write(records: Sequence[Mapping[str, Any]], path: Path, name: str) -> None:
    """Write items into a file that nobody reads yet."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    if not records:
        raise CatalogError(
            "there is no item to write",
            where=name,
            fix="give at least one item: `geomm catalog search CATALOG` lists what a catalog holds",
        )
    rows = [
        {**_plain({**record, "links": []}), "bbox": list(flat(record["bbox"]))}
        for record in sorted(records, key=_along_a_curve)
    ]
    try:
        to_parquet(parse_stac_items_to_arrow(rows), path)
    except pa.ArrowException as error:
        raise CatalogError(
            "the items do not fit into one table", where=name, why=str(error)[:300], fix="write them apart"
        ) from error
    pq.write_table(pq.read_table(path), path, row_group_size=ROWS)


def _find(file: str, query: Query) -> Iterator[Any]:
    import duckdb
    import pystac

    try:
        state = Path(file).stat()
        # An engine for every search: a lasting one saves 0.05 s and keeps 40 MB.
        with duckdb.connect(config={"threads": 2, "enable_external_file_cache": False}) as engine:
            columns, names = _columns(engine, file, (state.st_mtime_ns, state.st_size))
            where, values = conditions(query, names)
            # Prepared values, never text: an address or an id cannot become a command.
            command = f"SELECT {columns} FROM read_parquet(?) WHERE {where}"  # noqa: S608 quoted names only
            rows = engine.sql(command, params=[file, *values]).fetchall()
        for row in rows:
            yield pystac.Item.from_dict(_record(dict(zip(names, row, strict=True)), file))
    except (duckdb.Error, OSError, KeyError, ValueError, TypeError, AttributeError, pystac.STACError) as error:
        raise CatalogError(
            "the catalog cannot be read",
            where=file,
            why=f"{type(error).__name__}: {str(error)[:300]}",
            fix="is it stac-geoparquet? pyarrow.parquet.read_schema(FILE) shows its columns",
        ) from error


_layouts: dict[tuple[str, tuple[int, int]], tuple[str, tuple[str, ...]]] = {}


def _columns(engine: Any, file: str, state: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """Return what to select, and its names: all of an item but its links, of its assets what a loader uses."""
    if (file, state) in _layouts:
        return _layouts[file, state]
    table = engine.sql("SELECT * FROM read_parquet(?) LIMIT 0", params=[file])
    types = dict(zip(table.columns, table.types, strict=True))
    missing = {"id", "geometry", "assets"} - set(types)
    if missing and not ("stac_version" in types and missing == {"assets"}):  # no item of the file has an asset
        raise KeyError(f"no column {', '.join(sorted(missing))}")
    chosen = {}
    for name, kind in types.items():
        if name == "geometry":
            chosen[name] = "geometry::BLOB"
        elif name == "assets":
            # An item without an asset has NULL there, and must keep it.
            packed = (
                f"{quoted(key)} := CASE WHEN assets.{quoted(key)}.href IS NULL THEN NULL ELSE struct_pack("
                + ", ".join(
                    f"{quoted(n)} := assets.{quoted(key)}.{quoted(n)}" for n, _ in asset.children if n in _FIELDS
                )
                + ") END"
                for key, asset in kind.children
            )
            chosen[name] = f"struct_pack({', '.join(packed)})"
        elif name != "links":
            chosen[name] = f"epoch_us({quoted(name)})" if str(kind).startswith("TIMESTAMP") else quoted(name)
    _layouts[file, state] = ", ".join(chosen.values()), tuple(chosen)
    return _layouts[file, state]


def _record(row: dict[str, Any], file: str) -> dict[str, Any]:
    """Turn a row back into a STAC item, as the stac-geoparquet specification says."""
    from shapely import from_wkb
    from shapely.geometry import mapping

    geometry = from_wkb(bytes(row.pop("geometry")))
    box = row.pop("bbox", None)
    corners = [box[k] for k in ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax") if k in box] if box else None
    assets = {key: known(asset) for key, asset in row.pop("assets", {}).items() if asset}
    for asset in assets.values():
        asset["href"] = _located(asset["href"], file)
    top = {key: row.pop(key, None) for key in ("id", "collection", "stac_extensions")}
    row.pop("type", None), row.pop("stac_version", None)
    for key in ("datetime", "start_datetime", "end_datetime", "created", "updated"):
        if isinstance(row.get(key), int):
            row[key] = dt.datetime.fromtimestamp(row[key] / 1e6, dt.UTC).isoformat()
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": top["id"],
        "collection": top["collection"],
        "stac_extensions": top["stac_extensions"] or [],
        "geometry": mapping(geometry),
        "bbox": corners or list(geometry.bounds),
        "properties": known(row) | {"datetime": row.get("datetime")},
        "assets": assets,
        "links": [],
    }


def _located(href: str, file: str) -> str:
    """Return where an asset is: relative addresses count from the file."""
    if "://" in file:
        return urljoin(file, href)
    return href if "://" in href else os.path.normpath(Path(file).parent / href)


def known(value: Any) -> Any:
    """Drop what is NULL: in a table every row has every column."""
    if isinstance(value, dict):
        return {key: known(v) for key, v in value.items() if v is not None}
    return [known(v) for v in value] if isinstance(value, list) else value


def conditions(query: Query, present: Sequence[str]) -> tuple[str, list[Any]]:
    """Return what a query asks of the columns that are present, as SQL with its values."""
    parts: list[str] = ["TRUE"]
    values: list[Any] = []
    if query.boxes and "bbox" in present:
        boxes = []
        for west, south, east, north in query.boxes:
            # Boxes with xmin > xmax cross the antimeridian.
            boxes.append(
                "(bbox.ymin <= ? AND bbox.ymax >= ? AND CASE WHEN bbox.xmin <= bbox.xmax "
                "THEN bbox.xmin <= ? AND bbox.xmax >= ? ELSE bbox.xmin <= ? OR bbox.xmax >= ? END)"
            )
            values += [north, south, east, west, east, west]
        parts.append(f"({' OR '.join(boxes)})")
    start, end = (
        f"coalesce({key}, datetime)" if key in present else "datetime" for key in ("start_datetime", "end_datetime")
    )
    if query.start is not None:
        parts.append(f"{end} >= ?")
        values.append(query.start)
    if query.end is not None:
        parts.append(f"{start} <= ?")
        values.append(query.end)
    if query.ids is not None:
        parts.append(f"id IN ({', '.join('?' * len(query.ids)) or 'NULL'})")
        values += query.ids
    return " AND ".join(parts), values


def quoted(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    """Write the nodata of STAC's JSON, where NaN is a text, as a number: a column has one type; and sort all names."""
    if isinstance(value, dict):
        return {
            k: float(v) if k == "nodata" and v is not None and not isinstance(v, bool) else _plain(v)
            for k, v in sorted(value.items())
            if v != {} or k == "assets"  # a column needs a field
        }
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _along_a_curve(record: Mapping[str, Any]) -> tuple[int, str]:
    """Order of items: their centres along a curve that keeps neighbours together (bits of both axes in turn)."""
    west, south, east, north = flat(record["bbox"])
    x, y = int(((west + east) / 2 + 180.0) % 360.0 / 360.0 * 65535), int(((south + north) / 2 + 90.0) / 180.0 * 65535)
    code = sum((x >> k & 1) << 2 * k | (y >> k & 1) << 2 * k + 1 for k in range(16))
    return code, str(record["id"])
