"""Making the lists of approximate search: k-means in two steps, then a trial that measures where the best rows lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import CHUNK, Coded, gather, write_codes
from geomm.retrieval.files import ArrayWriter
from geomm.retrieval.find import find_exact
from geomm.retrieval.lists import BINS, Lists, class_of
from geomm.retrieval.segment import commit
from geomm.retrieval.snapshot import Snapshot

ROUNDS = 8
"""Of k-means."""
SAMPLE = 100_000
"""Rows of which the large lists are learnt: 200 MB of 512 float32."""
SIZE = 64
"""Rows of a list, on average."""
TRIALS, DEPTH = 256, 20
"""Queries of the trial, and how many of the best rows each has."""
MISSED = 0.003
"""See :class:`geomm.retrieval.lists.Lists`."""


@dataclass
class Learnt:
    """Lists as they are made."""

    centres: NDArray[np.float32]
    """Of the large lists, ``(L, D)``."""
    large: NDArray[np.int32]
    """The large list of each row."""
    guides: list[NDArray[np.float32]] = dataclasses.field(default_factory=list)
    """Of each large list, the centres of its parts."""
    order: list[NDArray[np.int32]] = dataclasses.field(default_factory=list)
    """Of each large list, its rows in the order of its parts."""
    sizes: list[NDArray[np.int64]] = dataclasses.field(default_factory=list)
    """Of each large list, the sizes of its parts."""
    spread: list[NDArray[np.float64]] = dataclasses.field(default_factory=list)
    """The same, their mean square distances."""
    shape: NDArray[np.float64] | None = None
    """Sum of the products of rests."""


def build_lists(snapshot: Snapshot, pool: Executor) -> None:
    """Sort all rows into lists, and publish these with the index."""
    manifest, sources = snapshot.manifest, [s.vectors for s in snapshot.segments]
    if not manifest.rows:
        return
    generator = np.random.default_rng(0)
    learnt = _learn(sources, manifest.rows, generator)
    name = f"ann/{manifest.generation + 1:06d}"
    folder = snapshot.folder / name
    folder.mkdir(parents=True)
    order, guides = np.concatenate(learnt.order), np.concatenate(learnt.guides)
    write_codes(folder, sources, order, learnt.centres, learnt.large[order], pool)
    nowhere = np.zeros((1, guides.shape[1]), np.float32)
    write_codes(folder, [guides], None, nowhere, np.zeros(len(guides), np.int32), pool, "guide_")
    assert learnt.shape is not None
    arrays = {
        "order": order,
        "ends": np.cumsum([0, *np.concatenate(learnt.sizes)]),
        "spread": np.concatenate(learnt.spread).astype(np.float32),
        "shape": (learnt.shape / max(np.trace(learnt.shape), 1e-30)).astype(np.float32),
        "rate": np.ones(len(BINS)),
    }
    for file, values in arrays.items():
        _write(folder / f"{file}.npy", values)
    about = {"missed": MISSED}
    rate = _trial(snapshot, Lists.open(folder, about), generator, pool)
    _write(folder / "rate.npy", rate)
    dataclasses.replace(manifest, ann=commit(folder, name, manifest.rows, about)).save(snapshot.folder)


def _write(path: object, values: NDArray[np.generic]) -> None:
    with ArrayWriter(path, values.dtype, values.shape[1:]) as writer:
        writer.add(values)


def _learn(sources: list[NDArray[np.float16]], rows: int, generator: np.random.Generator) -> Learnt:
    """Sort rows into large lists, and each of these into small ones."""
    chosen = np.sort(generator.choice(rows, min(rows, SAMPLE), replace=False))
    count = max(1, min(round(rows**0.5), rows // SIZE))
    centres = k_means(gather(sources, chosen).astype(np.float32), count, generator)
    pieces = (np.arange(n, min(n + CHUNK, rows)) for n in range(0, rows, CHUNK))
    large = np.concatenate([nearest(gather(sources, p).astype(np.float32), centres) for p in pieces])
    learnt = Learnt(centres, large)
    order = np.argsort(large, kind="stable").astype(np.int32)
    for mine in np.split(order, np.searchsorted(large[order], np.arange(1, count))):
        if mine.size:
            _divide(learnt, sources, mine, generator)
    return learnt


def _divide(
    learnt: Learnt, sources: list[NDArray[np.float16]], mine: NDArray[np.int32], generator: np.random.Generator
) -> None:
    """Sort the rows of a large list into small ones."""
    some = mine if len(mine) <= CHUNK else np.sort(generator.choice(mine, CHUNK, replace=False))
    centres = k_means(gather(sources, some).astype(np.float32), max(1, len(mine) // SIZE), generator)
    wide = centres.shape[1]
    small, square, shape = [], [], np.zeros((wide, wide))
    for values in _values(sources, mine):
        where = nearest(values, centres)
        rest = values - centres[where]
        small.append(where)
        square.append(np.einsum("nd,nd->n", rest, rest))
        shape += rest.T @ rest
    part, far = np.concatenate(small), np.concatenate(square)
    sizes = np.bincount(part, minlength=len(centres))
    # One more row at the mean distance: a list of one row is not sure to be narrow.
    learnt.spread.append((np.bincount(part, far, len(centres)) + far.mean()) / (sizes + 1))
    learnt.order.append(mine[np.argsort(part, kind="stable")])
    learnt.sizes.append(sizes)
    learnt.guides.append(centres)
    learnt.shape = shape if learnt.shape is None else learnt.shape + shape


def _values(sources: list[NDArray[np.float16]], rows: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
    for n in range(0, len(rows), CHUNK):
        yield gather(sources, rows[n : n + CHUNK]).astype(np.float32)


def _trial(
    snapshot: Snapshot, lists: Lists, generator: np.random.Generator, pool: Executor
) -> NDArray[np.float64]:
    """Measure the share of rows that are among the best, by class of reach, for rows as queries.

    A row is asked for its neighbours without itself. Rates fall with reach, and none is zero: where no neighbour was
    found, one may still be among as many rows again.
    """
    rows = snapshot.manifest.rows
    asked = np.sort(generator.choice(rows, min(rows, TRIALS), replace=False))
    sources = [s.vectors for s in snapshot.segments]
    queries = gather(sources, asked).astype(np.float32)
    coded = Coded.of(queries / np.linalg.norm(queries, axis=1, keepdims=True))
    best = find_exact(snapshot, [c for c in snapshot.choices(None, pool)], coded, DEPTH + 1, pool)
    position = np.empty(rows, np.int64)
    position[lists.order] = np.arange(rows)
    list_of = np.searchsorted(lists.ends, np.arange(rows), "right") - 1
    sizes, seen, hits = np.diff(lists.ends), np.zeros(len(BINS)), np.zeros(len(BINS))
    for n, (found, scores) in enumerate(best):
        others = found != asked[n]
        middle, sigma = lists.near(coded.take(slice(n, n + 1)), pool)
        kind = class_of((scores[-1] - middle) / sigma)
        seen += np.bincount(kind, sizes, len(BINS))
        hits += np.bincount(kind[list_of[position[found[others]]]], minlength=len(BINS))
    # Pool classes from the far end until each has a hit, so that rates are never lower than those farther away.
    rate = (hits + 1) / (seen + 1)
    return np.minimum(np.maximum.accumulate(rate[::-1])[::-1], 1.0)


def k_means(
    sample: NDArray[np.float32], count: int, generator: np.random.Generator, rounds: int = ROUNDS
) -> NDArray[np.float32]:
    """Return centres ``(count, D)``; an empty list gets a centre beside that of a large one."""
    centres = sample[np.sort(generator.choice(len(sample), count, replace=False))].copy()
    for _ in range(rounds if count > 1 else 1):
        lists = np.concatenate([nearest(sample[n : n + CHUNK], centres) for n in range(0, len(sample), CHUNK)])
        order, sizes = np.argsort(lists, kind="stable"), np.bincount(lists, minlength=count)
        filled = np.flatnonzero(sizes)
        centres[filled] = np.add.reduceat(sample[order], (np.cumsum(sizes) - sizes)[filled], axis=0) / sizes[filled, None]
        empty = np.flatnonzero(sizes == 0)
        large = np.argsort(-sizes)[: empty.size]
        noise = generator.standard_normal((len(large), sample.shape[1]), np.float32)
        centres[empty[: len(large)]] = centres[large] + 1e-3 * noise
    return centres


def nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the number of the nearest centre for each vector."""
    closeness = vectors @ centres.T
    closeness -= np.einsum("ld,ld->l", centres, centres) / 2
    return closeness.argmax(1).astype(np.int32)
