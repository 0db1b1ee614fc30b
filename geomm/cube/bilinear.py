"""Compiled bilinear interpolation, on grids that are shifted or scaled and on smooth warps."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomm.cube.kernels import NODATA, OUTSIDE, jit, whole
from geomm.cube.locate import ROUND, STEP

_SEGMENT = 64  # output pixels that are treated alike: all of their neighbours are valid, or each is looked at
_BESIDE = 0.5 + 1e-4  # how far the centre of a neighbour lies from a point at most, with a little for rounding


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _four(values: Any, valid: Any, y: float, x: float) -> Any:
    """Return the bilinear value at a point inside a valid pixel, from the valid ones of the four neighbours."""
    height, width = values.shape
    r, c = int(np.floor(y - 0.5)), int(np.floor(x - 0.5))
    v, u = y - 0.5 - r, x - 0.5 - c
    total, weights = 0.0, 0.0
    for a in range(max(r, 0), min(r + 2, height)):
        for b in range(max(c, 0), min(c + 2, width)):
            weight = (v if a > r else 1.0 - v) * (u if b > c else 1.0 - u)
            if weight > 0 and valid[a, b]:  # times an infinite neighbour of no weight would be NaN
                total += weight * values[a, b]
                weights += weight
    return total / weights


@jit  # type: ignore[untyped-decorator, unused-ignore]
def bilinear(values: Any, valid: Any, rows: Any, columns: Any, out: Any, state: Any, fill: Any, rounded: bool) -> None:
    """Interpolate at points whose rows ``(h,)`` and columns ``(w,)`` do not depend on each other.

    Two rows are blended into one, which is then interpolated along the columns. Coordinates count from the corner of
    ``values[0, 0]``; columns do not decrease.
    """
    height, width = values.shape
    inside = (columns >= 0) & (columns < width)
    first = np.argmax(inside)
    last = first + inside.sum()
    # Unsigned indices: signed ones may count from the end, which keeps the loops from being vectorised.
    start, part = np.zeros(columns.size, np.uint32), np.zeros(columns.size)
    for j in range(first, last):
        x = max(columns[j] - 0.5, 0.0)
        start[j] = np.uint32(x)
        part[j] = x - start[j]
    ahead = first + (1 if first < last and columns[first] < 0.5 else 0)  # the first pixel's left half has no neighbour
    period = _period(start, part, ahead, last)
    clean = np.array([whole(valid[r]) for r in range(height)])
    blended = np.empty(width + 1)
    for i in range(rows.size):
        into, states = out[i], state[i]
        if first >= last or not (rows[i] >= 0 and rows[i] < height):
            into[:], states[:] = fill, OUTSIDE
            continue
        into[:first], states[:first], into[last:], states[last:] = fill, OUTSIDE, fill, OUTSIDE
        y = max(rows[i] - 0.5, 0.0)
        r = int(y)
        below = min(r + 1, height - 1)
        v = y - r
        above, under = values[r], values[below]
        for c in range(width):
            blended[c] = above[c] * (1.0 - v) + under[c] * v
        blended[width] = blended[width - 1]
        for j in range(first, ahead):
            into[j] = np.rint(blended[0]) if rounded else blended[0]
        done = ahead
        if period == 1:
            done = last
            _shifted(blended[start[ahead] :], part[ahead], into[ahead:last], rounded)
        elif period == 2:
            done = ahead + (last - ahead) // 2 * 2
            pairs = into[ahead:done]
            _doubled(blended[start[ahead] :], part[ahead], blended[start[ahead + 1] :], part[ahead + 1], pairs, rounded)
        for j in range(done, last):
            value = blended[start[j]] * (1.0 - part[j]) + blended[start[j] + np.uint32(1)] * part[j]
            into[j] = np.rint(value) if rounded else value
        if not (clean[r] and clean[below]):
            for a in range(first, last, _SEGMENT):
                b = min(a + _SEGMENT, last)
                c, d = start[a], min(start[b - 1] + 2, width)
                if not (whole(valid[r, c:d]) and whole(valid[below, c:d])):
                    _bilinear_one_by_one(values, valid, rows[i], columns, a, b, into, states, fill, rounded)


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _period(start: Any, part: Any, first: int, last: int) -> int:
    """Return after how many points the same weights come again, one source pixel on: 1, 2, or 0 for neither."""
    for period in (1, 2):
        steady = last - first >= period + 1
        for j in range(first, last - period):
            steady &= start[j + period] == start[j] + 1 and part[j + period] == part[j]
        if steady:
            return period
    return 0


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _shifted(row: Any, u: float, into: Any, rounded: bool) -> None:
    after = row[1:]
    if rounded:
        for j in range(into.size):
            into[j] = np.rint(row[j] * (1.0 - u) + after[j] * u)
    else:
        for j in range(into.size):
            into[j] = row[j] * (1.0 - u) + after[j] * u


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _doubled(one: Any, u: float, two: Any, v: float, into: Any, rounded: bool) -> None:
    after_one, after_two = one[1:], two[1:]
    if rounded:
        for k in range(into.size // 2):
            into[2 * k] = np.rint(one[k] * (1.0 - u) + after_one[k] * u)
            into[2 * k + 1] = np.rint(two[k] * (1.0 - v) + after_two[k] * v)
    else:
        for k in range(into.size // 2):
            into[2 * k] = one[k] * (1.0 - u) + after_one[k] * u
            into[2 * k + 1] = two[k] * (1.0 - v) + after_two[k] * v


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _bilinear_one_by_one(
    values: Any, valid: Any, y: float, columns: Any, a: int, b: int, into: Any, states: Any, fill: Any, rounded: bool
) -> None:
    for j in range(a, b):
        if valid[int(y), int(columns[j])]:
            value = _four(values, valid, y, columns[j])
            into[j] = np.rint(value) if rounded else value
        else:
            into[j], states[j] = fill, min(states[j], np.uint8(NODATA))


@jit  # type: ignore[untyped-decorator, unused-ignore]
def bilinear_warp(
    values: Any, valid: Any, node_rows: Any, node_columns: Any, first: Any, origin: Any,
    out: Any, state: Any, fill: Any, rounded: bool,
) -> None:  # fmt: skip
    """Interpolate at points given on a lattice of nodes, see :class:`geomm.cube.locate.Lattice`.

    ``origin`` is the source row and column of ``values[0, 0]``.
    """
    height, width = values.shape
    count, nodes = out.shape[1], node_rows.shape[1]
    ys, xs, node_y, node_x = np.empty(count), np.empty(count), np.empty(nodes), np.empty(nodes)
    index, flat = np.empty(_SEGMENT, np.uint32), values.ravel()
    clean, inner = whole(valid.ravel()), (count - 1 + first[1]) // STEP + 1
    for i in range(out.shape[0]):
        node, step = divmod(i + first[0], STEP)
        v = step / STEP
        for k in range(nodes):
            node_y[k] = node_rows[node, k] * (1.0 - v) + node_rows[node + 1, k] * v - origin[0]
            node_x[k] = node_columns[node, k] * (1.0 - v) + node_columns[node + 1, k] * v - origin[1]
        _between(node_y, first[1], ys)
        _between(node_x, first[1], xs)
        easy = clean and _within(node_y[1:inner], ys, height) and _within(node_x[1:inner], xs, width)
        for a in range(0, count, _SEGMENT):
            b = min(a + _SEGMENT, count)
            if easy:
                _gathered(flat, width, ys[a:b], xs[a:b], index, out[i, a:b], rounded)
                continue
            low, high = (a + first[1]) // STEP, (b - 1 + first[1]) // STEP + 2
            top, bottom = node_y[low:high].min() - _BESIDE, node_y[low:high].max() + 1.0 + _BESIDE
            left, right = node_x[low:high].min() - _BESIDE, node_x[low:high].max() + 1.0 + _BESIDE
            safe = top >= 0 and left >= 0 and int(bottom) <= height and int(right) <= width
            if safe:
                for r in range(int(top), int(bottom)):
                    safe &= whole(valid[r, int(left) : int(right)])
            if safe:
                _gathered(flat, width, ys[a:b], xs[a:b], index, out[i, a:b], rounded)
            else:
                _warp_one_by_one(values, valid, ys[a:b], xs[a:b], out[i, a:b], state[i, a:b], fill, rounded)


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _within(nodes: Any, row: Any, size: int) -> bool:
    """Tell whether a row of coordinates, straight between nodes, has all its neighbours inside the source."""
    least, greatest = min(row[0], row[-1]), max(row[0], row[-1])
    for k in range(nodes.size):
        least, greatest = min(least, nodes[k]), max(greatest, nodes[k])
    return bool(least >= _BESIDE and greatest + _BESIDE < size)


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _gathered(flat: Any, width: int, ys: Any, xs: Any, index: Any, into: Any, rounded: bool) -> None:
    """Interpolate where all neighbours exist and are valid; overwrites ``ys`` and ``xs``."""
    for j in range(into.size):  # the arithmetic by itself is vectorised, the gathering is not
        y, x = ys[j] - 0.5, xs[j] - 0.5
        r, c = np.int32(y), np.int32(x)
        index[j] = r * np.int32(width) + c
        ys[j], xs[j] = y - r, x - c
    below = flat[width:]
    for j in range(into.size):
        k, a, b = index[j], xs[j], ys[j]
        upper = flat[k] * (1.0 - a) + flat[k + np.uint32(1)] * a
        lower = below[k] * (1.0 - a) + below[k + np.uint32(1)] * a
        value = upper * (1.0 - b) + lower * b
        into[j] = np.rint(value) if rounded else value


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _warp_one_by_one(
    values: Any, valid: Any, ys: Any, xs: Any, into: Any, states: Any, fill: Any, rounded: bool
) -> None:
    height, width = values.shape
    for j in range(into.size):
        y, x = ys[j], xs[j]
        if not (y >= 0 and x >= 0 and y < height and x < width):
            into[j], states[j] = fill, OUTSIDE
        elif valid[int(y), int(x)]:
            value = _four(values, valid, y, x)
            into[j] = np.rint(value) if rounded else value
        else:
            into[j], states[j] = fill, min(states[j], np.uint8(NODATA))


@jit  # type: ignore[untyped-decorator, unused-ignore]
def _between(nodes: Any, first: int, out: Any) -> None:
    """Interpolate a row of coordinates between nodes; ``first`` is the first point, counted from the first node."""
    j = 0
    for k in range(nodes.size - 1):
        skip = first if k == 0 else 0
        cell = out[j : j + STEP - skip]
        for step in range(cell.size):
            u = (step + skip) / STEP
            cell[step] = np.rint((nodes[k] * (1.0 - u) + nodes[k + 1] * u) * ROUND) / ROUND
        j += cell.size
