"""Operands of products on the matrix unit as pieces.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.unit.places import TURNED_STREAM, Stream
from dnnc.kernels.unit.sizes import (
    CHUNK,
    CHUNK_BYTES,
    DELIVERED,
    SIDE,
    TURNED_PLACE,
    TURNED_ROW,
    piece_bytes,
)

__all__ = ["build_put_columns", "build_put_rows", "build_split_strip"]


def build_put_rows() -> Callable[[int, int], None]:
    """`f(args, words)`: split the rows of A that are fixed."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    put, bytes_of = subroutine(_build_put_chunks()), subroutine(piece_bytes, returns=1)

    def put_rows(args: int, words: int) -> None:
        depth = slot(words, Stream.DEPTH)
        whole = depth // CHUNK * CHUNK
        to, left = slot(args, slots.PANELS) + bytes_of(whole), depth - whole
        if whole:
            put(args, words, 0, whole // CHUNK, slot(args, slots.PANELS), 0, CHUNK)
        # A chunk that is not whole: zeros stand where they stand, or what counts no more, in what
        # streams by: behind in pieces of a packed matrix, and else before (see `Split.COLUMNS`).
        if left and slot(args, slots.PIECES):
            put(args, words, whole, 1, to, 0, left)
        elif left:
            put(args, words, depth - CHUNK, 1, to, CHUNK - left, CHUNK)

    return put_rows


def _build_put_chunks() -> Callable[..., None]:
    """`f(args, words, q, chunks, to, first, stop)`: split chunks of the rows of A that are fixed,
    from step q of the depth on; see `split_rows`."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.split import split_rows

    transpose, size = shared(build_transpose, 4), 4

    @subroutine
    def put_turned(
        args: int, to: int, apart: int, at: int, rows: int, first: int, stop: int
    ) -> None:
        """One chunk of rows that are stored as columns."""
        turned, stride = slot(args, slots.ROWS) + TURNED_PLACE, slot(args, slots.M) * size
        for r in range(0, rows, DELIVERED):
            transpose(turned, TURNED_ROW, at + r * size, stride, CHUNK, min(DELIVERED, rows - r))
            for s in range(0, min(DELIVERED, rows - r), SIDE):
                some, source = min(SIDE, rows - r - s), turned + s * TURNED_ROW
                split_rows(to, source, TURNED_ROW, 4 * SIDE, some, 1, first, stop)
                to += apart

    def put_chunks(
        args: int, words: int, q: int, chunks: int, to: int, first: int, stop: int
    ) -> None:
        m, k, k0 = slot(args, slots.M), slot(args, slots.K), slot(words, Stream.K0) + q
        i, rows, apart = (
            slot(words, Stream.FIRST), slot(words, Stream.COUNT), slot(words, Stream.APART),
        )  # fmt: skip
        a = slot(args, slots.A) + slot(words, Stream.MATRIX) * m * k * size
        if slot(args, slots.FLIP_A):
            for done in range(0, chunks * CHUNK, CHUNK):
                at = a + ((k0 + done) * m + i) * size
                put_turned(args, to, apart, at, rows, first, stop)
                to += CHUNK_BYTES
            return
        for r in range(0, rows, SIDE):
            at, some = a + ((i + r) * k + k0) * size, min(SIDE, rows - r)
            split_rows(to, at, k * size, 4 * SIDE, some, chunks, first, stop)
            to += apart

    return put_chunks


def build_put_columns() -> Callable[[int, int], None]:
    """`f(args, words)`: split the columns of B that are fixed, or rows of A in their place."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared
    from dnnc.kernels.unit.split import split_columns

    transpose, size, panel = shared(build_transpose, 4), 4, 4 * SIDE

    def put_columns(args: int, words: int) -> None:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        first, count, apart = (
            slot(words, Stream.FIRST), slot(words, Stream.COUNT), slot(words, Stream.APART),
        )  # fmt: skip
        k0, depth = slot(words, Stream.K0), slot(words, Stream.DEPTH)
        to, base = slot(args, slots.PANELS), slot(args, slots.B)
        flip, others = slot(args, slots.FLIP_B), n
        if slot(words, Stream.ORDER) == TURNED_STREAM:
            base, flip, others = slot(args, slots.A), 1 - slot(args, slots.FLIP_A), m
        base += slot(words, Stream.MATRIX) * k * others * size
        if not flip:
            base += (k0 * others + first) * size
            split_columns(to, apart, base, others * size, depth, count)
            return
        turned = slot(args, slots.ROWS) + TURNED_PLACE
        for j in range(first, first + count, SIDE):
            some, part = min(SIDE, first + count - j), to
            for q in range(0, depth, CHUNK):
                deep, at = min(CHUNK, depth - q), base + (j * k + k0 + q) * size
                transpose(turned, panel, at, k * size, some, deep)
                split_columns(part, apart, turned, panel, deep, some)
                part += CHUNK_BYTES
            to += apart

    return put_columns


def build_split_strip() -> Callable[..., None]:
    """`f(to, source, source_row, source_part, rows, depth)`: at most 16 rows, split as by
    `split_rows`; zeros stand behind the depth."""
    from dnnc.kernels.unit.split import split_rows

    def split_strip(
        to: int, source: int, source_row: int, source_part: int, rows: int, depth: int
    ) -> None:
        whole = depth // CHUNK
        if whole:
            split_rows(to, source, source_row, source_part, rows, whole, 0, CHUNK)
        if depth > whole * CHUNK:
            to, source = to + whole * CHUNK_BYTES, source + 2 * whole * source_part
            split_rows(to, source, source_row, source_part, rows, 1, 0, depth - whole * CHUNK)

    return split_strip
