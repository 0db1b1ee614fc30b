"""Rows as small integers: an eighth of the bytes of float32 to scan, with a proven bound on what the rounding costs.

A row ``x`` is kept as ``centre + scale * code + rest``. By Cauchy-Schwarz ``|q . rest| <= |q| |rest|``, and the length
of ``rest`` is stored, so a scan of the codes gives for every row an interval that holds its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.retrieval.files import ArrayWriter, frozen, open_array

BLOCK = 64
"""Rows whose best score is kept by a scan: 32 KB of 512-byte codes, which stay in the first cache for more queries."""
GRAIN = 8192
"""Rows that a thread scans at a time, at least: a fraction of a millisecond; fewer are not worth waking another."""
LENGTH = 4.0
"""More than the length of a coded row less its centre: both are at most 1, the rest of coding below 2."""
ROUNDING = 4e-6
"""More than what float32 loses in a score of at most 4."""
CHUNK = 16_384
"""Rows that are coded at a time."""
WHOLE: NDArray[np.int32] = frozen(np.empty(0, np.int32))
"""The choice of all rows."""

FILES = ("codes.npy", "scales.npy", "centres.npy", "offsets.npy")


@dataclass(frozen=True, slots=True)
class Codes:
    """Coded rows, in lists that have a centre each."""

    codes: NDArray[np.int8]
    """``(N, D)``."""
    scales: NDArray[np.float32]
    """``(N, 2)``: size of a step, length of the rest."""
    centres: NDArray[np.float32]
    """``(L, D)``."""
    offsets: NDArray[np.int64]
    """``(L + 1,)``: where the lists begin and end."""

    @classmethod
    def open(cls, folder: Path, prefix: str = "") -> Codes:
        """Map the files of a folder."""
        return cls(*(open_array(folder / (prefix + name)) for name in FILES))

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class Choice:
    """Some rows of a set of codes, list by list."""

    positions: NDArray[np.int32]
    """In ascending order; empty with ``bounds`` of the lists for all rows."""
    bounds: NDArray[np.int64]
    """``(L + 1,)``: where the rows of each list begin and end in ``positions``, or in the codes."""

    @classmethod
    def of(cls, codes: Codes, positions: NDArray[Any] | None = None) -> Choice:
        """Choose rows by ascending position; None for all."""
        if positions is None or len(positions) == len(codes):
            return cls(WHOLE, codes.offsets)
        return cls(frozen(positions.astype(np.int32)), np.searchsorted(positions, codes.offsets).astype(np.int64))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def blocks(self) -> NDArray[np.int64]:
        """Cut the lists into blocks ``(B, 3)`` of start, end and list."""
        return cut(self.bounds[:-1], self.bounds[1:], np.arange(len(self.bounds) - 1))


def cut(starts: NDArray[Any], ends: NDArray[Any], lists: NDArray[Any], size: int = BLOCK) -> NDArray[np.int64]:
    """Cut runs of rows into blocks ``(B, 3)`` of at most ``size`` rows: start, end and list."""
    counts = -(-(ends - starts) // size)
    begin = np.repeat(starts - size * (counts.cumsum() - counts), counts) + size * np.arange(counts.sum())
    return np.stack([begin, np.minimum(begin + size, np.repeat(ends, counts)), np.repeat(lists, counts)], 1)


@dataclass(frozen=True, slots=True)
class Coded:
    """Queries as 16-bit integers, so large that sums of products just fit into 32 bits."""

    unit: NDArray[np.float32]
    """``(Q, D)``, as they are."""
    codes: NDArray[np.int16]
    """``(Q, D)``."""
    steps: NDArray[np.float32]
    """``(Q,)``."""
    slack: NDArray[np.float32]
    """``(Q,)``: what their rounding, and that of float32, may cost a score."""

    @classmethod
    def of(cls, unit: NDArray[np.float32]) -> Coded:
        """Code queries of unit length."""
        exact, wide = unit.astype(np.float64), unit.shape[1]
        most = (2**31 - 1) / 127 - wide
        steps = np.maximum(np.abs(exact).max(1) / 32767, np.abs(exact).sum(1) / most).astype(np.float32)
        steps = np.nextafter(steps, np.float32(np.inf))
        codes = np.rint(exact / steps[:, None])
        rest = np.linalg.norm(exact - codes * steps[:, None], axis=1)
        return cls(unit, frozen(codes.astype(np.int16)), steps, (rest * LENGTH + ROUNDING).astype(np.float32))

    def take(self, some: slice) -> Coded:
        """Return some of them."""
        return Coded(self.unit[some], frozen(self.codes[some]), self.steps[some], self.slack[some])


def bound(
    codes: Codes, choice: Choice, blocks: NDArray[np.int64], queries: Coded, bases: NDArray[np.float32], pool: Executor
) -> NDArray[np.float32]:
    """Bound the best score of each block for each query.

    Args:
        codes: of rows.
        choice: rows that count.
        blocks: of these rows.
        queries: coded.
        bases: ``(Q, L)``, products of queries and centres.
        pool: threads.

    Returns:
        ``(2, Q, B)``: a score that a row of the block reaches, and one that none exceeds.
    """
    from geomm.retrieval.kernels import scan

    bounds = np.empty((2, len(queries.unit), len(blocks)), np.float32)
    arguments = (codes.codes, codes.scales, choice.positions, blocks, queries.codes, bases, queries.steps, bounds)
    rows = int((blocks[:, 1] - blocks[:, 0]).sum())
    step = max(1, len(blocks) * GRAIN // max(rows, 1))
    if len(blocks) <= step:
        scan(*arguments, 0, len(blocks))
    else:
        starts = range(0, len(blocks), step)
        list(pool.map(lambda n: scan(*arguments, n, min(n + step, len(blocks))), starts))
    bounds[0] -= queries.slack[:, None]
    bounds[1] += queries.slack[:, None]
    return bounds


def multiply(queries: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return products ``(Q, L)`` of queries and centres."""
    from geomm.retrieval.kernels import products

    out = np.empty((len(queries), len(centres)), np.float32)
    products(queries, frozen(centres), out)
    return out


