"""Approximate search: rows in small lists of similar ones, of which the most promising are scanned.

How many are scanned depends on the query. Given a score that ``k`` rows reach already, the number of better rows in a
list that was not looked into is expected to be its length times a rate, and the rate depends on how far that score
lies above the score of the list's centre, in units of the spread of the list's scores along the query (``reach``).
The rate was measured when the lists were made. Lists are scanned, the likeliest first, until what is expected in all
others together is a small share of ``k``. A fixed number of lists, as is usual, is too few for a query that lies
between many lists (a text, say) or whose neighbours are rare after a filter, and too many for all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import Choice, Coded, Codes, bound, cut
from geomm.retrieval.files import open_array

FIRST = 64
"""Lists that are looked into in any case."""
BINS = np.arange(-8.0, 32.0, 0.5)
"""Lower edges of the classes of reach; the first and the last are open."""
KINDS = (1.1, 1.25, 1.5, 1.75, 2.0)
"""Upper edges of the kinds of lists, as multiples of the rows' median spread. Rows of rare things share lists in which
nothing is alike; apart from the others, these few may be scanned for every query while the others need not."""
ARRAYS = ("order", "ends", "spread", "shape", "rate")


@dataclass(frozen=True)
class Lists:
    """Rows in lists; a list is a part of one of the lists of ``codes``, by whose centres they are coded."""

    codes: Codes
    """Of the rows, in the order of the lists."""
    guides: Codes
    """Of the centres of the lists."""
    order: NDArray[np.int32]
    """The row at each position."""
    ends: NDArray[np.int64]
    """``(F + 1,)``: where the lists begin and end."""
    spread: NDArray[np.float32]
    """``(F,)``: mean square distance of a list's rows from their centre."""
    shape: NDArray[np.float32]
    """``(D, D)``: covariance of rows about their centres, of trace 1."""
    rate: NDArray[np.float64]
    """``(kinds, classes of reach)``: share of the rows that are among the best."""
    missed: float
    """Share of ``k`` that may be expected in the lists that are left out."""

    @classmethod
    def open(cls, folder: Path, about: Any) -> Lists:
        """Map the files of a folder."""
        arrays = (open_array(folder / f"{name}.npy") for name in ARRAYS)
        return cls(Codes.open(folder), Codes.open(folder, "guide_"), *arrays, float(about["missed"]))

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The list of ``codes`` that each list is a part of."""
        return np.searchsorted(self.codes.offsets, self.ends[:-1], "right") - 1

    @cached_property
    def kind(self) -> NDArray[np.int64]:
        """Number of each list's kind."""
        order = np.argsort(self.spread)
        rows = np.cumsum(np.diff(self.ends)[order])
        median = self.spread[order[np.searchsorted(rows, rows[-1] / 2)]]
        return np.searchsorted(np.array(KINDS) * median, self.spread)

    @cached_property
    def _singles(self) -> NDArray[np.int64]:
        """A block for each guide."""
        return cut(np.array([0]), np.array([len(self.spread)]), np.array([0]), size=1)

    def near(self, query: Coded, pool: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the score of each list's centre, and the spread of its rows' scores, both ``(F,)``."""
        base = query.unit @ self.guides.centres.T
        bounds = bound(self.guides, Choice.of(self.guides), self._singles, query, base, pool)
        along = max(float(query.unit[0] @ self.shape @ query.unit[0]), 1e-12)
        return bounds[:, 0].mean(0), np.sqrt(self.spread * np.float32(along))

    def cell(self, reach: NDArray[Any]) -> NDArray[np.int64]:
        """Return the place in ``rate``, as if it were flat, of lists by how far the score to beat lies above theirs."""
        step = BINS[1] - BINS[0]
        return self.kind * len(BINS) + np.clip((reach - BINS[0]) / step, 0, len(BINS) - 1).astype(np.int64)

    def probe(self, tally: Any, part: int) -> int:
        """Scan the lists that matter for a query, and return how many these are.

        Args:
            tally: :class:`geomm.retrieval.find.Tally`; scans and remembers.
            part: number of these lists there.
        """
        choice = tally.parts[part][1]
        bounds = np.searchsorted(choice.positions, self.ends) if choice.positions.size else self.ends
        left = np.diff(bounds)
        middle, sigma = self.near(tally.query, tally.pool)
        high = np.where(left > 0, middle + 2 * sigma, -np.inf)
        now = np.argpartition(-high, FIRST)[:FIRST] if len(high) > FIRST else np.arange(len(high))
        done = 0
        while now.size:
            tally.scan(part, cut(bounds[now], bounds[now + 1], self.owner[now]))
            left[now] = 0
            done += len(now)
            cells = self.cell((tally.threshold - middle) / sigma)
            now = self._open(cells, left, self.missed * tally.k)
            if len(now) > max(done, FIRST):  # the likeliest first: what they hold may rule out others
                now = now[np.argsort(-self.rate.ravel()[cells[now]], kind="stable")[: max(done, FIRST)]]
        return done

    def _open(self, cells: NDArray[np.int64], left: NDArray[np.int64], enough: float) -> NDArray[np.int64]:
        """Return the likeliest lists, without which no more than ``enough`` better rows are expected in the others."""
        rate = self.rate.ravel()
        expected = np.bincount(cells, left, rate.size) * rate
        order = np.argsort(rate, kind="stable")
        dropped = order[np.cumsum(expected[order]) <= enough]
        keep = np.ones(rate.size, bool)
        keep[dropped] = False
        return np.flatnonzero(keep[cells] & (left > 0))
