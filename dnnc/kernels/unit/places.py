"""What streams by in a product on the matrix unit, and where it lies.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from dnnc.kernels.product import slots
from dnnc.kernels.unit.sizes import CHUNK, LINE, PAIR, SIDE, piece_bytes

__all__ = [
    "COLUMNS_STREAM",
    "ROWS_STREAM",
    "TURNED_STREAM",
    "Stream",
    "build_chunk",
    "build_order",
    "build_place",
    "build_start",
    "build_steps",
]


#: Orders: columns of B stream by rows of A, rows of A by columns of B, or columns of B that are
#: stored as rows by rows of A; that is computed as rows of B by columns of A, so that the sums are
#: those of the output turned.
COLUMNS_STREAM, ROWS_STREAM, TURNED_STREAM = range(3)


class Stream(IntEnum):
    """Words that describe a stream; they stand in the place of those of a strip.

    COUNT rows or columns of one MATRIX of the batch are fixed, from the FIRST on, at a DEPTH that
    begins at K0; the pieces of 16 are APART bytes from those before. What streams by, in one of the
    orders, ends at END. Sums by what streams by now go to the output at once if it is STRAIGHT.
    """

    MATRIX = 0
    ORDER = 1
    FIRST = 2
    COUNT = 3
    END = 4
    K0 = 5
    DEPTH = 6
    APART = 7
    STRAIGHT = 8
    WORDS = 9


def build_order() -> Callable[[int, int, int, int, int, int], int]:
    """`f(m, n, k, flip_a, flip_b, pieces)`: what streams by, the more numerous if nothing else
    decides: what is fixed is split first."""

    def order(m: int, n: int, k: int, flip_a: int, flip_b: int, pieces: int) -> int:
        # Rows of A cannot stream where they are stored as columns, and pieces do as they are.
        if flip_a or pieces:
            return TURNED_STREAM if flip_b else COLUMNS_STREAM
        # Both A and the result are transposed instead of B.
        if flip_b and m * (n + k) < n * k:
            return TURNED_STREAM
        return ROWS_STREAM if flip_b or m >= n else COLUMNS_STREAM

    return order


def build_start() -> Callable[[int, int, int], int]:
    """`f(args, words, j)`: the first of the 32 rows or columns that stream by and hold the `j`th:
    the last ones in the matrix where fewer would follow, for which pieces have zeros."""
    from dnnc.kernels.intrinsics import slot

    def start(args: int, words: int, j: int) -> int:
        if slot(args, slots.PIECES):
            return j
        count: int = slot(args, slots.N)
        if slot(words, Stream.ORDER) == ROWS_STREAM:
            count = slot(args, slots.M)
        return min(j, count - PAIR)

    return start


def build_place() -> Callable[[int, int, int], int]:
    """`f(args, words, j)`: where the numbers of rows or columns that stream by begin, see
    `build_start`; or their pieces."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    start_of, bytes_of = subroutine(build_start(), returns=1), subroutine(piece_bytes, returns=1)
    size = 4

    def place(args: int, words: int, j: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        k0, matrix = slot(words, Stream.K0), slot(words, Stream.MATRIX)
        order, first = slot(words, Stream.ORDER), start_of(args, words, j)
        at: int = slot(args, slots.A if order == ROWS_STREAM else slots.B)
        if order != COLUMNS_STREAM:
            at += ((matrix * (m if order == ROWS_STREAM else n) + first) * k + k0) * size
        elif slot(args, slots.PIECES):
            # They follow the panels.
            at += (n + SIDE - 1) // SIDE * k * LINE
            at += first // SIDE * bytes_of(k) + bytes_of(k0)
        else:
            at += ((matrix * k + k0) * n + first) * size
        return at

    return place


def build_steps() -> Callable[[int, int], tuple[int, int]]:
    """`f(args, words)`: bytes between rows of what streams by, and between tiles."""
    from dnnc.kernels.intrinsics import slot

    size = 4

    def steps(args: int, words: int) -> tuple[int, int]:
        along = slot(args, slots.K) * size
        if slot(words, Stream.ORDER) != COLUMNS_STREAM:
            return along, SIDE * along
        return slot(args, slots.N) * size, LINE

    return steps


def build_chunk() -> Callable[[int, int, int, int], int]:
    """`f(args, words, j, done)`: where the numbers of a chunk begin, `done` steps behind the first
    one. Of columns the last chunk is one of the last rows: see `Split.COLUMNS`."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    place_of, steps_of = subroutine(build_place(), returns=1), subroutine(build_steps(), returns=2)
    size = 4

    def chunk(args: int, words: int, j: int, done: int) -> int:
        at: int = place_of(args, words, j)
        row, _ = steps_of(args, words)
        if slot(words, Stream.ORDER) != COLUMNS_STREAM:
            at += done * size
        else:
            at += min(done, slot(words, Stream.DEPTH) - CHUNK) * row
        return at

    return chunk
