"""Read a chip store: any chip by itself, in any order, every byte checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomm.chipping import ChipArrays, ChipViews
from geomm.cube.memory import Memory
from geomm.errors import PackageError
from geomm.store.plan import ARRAYS, MANIFEST, PLAN, RECORD
from geomm.store.shard import SHARD, ArraySpec, ShardReader, TableSpec, damaged
from geomm.store.write import committed, read_rows, seal, to_table
from geomm.types import check_whole

if TYPE_CHECKING:
    from geomm.dataset import Sample

AHEAD = 2
"""Batches that are decoded ahead."""


class StoredChips(ChipViews):
    """Chips of a store, behind the same interface as :class:`geomm.dataset.ChipDataset`.

    A store whose building was stopped opens with the shards that are there.

    Args:
        folder: of the store.
        numbers: which chips; default all.
        threads: that decode.

    Raises:
        PackageError: the folder is no chip store, or a file of it is damaged.
    """

    def __init__(self, folder: str | Path, numbers: Sequence[int] | None = None, *, threads: int | None = None) -> None:
        given: Any = folder
        if not isinstance(given, (str, Path)):
            fix = "give the folder of a store, for example StoredChips('chips')"
            raise PackageError("this is no folder of a chip store", where=repr(given)[:80], fix=fix)
        self.folder = Path(folder)
        self.about, self.complete = _open(self.folder)
        self.arrays, self.tables = _specs(self.about)
        shards = range(-(-self.total // SHARD)) if self.complete else committed(self.folder)
        self.shards = tuple(shards)
        have = [n for s in self.shards for n in range(s * SHARD, min((s + 1) * SHARD, self.total))]
        self.numbers = np.array(have if numbers is None else numbers, np.int64)
        strange = np.setdiff1d(self.numbers, have)
        if strange.size:
            why = f"asked for {strange[0]}; it has {len(have)} chips"
            raise PackageError("the store has no such chip", where=str(folder), why=why, fix="numbers count from 0")
        self._threads = threads or len(os.sched_getaffinity(0))
        self._files: dict[tuple[str, int], Any] = {}
        self._memory = Memory(64)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.numbers.tolist())

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        from geomm.dataset import one, to_sample

        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return one(to_sample(self.read([index % len(self)])))

    @property
    def total(self) -> int:
        """Chips of the whole store, built or not."""
        return sum(site["chips"] for site in self.about["sites"])

    @cached_property
    def table(self) -> Any:
        """The manifest as a GeoDataFrame in degrees, one row for every chip of :attr:`numbers`."""
        if self.complete:
            every = _manifest(self.folder, self.about["files"])
        else:
            every = to_table([row for n in self.shards for row in read_rows(self.folder, n)])
        return every.set_index("chip").loc[self.numbers].reset_index()

    def select(self, **columns: Any) -> StoredChips:
        """Return the chips whose columns of the manifest have given values, such as ``split="train"``.

        Raises:
            PackageError: there is no such column, or no such chip.
        """
        keep = np.ones(len(self), bool)
        for name, value in columns.items():
            if name not in self.table:
                raise PackageError(
                    f"the store has no column {name}",
                    why=f"it has {', '.join(self.table.columns)}",
                    fix=f"select by one of {', '.join(self.table.columns)}",
                )
            if not isinstance(value, (str, Number)) and hasattr(value, "__len__"):
                fix = f"choose one at a time, {name}={next(iter(value), '')!r}, or StoredChips(FOLDER, numbers)"
                raise PackageError(f"{name} is a list of values", where=f"{name} {value!r}"[:80], fix=fix)
            keep &= (self.table[name] == value).to_numpy()
            if not keep.any():
                known = ", ".join(map(str, self.table[name].unique()[:8]))
                raise PackageError(
                    f"the store has no chip of {name} {value}", why=f"there is {known}", fix=f"select one of {known}"
                )
        return type(self)(self.folder, self.numbers[keep].tolist(), threads=self._threads)

    def read(self, indexes: Sequence[int]) -> ChipArrays:
        """Read some chips.

        Raises:
            PackageError: a file of the store is missing or damaged; it is named.
        """
        numbers = self.numbers[list(indexes)]
        out = self._allocate(len(numbers))
        self._decode(numbers.tolist(), range(len(numbers)), out)
        return self._batch(numbers, np.array(indexes, np.int64), out)

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return modality to sensor, bands and units."""
        return {a.name.removeprefix("images/"): dict(a.attrs) for a in self.arrays if a.name.startswith("images/")}

    def usable(self, index: int) -> NDArray[np.bool_]:
        """Return which pixels ``(y, x)`` of a chip any modality has at any time."""
        number, found = int(self.numbers[index]), []
        for spec in (a for a in self.arrays if a.name.startswith("valid/")):
            out = np.empty(spec.shape, spec.dtype)
            self._decode_one(spec, number, out)
            found.append(out.any(0))
        return np.any(found, axis=0)

    def content(self, index: int) -> tuple[bytes, ...]:
        """Return the checksums of a chip's imagery: chips of the same content have the same."""
        shard, slot = divmod(int(self.numbers[index]), SHARD)
        return tuple(self._shard(a, shard).checksum(slot) for a in self.arrays if a.name.startswith("images/"))

    def stream(
        self,
        batch: int,
        *,
        shuffle: int = 0,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        skip: int = 0,
    ) -> Iterator[ChipArrays]:
        """Read all chips, batch by batch; shuffled, every order is as likely as any other.

        Args:
            batch: chips at a time; the last batch may be smaller.
            shuffle: 0 for the order of the store.
            seed: of the shuffling.
            epoch: another order for each.
            rank: number of this process.
            world: processes that share the chips.
            skip: batches to leave out at the beginning, without reading them.
        """
        check_whole({"batch": batch}, fix="give how many chips a batch has, for example 16")
        order = np.arange(len(self))
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(order)
            order = np.resize(order, -(-len(order) // world) * world) if len(order) else order
        mine = order[rank::world]
        batches = [mine[k : k + batch] for k in range(0, len(mine), batch)][skip:]
        waiting: list[tuple[NDArray[np.int64], dict[str, NDArray[Any]], list[Future[None]]]] = []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="geomm-store") as pool:
            try:
                for indexes in [*batches, *[None] * AHEAD]:
                    if indexes is not None:
                        out = self._allocate(len(indexes))
                        shares = np.array_split(np.arange(len(indexes)), min(self._threads, len(indexes)))
                        jobs = [
                            pool.submit(self._decode, self.numbers[indexes[s]].tolist(), s.tolist(), out)
                            for s in shares
                        ]
                        waiting.append((indexes, out, jobs))
                    if waiting and (indexes is None or len(waiting) > AHEAD):
                        ready, out, jobs = waiting.pop(0)
                        for job in jobs:
                            job.result()
                        yield self._batch(self.numbers[ready], ready, out)
                        del out, jobs
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _allocate(self, count: int) -> dict[str, NDArray[Any]]:
        return {spec.name: self._memory.take((count, *spec.shape), spec.dtype) for spec in self.arrays}

    def _decode(self, numbers: Sequence[int], places: Sequence[int], out: dict[str, NDArray[Any]]) -> None:
        """Read some chips into their places in a batch."""
        for spec in self.arrays:
            into = out[spec.name]
            for number, place in zip(numbers, places, strict=True):
                self._decode_one(spec, number, into[place])

    def _decode_one(self, spec: ArraySpec, number: int, out: NDArray[Any]) -> None:
        shard, slot = divmod(number, SHARD)
        file = self._shard(spec, shard)
        try:
            spec.read(file, slot, out)
        except (ValueError, RuntimeError) as error:
            raise damaged(file.path, f"chip {number}: {error}") from error

    def _batch(
        self, numbers: NDArray[np.int64], indexes: NDArray[np.int64], out: dict[str, NDArray[Any]]
    ) -> ChipArrays:
        parts: dict[str, dict[str, NDArray[Any]]] = {"images": {}, "valid": {}, "calibration": {}}
        for spec in self.arrays:
            kind, _, name = spec.name.partition("/")
            if name:
                parts[kind][name] = out[spec.name]
        rows: dict[str, NDArray[Any]] = {}
        for table in self.tables:
            rows[table.name] = np.stack([self._rows(table, n // SHARD)[n % SHARD] for n in numbers.tolist()])
            if table.name.startswith("calibration/"):
                parts["calibration"][table.name.partition("/")[2]] = rows[table.name]
        target = out.get("target")
        return ChipArrays(
            parts["images"], parts["valid"], parts["calibration"], target, (), indexes, rows["bounds"], ()
        )  # fmt: skip

    def _shard(self, spec: ArraySpec, shard: int) -> ShardReader:
        key = (spec.name, shard)
        if key not in self._files:
            self._files[key] = ShardReader(spec.path(self.folder / ARRAYS, shard))
        return self._files[key]  # type: ignore[no-any-return]

    def _rows(self, spec: TableSpec, shard: int) -> NDArray[Any]:
        key = (spec.name, shard)
        if key not in self._files:
            self._files[key] = spec.read(self.folder / ARRAYS, shard)
        return self._files[key]  # type: ignore[no-any-return]


def _open(folder: Path) -> tuple[dict[str, Any], bool]:
    """Return what the store says of itself, and whether it is complete."""
    if not (folder / PLAN).is_file():
        raise PackageError(
            "this is not a chip store",
            where=str(folder),
            why=f"it has no {PLAN}",
            fix="make one: geomm chips build RECIPE -o FOLDER",
        )
    complete = (folder / RECORD).is_file()
    record = _content(folder / RECORD) if complete else {"files": {}}
    if complete:
        if seal({k: v for k, v in record.items() if k != "sha256"}) != (folder / RECORD).read_bytes():
            raise damaged(folder / RECORD, "its content has changed")
        if hashlib.sha256((folder / PLAN).read_bytes()).hexdigest() != record["files"][PLAN]:
            raise damaged(folder / PLAN, "its content has changed")
    return {**_content(folder / PLAN), "files": record["files"]}, complete


def _content(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def _manifest(folder: Path, digests: Mapping[str, str]) -> Any:
    """Return the manifest of a complete store, whole."""
    import geopandas

    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damaged(path, f"the file is missing or cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digests.get(MANIFEST):
        raise damaged(path, "its content has changed")
    return geopandas.read_parquet(io.BytesIO(content))


def _specs(about: dict[str, Any]) -> tuple[tuple[ArraySpec, ...], tuple[TableSpec, ...]]:
    separator = about.get("separator", "/")
    arrays = tuple(ArraySpec.of(a, separator) for a in about["arrays"])
    shapes = {f"calibration/{a.name[7:]}": (*a.shape[:2], 4) for a in arrays if a.name.startswith("images/")}
    tables = [TableSpec(n, shape, "float32", (), separator) for n, shape in shapes.items()]
    return arrays, (*tables, TableSpec("bounds", (4,), "float64", (), separator))
