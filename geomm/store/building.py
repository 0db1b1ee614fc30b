"""A shard that is being built: batches encoded in threads, appended in order, committed when all is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geomm.chipping import ChipArrays
from geomm.store.append import ShardWriter
from geomm.store.plan import ARRAYS, StorePlan
from geomm.store.shard import SHARD
from geomm.types import INVALID_CLASS
from geomm.whole import write_whole

Chunk = tuple[Any, bytes]
"""What is stored of an array, and its checksum."""


class ShardBuild:
    """A shard that is being written; left before it is committed, it leaves nothing.

    Args:
        plan: of the store.
        folder: of the store.
        number: of the shard.
    """

    def __init__(self, plan: StorePlan, folder: Path, number: int) -> None:
        self.plan, self.folder, self.number = plan, folder, number
        self.end = number * SHARD + plan.size_of(number)
        """Number of the first chip after it."""
        self.rows: list[dict[str, Any]] = []
        self.tables: dict[str, list[Any]] = {t.name: [] for t in plan.tables}
        self.files: dict[str, ShardWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.abandon()

    def encode(self, arrays: ChipArrays, pool: ThreadPoolExecutor) -> list[Future[list[list[Chunk]]]]:
        """Begin to encode a batch, a part of its chips in each thread; of each part by array and chip."""
        values: dict[str, NDArray[Any]] = {f"images/{n}": v for n, v in arrays.images.items()}
        values |= {f"valid/{n}": v for n, v in arrays.valid.items()}
        if arrays.target is not None:
            values["target"] = arrays.target

        def some(chips: NDArray[np.int64]) -> list[list[Chunk]]:
            return [[spec.encode(values[spec.name][k]) for k in chips] for spec in self.plan.arrays]

        size = len(arrays.chips)
        shares = np.array_split(np.arange(size), min(self.plan.parts[0].reader.threads, size))
        return [pool.submit(some, share) for share in shares]

    def add(self, first: int, part: int, arrays: ChipArrays, chunks: Sequence[Future[list[list[Chunk]]]]) -> None:
        """Append a batch."""
        if not self.files:
            self._begin()
        for spec, *mine in zip(self.plan.arrays, *(some.result() for some in chunks), strict=True):
            self.files[spec.name].add(first - self.number * SHARD, list(chain(*mine)))
        for name, table in arrays.calibration.items():
            self.tables[f"calibration/{name}"].append(table)
        self.tables["bounds"].append(arrays.bounds)
        self.rows += _rows(self.plan, first, part, arrays)

    def _begin(self) -> None:
        for spec in self.plan.arrays:
            self.files[spec.name] = ShardWriter(spec.path(self.folder / ARRAYS, self.number), spec)

    def commit(self) -> None:
        """Give the files their names, and last the record that says so; nothing where a batch could not be added."""
        if len(self.rows) < self.plan.size_of(self.number):
            return
        for file in self.files.values():
            file.close()
        self.files = {}
        for spec in self.plan.tables:
            write_whole(
                spec.path(self.folder / ARRAYS, self.number), spec.encode(np.concatenate(self.tables[spec.name]))
            )
        write_whole(self.folder / "shards" / f"{self.number:06d}.json", json.dumps(self.rows).encode())
        self.rows, self.tables = [], {}


def _rows(plan: StorePlan, first: int, part: int, arrays: ChipArrays) -> list[dict[str, Any]]:
    """Return the manifest's rows of a batch: where its chips lie, and what is in them."""
    rows = plan.rows_of(part, arrays.index.tolist())
    for k, row in enumerate(rows):
        row["text"] = arrays.text[k] if arrays.text else ""
        for name, good in arrays.valid.items():
            row[f"valid_{name}"] = round(np.count_nonzero(good[k]) / good[k].size, 6)
        if arrays.target is not None:
            row["labelled"] = round(np.count_nonzero(arrays.target[k] != INVALID_CLASS) / arrays.target[k].size, 6)
    return [{"chip": first + k, **row} for k, row in enumerate(rows)]
