"""One writer at a time: new files first, then the manifest that names them, then away with what it does not name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError, GeommError, OutputError
from geomm.retrieval.files import ArrayWriter
from geomm.retrieval.manifest import LOCK, Manifest, Part
from geomm.retrieval.segment import Rows, Segment, SegmentWriter, commit
from geomm.retrieval.snapshot import Snapshot
from geomm.whole import whole_folder

FAN = 8
"""Segments of about the same size that become one: a row is written again once for every factor of 8."""
LARGEST = 4 * 2**20
"""Rows of a segment that is not merged any more."""
_STEP = 8192  # rows that are copied at a time


def lock_of(folder: Path) -> Any:
    """Return the lock that a writer holds; the system frees it when the writer is killed."""
    from filelock import FileLock

    return FileLock(folder / LOCK, timeout=0)


@contextmanager
def held(lock: Any, folder: Path) -> Iterator[None]:
    """Hold the lock of an index; leave nothing half-written.

    Raises:
        OutputError: another writer holds it, or the disk cannot be written.
    """
    from filelock import Timeout

    try:
        with lock:
            if lock.lock_counter > 1:
                yield
                return
            Manifest.load(folder).sweep(folder)
            try:
                yield
            finally:
                Manifest.load(folder).sweep(folder)
    except Timeout as error:
        fix = "wait until it is done; one that was killed holds nothing"
        raise OutputError("another writer is at work", where=str(folder), fix=fix) from error
    except GeommError:
        raise
    except OSError as error:
        raise OutputError(
            "the index cannot be written",
            where=str(folder),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk",
        ) from error


def create(folder: Path, manifest: Manifest, fill: Callable[[Path], object] | None = None) -> None:
    """Make an index that appears whole or not at all.

    Args:
        folder: that does not exist, or is empty.
        manifest: with which it begins.
        fill: writes into the folder before it gets its name.

    Raises:
        OutputError: the folder holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError("the folder holds something else", where=str(folder), fix="name another folder")
    try:
        with whole_folder(folder) as aside:
            manifest.save(aside)
            if fill is not None:
                fill(aside)
    except GeommError:
        raise
    except OSError as error:
        raise OutputError(
            "the index cannot be written",
            where=str(folder),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk",
        ) from error


def append(snapshot: Snapshot, rows: Rows, jobs: dict[str, Any], pool: Executor) -> None:
    """Add rows and jobs, both or none.

    Raises:
        ConfigError: an id is there already, or the rows have other parts than those that are there.
    """
    manifest = snapshot.manifest
    before = (manifest.pictures, manifest.cells)
    extra = (rows.pictures is not None, 0 if rows.cells is None else rows.cells[0].shape[1])
    if not len(rows.vectors):
        dataclasses.replace(manifest, jobs={**manifest.jobs, **jobs}).save(snapshot.folder)
        return
    if manifest.pictures is not None and before != extra:
        why = f"pictures and cells: there {before}, here {extra}"
        raise ConfigError("all rows have pictures or cells, or none has", why=why, fix="append rows of one kind")
    _refuse_known(snapshot, rows)
    name = f"segments/{manifest.generation + 1:06d}"
    with SegmentWriter(snapshot.folder, name, manifest.dimension, rows.table.schema) as writer:
        writer.add(rows)
        part = writer.commit(pool)
    new = dataclasses.replace(
        manifest, segments=(*manifest.segments, part), jobs={**manifest.jobs, **jobs}, pictures=extra[0], cells=extra[1]
    )
    new.save(snapshot.folder)


def delete(snapshot: Snapshot, rows: NDArray[np.int64]) -> None:
    """Mark rows as deleted, besides those that are."""
    manifest = snapshot.manifest
    every = np.union1d(snapshot.deleted, rows)
    name = f"deleted/{manifest.generation + 1:06d}"
    folder = snapshot.folder / name
    folder.mkdir(parents=True)
    with ArrayWriter(folder / "rows.npy", np.int64) as file:
        file.add(every)
    dataclasses.replace(manifest, deleted=commit(folder, name, len(every), {})).save(snapshot.folder)


