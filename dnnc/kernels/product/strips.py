"""Strips of tiles: any number of rows by one panel of columns.

A strip is a kernel of its own, which drivers call through its address (`dnnc.kernels.code.Code`)
with a table of `Strip.WORDS` words in place of slots.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.tiles import first_tiles, tiles

__all__ = ["Strip", "build_take", "strip_kernel"]


class Strip(IntEnum):
    """Words of the table of a strip: those of `dnnc.kernels.microkernel.micro_kernel`.

    ROWS is any number from 0 on. A row i of A begins at `A + i * A_ROW`, or at `A + table[i]`
    where A_TABLE holds the address of a table. LINES is 0, or the address of a list of cache lines
    to fetch meanwhile (`dnnc.kernels.product.lines`). The vectors of a row of B are B_VECTOR
    apart in strips that are made so, which have no tables, and adjacent in others. Strips of runs
    fetch at least AHEAD_BYTES from AHEAD on meanwhile, and AHEAD_TOO_BYTES from AHEAD_TOO on.
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
    LINES = 12
    B_VECTOR = 13
    AHEAD = 14
    AHEAD_BYTES = 15
    AHEAD_TOO = 16
    AHEAD_TOO_BYTES = 17
    WORDS = 18


def strip_kernel(dtype: str, vectors: int, table: str = "", apart: bool = False) -> Kernel:
    """The kernel of strips for one element type, width of tile, and ways to address A and B.

    Strips that read vectors of B apart are those that fetch lines.
    """
    shapes = tiles(dtype, vectors)

    def build() -> Callable[[int, int, int], int]:
        return _build_strip(dtype, vectors, table, apart)

    return make_kernel("strip", build, shapes, table, apart)


def build_take(most: int) -> Callable[[int], int]:
    """`f(left)`: the width of the next strip, in vectors, where so many are left and strips have
    `most` of them: none of one, which is slow, remains where that can be."""

    def take(left: int) -> int:
        if most == 3 and (left == 3 or left >= 5):
            return 3
        return min(left, 2)

    return take


def _build_strip(
    dtype: str, vectors: int, table: str, apart: bool
) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import lookup, slot
    from dnnc.kernels.product.microkernel import micro_kernel

    shapes = tiles(dtype, vectors)
    big, middle, small = (micro_kernel(tile, table, apart) for tile in shapes)
    fetching = micro_kernel(shapes[0], table, apart, apart)
    counts = tuple(tile.rows for tile in shapes)
    first = first_tiles(counts)
    limit, tile_of, rows_in = len(first) - 1, lookup(first), lookup(counts)

    def strip(words: int, unused: int, unused_too: int) -> int:
        rows, depth = slot(words, Strip.ROWS), slot(words, Strip.DEPTH)
        a, a_row, a_step = slot(words, Strip.A), slot(words, Strip.A_ROW), slot(words, Strip.A_STEP)
        b, b_step = slot(words, Strip.B), slot(words, Strip.B_STEP)
        b_vector = slot(words, Strip.B_VECTOR)
        c, c_row, columns, add = (
            slot(words, Strip.C),
            slot(words, Strip.C_ROW),
            slot(words, Strip.COLUMNS),
            slot(words, Strip.ADD),
        )
        starts = slot(words, Strip.A_TABLE)
        lines, left = 0, 0
        if apart and slot(words, Strip.LINES):
            lines, left = slot(words, Strip.LINES) + 8, slot(slot(words, Strip.LINES), 0)
        i = 0
        while i < rows:
            which = tile_of(min(rows - i, limit))
            some = min(rows_in(which), rows - i)
            at = a if starts else a + i * a_row
            offsets = starts + 8 * i if starts else 0
            to = c + i * c_row
            if which == 0 and left > 0:
                fetching(
                    some, depth, at, a_row, a_step, offsets, b, b_step, b_vector, to, c_row,
                    columns, add, lines, left,
                )  # fmt: skip
                lines, left = lines + 8 * depth, left - depth
            elif which == 0:
                big(
                    some, depth, at, a_row, a_step, offsets, b, b_step, b_vector, to, c_row,
                    columns, add, 0, 0,
                )  # fmt: skip
            elif which == 1:
                middle(
                    some, depth, at, a_row, a_step, offsets, b, b_step, b_vector, to, c_row,
                    columns, add, 0, 0,
                )  # fmt: skip
            else:
                small(
                    some, depth, at, a_row, a_step, offsets, b, b_step, b_vector, to, c_row,
                    columns, add, 0, 0,
                )  # fmt: skip
            i += some
        return 0

    return strip
