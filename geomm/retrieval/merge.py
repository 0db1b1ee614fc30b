"""Several indexes into one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from geomm.errors import ConfigError
from geomm.retrieval import writing
from geomm.retrieval.index import Index
from geomm.retrieval.manifest import Manifest, folders_of
from geomm.retrieval.snapshot import Snapshot, threads


def merge_indexes(folders: Sequence[str | Path | Index], into: str | Path) -> Index:
    """Write the rows of several indexes, without deleted ones, into a new one, in the order of the folders.

    Args:
        folders: of the indexes, or they; the new one keeps what is kept ``about`` the first, and the jobs of all.
        into: a folder that does not exist, or is empty.

    Returns:
        The new index, without lists for approximate search: see :meth:`geomm.retrieval.Index.build_ann`.

    Raises:
        ConfigError: there is no folder, an id occurs twice, or the indexes differ in their dimension, in the model of
            their vectors, or in having pictures and cells.
        PackageError: a folder holds no index, or a damaged one.
        OutputError: ``into`` holds something, or cannot be written.
    """
    opened = [Snapshot.open(folder) for folder in folders_of(folders)]
    manifest = _agreed(opened)
    sources = [source for snapshot in opened for source in writing.live(snapshot)]
    keys = np.concatenate([np.empty(0, np.uint64), *(s.keys[rows] for s, rows in sources)])
    values, counts = np.unique(keys, return_counts=True)
    twice = values[counts > 1]
    if twice.size:
        names = [n for s, rows in sources for n in s.table(rows[np.isin(s.keys[rows], twice)])["id"].to_pylist()]
        again = sorted({n for n in names if names.count(n) > 1})
        if again:
            raise ConfigError("an id occurs in two of the indexes", where=", ".join(again[:5]), fix="delete one")
    with ThreadPoolExecutor(threads()) as pool:

        def fill(folder: Path) -> None:
            parts = writing.rewrite(folder, manifest, sources, pool)
            dataclasses.replace(manifest, segments=tuple(parts)).save(folder)

        writing.create(Path(into), manifest, fill)
    return Index.open(into)


def _agreed(opened: Sequence[Snapshot]) -> Manifest:
    """Return the manifest with which the new index begins."""
    first = opened[0].manifest
    jobs: dict[str, Any] = {}
    extra: tuple[bool | None, int | None] = (None, None)
    for snapshot in opened:
        manifest = snapshot.manifest
        mine = (manifest.pictures, manifest.cells)
        kept = extra if mine[0] is None or extra[0] is None else mine
        for name, one, other in (
            ("dimension", first.dimension, manifest.dimension),
            ("model", first.about.get("model_sha256"), manifest.about.get("model_sha256")),
            ("pictures and cells", extra, kept),
        ):
            if one != other:
                why = f"{name}: there {one}, here {other}"
                raise ConfigError(
                    "the indexes do not belong together",
                    where=str(snapshot.folder),
                    why=why,
                    fix="merge indexes that one model made with the same settings",
                )
        extra = mine if extra[0] is None else extra
        jobs |= manifest.jobs
    return Manifest(first.dimension, first.about, jobs=jobs, pictures=extra[0], cells=extra[1])