def tidy(snapshot: Snapshot, pool: Executor) -> bool:
    """Merge the last small segments if there are many; numbers of rows stay. Tell whether there were."""
    manifest = snapshot.manifest
    listed = 0 if manifest.ann is None else manifest.ann.rows
    loose = [k for k, first in enumerate(snapshot.starts[:-1]) if first >= listed]
    sizes = [manifest.segments[k].rows for k in loose]
    level = FAN
    while level <= LARGEST:
        count = next((n for n, size in enumerate(reversed(sizes)) if size >= level), len(sizes))
        if count >= FAN and sum(sizes[-count:]) <= LARGEST:
            break
        level *= FAN
    else:
        return False
    sources = [(s, np.arange(len(s))) for s in snapshot.segments[-count:]]
    merged = rewrite(snapshot.folder, manifest, sources, pool)
    dataclasses.replace(manifest, segments=(*manifest.segments[:-count], *merged)).save(snapshot.folder)
    return True


def compact(snapshot: Snapshot, pool: Executor) -> None:
    """Write all rows that are not deleted into as few segments as may be; their numbers change."""
    manifest = snapshot.manifest
    parts = rewrite(snapshot.folder, manifest, live(snapshot), pool)
    dataclasses.replace(manifest, segments=tuple(parts), deleted=None, ann=None).save(snapshot.folder)


def live(snapshot: Snapshot) -> list[tuple[Segment, NDArray[np.int64]]]:
    """Return segments and the numbers of their rows that are not deleted."""
    rows = np.ones(snapshot.manifest.rows, bool)
    rows[snapshot.deleted] = False
    return [
        (segment, np.flatnonzero(rows[first : first + len(segment)]))
        for segment, first in zip(snapshot.segments, snapshot.starts, strict=False)
    ]


def rewrite(
    folder: Path, manifest: Manifest, sources: Sequence[tuple[Segment, NDArray[np.int64]]], pool: Executor
) -> list[Part]:
    """Write rows of segments into new ones; each is as large as may be."""
    import pyarrow as pa

    if not sources:
        return []
    schema = pa.unify_schemas([s.reader.schema for s, _ in sources], promote_options="permissive")
    names = (f"segments/{manifest.generation + 1:06d}-{n}" for n in range(2**31))
    parts: list[Part] = []
    for pieces in _shares(sources):
        with SegmentWriter(folder, next(names), manifest.dimension, schema) as writer:
            for segment, rows in pieces:
                writer.add(segment.take(rows))
            parts.append(writer.commit(pool))
    return parts


def _shares(
    sources: Iterable[tuple[Segment, NDArray[np.int64]]],
) -> Iterator[list[tuple[Segment, NDArray[np.int64]]]]:
    """Yield pieces of at most ``_STEP`` rows, in lists of at most ``LARGEST``."""
    share: list[tuple[Segment, NDArray[np.int64]]] = []
    for segment, rows in sources:
        for start in range(0, len(rows), _STEP):
            piece = rows[start : start + _STEP]
            if sum(len(r) for _, r in share) + len(piece) > LARGEST:
                yield share
                share = []
            share.append((segment, piece))
    if share:
        yield share


def _refuse_known(snapshot: Snapshot, rows: Rows) -> None:
    """Refuse ids that are there; keys that agree are looked at as texts."""
    keys = rows.keys
    for segment, first in zip(snapshot.segments, snapshot.starts, strict=False):
        found = segment.holds(keys)
        found = found[~np.isin(found + first, snapshot.deleted)]
        if found.size:
            there = segment.table(found).column("id").to_pylist()
            again = set(there) & set(rows.table.column("id").to_pylist())
            if again:
                fix = "give new ids, or delete the old rows first"
                raise ConfigError("the index has rows of these ids", where=", ".join(sorted(again)[:5]), fix=fix)
