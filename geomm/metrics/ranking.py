"""Metrics of ranked lists: where the rows that answer a query stand among all rows.

Ties are broken against the query: among rows of one score those that do not answer it come first, then those that
answer it from the least gain to the greatest. A constant model is therefore the worst one, not a lucky one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError

type Relevance = Sequence[Collection[int]] | NDArray[np.bool_] | NDArray[np.floating]
"""Rows that answer each query: a set per query, a matrix ``(Q, N)`` of bool, or one of gains, 0 where a row is none."""

type Unanswered = Literal["refuse", "leave out"]
"""What is done with queries that no row answers: no rank can be right."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of the rows that answer each query; all metrics are made of them, one value per query ``(Q,)``."""

    ranks: NDArray[np.int64]
    """From 1, ascending within a query, query after query ``(R,)``."""
    gains: NDArray[np.float64]
    """Of the same rows ``(R,)``, above 0; 1 where relevance is not graded."""
    starts: NDArray[np.int64]
    """Where each query begins in them ``(Q,)``."""
    queries: NDArray[np.int64]
    """Numbers of these queries among all that were asked ``(Q,)``."""
    rows: int
    """Rows that were ranked, N."""
    left_out: int = 0
    """Queries that no row answers."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def first(self) -> NDArray[np.int64]:
        """Rank of the best row that answers a query."""
        return self.ranks[self.starts]

    @property
    def answers(self) -> NDArray[np.int64]:
        """Number of rows that answer a query."""
        return np.diff(self.starts, append=len(self.ranks))

    def recall(self, k: int) -> NDArray[np.float64]:
        """Return 1 where one of the best ``k`` rows answers the query: R@k of image-text retrieval is the mean."""
        return (self.first <= _depth(k)).astype(float)

    def precision(self, k: int) -> NDArray[np.float64]:
        """Return the share of the best ``k`` rows that answer the query; lists shorter than ``k`` are not excused."""
        return self._sums((self.ranks <= _depth(k)).astype(float)) / k

    def average_precision(self, k: int | None = None) -> NDArray[np.float64]:
        """Return the mean precision at the rows that answer the query; mAP is the mean.

        Args:
            k: depth: rows below it count nothing, and the sum is over min(k, number of answers), so that 1 can be
                reached. None: all rows.
        """
        order = np.arange(len(self.ranks)) - np.repeat(self.starts, self.answers) + 1
        precise, most = order / self.ranks, self.answers
        if k is not None:
            precise, most = np.where(self.ranks <= _depth(k), precise, 0.0), np.minimum(most, k)
        return self._sums(precise) / most

    def ndcg(self, k: int | None = None) -> NDArray[np.float64]:
        """Return the discounted gain over that of the best order, discount log2(1 + rank) (Järvelin, Kekäläinen 2002).

        Gains count as they were given: give ``2**grade - 1`` for the steeper form.

        Args:
            k: depth: rows below it count nothing, in neither order. None: all rows.
        """
        depth = self.rows if k is None else _depth(k)
        owner = np.repeat(np.arange(len(self)), self.answers)
        best = self.gains[np.lexsort((-self.gains, owner))]
        place = np.arange(len(best)) - np.repeat(self.starts, self.answers) + 1
        ideal = np.where(place <= depth, best / np.log2(1 + place), 0.0)
        found = np.where(self.ranks <= depth, self.gains / np.log2(1 + self.ranks), 0.0)
        return self._sums(found) / self._sums(ideal)

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(values, self.starts)


def rank_rows(scores: NDArray[np.generic], relevant: Relevance, *, unanswered: Unanswered = "refuse") -> Ranks:
    """Rank the rows of every query.

    Queries are sorted one after the other, so that memory is that of the scores and of one row.

    Args:
        scores: ``(Q, N)``, any real dtype, higher is better; minus infinity for rows that were filtered out.
        relevant: rows that answer each query.
        unanswered: "refuse" queries that no row answers, or "leave out" and count them.

    Raises:
        ConfigError: a score is NaN, a set names a row that is not there, a gain is negative or not finite, sizes
            differ, or no query is left.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or len(relevant) != len(scores):
        raise ConfigError(
            "scores need one line per query",
            why=f"{scores.shape}, {len(relevant)} queries",
            fix="give scores as (queries, rows)",
        )
    if isinstance(relevant, np.ndarray) and relevant.shape != scores.shape:
        raise ConfigError(
            "relevance needs the shape of the scores",
            why=f"{relevant.shape}, {scores.shape}",
            fix="give relevance as (queries, rows), one truth for each score",
        )
    ranks, gains, kept = [], [], []
    for query in range(len(scores)):
        line = scores[query] if scores.dtype.kind == "f" else scores[query].astype(float)
        if np.isnan(line).any():
            raise ConfigError(
                "a score is NaN, which has no rank",
                where=f"query {query}",
                fix="leave out the query, or look why its vector is none (an empty text, no valid pixel)",
            )
        rows, gain = answers_of(relevant, query, scores.shape[1])
        if rows.size:
            place, order = _place(line, rows, gain)
            ranks.append(place)
            gains.append(gain[order])
            kept.append(query)
        elif unanswered == "refuse":
            raise ConfigError(
                "no row answers a query",
                where=f"query {query}",
                fix='correct its relevance, or leave such queries out: unanswered="leave out"',
            )
    if not kept:
        raise ConfigError(
            "no query is left to rank",
            why=f"no row answers any of {len(scores)} queries",
            fix="leave out queries without an answer, or index the rows that answer them",
        )
    sizes = np.array([len(r) for r in ranks])
    starts = np.cumsum(sizes) - sizes
    left = len(scores) - len(kept)
    return Ranks(np.concatenate(ranks), np.concatenate(gains), starts, np.array(kept), scores.shape[1], left)


