"""Build a chip store, shard by shard: from any number of processes, as often stopped as you like.

``plan.json`` says what the store will hold. A shard is there when its record under ``shards/`` is; ``store.json`` with
the digests of all other files comes last. The same inputs give the same bytes, whoever wrote which shard.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geomm.chipping import ChipArrays
from geomm.errors import ConfigError, GeommError, OutputError
from geomm.store.building import ShardBuild
from geomm.store.plan import ARRAYS, MANIFEST, PLAN, RECORD, StorePart, StorePlan
from geomm.store.shard import SHARD, ArraySpec
from geomm.types import Progress, silent
from geomm.whole import whole_file, write_whole

BATCH = 8
"""Chips that are encoded at a time; a shard holds a whole number of batches."""
WAITING = 2
"""Batches that may wait for the disk; more would be pushed out of the processor's cache before they are written."""
PANELS = 4
"""Panels of the grid between which decoded blocks are kept, which takes more memory than a stream of chips may."""


def write_store(
    parts: Sequence[StorePart],
    folder: str | Path,
    *,
    compress: bool | None = None,
    share: tuple[int, int] = (0, 1),
    progress: Progress = silent,
) -> Path:
    """Write chips as a store, or what is missing of one; more parts at the end make a store longer.

    Args:
        parts: chips of one size, of one or more cubes.
        folder: of the store.
        compress: True for imagery in LZ4: half to all of the bytes, which takes longer to build and to read. False for
            pixels as they are. By default as in the store that is there, and not compressed in a new one.
        share: this process's number and how many there are: each writes its own shards, the last one finishes.
        progress: told how many chips are stored.

    Returns:
        The folder.

    Raises:
        ConfigError: there is no chip, the parts do not fit together, there is no such share, or these are no folder and
            no choice.
        OutputError: the folder holds something else, or cannot be written.
        PackageError: the store in it was begun by a newer geomm.
        ReadError: a source cannot be read; what was stored before stays, and the same call goes on from there.
    """
    _check(folder, compress, share)
    target = Path(folder)
    try:
        plan = _plan(parts, target, compress=compress)
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


def _check(folder: Any, compress: Any, share: Any) -> None:
    """Refuse what is no folder, no choice and no share."""
    if not isinstance(folder, (str, Path)):
        fix = 'parts come first, the folder second: write_store([StorePart("north", dataset)], "chips")'
        raise ConfigError("this is no folder", where=repr(folder)[:80], fix=fix)
    if not isinstance(compress, (bool, type(None))):
        fix = "write compress=True for LZ4, False for pixels as they are, or leave it out"
        raise ConfigError("compress is True or False", where=f"compress {compress!r}"[:80], fix=fix)
    if not isinstance(share, Sequence) or len(share) != 2 or not all(isinstance(n, int) for n in share):
        fix = "give this process's number and how many there are: share=(0, 4)"
        raise ConfigError("the share is no pair of whole numbers", where=f"share {share!r}"[:80], fix=fix)
    if not 0 <= share[0] < share[1]:
        raise ConfigError("the share's number is below its count", where=str(share), fix="the first of four is (0, 4)")


def _begun(folder: Path) -> dict[str, Any] | None:
    """Return the plan of the store that a folder holds, None where it has none yet."""
    if not (folder / PLAN).is_file():
        return None
    plan = json.loads((folder / PLAN).read_text())
    if not isinstance(plan, dict) or not {"arrays", "sites"} <= set(plan):
        raise OutputError("the folder holds something else", where=str(folder / PLAN), fix="name another folder")
    return plan


def _plan(parts: Sequence[StorePart], folder: Path, *, compress: bool | None) -> StorePlan:
    """Plan a store; one that was begun goes on as it is."""
    begun = _begun(folder)
    if begun is None:
        return StorePlan.of(parts, compress=bool(compress))
    separator = begun.get("separator", "/")
    arrays = [ArraySpec.of(a, separator) for a in begun["arrays"]]
    if compress is None:
        compress = all(a.codec == "lz4" for a in arrays)
    return StorePlan.of(parts, compress=compress, separator=separator)


def _prepare(plan: StorePlan, folder: Path) -> None:
    """Begin a store, or see that it is the one that was begun."""
    about = plan.describe()
    other = folder.is_dir() and any(not p.name.startswith(".plan") for p in folder.iterdir())
    if (other and not (folder / PLAN).is_file()) or (folder.exists() and not folder.is_dir()):
        raise OutputError("the folder holds something else", where=str(folder), fix="name another folder")
    before = _begun(folder)
    if before is not None:
        longer = {**before, "sites": about["sites"][: len(before["sites"])]} == {**about, "sites": before["sites"]}
        if not longer or about["sites"][: len(before["sites"])] != before["sites"]:
            there, here = ({**d, "arrays": [{"codec": "lz4", **a} for a in d["arrays"]]} for d in (before, about))
            raise OutputError(
                "the folder holds a store of other chips",
                where=str(folder),
                why=_difference(there, here),
                fix="name another folder, or remove this one",
            )
        if before != about or len(committed(folder, plan)) < plan.shards:
            (folder / RECORD).unlink(missing_ok=True)  # it is not complete any more
    for path, content in {Path(PLAN): json.dumps(about, indent=1).encode(), **plan.metadata()}.items():
        if not (folder / path).is_file() or (folder / path).read_bytes() != content:
            write_whole(folder / path, content)


