"""Compiled inner loops of the index; each releases the GIL and is called on ranges of rows from a pool of threads.

The scan is bound by memory. Rows are asked for some rows ahead (``PREFETCH``): the hardware does that within a page of
4 KB only, which holds eight rows of 512 bytes, and so reads a third slower.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

PREFETCH = 8
"""Rows ahead; 4 to 16 measure the same."""
LANES, STRIDE = 32, 256
"""Products that are summed side by side, and how many in a turn of the loop; short loops are unrolled the wrong way."""
LINE = 64
"""Bytes of a cache line."""

jit: Any = numba.njit(nogil=True, cache=True)
fast: Any = numba.njit(nogil=True, cache=True, fastmath=True)
_intrinsic: Any = intrinsic
_tools: Any = cgutils


@_intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _prefetch(_context: Any, array: Any, offset: Any) -> Any:  # noqa: ARG001 - numba's names of types
    """Ask for the cache line at an offset in bytes; never faults."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.gep(builder.bitcast(data, byte), [values[1]])
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = _tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, *(ir.Constant(word, v) for v in (0, 3, 1))])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _dot(_context: Any, codes: Any, query: Any, offset: Any, wide: Any) -> Any:  # noqa: ARG001 - numba's names of types
    """Sum products of int8 and int16 over as many whole ``STRIDE`` as there are in ``wide``.

    Written as vectors of 32, summed apart, which is what LLVM turns into multiply-add of pairs (AVX-512 VNNI: 64 bytes
    in two instructions); from a plain loop it makes vectors of 8, which is a third of the speed within the cache.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word, wider = ir.IntType(32), ir.IntType(64)
        sums = ir.VectorType(word, LANES)
        left, right = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[:2], values[:2], strict=True)
        )
        left = builder.gep(left, [values[2]])
        totals = [_tools.alloca_once_value(builder, ir.Constant(sums, [0] * LANES)) for _ in range(0, STRIDE, LANES)]
        with _tools.for_range(builder, builder.sdiv(values[3], wider(STRIDE)), intp=wider) as loop:
            first = builder.mul(loop.index, wider(STRIDE))
            for k, total in enumerate(totals):
                factors = []
                for data, bits in ((left, 8), (right, 16)):
                    lanes = ir.VectorType(ir.IntType(bits), LANES).as_pointer()
                    place = builder.gep(data, [builder.add(first, wider(LANES * k))])
                    factors.append(builder.sext(builder.load(builder.bitcast(place, lanes), align=bits // 8), sums))
                builder.store(builder.add(builder.load(total), builder.mul(*factors)), total)
        whole = builder.load(totals[0])
        for total in totals[1:]:
            whole = builder.add(whole, builder.load(total))
        kind = ir.FunctionType(word, [sums])
        reduce = _tools.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.add.v{LANES}i32")
        return builder.call(reduce, [whole])

    return types.int32(codes, query, types.int64, types.int64), generate


@jit  # type: ignore[untyped-decorator, unused-ignore]
def scan(
    codes: Any, scales: Any, positions: Any, blocks: Any, queries: Any, bases: Any, steps: Any, bounds: Any,
    first: int, last: int,
) -> None:  # fmt: skip
    """Bound the best score in each block of rows, for several queries at once.

    Args:
        codes: int8 ``(N, D)``.
        scales: float32 ``(N, 2)``: the size of a step of the row's code, and the length of what the code leaves out.
        positions: int32 ``(P,)``, the rows that count; empty for all.
        blocks: int64 ``(B, 3)``: start and end in ``positions`` (or of rows), and the number of the list.
        queries: int16 ``(Q, D)``.
        bases: float32 ``(Q, L)``, the product of query and centre.
        steps: float32 ``(Q,)``, the size of a step of the query's code.
        bounds: float32 ``(2, Q, B)``, written: the greatest of the rows' lower and of their upper bounds.
        first: block to begin with.
        last: block to end before.
    """
    wide, total = codes.shape[1], codes.shape[0]
    chosen = positions.size > 0
    for b in range(first, last):
        start, end, part = blocks[b, 0], blocks[b, 1], blocks[b, 2]
        for q in range(queries.shape[0]):
            low, high = np.float32(-np.inf), np.float32(-np.inf)
            query, base, step = queries[q], bases[q, part], steps[q]
            for n in range(start, end):
                row = np.int64(positions[n]) if chosen else n
                if q == 0:
                    later = min(n + PREFETCH, (positions.size if chosen else total) - 1)
                    place = np.int64(positions[later] if chosen else later) * wide
                    for j in range(0, wide, LINE):
                        _prefetch(codes, place + j)
                product = _dot(codes, query, row * wide, wide)
                for j in range(wide - wide % STRIDE, wide):
                    product = np.int32(product + np.int32(np.int32(codes[row, j]) * np.int32(query[j])))
                middle = base + step * scales[row, 0] * np.float32(product)
                low = max(low, middle - scales[row, 1])
                high = max(high, middle + scales[row, 1])
            bounds[0, q, b], bounds[1, q, b] = low, high


@jit  # type: ignore[untyped-decorator, unused-ignore]
def quantise(vectors: Any, centres: Any, lists: Any, codes: Any, scales: Any) -> None:
    """Code rows as ``centre + scale * int8``; the second scale bounds the length of the remainder from above.

    Args:
        vectors: float32 ``(n, D)``.
        centres: float32 ``(L, D)``.
        lists: int32 ``(n,)``, the centre of each row.
        codes: int8 ``(n, D)``, written.
        scales: float32 ``(n, 2)``, written.
    """
    for i in range(vectors.shape[0]):
        row, centre, code = vectors[i], centres[lists[i]], codes[i]
        most = np.float32(0)
        for j in range(row.size):
            most = max(most, abs(row[j] - centre[j]))
        scale = np.float32(most / np.float32(127))
        inverse = np.float32(127) / most if scale > 0 else np.float32(0)
        left = 0.0
        for j in range(row.size):
            value = np.rint((row[j] - centre[j]) * inverse)
            code[j] = np.int8(max(min(value, np.float32(127)), np.float32(-127)))
            rest = np.float64(row[j]) - np.float64(centre[j]) - np.float64(scale) * np.float64(code[j])
            left += rest * rest
        scales[i, 0], scales[i, 1] = scale, np.float32(np.sqrt(left) * (1 + 1e-6))


@fast  # type: ignore[untyped-decorator, unused-ignore]
def products(queries: Any, centres: Any, out: Any) -> None:
    """Multiply queries ``(Q, D)`` and centres ``(L, D)`` into ``(Q, L)``: too few for the threads of BLAS."""
    for q in range(queries.shape[0]):
        for n in range(centres.shape[0]):
            total = np.float32(0)
            for j in range(centres.shape[1]):
                total += centres[n, j] * queries[q, j]
            out[q, n] = total


@jit  # type: ignore[untyped-decorator, unused-ignore]
def weigh(
    middle: Any, sigma: Any, kinds: Any, left: Any, best: float, grid: Any, rate: Any, cells: Any, expected: Any
) -> None:
    """Find how many better rows lists are expected to hold; see :class:`geomm.retrieval.lists.Lists`.

    Args:
        middle: float32 ``(F,)``, scores of the lists' centres.
        sigma: float32 ``(F,)``, spread of their rows' scores.
        kinds: int64 ``(F,)``.
        left: int64 ``(F,)``, rows that were not looked into.
        best: the score to beat.
        grid: float64 ``(2,)``, lower edge of the first class of reach and width of all.
        rate: float64 ``(kinds, classes)``.
        cells: int64 ``(F,)``, written: the place in ``rate`` as if it were flat.
        expected: float64, of the size of ``rate``, to which numbers of rows are added.
    """
    most = rate.shape[1] - 1
    for n in range(middle.size):
        reach = (best - middle[n]) / sigma[n]
        cells[n] = kinds[n] * rate.shape[1] + np.int64(min(max((reach - grid[0]) / grid[1], 0.0), most))
        expected[cells[n]] += left[n] * rate[kinds[n], cells[n] - kinds[n] * rate.shape[1]]


@jit  # type: ignore[untyped-decorator, unused-ignore]
def match(
    boxes: Any, times: Any, sensors: Any, areas: Any, span: Any, allowed: Any, found: Any, first: int, last: int
) -> None:
    """Tell which rows may answer: 0 no, 1 their box touches an area's, 2 their box lies within one.

    Args:
        boxes: float32 ``(N, 4)``: west, south, east, north, which hold the rows; of records of 32 bytes.
        times: int64 ``(N,)``, microseconds; the least integer where there is none.
        sensors: int64 ``(N,)``, number of the set.
        areas: float64 ``(A, 4)``; empty for everywhere.
        span: int64 ``(2,)``, first and last microsecond.
        allowed: bool, by number of the set; empty for all.
        found: uint8 ``(N,)``, written.
        first: row to begin with.
        last: row to end before.
    """
    for i in range(first, last):
        _prefetch(boxes, 32 * min(i + 128, last - 1))
        best = 2 if areas.shape[0] == 0 else 0
        for a in range(areas.shape[0]):
            west, south, east, north = areas[a, 0], areas[a, 1], areas[a, 2], areas[a, 3]
            if boxes[i, 0] <= east and boxes[i, 2] >= west and boxes[i, 1] <= north and boxes[i, 3] >= south:
                within = boxes[i, 0] >= west and boxes[i, 2] <= east and boxes[i, 1] >= south and boxes[i, 3] <= north
                best = max(best, 2 if within else 1)
        if times[i] < span[0] or times[i] > span[1] or (allowed.size > 0 and not allowed[sensors[i]]):
            best = 0
        found[i] = best
