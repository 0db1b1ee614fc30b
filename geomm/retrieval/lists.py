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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.codes import WHOLE, Choice, Coded, Codes, bound, cut
from geomm.retrieval.files import open_array

FIRST = 64
"""Lists that are looked into in any case."""
BINS = np.arange(-8.0, 32.0, 0.5)
"""Lower edges of the classes of reach; the first and the last are open."""
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
    """Share of the rows that are among the best, by class of reach."""
    missed: float
    """Share of ``k`` that may be expected in the lists that are left out."""

    @classmethod
    def open(cls, folder: Path, about: Any) -> Lists:
        """Map the files of a folder."""
        arrays = (open_array(folder / f"{name}.npy") for name in ARRAYS)
        return cls(Codes.open(folder), Codes.open(folder, "guide_"), *arrays, float(about["missed"]))

    def near(self, query: Coded, pool: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the score of each list's centre, and the spread of its rows' scores, both ``(F,)``."""
        count = len(self.spread)
        blocks = cut(np.array([0]), np.array([count]), np.array([0]), size=1)
        base = query.unit @ self.guides.centres.T
        bounds = bound(self.guides, Choice(WHOLE, np.array([0, count])), blocks, query, base, pool)
        along = max(float(query.unit[0] @ self.shape @ query.unit[0]), 1e-12)
        return bounds[:, 0].mean(0), np.sqrt(self.spread * np.float32(along))

    def likely(self, reach: NDArray[Any]) -> NDArray[np.float64]:
        """Return the share of better rows in lists, by how far the score to beat lies above that of their centres."""
        return self.rate[class_of(reach)]

    def probe(self, tally: Any, part: int) -> int:
        """Scan the lists that matter for a query, and return how many these are.

        Args:
            tally: :class:`geomm.retrieval.find.Tally`; scans and remembers.
            part: number of these lists there.
        """
        choice = tally.parts[part][1]
        bounds = np.searchsorted(choice.positions, self.ends) if choice.positions.size else self.ends
        starts, stops = bounds[:-1], bounds[1:]
        owner = np.searchsorted(self.codes.offsets, self.ends[:-1], "right") - 1
        middle, sigma = self.near(tally.query, tally.pool)
        left = np.flatnonzero(stops > starts)
        worth, number, done = middle[left] + 2 * sigma[left], FIRST, 0
        while left.size:
            order = np.argsort(-worth, kind="stable")
            now, left = left[order[:number]], left[order[number:]]
            tally.scan(part, cut(starts[now], stops[now], owner[now]))
            done += len(now)
            worth = (middle[left] - tally.threshold) / sigma[left]  # the likeliest are those of the least reach
            expected = self.likely(-worth) * (stops[left] - starts[left])
            order = np.argsort(-worth, kind="stable")
            remaining = expected.sum() - np.cumsum(expected[order])
            if expected.sum() <= self.missed * tally.k:
                break
            wanted = int(np.argmax(remaining <= self.missed * tally.k)) + 1
            number = min(wanted, max(done, FIRST))
        return done


def class_of(reach: NDArray[Any]) -> NDArray[np.intp]:
    """Return the class of each reach."""
    step = BINS[1] - BINS[0]
    return np.clip((reach - BINS[0]) / step, 0, len(BINS) - 1).astype(np.intp)
