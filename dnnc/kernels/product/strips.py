"""Strips of tiles: any number of rows by one panel of columns.

A strip is a kernel of its own, which drivers call through its address (`dnnc.kernels.code.Code`)
with a table of `Strip.WORDS` words in place of slots.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.tiles import first_tiles, tiles

__all__ = ["Strip", "strip_kernel"]


class Strip(IntEnum):
    """Words of the table of a strip: those of `dnnc.kernels.microkernel.micro_kernel`.

    ROWS is any number from 0 on. A row i of A begins at `A + i * A_ROW`, or at `A + table[i]`
    where A_TABLE holds the address of a table.
    """

    ROWS = 0
    DEPTH = 1
    A = 2
    A_ROW = 3
    A_STEP = 4
    B = 5
    B_STEP = 6
    C = 7
    C_ROW = 8
    COLUMNS = 9
    ADD = 10
    A_TABLE = 11
    WORDS = 12


def strip_kernel(dtype: str, vectors: int, table: str = "") -> Kernel:
    """The kernel of strips for one element type, width of tile and way to address A."""
    shapes = tiles(dtype, vectors)

    def build() -> Callable[[int, int, int], int]:
        return _build_strip(dtype, vectors, table)

    return make_kernel("strip", build, shapes, table)


def _build_strip(dtype: str, vectors: int, table: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.product.microkernel import micro_kernel

    shapes = tiles(dtype, vectors)
    big, middle, small = (micro_kernel(tile, table) for tile in shapes)
    counts = tuple(tile.rows for tile in shapes)
    first = first_tiles(counts)
    limit = len(first) - 1

    def strip(words: int, unused: int, unused_too: int) -> int:
        rows, depth = slot(words, Strip.ROWS), slot(words, Strip.DEPTH)
        a, a_row, a_step = slot(words, Strip.A), slot(words, Strip.A_ROW), slot(words, Strip.A_STEP)
        b, b_step = slot(words, Strip.B), slot(words, Strip.B_STEP)
        c, c_row, columns, add = (
            slot(words, Strip.C),
            slot(words, Strip.C_ROW),
            slot(words, Strip.COLUMNS),
            slot(words, Strip.ADD),
        )
        starts = slot(words, Strip.A_TABLE)
        i = 0
        while i < rows:
            which = first[min(rows - i, limit)]
            some = min(counts[which], rows - i)
            at = a if starts else a + i * a_row
            offsets = starts + 8 * i if starts else 0
            to = c + i * c_row
            if which == 0:
                big(some, depth, at, a_row, a_step, offsets, b, b_step, to, c_row, columns, add)
            elif which == 1:
                middle(some, depth, at, a_row, a_step, offsets, b, b_step, to, c_row, columns, add)
            else:
                small(some, depth, at, a_row, a_step, offsets, b, b_step, to, c_row, columns, add)
            i += some
        return 0

    return strip
