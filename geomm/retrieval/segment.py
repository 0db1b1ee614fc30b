"""A segment: some rows of an index in files that are never changed, mapped into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import Codes, write_codes
from geomm.retrieval.files import ArrayWriter, FileRecord, open_array
from geomm.retrieval.manifest import Part
from geomm.whole import sync

FILTER = np.dtype([*((n, "f4") for n in ("west", "south", "east", "north")), ("time", "i8"), ("sensors", "i8")])
"""What rows are chosen by, in half a cache line: a box in degrees, rounded outward; microseconds since 1970 (the least
integer for none); the number of the set of sensors."""
BATCH = 65_536
"""Rows in a record batch of ``rows.arrow``."""
GROUP = 8192
"""Rows in a group of ``rows.parquet``."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows on their way into a segment."""

    vectors: NDArray[np.float16]
    """``(n, D)``, of unit length."""
    table: Any
    """Arrow table; ``geometry`` is WKB in degrees."""
    filters: NDArray[Any]
    """``(n,)`` of ``FILTER``; their sets of sensors are numbers in ``sensors``."""
    sensors: tuple[str, ...]
    """Sets of sensors, each a text."""
    keys: NDArray[np.uint64]
    """The first eight bytes of the BLAKE2b digest of each id."""
    pictures: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
    """Their bytes one after the other, and where each ends."""
    cells: tuple[NDArray[np.int8], NDArray[np.float32]] | None = None
    """``(n, g, g, D)`` and the size of a step ``(n, g, g)``."""