def write_codes(
    folder: Path, sources: Sequence[NDArray[Any]], order: NDArray[Any] | None, centres: NDArray[np.float32],
    lists: NDArray[np.int32], pool: Executor, prefix: str = "",
) -> None:  # fmt: skip
    """Code rows into the files of a folder.

    Args:
        folder: that holds the files.
        sources: float16 ``(N_k, D)``, one after the other.
        order: number of the row at each position; None for as they come.
        centres: float32 ``(L, D)``.
        lists: int32 ``(N,)``, ascending: the list of each position.
        pool: threads.
        prefix: of the files' names.
    """
    from geomm.retrieval.kernels import quantise

    paths = [folder / (prefix + name) for name in FILES]

    def piece(start: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = np.arange(start, min(start + CHUNK, len(lists)))
        values = gather(sources, rows if order is None else order[rows]).astype(np.float32)
        codes, scales = np.empty(values.shape, np.int8), np.empty((len(values), 2), np.float32)
        quantise(values, centres, lists[rows], codes, scales)
        return codes, scales

    wide = centres.shape[1]
    with ArrayWriter(paths[0], np.int8, (wide,)) as first, ArrayWriter(paths[1], "f4", (2,)) as second:
        starts = list(range(0, len(lists), CHUNK))
        for k in range(0, len(starts), 4):  # a few at a time: memory stays bounded
            for codes, scales in pool.map(piece, starts[k : k + 4]):
                first.add(codes)
                second.add(scales)
    with ArrayWriter(paths[2], "f4", (wide,)) as file:
        file.add(centres)
    with ArrayWriter(paths[3], "i8") as file:
        file.add(np.searchsorted(lists, np.arange(len(centres) + 1)).astype(np.int64))


def gather(sources: Sequence[NDArray[Any]], rows: NDArray[Any]) -> NDArray[Any]:
    """Take rows by their numbers from arrays that follow each other."""
    ends = np.cumsum([len(s) for s in sources])
    where = np.searchsorted(ends, rows, "right")
    if len(rows) and where[0] == where[-1] and (where == where[0]).all():
        alone: NDArray[Any] = sources[where[0]][rows - (ends[where[0]] - len(sources[where[0]]))]
        return alone
    out = np.empty((len(rows), *sources[0].shape[1:]), sources[0].dtype)
    for k in np.unique(where):
        mine = where == k
        out[mine] = sources[k][rows[mine] - (ends[k] - len(sources[k]))]
    return out
