"""Matrix products of few rows by a matrix B that is stored transposed.

To pack B would mean to transpose all of it for few rows. So A is transposed, which is small, the
rows of B as it is stored are multiplied by it, and the transposed result is turned block by block.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.product.operands import panel_vectors
from dnnc.kernels.product.strips import Strip, build_take
from dnnc.kernels.tiles import Tile

__all__ = ["build_few_rows"]


def build_few_rows(widest: Tile) -> Callable[..., None]:
    """`f(args, matrix, first, last)`: columns `first` to `last` of the result."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine

    transpose, finish = shared(build_transpose, widest.bytes_each), shared(build_finish)
    take, put = shared(build_take, widest.vectors, returns=1), store("i64")
    begin = subroutine(_build_begin(widest))
    lanes, size, widest_row = widest.lanes, widest.bytes_each, widest.columns * widest.bytes_each

    def few_rows(args: int, matrix: int, first: int, last: int) -> None:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        words, sums, most = slot(args, slots.WORDS), slot(args, slots.TILE), slot(args, slots.BLOCK)
        turned = sums + most * widest_row
        begin(args, matrix)
        for j in range(first, last, most):
            count, v = min(most, last - j), 0
            put(words, Strip.ROWS, count)
            put(words, Strip.A, slot(args, slots.B) + (matrix * n + j) * k * size)
            while v * lanes < m:
                vectors = take((m - v * lanes + lanes - 1) // lanes)
                i, wide = v * lanes, vectors * lanes
                rows = min(wide, m - i)
                put(words, Strip.B, slot(args, slots.PANELS) + v * k * lanes * size)
                put(words, Strip.C_ROW, wide * size)
                put(words, Strip.COLUMNS, rows)
                call_kernel(slot(args, slots.ONE - 1 + vectors), words, 0, 0)
                c, c_row = turned, most * size
                if slot(args, slots.OUT):
                    c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
                transpose(c, c_row, sums, wide * size, count, rows)
                if slot(args, slots.EPILOGUE):
                    code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                    region = words + 8 * Strip.WORDS
                    finish(code, own, region, c, c_row, rows, count, matrix, i, j, 1)
                v += vectors

    return few_rows


def _build_begin(widest: Tile) -> Callable[[int, int], None]:
    """`f(args, matrix)`: transpose A to panels of a vector, and set what all strips share."""
    from dnnc.kernels.intrinsics import slot, store, zero_bytes
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose, put = shared(build_transpose, widest.bytes_each), store("i64")
    lanes, size = widest.lanes, widest.bytes_each
    wide = panel_vectors(widest) * lanes

    def begin(args: int, matrix: int) -> None:
        m, k, words = slot(args, slots.M), slot(args, slots.K), slot(args, slots.WORDS)
        for i in range(0, m, wide):
            source = slot(args, slots.A) + (matrix * m + i) * k * size
            to = slot(args, slots.PANELS) + i * k * size
            if m - i < wide:
                zero_bytes(to, k * wide * size)
            transpose(to, wide * size, source, k * size, min(wide, m - i), k)
        put(words, Strip.DEPTH, k)
        put(words, Strip.A_ROW, k * size)
        put(words, Strip.A_STEP, size)
        put(words, Strip.A_TABLE, 0)
        put(words, Strip.B_STEP, wide * size)
        put(words, Strip.B_VECTOR, k * lanes * size)
        put(words, Strip.C, slot(args, slots.TILE))
        put(words, Strip.ADD, 0)
        put(words, Strip.LINES, 0)

    return begin