@dataclass(frozen=True)
class Segment:
    """An opened segment."""

    part: Part
    vectors: NDArray[np.float16]
    codes: Codes
    filters: NDArray[Any]
    keys: NDArray[np.uint64]
    reader: Any = field(repr=False)
    pictures: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
    cells: tuple[NDArray[np.int8], NDArray[np.float32]] | None = None

    @classmethod
    def open(cls, root: Path, part: Part) -> Segment:
        """Map the files of a segment; their sizes are checked, their content is not."""
        import pyarrow as pa

        folder = root / part.name
        maps = {n.removesuffix(".npy"): open_array(folder / n) for n in part.files if n.endswith(".npy")}
        pictures = (maps["pictures"], maps["picture_ends"]) if "pictures" in maps else None
        cells = (maps["cells"], maps["cell_scales"]) if "cells" in maps else None
        if maps["filter"].dtype != FILTER:
            raise ValueError(f"rows are filtered by {maps['filter'].dtype.descr} instead of {FILTER.descr}")
        reader = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow")))
        return cls(part, maps["vectors"], Codes.open(folder), maps["filter"], maps["keys"], reader, pictures, cells)

    def __len__(self) -> int:
        return self.part.rows

    def table(self, rows: NDArray[Any]) -> Any:
        """Return an Arrow table of some rows."""
        import pyarrow as pa

        batches = [self.reader.get_batch(int(k)) for k in np.unique(rows // BATCH)]
        if len(rows) <= 64:
            opened = dict(zip(np.unique(rows // BATCH).tolist(), batches, strict=True))
            pieces = [opened[int(r) // BATCH].slice(int(r) % BATCH, 1) for r in rows]
            return pa.Table.from_batches(pieces, self.reader.schema)
        places = np.searchsorted(np.unique(rows // BATCH), rows // BATCH)
        order = np.argsort(places, kind="stable")
        cuts = np.searchsorted(places[order], np.arange(len(batches) + 1))
        taken = [batch.take(pa.array(rows[order[cuts[k] : cuts[k + 1]]] % BATCH)) for k, batch in enumerate(batches)]
        return pa.Table.from_batches(taken, self.reader.schema).take(pa.array(np.argsort(order)))

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        order = np.argsort(self.keys, kind="stable")
        return order, self.keys[order]

    def holds(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows whose key is one of these."""
        order, ascending = self._sorted
        first, last = (np.searchsorted(ascending, keys, side) for side in ("left", "right"))
        counts = last - first
        spots = np.repeat(first - (counts.cumsum() - counts), counts) + np.arange(counts.sum())
        return np.unique(order[spots])

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return rows on their way into another segment."""
        pictures = cells = None
        if self.pictures is not None:
            content, ends = self.pictures
            starts = np.where(rows > 0, ends[rows - 1], 0)
            joined = np.concatenate([content[a:b] for a, b in zip(starts, ends[rows], strict=True)] or [content[:0]])
            pictures = (joined, np.cumsum(ends[rows] - starts))
        if self.cells is not None:
            cells = (self.cells[0][rows], self.cells[1][rows])
        sensors = tuple(self.part.about["sensors"])
        table, filters, keys = self.table(rows), self.filters[rows], self.keys[rows]
        return Rows(self.vectors[rows], table, filters, sensors, keys, pictures, cells)


class SegmentWriter:
    """Writes a segment batch by batch; it is part of the index once a manifest names it."""

    def __init__(self, root: Path, name: str, dimension: int, schema: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.folder, self.name, self.schema, self.rows = root / name, name, schema, 0
        self.folder.mkdir(parents=True)
        self.total = np.zeros(dimension)
        self.sensors: dict[str, int] = {}
        self.stack, self.arrays, self.bytes = ExitStack(), dict[str, ArrayWriter](), 0
        self.arrow = self.stack.enter_context(pa.ipc.new_file(str(self.folder / "rows.arrow"), schema))
        self.parquet = self.stack.enter_context(
            pq.ParquetWriter(self.folder / "rows.parquet", schema.with_metadata(_geo()), compression="zstd")
        )
        self.held: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def add(self, rows: Rows) -> None:
        """Append a batch."""
        filters = rows.filters.copy()
        for name in rows.sensors:
            self.sensors.setdefault(name, len(self.sensors))
        filters["sensors"] = np.array([self.sensors[s] for s in rows.sensors], np.int64)[filters["sensors"]]
        self._add("vectors", rows.vectors)
        self._add("filter", filters)
        self._add("keys", rows.keys)
        if rows.pictures is not None:
            content, ends = rows.pictures
            self._add("pictures", content)
            self._add("picture_ends", ends + self.bytes)
            self.bytes += len(content)
        if rows.cells is not None:
            self._add("cells", rows.cells[0])
            self._add("cell_scales", rows.cells[1])
        self.total += rows.vectors.sum(0, dtype=np.float64)
        self.rows += len(rows.vectors)
        self.held.append(rows.table)
        self._flush(last=False)

    def commit(self, pool: Executor) -> Part:
        """Finish the files, bring them to the disk, and return what a manifest has to know."""
        self._flush(last=True)
        self.stack.close()
        vectors = open_array(self.folder / "vectors.npy")
        centre = (self.total / self.rows).astype(np.float32)[None]
        write_codes(self.folder, [vectors], None, centre, np.zeros(self.rows, np.int32), pool)
        return commit(self.folder, self.name, self.rows, {"sensors": list(self.sensors)})

    def _add(self, name: str, values: NDArray[Any]) -> None:
        if name not in self.arrays:
            writer = ArrayWriter(self.folder / f"{name}.npy", values.dtype, values.shape[1:])
            self.arrays[name] = self.stack.enter_context(writer)
        self.arrays[name].add(values)

    def _flush(self, *, last: bool) -> None:
        """Write record batches of BATCH rows each, the last one of what is left: rows are found by dividing."""
        import pyarrow as pa

        waiting = sum(t.num_rows for t in self.held)
        if waiting < BATCH and not last:
            return
        whole = pa.concat_tables([self.schema.empty_table(), *self.held], promote_options="permissive")
        whole = whole.select(self.schema.names).cast(self.schema)
        count = waiting if last else waiting // BATCH * BATCH
        if count:
            ready = whole.slice(0, count).combine_chunks()
            self.arrow.write_table(ready, max_chunksize=BATCH)
            self.parquet.write_table(ready.replace_schema_metadata(_geo()), row_group_size=GROUP)
        self.held = [whole.slice(count)] if count < waiting else []


def commit(folder: Path, name: str, rows: int, about: dict[str, Any]) -> Part:
    """Bring a folder's files to the disk and return what a manifest has to know of them."""
    files = sorted(p for p in folder.iterdir())
    for path in files:
        sync(path)
    for path in (folder, folder.parent, folder.parent.parent):
        sync(path)
    return Part(name, rows, {p.name: FileRecord.of(p) for p in files}, about)


def key_of(identifiers: Sequence[str]) -> NDArray[np.uint64]:
    """Return the keys of ids."""
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in identifiers)
    return np.frombuffer(digests, "<u8")


def _geo() -> dict[str, str]:
    """Return the metadata that makes a Parquet file GeoParquet 1.0: WKB in WGS 84, of any kind of geometry."""
    from pyproj import CRS

    column = {"encoding": "WKB", "crs": CRS("EPSG:4326").to_json_dict(), "geometry_types": []}
    return {"geo": json.dumps({"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}})}
