"""Making the lists of approximate search: k-means in two steps, then a trial that measures where the best rows lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import CHUNK, Coded, gather, write_codes
from geomm.retrieval.files import ArrayWriter
from geomm.retrieval.find import find_exact
from geomm.retrieval.lists import BINS, KINDS, Lists
from geomm.retrieval.segment import commit
from geomm.retrieval.snapshot import Snapshot

ROUNDS, SETTLE = 10, 3
"""Of k-means, and how many at the end move no centre away."""
SAMPLE = 100_000
"""Rows of which the large lists are learnt: 200 MB of 512 float32."""
SIZE = 64
"""Rows of a small list, on average."""
STRAY, MOST, FEW = 1.3, 0.05, (12, 8)
"""A row is a stray if it lies as many times as far (squared) from its centre as half of all rows do, but never more
than a share of the rows are. Strays make lists of their own, as small as this on average: what is rare finds together
there, and is found by its centre. What strays even then makes lists once more."""
TRIALS, DEPTH = 256, 10
"""Queries of the trial of either kind, and how many of the best rows each has."""
TINY = 1e-4
"""Added to the distances: rows that are all the same still have a spread."""
LEAST = 0.05
"""Hits that are supposed among all rows of the trial, in a kind of lists where none was found."""
type Vectors = Sequence[NDArray[Any]]
MISSED = 0.002
"""See :class:`geomm.retrieval.lists.Lists`."""


@dataclass
class Learnt:
    """Lists as they are made."""

    centres: NDArray[np.float32]
    """Of the large lists, ``(L, D)``."""
    large: NDArray[np.int32]
    """The large list of each row."""
    small: NDArray[np.int32]
    """The small list of each row; those of a large list follow each other."""
    far: NDArray[np.float32]
    """Square distance of each row from the centre of its small list."""
    guides: list[NDArray[np.float32]] = field(default_factory=list)
    """Centres of small lists, in the order of their numbers."""


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
    _write_lists(folder, learnt, sources, generator, pool)
    about = {"missed": MISSED}
    rate = _trial(snapshot, Lists.open(folder, about), generator, pool)
    _write(folder / "rate.npy", rate)
    dataclasses.replace(manifest, ann=commit(folder, name, manifest.rows, about)).save(snapshot.folder)


def _write_lists(
    folder: Path, learnt: Learnt, sources: Vectors, generator: np.random.Generator, pool: Executor
) -> None:
    sizes = np.bincount(learnt.small, minlength=sum(len(g) for g in learnt.guides))
    used = np.flatnonzero(sizes)
    guides, sizes = np.concatenate(learnt.guides)[used], sizes[used]
    small = np.searchsorted(used, learnt.small).astype(np.int32)
    order = np.argsort(small, kind="stable").astype(np.int32)
    write_codes(folder, sources, order, learnt.centres, learnt.large[order], pool)
    nowhere = np.zeros((1, guides.shape[1]), np.float32)
    write_codes(folder, [guides], None, nowhere, np.zeros(len(guides), np.int32), pool, "guide_")
    some = np.sort(generator.choice(len(order), min(len(order), SAMPLE), replace=False))
    rest = gather(sources, some).astype(np.float32) - guides[small[some]]
    shape = rest.T @ rest
    # One more row at the mean distance: a list of one row is not sure to be narrow.
    spread = (np.bincount(small, learnt.far) + learnt.far.mean() + TINY) / (sizes + 1)
    arrays = {
        "order": order,
        "ends": np.cumsum([0, *sizes]),
        "spread": spread.astype(np.float32),
        "shape": shape / max(np.trace(shape), np.float32(1e-30)),
        "rate": np.ones((len(KINDS) + 1, len(BINS))),
    }
    for file, values in arrays.items():
        _write(folder / f"{file}.npy", values)


def _write(path: Path, values: NDArray[Any]) -> None:
    with ArrayWriter(path, values.dtype, values.shape[1:]) as writer:
        writer.add(values)


def _learn(sources: Vectors, rows: int, generator: np.random.Generator) -> Learnt:
    """Sort rows into large lists, and each of these into small ones."""
    chosen = np.sort(generator.choice(rows, min(rows, SAMPLE), replace=False))
    count = max(1, min(round(rows**0.5), rows // SIZE))
    centres = k_means(gather(sources, chosen).astype(np.float32), count, generator)
    large = np.concatenate([nearest(values, centres) for values in _values(sources, np.arange(rows))])
    learnt = Learnt(centres, large, np.empty(rows, np.int32), np.empty(rows, np.float32))
    order = np.argsort(large, kind="stable")
    groups = [g for g in np.split(order, np.searchsorted(large[order], np.arange(1, count))) if g.size]
    # Groups of unlike rows are divided further: what is rare enough has no large list of its own.
    spread = np.array([_spread(gather(sources, g[:: max(1, len(g) // 64)]).astype(np.float32)) for g in groups])
    share = np.array([len(g) for g in groups]) * spread**2
    for mine, parts in zip(groups, share / share.sum() * rows / SIZE, strict=True):
        _divide(learnt, sources, mine, round(parts), generator)
    for few in FEW:
        _gather_strays(learnt, sources, few, generator)
    return learnt


def _gather_strays(learnt: Learnt, sources: Vectors, few: int, generator: np.random.Generator) -> None:
    """Sort the rows that are unlike the others of their lists into lists of their own."""
    limit = max(STRAY * np.median(learnt.far), np.quantile(learnt.far, 1 - MOST))
    strays = np.flatnonzero(learnt.far > limit)
    if strays.size:
        some = strays if len(strays) <= SAMPLE else generator.choice(strays, SAMPLE, replace=False)
        mean = gather(sources, np.sort(some)).astype(np.float32).mean(0, keepdims=True)
        learnt.large[strays] = len(learnt.centres)
        learnt.centres = np.concatenate([learnt.centres, mean])
        _divide(learnt, sources, strays, len(strays) // few, generator)


def _spread(vectors: NDArray[np.float32]) -> float:
    """Return the mean square distance from the centre."""
    return float(vectors.var(0).sum()) + TINY


def _divide(
    learnt: Learnt, sources: Vectors, mine: NDArray[np.int64], parts: int, generator: np.random.Generator
) -> None:
    """Sort rows into small lists."""
    most = min(SAMPLE, max(CHUNK, parts * SIZE // 4))
    some = mine if len(mine) <= most else np.sort(generator.choice(mine, most, replace=False))
    parts = min(max(1, parts), max(1, len(some) // 8))
    centres = k_means(gather(sources, some).astype(np.float32), parts, generator)
    first, start = sum(len(g) for g in learnt.guides), 0
    for values in _values(sources, mine):
        where, rows = nearest(values, centres), mine[start : start + len(values)]
        rest = values - centres[where]
        learnt.small[rows], learnt.far[rows] = first + where, np.einsum("nd,nd->n", rest, rest)
        start += len(values)
    learnt.guides.append(centres)


def _values(sources: Vectors, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for n in range(0, len(rows), CHUNK):
        yield gather(sources, rows[n : n + CHUNK]).astype(np.float32)


def _trial(snapshot: Snapshot, lists: Lists, generator: np.random.Generator, pool: Executor) -> NDArray[np.float64]:
    """Measure the share of rows that are among the best, by class of reach, for rows as queries.

    A row is asked for its neighbours without itself, whether or not it is among noise.
    """
    rows = snapshot.manifest.rows
    asked, coded = _queries(snapshot, generator)
    best = find_exact(snapshot, snapshot.choices(None, pool), coded, DEPTH + 1, pool)
    position = np.empty(rows, np.int64)
    position[lists.order] = np.arange(rows)
    list_of = np.searchsorted(lists.ends, np.arange(rows), "right") - 1
    sizes, kinds = np.diff(lists.ends), len(KINDS) + 1
    seen, hits = np.zeros(kinds * len(BINS)), np.zeros(kinds * len(BINS))
    for n, (found, scores) in enumerate(best):
        others = found != asked[n]
        cells, _ = lists.weigh(lists.near(coded.take(slice(n, n + 1)), pool), sizes, float(scores[-1]))
        seen += np.bincount(cells, sizes, seen.size)
        hits += np.bincount(cells[list_of[position[found[others]]]], minlength=seen.size)
    both = zip(seen.reshape(kinds, -1), hits.reshape(kinds, -1), strict=True)
    return np.stack([fit_rate(s, h) for s, h in both])


def _queries(snapshot: Snapshot, generator: np.random.Generator) -> tuple[NDArray[np.int64], Coded]:
    """Draw queries: rows, and as many rows that are lost in noise more and more, as texts lie apart from all images."""
    rows = snapshot.manifest.rows
    asked = np.sort(generator.choice(rows, min(rows, TRIALS), replace=False))
    near = gather([s.vectors for s in snapshot.segments], asked).astype(np.float32)
    noise = generator.standard_normal(near.shape, np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    share = np.linspace(0, 1, len(near), dtype=np.float32)[:, None]
    queries = np.concatenate([near, near * (1 - share) + noise * share])
    return np.tile(asked, 2), Coded.of(queries / np.linalg.norm(queries, axis=1, keepdims=True))


def fit_rate(seen: NDArray[np.float64], hits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rates of hits that fall from class to class and fit best (isotonic regression)."""
    from scipy.optimize import isotonic_regression

    known = seen > 0
    if not known.any():
        return np.ones(len(seen))
    rate = isotonic_regression(hits[known] / seen[known], weights=seen[known], increasing=False).x
    every = np.interp(np.arange(len(seen)), np.flatnonzero(known), rate)
    return np.clip(every, LEAST / seen.sum(), 1.0)


