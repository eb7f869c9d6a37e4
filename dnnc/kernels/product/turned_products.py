"""Matrix products with few columns by a matrix A that is stored transposed.

A row of the result would fill a part of a vector. So the vectors run along the rows of A as it is
stored: the transposed result is computed, tile by tile, and turned as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile

__all__ = ["turned_kernel"]


def turned_kernel(tile: Tile, columns: int) -> Kernel:
    """The kernel of such products with so many columns, at most a vector's lanes, and at least a
    tile's columns as rows; its slots are those of `dnnc.kernels.product.slots`."""
    tiles_high = -(-columns // tile.rows)
    narrow = replace(tile, rows=-(-columns // tiles_high))
    return make_kernel("turned_products", lambda: _build(narrow), narrow, unrolled=False)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.product.microkernel import micro_kernel
    from dnnc.kernels.subroutine import shared

    multiply, finish = micro_kernel(tile), shared(build_finish)
    transpose = shared(build_transpose, tile.bytes_each)
    size, wide, most = tile.bytes_each, tile.columns, tile.rows
    row, sums = wide * size, tile.lanes * wide * size

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        turned = slot(args, slots.TILE)
        panels = (m + wide - 1) // wide
        start, stop = share(slot(args, slots.BATCH) * panels, 1, tid, threads)
        for unit in range(start, stop):
            matrix = unit // panels
            i = (unit - matrix * panels) * wide
            # The last panel begins earlier, so that nothing beyond the matrix is read.
            first = min(i, m - wide)
            a = slot(args, slots.A) + (matrix * k * m + first) * size
            b = slot(args, slots.B) + matrix * k * n * size
            for j in range(0, n, most):
                by, to, some = b + j * size, turned + j * row, min(most, n - j)
                multiply(
                    some, k, by, size, n * size, 0, a, m * size, 0, to, row, wide, 0, 0, 0
                )  # fmt: skip
            c = turned + sums
            if slot(args, slots.OUT):
                c = slot(args, slots.OUT) + (matrix * m + i) * n * size
            rows = wide - (i - first)
            transpose(c, n * size, turned + (i - first) * size, row, n, rows)
            if slot(args, slots.EPILOGUE):
                code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                words = slot(args, slots.WORDS)
                finish(code, own, words, c, n * size, rows, n, matrix, i, 0, 1)
        return 0

    return kernel
