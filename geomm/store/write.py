"""Build a chip store, shard by shard: from any number of processes, as often stopped as you like.

``plan.json`` says what the store will hold. A shard is there when its record under ``shards/`` is; ``store.json`` with
the digests of all other files comes last. The same inputs give the same bytes, whoever wrote which shard.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from geomm.chipping import ChipArrays
from geomm.chips import Itinerary
from geomm.errors import ConfigError, GeommError, OutputError
from geomm.store.plan import ARRAYS, MANIFEST, PLAN, RECORD, StorePart, StorePlan
from geomm.store.shard import SHARD, ShardWriter
from geomm.types import INVALID_CLASS, Progress, silent

BATCH = 8
"""Chips that are encoded at a time; a shard holds a whole number of batches."""


def write_store(
    parts: Sequence[StorePart],
    folder: str | Path,
    *,
    share: tuple[int, int] = (0, 1),
    progress: Progress = silent,
) -> Path:
    """Write chips as a store, or what is missing of one; more parts at the end make a store longer.

    Args:
        parts: chips of one size, of one or more cubes.
        folder: of the store.
        share: this process's number and how many there are: each writes its own shards, the last one finishes.
        progress: told how many chips are stored.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no chip, the parts do not fit together, or there is no such share.
        OutputError: the folder holds something else, or cannot be written.
        ReadError: a source cannot be read; what was stored before stays, and the same call goes on from there.
    """
    given: Any = folder
    if not isinstance(given, (str, Path)):
        fix = 'parts come first, the folder second: write_store([StorePart("north", dataset)], "chips")'
        raise ConfigError("this is no folder", where=repr(given)[:80], fix=fix)
    if not isinstance(share, Sequence) or len(share) != 2 or not all(isinstance(n, int) for n in share):
        fix = "give this process's number and how many there are: share=(0, 4)"
        raise ConfigError("the share is no pair of whole numbers", where=f"share {share!r}"[:80], fix=fix)
    if not 0 <= share[0] < share[1]:
        raise ConfigError("the share's number is below its count", where=str(share), fix="the first of four is (0, 4)")
    plan, target = StorePlan.of(parts), Path(folder)
    try:
        _prepare(plan, target)
        _write_shards(plan, target, share, progress)
        if len(committed(target, plan)) == plan.shards:
            _finish(plan, target)
    except GeommError:  # of which some are OSErrors too
        raise
    except (OSError, json.JSONDecodeError) as error:
        raise OutputError(
            "the chip store cannot be written",
            where=str(folder),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk",
        ) from error
    return target


def committed(folder: Path, plan: StorePlan | None = None) -> list[int]:
    """Return the shards that are there; with a plan, only those that are as it wants them."""
    found = sorted(int(p.stem) for p in (folder / "shards").glob("[0-9]*.json"))
    if plan is None:
        return found
    whole = [n for n in found if n < plan.shards and len(read_rows(folder, n)) == plan.size_of(n)]
    root = folder / ARRAYS
    files = [spec.path for spec in plan.arrays] + [spec.path for spec in plan.tables]
    return [n for n in whole if all(path(root, n).is_file() for path in files)]


def read_rows(folder: Path, shard: int) -> list[dict[str, Any]]:
    """Return the manifest's rows of a shard."""
    return json.loads((folder / "shards" / f"{shard:06d}.json").read_text())  # type: ignore[no-any-return]