def recall_at_k(scores: NDArray[np.generic], relevant: Relevance, k: int) -> float:
    """Share of queries with a relevant row among the best ``k``; ties count against the query.

    Args:
        scores: ``(queries, rows)``, higher is better.
        relevant: rows that answer each query, several where captions are shared.
        k: depth.
    """
    return float(rank_rows(scores, relevant).recall(k).mean())


def recall_against(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Return the share of the rows of an exact search that another search found, mean over queries.

    Filters belong to both: ``exact`` is what a search through all rows that pass finds, and may be short. A row that
    scores the same as one of them does not stand in for it.

    Args:
        found: rows per query ``(Q, k)`` or lists; negative numbers are no rows, and a row counts once.
        exact: the same; queries whose exact list is empty ask for nothing and are left out.

    Raises:
        ConfigError: the number of queries differs, or all exact lists are empty.
    """
    if len(found) != len(exact):
        raise ConfigError(
            "both searches need the same queries",
            why=f"{len(found)}, {len(exact)}",
            fix="search with the same queries in the same order both times",
        )
    sets = [
        ({r for r in map(int, a) if r >= 0}, {r for r in map(int, b) if r >= 0})
        for a, b in zip(found, exact, strict=True)
    ]
    shares = [len(a & b) / len(b) for a, b in sets if b]
    if not shares:
        raise ConfigError(
            "no query has a row to be found",
            why=f"{len(exact)} exact lists are empty",
            fix="search with filters that leave some rows, or with other queries",
        )
    return float(np.mean(shares))


def answers_of(relevant: Relevance, query: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows that answer a query, and their gains."""
    if isinstance(relevant, np.ndarray):
        line = relevant[query]
        if line.dtype != bool and not (np.isfinite(line) & (line >= 0)).all():
            raise ConfigError(
                "gains are finite and not negative",
                where=f"query {query}",
                why=f"least {line.min()}",
                fix="give gains of 0 for what does not answer, and above 0 for what does",
            )
        chosen = np.flatnonzero(line)
        return chosen, line[chosen].astype(float)
    chosen = np.unique(np.fromiter(relevant[query], np.int64))
    if chosen.size and not 0 <= chosen[0] <= chosen[-1] < rows:
        raise ConfigError(
            "a query is answered by a row that is not there",
            where=f"query {query}",
            why=f"rows {chosen[0]} to {chosen[-1]} of {rows}",
            fix="number the rows from 0, as the scores have them",
        )
    return chosen, np.ones(len(chosen))


def _place(
    line: NDArray[np.floating], rows: NDArray[np.int64], gain: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the ranks of the rows that answer a query, ascending, and the order that they then have."""
    ordered, mine = np.sort(line), line[rows]
    order = np.lexsort((gain, -mine))
    mine = mine[order]
    others = line.size - np.searchsorted(ordered, mine) - (mine.size - np.searchsorted(mine[::-1], mine))
    return others + np.arange(1, mine.size + 1), order


def _depth(k: int) -> int:
    if k < 1:
        raise ConfigError("the depth of a list is at least 1", why=f"k is {k}", fix="give k of at least 1")
    return k
