"""Products of a matrix and a vector: matrix products with one row or one column.

They read each element of the matrix once, so what counts is to read it in long runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.tiles import Tile

__all__ = ["PIECE", "vector_kernel"]

#: Most elements of the result that a thread computes at a time.
PIECE = 512
#: Rows of the matrix that are added at a time.
_ROWS = 8

_OUT, _A, _B, _BATCH, _M, _N, _K, _FLIP_A, _FLIP_B = range(9)
_WORDS, _TILE, _EPILOGUE, _SLOTS = range(13, 17)


def vector_kernel(tile: Tile) -> Kernel:
    """The kernel of such products; its slots are those of `dnnc.kernels.matmul`."""
    return make_kernel("matvec", lambda: _build(tile), tile.dtype, tile.lanes)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.dots import ROWS, dot_rows
    from dnnc.kernels.intrinsics import share, slot

    dot, add, finish = dot_rows(tile), _build_add(tile), _build_finish(tile)
    size = tile.bytes_each

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, _M), slot(args, _N), slot(args, _K)
        x, a, count, rows = slot(args, _A), slot(args, _B), n, slot(args, _FLIP_B)
        if n == 1 and m > 1:
            x, a, count, rows = slot(args, _B), slot(args, _A), m, 1 - slot(args, _FLIP_A)
        pieces = (count + PIECE - 1) // PIECE
        batch = slot(args, _BATCH)
        grain = PIECE
        if batch * pieces < 2 * threads:
            # Whole cache lines, so that threads do not share one.
            grain = max((count // threads + 15) // 16 * 16, 16)
            grain = min(grain, PIECE)
            pieces = (count + grain - 1) // grain
        start, stop = share(batch * pieces, 1, tid, threads)
        for unit in range(start, stop):
            matrix, first = unit // pieces, unit % pieces * grain
            some = min(grain, count - first)
            out = slot(args, _TILE)
            if slot(args, _OUT):
                out = slot(args, _OUT) + (matrix * count + first) * size
            vector, whole = x + matrix * k * size, a + matrix * count * k * size
            if rows:
                for i in range(0, some, ROWS):
                    row = whole + (first + i) * k * size
                    dot(out + i * size, vector, row, k * size, min(ROWS, some - i), k)
            else:
                add(out, vector, whole + first * size, count, some, k)
            if slot(args, _EPILOGUE):
                finish(args, matrix, first, some, out, count == n)
        return 0

    return kernel


def _build_add(tile: Tile) -> Any:
    """`f(out, x, a, stride, count, depth)`: the sum over k of x[k] times `count` elements of row
    k of `a`, whose rows are `stride` elements apart."""
    from dnnc.kernels.intrinsics import load, store, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    size = tile.bytes_each
    get_x, get_a = load(tile.dtype, 2), load(tile.dtype, 1)
    get, put = load(tile.dtype, 0), store(tile.dtype, 0)

    def add(out: int, x: int, a: int, stride: int, count: int, depth: int) -> None:
        zero_bytes(out, count * size)
        whole = depth // _ROWS * _ROWS
        for k in range(0, whole, _ROWS):
            row = a + k * stride * size
            x0, x1, x2, x3 = get_x(x, k), get_x(x, k + 1), get_x(x, k + 2), get_x(x, k + 3)
            x4, x5, x6, x7 = get_x(x, k + 4), get_x(x, k + 5), get_x(x, k + 6), get_x(x, k + 7)
            for j in range(count):
                total = get(out, j)
                total += x0 * get_a(row, j)
                total += x1 * get_a(row, j + stride)
                total += x2 * get_a(row, j + 2 * stride)
                total += x3 * get_a(row, j + 3 * stride)
                total += x4 * get_a(row, j + 4 * stride)
                total += x5 * get_a(row, j + 5 * stride)
                total += x6 * get_a(row, j + 6 * stride)
                total += x7 * get_a(row, j + 7 * stride)
                put(out, j, total)
        for k in range(whole, depth):
            factor, row = get_x(x, k), a + k * stride * size
            for j in range(count):
                put(out, j, get(out, j) + factor * get_a(row, j))

    return subroutine(add)


def _build_finish(tile: Tile) -> Any:
    """`f(args, matrix, first, count, source, across)`: the epilogue of a piece of a row or
    column."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.subroutine import subroutine

    put, size = store("i64"), tile.bytes_each

    def finish(args: int, matrix: int, first: int, count: int, source: int, across: bool) -> None:
        region = slot(args, _WORDS)
        put(region, 0, source)
        put(region, 1, size)
        put(region, 2, 1 if across else count)
        put(region, 3, count if across else 1)
        put(region, 4, matrix)
        put(region, 5, 0 if across else first)
        put(region, 6, first if across else 0)
        put(region, 8, 1)
        call_kernel(slot(args, _EPILOGUE), args + 8 * _SLOTS, region, 0)

    return subroutine(finish)
