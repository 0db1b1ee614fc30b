"""Compiled inner loops of the common cases: pixels that coincide, that are contained, or that are averaged whole.

Each writes a band of a window in one pass: the value, rounded where the output is integer, or ``fill``; and lowers
``state`` to what the band has to say of a pixel, so that after all bands the least of them stands there. They give what
:func:`geomm.cube.resample.resample` gives, and release the GIL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from geomm.cube.resample import ENOUGH

OUTSIDE, NODATA, VALID = 0, 1, 4
"""States of a pixel: its centre lies outside the file; the pixel there holds nothing; it is usable."""


jit: Any = numba.njit(nogil=True, cache=True)


def nodata_of(dtype: np.dtype[Any], values: Sequence[float | None]) -> NDArray[Any]:
    """Return the nodata values that a dtype can hold, each once."""
    if dtype.kind == "f":
        known = [v for v in values if v is not None and np.isfinite(v)]
    else:
        limits = np.iinfo(dtype)
        known = [v for v in values if v is not None and float(v).is_integer() and limits.min <= v <= limits.max]
    return np.array(sorted(set(known)), dtype)


def usable(
    values: NDArray[Any], nodata: NDArray[Any], bounds: tuple[float, float] | None, flags: NDArray[np.bool_]
) -> None:
    """Write into ``flags`` which pixels hold a value: finite, within the bounds, and none of the nodata values.

    Floats are compared to 1e-6 of their size: files declare -3.4e38 with more or fewer digits than they store.
    """
    low, high = bounds or (-np.inf, np.inf)
    if values.dtype.kind == "f":
        _usable_floats(values, nodata, np.abs(nodata) * values.dtype.type(1e-6), low, high, flags)
    else:
        _usable_integers(values, nodata, bounds is not None, low, high, flags)


def start() -> None:
    """Start the compiler's run time, which takes a second: better while a data set is opened than at its first chip."""
    values = np.zeros((1, 1), np.uint8)
    copy(values, values == 0, values, values, np.uint8(0))


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _usable_integers(values: Any, nodata: Any, bounded: bool, low: float, high: float, flags: Any) -> None:
    for i in range(values.shape[0]):
        row, good = values[i], flags[i]
        good[:] = True
        for k in range(nodata.size):
            for j in range(row.size):
                good[j] &= row[j] != nodata[k]
        if bounded:
            for j in range(row.size):
                good[j] &= (row[j] >= low) & (row[j] <= high)


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _usable_floats(values: Any, nodata: Any, near: Any, low: float, high: float, flags: Any) -> None:
    for i in range(values.shape[0]):
        row, good = values[i], flags[i]
        for j in range(row.size):
            good[j] = (abs(row[j]) < np.inf) & (row[j] >= low) & (row[j] <= high)
        for k in range(nodata.size):
            for j in range(row.size):
                good[j] &= not (abs(row[j] - nodata[k]) <= near[k])


@jit  # type: ignore[untyped-decorator, unused-ignore]
def whole(valid: Any) -> bool:
    """Tell whether all are True: the least of all, for a loop that may stop early is not vectorised."""
    least = np.uint8(1)
    for j in range(valid.size):
        least = min(least, np.uint8(valid[j]))
    return bool(least)


@jit  # type: ignore[untyped-decorator, unused-ignore]
def look_up(codes: Any, table: Any, out: Any) -> None:
    """Write ``table[codes]``, of bytes ``(y, x)``: NumPy would make 8-byte indices of them first."""
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            out[i, j] = table[codes[i, j]]


@jit  # type: ignore[untyped-decorator, unused-ignore]
def copy(values: Any, valid: Any, out: Any, state: Any, fill: Any) -> None:
    """Copy pixels; all arrays are ``(y, x)`` of one shape, ``out`` may be ``values``."""
    for i in range(values.shape[0]):
        out[i] = values[i]
        if not whole(valid[i]):
            for j in range(values.shape[1]):
                if not valid[i, j]:
                    out[i, j], state[i, j] = fill, min(state[i, j], np.uint8(NODATA))


@jit  # type: ignore[untyped-decorator, unused-ignore]
def nearest(values: Any, valid: Any, rows: Any, columns: Any, out: Any, state: Any, fill: Any) -> None:
    """Take the pixel that contains each point; see :func:`geomm.cube.bilinear.bilinear` for the coordinates."""
    height, width = values.shape
    for i in range(rows.size):
        for j in range(columns.size):
            y, x = rows[i], columns[j]
            if y >= 0 and x >= 0 and y < height and x < width:
                good = valid[int(y), int(x)]
                out[i, j] = values[int(y), int(x)] if good else fill
                state[i, j] = state[i, j] if good else min(state[i, j], np.uint8(NODATA))
            else:
                out[i, j], state[i, j] = fill, OUTSIDE


@jit  # type: ignore[untyped-decorator, unused-ignore]
def mean(
    values: Any, valid: Any, top: int, down: int, left: int, right: int, out: Any, state: Any, fill: Any, rounded: bool
) -> None:
    """Mean of ``down`` x ``right`` whole source pixels, the first at ``(top, left)``; valid where half of them are."""
    height, width = values.shape
    total, count = np.empty(width), np.empty(width)
    for i in range(out.shape[0]):
        total[:] = 0.0
        count[:] = 0.0
        for r in range(max(top + i * down, 0), min(top + (i + 1) * down, height)):
            row, good = values[r], valid[r]
            for c in range(width):
                total[c] += row[c] if good[c] else 0.0
                count[c] += good[c]
        y = top + (i + 0.5) * down
        for j in range(out.shape[1]):
            value, known = 0.0, 0.0
            for c in range(max(left + j * right, 0), min(left + (j + 1) * right, width)):
                value += total[c]
                known += count[c]
            x = left + (j + 0.5) * right
            if not (y >= 0 and x >= 0 and y < height and x < width):
                out[i, j], state[i, j] = fill, OUTSIDE
            elif known > 0 and known >= ENOUGH * down * right:
                out[i, j] = np.rint(value / known) if rounded else value / known
            else:
                out[i, j], state[i, j] = fill, min(state[i, j], np.uint8(NODATA))