def k_means(
    sample: NDArray[np.float32], count: int, generator: np.random.Generator, rounds: int = ROUNDS
) -> NDArray[np.float32]:
    """Return centres ``(count, D)``.

    Seeds drawn at random lie mostly in large clusters, and all small ones share a few lists of unlike rows. So in most
    rounds the centres that are missed least, as others are nearly as close to their rows, move to rows that are far
    from every centre.
    """
    from scipy.sparse import csr_array

    centres = sample[np.sort(generator.choice(len(sample), count, replace=False))].copy()
    if count == 1:
        return sample.mean(0, keepdims=True)
    square = np.einsum("nd,nd->n", sample, sample)
    for n in range(rounds):
        found = [_two_nearest(sample[k : k + CHUNK], centres) for k in range(0, len(sample), CHUNK)]
        lists, best, second = (np.concatenate(values) for values in zip(*found, strict=True))
        order, sizes = np.argsort(lists, kind="stable"), np.bincount(lists, minlength=count)
        filled = np.flatnonzero(sizes)
        member = csr_array((np.ones(len(sample), np.float32), order, np.cumsum([0, *sizes])), (count, len(sample)))
        centres[filled] = (member @ sample)[filled] / sizes[filled, None]
        if n < rounds - SETTLE:
            moved = np.argsort(np.bincount(lists, best - second, count))[: max(1, count // 8)]
            far = np.maximum(square - 2 * best, 0.0).astype(np.float64) ** 4 + 1e-12
            centres[moved] = sample[generator.choice(len(sample), len(moved), replace=False, p=far / far.sum())]
    return centres


def nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the number of the nearest centre for each vector."""
    return _closeness(vectors, centres).argmax(1).astype(np.int32)


def _two_nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.generic], ...]:
    """Return the nearest centre of each vector, and how close it and the next are."""
    close = _closeness(vectors, centres)
    rows, lists = np.arange(len(close)), close.argmax(1)
    best = close[rows, lists]
    close[rows, lists] = -np.inf
    return lists, best, close.max(1)


def _closeness(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the square length of vectors less half their square distance from centres: greater is closer."""
    close = vectors @ centres.T
    close -= np.einsum("ld,ld->l", centres, centres) / 2
    return close
