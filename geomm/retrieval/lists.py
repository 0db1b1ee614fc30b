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

from geomm.retrieval.codes import Choice, Coded, Codes, bound, cut, multiply
from geomm.retrieval.files import open_array

FIRST = 64
"""Lists that are looked into in any case."""
MORE = 8
"""The lists of a round, at most, as a multiple of those before."""
BINS = np.arange(-8.0, 32.0, 0.25)
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
        order, ends, spread, shape, rate = (open_array(folder / f"{name}.npy") for name in ARRAYS)
        if rate.shape != (len(KINDS) + 1, len(BINS)):
            raise ValueError(f"rates of {rate.shape} instead of {(len(KINDS) + 1, len(BINS))}")
        codes, guides = Codes.open(folder), Codes.open(folder, "guide_")
        return cls(codes, guides, order, ends, spread, shape, rate, float(about["missed"]))

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
    def _root(self) -> NDArray[np.float32]:
        return np.sqrt(self.spread)

    @cached_property
    def _rising(self) -> NDArray[np.int64]:
        return np.argsort(self.rate.ravel(), kind="stable")

    @cached_property
    def _singles(self) -> NDArray[np.int64]:
        """A block for each guide."""
        return cut(np.array([0]), np.array([len(self.spread)]), np.array([0]), size=1)

    def near(self, query: Coded, pool: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the score of each list's centre, and the spread of its rows' scores, both ``(F,)``."""
        base = multiply(query.unit, self.guides.centres)
        low, high = bound(self.guides, Choice.of(self.guides), self._singles, query, base, pool)[:, 0]
        turned = multiply(query.unit, self.shape)[0]
        along = max(float((turned * query.unit[0]).sum()), 1e-12)
        return (low + high) / 2, self._root * np.float32(along**0.5)

    def weigh(
        self, near: tuple[NDArray[np.float32], NDArray[np.float32]], left: NDArray[np.int64], best: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return each list's place in ``rate``, as if it were flat, and how many rows better than ``best`` lie there.

        Args:
            near: of :meth:`near`.
            left: how many rows of each list count.
            best: the score to beat.
        """
        from geomm.retrieval.kernels import weigh

        cells, expected = np.empty(len(left), np.int64), np.zeros(self.rate.size)
        grid = np.array([BINS[0], BINS[1] - BINS[0]])
        weigh(*near, self.kind, left, max(best, -1e9), grid, self.rate, cells, expected)
        return cells, expected

    def probe(self, tally: Any, part: int) -> int:
        """Scan the lists that matter for a query, and return how many these are.

        Args:
            tally: :class:`geomm.retrieval.find.Tally`; scans and remembers.
            part: number of these lists there.
        """
        choice = tally.parts[part][1]
        every = len(choice) == len(self.codes)
        bounds = self.ends if every else np.searchsorted(choice.positions, self.ends)
        left = np.diff(bounds)
        near = self.near(tally.query, tally.pool)
        high = np.where(left > 0, near[0] + 2 * near[1], -np.inf)
        now = np.argpartition(-high, FIRST)[:FIRST] if len(high) > FIRST else np.arange(len(high))
        done = 0
        while now.size:
            tally.scan(part, cut(bounds[now], bounds[now + 1], self.owner[now]))
            left[now] = 0
            done += len(now)
            now = self._next(*self.weigh(near, left, tally.estimate()), left, self.missed * tally.k, MORE * done)
        return done

    def _next(
        self, cells: NDArray[np.int64], expected: NDArray[np.float64], left: NDArray[np.int64], enough: float, most: int
    ) -> NDArray[np.int64]:  # fmt: skip
        """Return lists, until no more than ``enough`` better rows are expected in all others.

        If there are more than ``most``, the likeliest: what they hold may rule out others.
        """
        wanted = np.ones(self._rising.size, bool)
        wanted[self._rising[np.cumsum(expected[self._rising]) <= enough]] = False
        now = np.flatnonzero(wanted[cells] & (left > 0))
        if len(now) <= most:
            return now
        return now[np.argsort(-self.rate.ravel()[cells[now]], kind="stable")[:most]]
