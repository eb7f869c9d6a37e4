"""The sums of products on the matrix unit, and how they come to the output.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.product.strips import Strip
from dnnc.kernels.unit.places import (
    COLUMNS_STREAM,
    ROWS_STREAM,
    TURNED_STREAM,
    Stream,
    build_start,
)
from dnnc.kernels.unit.sizes import LINE, PAIR, SIDE, TURNED_PLACE, TURNED_ROW

__all__ = ["build_announce", "build_deliver", "build_straight", "build_sums"]

assert Stream.WORDS <= Strip.WORDS


def build_straight() -> Callable[[int, int, int], bool]:
    """`f(args, words, j)`: whether the sums of what is fixed by what streams by from `j` on go to
    the output at once: whole tiles of the first depth, to which no epilogue is applied."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    start_of = subroutine(build_start(), returns=1)

    def straight(args: int, words: int, j: int) -> bool:
        if slot(args, slots.OUT) == 0 or slot(words, Stream.K0):
            return False
        if slot(args, slots.EPILOGUE) and slot(words, Stream.DEPTH) == slot(args, slots.K):
            return False
        # The last of what streams by, and columns that are turned, are other ones than they become.
        if slot(words, Stream.ORDER) == TURNED_STREAM or start_of(args, words, j) < j:
            return False
        # Two tiles of what is fixed are computed at least, and whole ones of pieces; rows of the
        # output begin with cache lines.
        count = slot(words, Stream.COUNT)
        whole: bool = count % SIDE == 0 and slot(args, slots.N) % SIDE == 0
        return whole and count >= PAIR

    return straight


def build_sums() -> Callable[[int, int, int, int], tuple[int, int]]:
    """`f(args, words, j, f)`: where sums of the `f`th of what is fixed, by what streams by from `j`
    on, are, and bytes between rows.

    What is fixed are their rows, as they are those of the output, or else their columns.
    """
    from dnnc.kernels.intrinsics import slot

    size = 4

    def sums(args: int, words: int, j: int, f: int) -> tuple[int, int]:
        columns_stream = slot(words, Stream.ORDER) == COLUMNS_STREAM
        if slot(words, Stream.STRAIGHT):
            fixed, n = slot(words, Stream.FIRST) + f, slot(args, slots.N)
            row, column = (fixed, j) if columns_stream else (j, fixed)
            row += slot(words, Stream.MATRIX) * slot(args, slots.M)
            return slot(args, slots.OUT) + (row * n + column) * size, n * size
        start: int = slot(args, slots.TILE)
        if columns_stream:
            return start + f * PAIR * size, PAIR * size
        # Rows are not to share sets of the cache.
        apart = (slot(words, Stream.COUNT) + PAIR - 1) // PAIR * PAIR * size + LINE
        return start + f * size, apart

    return sums


def build_announce() -> Callable[[int, int, int, int, int], int]:
    """`f(args, words, j, f, high)`: how many cache lines the epilogue of the product of
    `high` of what is fixed, from the `f`th on, by what streams by from `j` on, will read and write:
    their addresses are listed."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import shared, subroutine

    finish, put, size = shared(build_finish, True), store("i64"), 4
    part_of = subroutine(_build_part(), returns=4)

    def announce(args: int, words: int, j: int, f: int, high: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        lines, code = slot(args, slots.LINES), slot(args, slots.EPILOGUE)
        # What is read beyond the second-level cache is fetched meanwhile. The next rows of A and
        # results without an epilogue, too, would cost more than they gain.
        far = slot(args, slots.BATCH) * m * (n + k) * size > slot(args, slots.GROUP)
        if not far or slot(words, Stream.K0) + slot(words, Stream.DEPTH) < k:
            return 0
        put(lines, 0, 0)
        row, rows, column, columns = part_of(args, words, j, f, high)
        region, own = slot(args, slots.WORDS) + 8 * Strip.WORDS, args + 8 * slots.SLOTS
        matrix = slot(words, Stream.MATRIX)
        finish(code, own, region, lines, 0, rows, columns, matrix, row, column, 1)
        listed: int = slot(lines, 0)
        return listed

    return announce


def build_deliver() -> Callable[[int, int, int, int, int], None]:
    """`f(args, words, j, f, high)`: store the sums of `high` of what is fixed, from the `f`th on,
    by what streams by from `j` on, or add them to those of the depth before, and finish them if
    they are complete."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.tiles import add_rows

    finish, transpose = shared(build_finish), shared(build_transpose, 4)
    start_of, size = subroutine(build_start(), returns=1), 4
    part_of, sums_of = subroutine(_build_part(), returns=4), subroutine(build_sums(), returns=2)

    def deliver(args: int, words: int, j: int, f: int, high: int) -> None:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        matrix, order = slot(words, Stream.MATRIX), slot(words, Stream.ORDER)
        row, rows, column, columns = part_of(args, words, j, f, high)
        made, made_row = sums_of(args, words, j, f)
        turned, turns = slot(args, slots.ROWS) + TURNED_PLACE, order == TURNED_STREAM
        if turns:
            transpose(turned, TURNED_ROW, made, made_row, PAIR, high)
        sums, sums_row = turned if turns else made, TURNED_ROW if turns else made_row
        # Before the `j`th are those that have been delivered.
        sums += (j - start_of(args, words, j)) * (sums_row if order == ROWS_STREAM else size)
        c, c_row, k0 = sums, sums_row, slot(words, Stream.K0)
        if slot(args, slots.OUT):
            c, c_row = slot(args, slots.OUT) + ((matrix * m + row) * n + column) * size, n * size
            for left in range(0, columns, PAIR):
                part, most = left * size, min(columns - left, PAIR)
                add_rows(c + part, c_row, sums + part, sums_row, rows, most, k0)
        code = slot(args, slots.EPILOGUE)
        if code and k0 + slot(words, Stream.DEPTH) == k:
            own, region = args + 8 * slots.SLOTS, slot(args, slots.WORDS) + 8 * Strip.WORDS
            finish(code, own, region, c, c_row, rows, columns, matrix, row, column, 1)

    return deliver


def _build_part() -> Callable[[int, int, int, int, int], tuple[int, int, int, int]]:
    """`f(args, words, j, f, high)`: first row, rows, first column and columns of a part of the
    output."""
    from dnnc.kernels.intrinsics import slot

    def part(args: int, words: int, j: int, f: int, high: int) -> tuple[int, int, int, int]:
        first, across = slot(words, Stream.FIRST) + f, min(PAIR, slot(words, Stream.END) - j)
        if slot(words, Stream.ORDER) == ROWS_STREAM:
            return j, across, first, high
        return first, high, j, across

    return part