def publish(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with staging.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def _prepare(plan: StorePlan, folder: Path) -> None:
    """Begin a store, or see that it is the one that was begun."""
    about = plan.describe()
    other = folder.is_dir() and any(not p.name.startswith(".plan") for p in folder.iterdir())
    if (other and not (folder / PLAN).is_file()) or (folder.exists() and not folder.is_dir()):
        raise OutputError("the folder holds something else", where=str(folder), fix="name another folder")
    if (folder / PLAN).is_file():
        before = json.loads((folder / PLAN).read_text())
        longer = {**before, "sites": about["sites"][: len(before["sites"])]} == {**about, "sites": before["sites"]}
        if not longer or about["sites"][: len(before["sites"])] != before["sites"]:
            raise OutputError(
                "the folder holds a store of other chips",
                where=str(folder),
                why=_difference(before, about),
                fix="name another folder, or remove this one",
            )
        if before != about or len(committed(folder, plan)) < plan.shards:
            (folder / RECORD).unlink(missing_ok=True)  # it is not complete any more
    for path, content in {Path(PLAN): json.dumps(about, indent=1).encode(), **plan.metadata()}.items():
        if not (folder / path).is_file() or (folder / path).read_bytes() != content:
            publish(folder / path, content)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    for key in before:
        if before[key] != after[key]:
            return f"{key}: there {json.dumps(before[key])[:120]}, here {json.dumps(after[key])[:120]}"
    return ""


def _write_shards(plan: StorePlan, folder: Path, share: tuple[int, int], progress: Progress) -> None:
    have = committed(folder, plan)
    done = sum(plan.size_of(n) for n in have)
    first, last = (plan.shards * k // share[1] for k in (share[0], share[0] + 1))
    wanted = set(range(first, last)) - set(have)
    progress("store chips", done, plan.chips)
    if not wanted:
        return
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(plan.parts[0].reader.threads))
        disk = stack.enter_context(ThreadPoolExecutor(1))  # chips are read on while a shard goes to the disk
        shard: _Shard | None = None
        commits: list[Future[None]] = []
        for number, part, arrays in _batches(plan, wanted):
            if shard is None:
                shard = stack.enter_context(_Shard(plan, folder, number // SHARD))
            shard.add(number, part, arrays, pool)
            done += len(arrays.chips)
            progress("store chips", done, plan.chips)
            if shard.full:
                commits.append(disk.submit(shard.commit))
                shard = None
        for commit in commits:
            commit.result()


def _batches(plan: StorePlan, wanted: set[int]) -> Iterator[tuple[int, int, ChipArrays]]:
    """Yield number of the first chip, part and arrays of batches; none reaches across shards or parts."""
    start = 0
    for k, (part, order) in enumerate(zip(plan.parts, plan.orders, strict=True)):
        numbers = start + np.arange(len(order.draws))
        mine = np.flatnonzero(np.isin(numbers // SHARD, list(wanted)))
        for block in np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1):
            # Runs of chips that follow each other; batches are aligned with the shards.
            first = int(block[0]) if block.size else 0
            offset = -(start + first) % BATCH
            for piece, batch in ((block[:offset], max(offset, 1)), (block[offset:], BATCH)):
                if piece.size:
                    stream = part.reader.follow(Itinerary(order.visits, order.draws[piece]), batch, shuffled=False)
                    at = start + int(piece[0])
                    for arrays in stream:
                        yield at, k, arrays
                        at += len(arrays.chips)
        start += len(order.draws)


class _Shard:
    """A shard that is being written; left before it is committed, it leaves nothing."""

    def __init__(self, plan: StorePlan, folder: Path, number: int) -> None:
        self.plan, self.folder, self.number = plan, folder, number
        self.rows: list[dict[str, Any]] = []
        self.tables: dict[str, list[Any]] = {t.name: [] for t in plan.tables}
        self.files = {a.name: ShardWriter(a.path(folder / ARRAYS, number)) for a in plan.arrays}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.abandon()

    @property
    def full(self) -> bool:
        """Whether all its chips are there."""
        return len(self.rows) == self.plan.size_of(self.number)

    def add(self, first: int, part: int, arrays: ChipArrays, pool: ThreadPoolExecutor) -> None:
        """Encode a batch and append it."""
        values = {f"images/{n}": v for n, v in arrays.images.items()} | {
            f"valid/{n}": v for n, v in arrays.valid.items()
        }
        if arrays.target is not None:
            values["target"] = arrays.target
        encoded = pool.map(
            lambda k: [spec.encode(values[spec.name][k]) for spec in self.plan.arrays], range(len(arrays.chips))
        )
        for k, chunks in enumerate(encoded):
            for spec, (data, checksum) in zip(self.plan.arrays, chunks, strict=True):
                self.files[spec.name].add(first + k - self.number * SHARD, data, checksum)
        for name, table in arrays.calibration.items():
            self.tables[f"calibration/{name}"].append(table)
        self.tables["bounds"].append(arrays.bounds)
        self.rows += _rows(self.plan, first, part, arrays)

    def commit(self) -> None:
        """Give the files their names, and last the record that says so."""
        for file in self.files.values():
            file.close()
        self.files = {}
        for spec in self.plan.tables:
            publish(spec.path(self.folder / ARRAYS, self.number), spec.encode(np.concatenate(self.tables[spec.name])))
        publish(self.folder / "shards" / f"{self.number:06d}.json", json.dumps(self.rows).encode())


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


def _finish(plan: StorePlan, folder: Path) -> None:
    """Write the manifest, and last the record of everything; nothing where they are there."""
    if (folder / RECORD).is_file():
        return
    for stale in folder.rglob(".*.[0-9]*"):
        stale.unlink(missing_ok=True)
    for extra in (folder / "shards").glob("[0-9]*.json"):
        if int(extra.stem) >= plan.shards:
            extra.unlink()
    table = to_table([row for n in range(plan.shards) for row in read_rows(folder, n)])
    staging = folder / f".{MANIFEST}.{os.getpid()}"
    table.to_parquet(staging)
    staging.replace(folder / MANIFEST)
    names = [MANIFEST, PLAN, *map(str, plan.metadata()), *(f"shards/{n:06d}.json" for n in range(plan.shards))]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    about = {"format": 1, "chips": plan.chips, "files": digests}
    publish(folder / RECORD, seal(about))


def seal(about: dict[str, Any]) -> bytes:
    """Return a record with the digest of its own content."""
    text = json.dumps(about, sort_keys=True)
    return json.dumps({**about, "sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1, sort_keys=True).encode()


def to_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a GeoDataFrame in degrees."""
    import geopandas
    import pandas as pd
    from shapely.geometry import box

    table = pd.DataFrame(list(rows))
    shapes = [box(*b) for b in table[["left", "bottom", "right", "top"]].to_numpy()]
    places = pd.concat(
        [
            geopandas.GeoSeries([shapes[k] for k in index], index=index, crs=crs).to_crs("EPSG:4326")
            for crs, index in table.groupby("crs", sort=False).groups.items()
        ]
    )
    return geopandas.GeoDataFrame(table, geometry=places.sort_index(), crs="EPSG:4326")
