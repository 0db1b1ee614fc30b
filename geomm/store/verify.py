"""Check every byte of a chip store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from geomm.errors import PackageError
from geomm.store.plan import ARRAYS
from geomm.store.read import StoredChips
from geomm.store.shard import SHARD, ArraySpec, ShardReader
from geomm.types import Progress, silent


def verify_store(folder: str | Path | StoredChips, *, progress: Progress = silent) -> list[str]:
    """Compare every file of a store with its checksums.

    Args:
        folder: of the store, or the store.
        progress: told how many shards are checked.

    Returns:
        What is damaged or missing, one line each, by the name of the file and the number of the chip.

    Raises:
        PackageError: the folder is no chip store, or the record that holds the checksums is itself damaged.
    """
    store = folder if isinstance(folder, StoredChips) else StoredChips(folder)
    found = [*_files(store)]
    for number, shard in enumerate(store.shards, start=1):
        for spec in store.arrays:
            found += _chunks(store, spec, shard)
        for table in store.tables:
            try:
                table.read(store.folder / ARRAYS, shard)
            except PackageError as error:
                found.append(f"{error.where}: {error.why}")
        progress("verify shards", number, len(store.shards))
    return found


def _files(store: StoredChips) -> Iterator[str]:
    """Check the files whose digests the store's record holds."""
    for name, digest in store.about["files"].items():
        path = store.folder / name
        if not path.is_file():
            yield f"{path}: the file is missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"{path}: its content has changed"


def _chunks(store: StoredChips, spec: ArraySpec, shard: int) -> Iterator[str]:
    """Check every chunk of an array in a shard."""
    scratch = np.empty(spec.shape, spec.dtype)
    try:
        file = ShardReader(spec.path(store.folder / ARRAYS, shard))
    except PackageError as error:
        yield f"{error.where}: {error.why}"
        return
    for slot in range(min(SHARD, store.total - shard * SHARD)):
        try:
            spec.read(file, slot, scratch)
        except PackageError as error:
            yield f"{error.where}: {error.why}"
        except (ValueError, RuntimeError) as error:
            yield f"{file.path}: chip {shard * SHARD + slot}: {error}"
    if file.strays():
        yield f"{file.path}: there is something between its chunks"
