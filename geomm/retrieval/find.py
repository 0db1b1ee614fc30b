"""The best rows for a query: bounds of scanned codes, then the exact scores of the few rows that may be among them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import Choice, Coded, bound, cut, multiply
from geomm.retrieval.snapshot import Scannable, Snapshot

TOGETHER = 32
"""Queries for which rows are scanned at a time."""
ENOUGH = 200_000
"""Rows up to which they are all scanned unless asked otherwise."""
_PIECE = 4096  # rows whose exact scores a thread computes at a time

Parts = Sequence[tuple[Scannable, Choice]]
"""Coded rows, and which of them count."""
Best = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows and scores, best first."""


class Tally:
    """What is known so far of the best rows for one query."""

    def __init__(
        self, parts: Parts, query: Coded, k: int, pool: Executor, bases: list[NDArray[np.float32]] | None = None
    ) -> None:
        self.parts, self.query, self.k, self.pool = parts, query, k, pool
        self.bases = (
            [multiply(query.unit, scannable.codes.centres) for scannable, _ in parts] if bases is None else bases
        )
        self.seen: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = []

    def scan(self, part: int, blocks: NDArray[np.int64]) -> None:
        """Bound the best scores of blocks of a part."""
        self.note(part, blocks, self._bound(part, blocks))

    def note(self, part: int, blocks: NDArray[np.int64], bounds: NDArray[np.float32]) -> None:
        """Remember bounds ``(2, B)`` of blocks of a part."""
        self.seen.append((part, blocks, bounds))

    @property
    def threshold(self) -> float:
        """A score that ``k`` different rows reach; minus infinity while fewer are seen."""
        return _reached([bounds[0] for _, _, bounds in self.seen], self.k)

    def estimate(self) -> float:
        """About the score that ``k`` rows reach: nearer than ``threshold``, and not proven.

        The best ``k`` rows lie in the ``k`` blocks of the best maxima, which are looked at row by row.
        """
        least = _reached([bounds.mean(0) for _, _, bounds in self.seen], self.k)
        best = [(part, blocks[bounds.mean(0) >= least]) for part, blocks, bounds in self.seen]
        rows = [self._bound(part, singles(blocks)).mean(0) for part, blocks in best if len(blocks)]
        return _reached(rows, self.k)

    def finish(self, snapshot: Snapshot) -> Best:
        """Compute the exact scores of all rows that may be among the best."""
        least, closer = self.threshold, []
        for part, blocks, bounds in self.seen:
            hopeful = singles(blocks[bounds[1] >= least])
            if len(hopeful):
                closer.append((*self.parts[part], hopeful[:, 0], self._bound(part, hopeful)))
        least = max(least, _reached([each[0] for *_, each in closer], self.k))
        rows = [np.empty(0, np.int64)]
        for scannable, choice, places, each in closer:
            hopeful = places[each[1] >= least]
            positions = choice.positions[hopeful].astype(np.int64) if choice.positions.size else hopeful
            rows.append(scannable.rows(positions))
        found = np.sort(np.concatenate(rows))
        scores = exact_scores(snapshot, found, self.query.unit[0], self.pool)
        best = np.lexsort((found, -scores))[: self.k]
        return found[best], scores[best]

    def _bound(self, part: int, blocks: NDArray[np.int64]) -> NDArray[np.float32]:
        scannable, choice = self.parts[part]
        return bound(scannable.codes, choice, blocks, self.query, self.bases[part], self.pool)[:, 0]


def find(
    snapshot: Snapshot, choices: Sequence[Choice], queries: Coded, k: int, method: str, pool: Executor
) -> list[Best]:  # fmt: skip
    """Find the best rows among those chosen, by one of the methods of :class:`geomm.retrieval.Index`."""
    if method == "exact" or snapshot.lists is None or (method == "auto" and sum(map(len, choices)) <= ENOUGH):
        return find_exact(snapshot, choices, queries, k, pool)
    return [find_likely(snapshot, choices, queries.take(slice(n, n + 1)), k, pool) for n in range(len(queries.unit))]


def find_likely(snapshot: Snapshot, choices: Sequence[Choice], query: Coded, k: int, pool: Executor) -> Best:
    """Find the best rows of the most promising lists, and of all rows that are in none."""
    assert snapshot.lists is not None
    tally = Tally(list(zip(snapshot.scannable, choices, strict=True)), query, k, pool)
    for part, choice in enumerate(choices):
        if part:
            tally.scan(part, choice.blocks())
    snapshot.lists.probe(tally, 0)
    return tally.finish(snapshot)


def find_exact(snapshot: Snapshot, choices: Sequence[Choice], queries: Coded, k: int, pool: Executor) -> list[Best]:
    """Find the best rows among those chosen; provably so."""
    parts = list(zip(snapshot.scannable, choices, strict=True))
    found: list[Best] = []
    cuts = [choice.blocks() for choice in choices]
    for start in range(0, len(queries.unit), TOGETHER):
        some = queries.take(slice(start, start + TOGETHER))
        bases = [multiply(some.unit, p.codes.centres) for p, _ in parts]
        bounds = [bound(p.codes, c, b, some, m, pool) for (p, c), b, m in zip(parts, cuts, bases, strict=True)]
        for n in range(len(some.unit)):
            tally = Tally(parts, some.take(slice(n, n + 1)), k, pool, [m[n : n + 1] for m in bases])
            for part, (blocks, both) in enumerate(zip(cuts, bounds, strict=True)):
                tally.note(part, blocks, both[:, n])
            found.append(tally.finish(snapshot))
    return found


def exact_scores(
    snapshot: Snapshot, rows: NDArray[np.int64], query: NDArray[np.float32], pool: Executor
) -> NDArray[np.float32]:
    """Return the products of float16 rows and a float32 query, summed in float64, to the nearest float32."""
    exact = query.astype(np.float64)
    out = np.empty(len(rows), np.float32)

    def compute(vectors: NDArray[np.float16], places: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        out[places] = vectors[numbers].astype(np.float64) @ exact

    tasks = [
        (segment.vectors, places[n : n + _PIECE], numbers[n : n + _PIECE])
        for segment, places, numbers in snapshot.split(rows)
        for n in range(0, len(places), _PIECE)
    ]
    if len(tasks) == 1:
        compute(*tasks[0])
    else:
        list(pool.map(lambda task: compute(*task), tasks))
    return out


def _reached(lows: Sequence[NDArray[np.float32]], k: int) -> float:
    every = np.concatenate([np.empty(0, np.float32), *lows])
    return float(np.partition(every, len(every) - k)[len(every) - k]) if len(every) >= k else -np.inf


def singles(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut blocks into blocks of one row."""
    return cut(blocks[:, 0], blocks[:, 1], blocks[:, 2], size=1)
