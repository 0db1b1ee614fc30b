"""Resampling by kind, aware of nodata, from one array onto fractional source coordinates.

Invalid source pixels never contribute; whether a target pixel is valid follows from the source pixels, not from the
values. Every function returns ``(values, valid)`` as float64 (or the source's dtype where no arithmetic is done) and
bool of the target's shape; values of invalid pixels are 0.
"""

from __future__ import annotations

from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

Method = Literal["nearest", "bilinear", "average", "conservative", "mode", "or"]
AREA: frozenset[Method] = frozenset({"average", "conservative", "mode", "or"})
"""Methods that look at a target pixel's whole area, and so need the coordinates of its corners."""
ENOUGH = 0.5
"""Least part of a target pixel's area that must be valid for an average or a mode."""
_SLIVER = 1e-3  # overlaps narrower than this part of a pixel are rounding, not area
_TURNED = 0.15  # tangent of the angle between grids from which a pixel's area is sampled, not measured along its edges

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]

_jit: Any = numba.njit(nogil=True, cache=True)


def resample(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    method: Method,
    *,
    origin: tuple[int, int] = (0, 0),
) -> Pixels:
    """Resample an array.

    Args:
        values: source ``(rows, columns)``.
        valid: True where a source pixel is usable.
        rows: fractional source rows of the target's pixel centres ``(h, w)``, or for the methods of :data:`AREA` of
            its pixel corners ``(h + 1, w + 1)``. The centre of the first source pixel is 0.5.
        columns: the same for columns.
        origin: source row and column of ``values[0, 0]``.
        method: ``nearest``; ``bilinear`` over the valid ones of the four neighbours, valid where the pixel that
            contains the point is (as gdalwarp does); ``average``, the mean weighted by overlapping area;
            ``conservative``, the same of a surface that slopes inside source pixels (second-order conservative
            remapping, Jones 1999), which blurs less where pixels overlap in part; ``mode`` (ties: the smaller value)
            and bitwise ``or`` over the area. All but ``or`` are valid where at least half of the area is.
    """
    values, valid = np.ascontiguousarray(values), np.ascontiguousarray(valid)
    out: Pixels
    if method in ("average", "conservative"):
        out = _average(values, valid, rows, columns, *origin, method == "conservative")
    else:
        function = {"nearest": _nearest, "bilinear": _bilinear, "mode": _mode, "or": _or}[method]
        out = function(values, valid, rows, columns, *origin)
    return out


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _nearest(values: Any, valid: Any, rows: Any, columns: Any, top_row: int, left_column: int) -> Any:
    height, width = rows.shape
    out, good = np.zeros((height, width), values.dtype), np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            y, x = rows[i, j] - top_row, columns[i, j] - left_column
            if y >= 0 and x >= 0 and y < values.shape[0] and x < values.shape[1]:
                r, c = int(y), int(x)
                if valid[r, c]:
                    out[i, j], good[i, j] = values[r, c], True
    return out, good


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _bilinear(values: Any, valid: Any, rows: Any, columns: Any, top_row: int, left_column: int) -> Any:
    height, width = rows.shape
    last_r, last_c = values.shape[0], values.shape[1]
    out, good = np.zeros((height, width), np.float64), np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            y, x = rows[i, j] - top_row, columns[i, j] - left_column
            if not (y >= 0 and x >= 0 and y < last_r and x < last_c) or not valid[int(y), int(x)]:
                continue
            r, c = int(np.floor(y - 0.5)), int(np.floor(x - 0.5))
            v, u = y - 0.5 - r, x - 0.5 - c
            total, weights = 0.0, 0.0
            for dr in range(2):
                for dc in range(2):
                    a, b = r + dr, c + dc
                    if a >= 0 and b >= 0 and a < last_r and b < last_c and valid[a, b]:
                        weight = (v if dr else 1.0 - v) * (u if dc else 1.0 - u)
                        if weight > 0:  # times an infinite neighbour of no weight would be NaN
                            total += weight * values[a, b]
                            weights += weight
            out[i, j], good[i, j] = total / weights, True
    return out, good


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _extent(corners: Any, i: int, j: int, first: int, along_rows: bool) -> Any:
    """Return the source interval under a target pixel: from the middle of one edge to that of the opposite one."""
    if along_rows:
        a = (corners[i, j] + corners[i, j + 1]) / 2
        b = (corners[i + 1, j] + corners[i + 1, j + 1]) / 2
    else:
        a = (corners[i, j] + corners[i + 1, j]) / 2
        b = (corners[i, j + 1] + corners[i + 1, j + 1]) / 2
    return min(a, b) - first, max(a, b) - first


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _reach(corners: Any, i: int, j: int, first: int) -> Any:
    """Return the source interval that all four corners of a target pixel span."""
    a, b, c, d = corners[i, j], corners[i, j + 1], corners[i + 1, j], corners[i + 1, j + 1]
    return min(a, b, c, d) - first, max(a, b, c, d) - first


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _samples(rows: Any, columns: Any, i: int, j: int) -> int:
    """Return how many points along a side sample a pixel that is turned against the source; 0 for one that is not."""
    down_r, down_c = rows[i + 1, j] - rows[i, j], columns[i + 1, j] - columns[i, j]
    right_r, right_c = rows[i, j + 1] - rows[i, j], columns[i, j + 1] - columns[i, j]
    if abs(right_r) <= _TURNED * abs(down_r) and abs(down_c) <= _TURNED * abs(right_c):
        return 0
    size = max(np.hypot(down_r, down_c), np.hypot(right_r, right_c))
    return int(min(max(np.ceil(3.0 * size), 4.0), 128.0)) if np.isfinite(size) else 0


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _within(corners: Any, i: int, j: int, v: float, u: float) -> float:
    """Return the coordinate at parts ``v`` and ``u`` of a pixel's height and width."""
    above = corners[i, j] * (1.0 - u) + corners[i, j + 1] * u
    below = corners[i + 1, j] * (1.0 - u) + corners[i + 1, j + 1] * u
    return above * (1.0 - v) + below * v  # type: ignore[no-any-return]


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _count(seen: Any, share: Any, count: int, value: Any, weight: float) -> int:
    """Add to the share of a value; return how many values were seen."""
    k = 0
    while k < count and seen[k] != value:
        k += 1
    if k == count:
        seen[k], share[k] = value, 0.0
        count += 1
    share[k] += weight
    return count


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _most(seen: Any, share: Any, count: int) -> int:
    """Return the index of the value with the greatest share; of equals the smaller value's."""
    best = 0
    for k in range(1, count):
        lead = share[k] - share[best]
        if lead > 1e-9 or (lead > -1e-9 and seen[k] < seen[best]):
            best = k
    return best


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _slope(values: Any, valid: Any, r: int, c: int, dr: int, dc: int) -> Any:
    """Return the change per pixel along a direction, limited so that no value beyond the neighbours' arises."""
    a, b, e, f = r - dr, c - dc, r + dr, c + dc
    if a < 0 or b < 0 or e >= values.shape[0] or f >= values.shape[1] or not (valid[a, b] and valid[e, f]):
        return 0.0
    before, after = float(values[r, c]) - float(values[a, b]), float(values[e, f]) - float(values[r, c])
    if before * after <= 0.0:
        return 0.0
    limit = 2.0 * min(abs(before), abs(after))
    return np.sign(before) * min(abs(before + after) / 2.0, limit)


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _average(values: Any, valid: Any, rows: Any, columns: Any, top_row: int, left_column: int, sloped: bool) -> Any:
    height, width = rows.shape[0] - 1, rows.shape[1] - 1
    last_r, last_c = values.shape[0], values.shape[1]
    out, good = np.zeros((height, width), np.float64), np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            top, bottom = _extent(rows, i, j, top_row, True)
            left, right = _extent(columns, i, j, left_column, False)
            total, weights = 0.0, 0.0
            points = _samples(rows, columns, i, j)
            if points > 0:
                for a in range(points * points):
                    v, u = (a // points + 0.5) / points, (a % points + 0.5) / points
                    y, x = _within(rows, i, j, v, u) - top_row, _within(columns, i, j, v, u) - left_column
                    if y >= 0 and x >= 0 and y < last_r and x < last_c and valid[int(y), int(x)]:
                        total += values[int(y), int(x)]
                        weights += 1.0
                if weights >= ENOUGH * points * points:
                    out[i, j], good[i, j] = total / weights, True
                continue
            if not (bottom > 0 and right > 0 and top < last_r and left < last_c):
                continue
            for r in range(max(int(top), 0), min(int(np.ceil(bottom)), last_r)):
                y0, y1 = max(top, float(r)), min(bottom, r + 1.0)
                for c in range(max(int(left), 0), min(int(np.ceil(right)), last_c)):
                    x0, x1 = max(left, float(c)), min(right, c + 1.0)
                    weight = (y1 - y0) * (x1 - x0)
                    if weight <= 0 or not valid[r, c]:
                        continue
                    value = float(values[r, c])
                    if sloped and weight < 1.0:  # a part of the pixel: its mean differs from that of the whole
                        value += ((y0 + y1) / 2 - r - 0.5) * _slope(values, valid, r, c, 1, 0)
                        value += ((x0 + x1) / 2 - c - 0.5) * _slope(values, valid, r, c, 0, 1)
                    total += weight * value
                    weights += weight
            if weights > 0 and weights >= ENOUGH * (bottom - top) * (right - left):
                out[i, j], good[i, j] = total / weights, True
    return out, good


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _mode(values: Any, valid: Any, rows: Any, columns: Any, top_row: int, left_column: int) -> Any:
    height, width = rows.shape[0] - 1, rows.shape[1] - 1
    last_r, last_c = values.shape[0], values.shape[1]
    out, good = np.zeros((height, width), values.dtype), np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            top, bottom = _extent(rows, i, j, top_row, True)
            left, right = _extent(columns, i, j, left_column, False)
            points = _samples(rows, columns, i, j)
            if points > 0:
                some, part = np.empty(points * points, values.dtype), np.empty(points * points, np.float64)
                kinds, found = 0, 0
                for a in range(points * points):
                    v, u = (a // points + 0.5) / points, (a % points + 0.5) / points
                    y, x = _within(rows, i, j, v, u) - top_row, _within(columns, i, j, v, u) - left_column
                    if y >= 0 and x >= 0 and y < last_r and x < last_c and valid[int(y), int(x)]:
                        kinds = _count(some, part, kinds, values[int(y), int(x)], 1.0)
                        found += 1
                if found > 0 and found >= ENOUGH * points * points:
                    out[i, j], good[i, j] = some[_most(some, part, kinds)], True
                continue
            if not (bottom > 0 and right > 0 and top < last_r and left < last_c):
                continue
            r0, r1 = max(int(top), 0), min(int(np.ceil(bottom)), last_r)
            c0, c1 = max(int(left), 0), min(int(np.ceil(right)), last_c)
            seen = np.empty((r1 - r0) * (c1 - c0), values.dtype)
            share = np.empty((r1 - r0) * (c1 - c0), np.float64)
            count, weights = 0, 0.0
            for r in range(r0, r1):
                high = min(bottom, r + 1.0) - max(top, float(r))
                for c in range(c0, c1):
                    weight = high * (min(right, c + 1.0) - max(left, float(c)))
                    if not valid[r, c] or weight <= 0:
                        continue
                    weights += weight
                    count = _count(seen, share, count, values[r, c], weight)
            if weights > 0 and weights >= ENOUGH * (bottom - top) * (right - left):
                out[i, j], good[i, j] = seen[_most(seen, share, count)], True
    return out, good


@_jit  # type: ignore[untyped-decorator, unused-ignore]
def _or(values: Any, valid: Any, rows: Any, columns: Any, top_row: int, left_column: int) -> Any:
    height, width = rows.shape[0] - 1, rows.shape[1] - 1
    last_r, last_c = values.shape[0], values.shape[1]
    out, good = np.zeros((height, width), values.dtype), np.zeros((height, width), np.bool_)
    for i in range(height):
        for j in range(width):
            top, bottom = _reach(rows, i, j, top_row)
            left, right = _reach(columns, i, j, left_column)
            if not (bottom > 0 and right > 0 and top < last_r and left < last_c):
                continue
            for r in range(max(int(top + _SLIVER), 0), min(int(np.ceil(bottom - _SLIVER)), last_r)):
                for c in range(max(int(left + _SLIVER), 0), min(int(np.ceil(right - _SLIVER)), last_c)):
                    if valid[r, c]:
                        out[i, j] |= values[r, c]
                        good[i, j] = True
    return out, good
