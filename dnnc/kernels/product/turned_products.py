"""Matrix products with not too many columns by a matrix A that is stored transposed.

A row of the result would fill a part of its last vector, and rows of A would have to be turned. So
the vectors run along the rows of A as it is stored: the transposed result is computed, tile by
tile, and turned as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile

__all__ = ["turned_kernel"]


#: Most rows of the transposed result that are computed before they are turned: they and what they
#: become have the memory that a strip has for sums.
_SUMS = 48


def turned_kernel(tile: Tile, columns: int) -> Kernel:
    """The kernel of such products with so many columns, and at least a tile's columns as rows; its
    slots are those of `dnnc.kernels.product.slots`."""
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
    row, across = wide * size, _SUMS // most * most

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        turned = slot(args, slots.TILE)
        # Every tile reads the panel of A again: a block of it stays in the cache.
        blocks = (k + slots.DEPTH - 1) // slots.DEPTH if n > most else 1
        block = (k + blocks - 1) // blocks
        panels = (m + wide - 1) // wide
        start, stop = share(slot(args, slots.BATCH) * panels, 1, tid, threads)
        for unit in range(start, stop):
            matrix = unit // panels
            i = (unit - matrix * panels) * wide
            # The last panel begins earlier, so that nothing beyond the matrix is read.
            first = min(i, m - wide)
            a = slot(args, slots.A) + (matrix * k * m + first) * size
            b = slot(args, slots.B) + matrix * k * n * size
            rows = wide - (i - first)
            for j in range(0, n, across):
                columns = min(across, n - j)
                for k0 in range(0, k, block):
                    depth, along = min(block, k - k0), a + k0 * m * size
                    for at in range(0, columns, most):
                        by, to = b + (k0 * n + j + at) * size, turned + at * row
                        multiply(
                            min(most, columns - at), depth, by, size, n * size, 0, along, m * size,
                            0, to, row, wide, k0, 0, 0,
                        )  # fmt: skip
                c, c_row = turned + across * row, columns * size
                if slot(args, slots.OUT):
                    c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
                transpose(c, c_row, turned + (i - first) * size, row, columns, rows)
                if slot(args, slots.EPILOGUE):
                    code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                    words = slot(args, slots.WORDS)
                    finish(code, own, words, c, c_row, rows, columns, matrix, i, j, 1)
        return 0

    return kernel
