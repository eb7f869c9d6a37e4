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

_OUT, _A, _B, _BATCH, _M, _N, _K, _FLIP_A, _FLIP_B, _WIDTH = range(10)
_WORDS, _TILE, _EPILOGUE, _SLOTS = range(17, 21)


def vector_kernel(tile: Tile) -> Kernel:
    """The kernel of such products; its slots are those of `dnnc.kernels.matmul`."""
    return make_kernel("matvec", lambda: _build(tile), tile.dtype, tile.lanes)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.columns import WIDEST
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine

    multiply, finish = subroutine(_build_piece(tile)), _build_finish(tile)
    size, widest = tile.bytes_each, WIDEST * tile.lanes

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, _M), slot(args, _N), slot(args, _K)
        x, a, count, rows = slot(args, _A), slot(args, _B), n, slot(args, _FLIP_B)
        if n == 1 and m > 1:
            x, a, count, rows = slot(args, _B), slot(args, _A), m, 1 - slot(args, _FLIP_A)
        # Units depend on sizes alone, and are whole cache lines, so that threads share none.
        width = slot(args, _WIDTH)
        grain = 16 if rows else width if width else widest
        units = (count + grain - 1) // grain
        unit, stop = share(slot(args, _BATCH) * units, 1, tid, threads)
        while unit < stop:
            matrix = unit // units
            first = (unit - matrix * units) * grain
            last = min(first + min(stop - unit, PIECE // grain) * grain, count)
            unit += (last - first + grain - 1) // grain
            out = slot(args, _TILE)
            if slot(args, _OUT):
                out = slot(args, _OUT) + (matrix * count + first) * size
            vector, whole = x + matrix * k * size, a + matrix * count * k * size
            multiply(out, vector, whole, rows, width, first, last, count, k)
            if slot(args, _EPILOGUE):
                finish(args, matrix, first, last - first, out, count == n)
        return 0

    return kernel


def _build_piece(tile: Tile) -> Callable[..., None]:
    """`f(out, x, a, rows, width, first, last, count, depth)`: products of `x` with some of the
    `count` rows or columns of the matrix at `a`, or with panels of its columns."""
    from dnnc.kernels.columns import WIDEST
    from dnnc.kernels.dots import ROWS, dot_rows
    from dnnc.kernels.subroutine import subroutine

    dot, add = dot_rows(tile), subroutine(_build_add(tile))
    size, widest = tile.bytes_each, WIDEST * tile.lanes

    def multiply(
        out: int,
        x: int,
        a: int,
        rows: int,
        width: int,
        first: int,
        last: int,
        count: int,
        depth: int,
    ) -> None:
        if rows:
            for i in range(first, last, ROWS):
                row = a + i * depth * size
                dot(out + (i - first) * size, x, row, depth * size, min(ROWS, last - i), depth)
        elif width:
            for i in range(first, last, width):
                to, some = out + (i - first) * size, min(width, last - i)
                add(to, x, a + i * depth * size, width * size, width, some, depth)
        else:
            for i in range(first, last, widest):
                to, some = out + (i - first) * size, min(widest, last - i)
                add(to, x, a + i * size, count * size, some, some, depth)

    return multiply


def _build_add(tile: Tile) -> Callable[..., None]:
    """`f(out, x, a, a_row, width, count, depth)`: the sum over k of x[k] times row k of `a`.

    `count` elements are written, of the `width` that may be read: at most the widest unit.
    """
    from dnnc.kernels.columns import WIDEST, add_rows

    lanes, size = tile.lanes, tile.bytes_each
    all_of, part = add_rows(tile, WIDEST, whole=True), add_rows(tile, 4)
    pair, single = add_rows(tile, 2), add_rows(tile, 1)

    def add(out: int, x: int, a: int, a_row: int, width: int, count: int, depth: int) -> None:
        j = 0
        while j < width:
            to, place, some = out + j * size, a + j * size, min(count - j, width - j)
            if width - j >= WIDEST * lanes:
                all_of(to, x, place, a_row, some, depth)
                j += WIDEST * lanes
            elif width - j > 2 * lanes:
                part(to, x, place, a_row, min(some, 4 * lanes), depth)
                j += 4 * lanes
            elif width - j > lanes:
                pair(to, x, place, a_row, some, depth)
                j += 2 * lanes
            else:
                single(to, x, place, a_row, some, depth)
                j += lanes

    return add


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