def _difference(before: Any, after: Any, name: str = "") -> str:
    """Return the first thing in which two descriptions differ, and what it is in each."""
    if isinstance(before, dict) and isinstance(after, dict):
        key = next(k for k in {**before, **after} if before.get(k) != after.get(k))
        here = str(before.get("name", before.get("site", ""))) or name
        return _difference(before.get(key), after.get(key), f"{here} {key}".strip())
    if isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return f"{name}: there {len(before)}, here {len(after)}"
        return _difference(*next((a, b) for a, b in zip(before, after, strict=True) if a != b), name)
    return f"{name}: there {json.dumps(before)[:120]}, here {json.dumps(after)[:120]}"


def _write_shards(plan: StorePlan, folder: Path, share: tuple[int, int], progress: Progress) -> None:
    have = committed(folder, plan)
    done = sum(plan.size_of(n) for n in have)
    first, last = (plan.shards * k // share[1] for k in (share[0], share[0] + 1))
    wanted = set(range(first, last)) - set(have)
    progress("store chips", done, plan.chips)
    if not wanted:
        return
    with ExitStack() as stack:
        shards = stack.enter_context(ExitStack())  # left last, when nothing writes to them any more
        disk = stack.enter_context(ThreadPoolExecutor(1))  # in order, while chips are read on
        pool = stack.enter_context(ThreadPoolExecutor(plan.parts[0].reader.threads))
        shard: ShardBuild | None = None
        waiting: deque[tuple[int, Future[None]]] = deque()
        for number, part, arrays in _batches(plan, wanted):
            if shard is None:
                shard = shards.enter_context(ShardBuild(plan, folder, number // SHARD))
            chunks = shard.encode(arrays, pool)
            waiting.append((len(arrays.chips), disk.submit(shard.add, number, part, arrays, chunks)))
            if number + len(arrays.chips) == shard.end:
                waiting.append((0, disk.submit(shard.commit)))
                shard = None
            while len(waiting) > WAITING:
                done += _settle(waiting)
                progress("store chips", done, plan.chips)
        while waiting:
            done += _settle(waiting)
        progress("store chips", done, plan.chips)


def _settle(waiting: deque[tuple[int, Future[None]]]) -> int:
    """Wait for the first of what was handed to the disk, and return how many chips that was."""
    chips, job = waiting.popleft()
    job.result()
    return chips


def _batches(plan: StorePlan, wanted: set[int]) -> Iterator[tuple[int, int, ChipArrays]]:
    """Yield number of the first chip, part and arrays of batches; none reaches across shards or parts."""
    start, orders = 0, (order.joined(PANELS) for order in plan.orders)
    for k, (part, order) in enumerate(zip(plan.parts, orders, strict=True)):
        numbers = start + np.arange(len(order.draws))
        mine = np.flatnonzero(np.isin(numbers // SHARD, list(wanted)))
        for block in np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1):
            # Runs of chips that follow each other; batches are aligned with the shards.
            first = int(block[0]) if block.size else 0
            offset = -(start + first) % BATCH
            for piece, batch in ((block[:offset], max(offset, 1)), (block[offset:], BATCH)):
                if piece.size:
                    some = replace(order, draws=order.draws[piece])
                    stream = part.reader.follow(some, batch, shuffled=False, tidy=False)
                    at = start + int(piece[0])
                    for arrays in stream:
                        yield at, k, arrays
                        at += len(arrays.chips)
        start += len(order.draws)


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
    with whole_file(folder / MANIFEST) as aside:
        table.to_parquet(aside)
    names = [MANIFEST, PLAN, *map(str, plan.metadata()), *(f"shards/{n:06d}.json" for n in range(plan.shards))]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    about = {"format": 1, "chips": plan.chips, "files": digests}
    write_whole(folder / RECORD, seal(about))


def seal(about: dict[str, Any]) -> bytes:
    """Return a record with the digest of its own content."""
    text = json.dumps(about, sort_keys=True)
    return json.dumps({**about, "sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1, sort_keys=True).encode()


def to_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a GeoDataFrame in degrees."""
    import geopandas
    import pandas as pd
    import shapely

    table = pd.DataFrame(list(rows))
    shapes = shapely.box(*table[["left", "bottom", "right", "top"]].to_numpy().T)
    places = pd.concat(
        [
            geopandas.GeoSeries(shapes[index], index=index, crs=crs).to_crs("EPSG:4326")
            for crs, index in table.groupby("crs", sort=False).groups.items()
        ]
    )
    return geopandas.GeoDataFrame(table, geometry=places.sort_index(), crs="EPSG:4326")
