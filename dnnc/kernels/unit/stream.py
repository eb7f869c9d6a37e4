"""The loops over what streams by in a product on the matrix unit.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.unit.places import (
    COLUMNS_STREAM,
    Stream,
    build_chunk,
    build_place,
    build_steps,
)
from dnnc.kernels.unit.sizes import (
    CHUNK,
    CHUNK_BYTES,
    DELIVERED,
    FETCHED,
    LINE,
    PAIR,
    PART,
    RING,
    RING_APART,
    SIDE,
    piece_bytes,
)
from dnnc.kernels.unit.sums import build_announce, build_deliver, build_straight, build_sums

__all__ = ["build_stream"]


def build_stream() -> Callable[[int, int, int], None]:
    """`f(args, words, start)`: multiply what is fixed by all that streams by, from `start` on."""
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import subroutine

    place_of, put = subroutine(build_place(), returns=1), store("i64")
    begin, multiply = subroutine(_build_begin()), subroutine(_build_multiply())
    straight = subroutine(build_straight(), returns=1)

    def stream(args: int, words: int, start: int) -> None:
        chunks = (slot(words, Stream.DEPTH) + CHUNK - 1) // CHUNK
        ring, split = slot(args, slots.ROWS), slot(args, slots.PIECES)
        # With more than a pair that is fixed, the ring holds what all of it is multiplied by.
        whole = split or slot(words, Stream.COUNT) <= PAIR
        turns = 1 if whole else (chunks + PART - 1) // PART
        most, moving = (chunks + turns - 1) // turns, ring
        if not split:
            begin(args, words, start)
        for j in range(start, slot(words, Stream.END), PAIR):
            if split:
                moving = place_of(args, words, j)
            put(words, Stream.STRAIGHT, straight(args, words, j))
            for q in range(0, chunks, most):
                some = min(most, chunks - q)
                multiply(args, words, j, q, some, moving)
                if not split:
                    moving = ring + (moving - ring + some * CHUNK_BYTES) % RING

    return stream


def _build_begin() -> Callable[[int, int, int], None]:
    """`f(args, words, start)`: split the first chunk of what streams by."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.split import split_columns, split_rows

    chunk_of = subroutine(build_chunk(), returns=1)
    steps_of = subroutine(build_steps(), returns=2)

    def begin(args: int, words: int, start: int) -> None:
        row, tile = steps_of(args, words)
        to, at = slot(args, slots.ROWS), chunk_of(args, words, start, 0)
        for _ in range(2):
            if slot(words, Stream.ORDER) != COLUMNS_STREAM:
                split_rows(to, at, row, LINE, SIDE, 1, 0, min(slot(words, Stream.DEPTH), CHUNK))
            else:
                split_columns(to, RING_APART, at, row, CHUNK, SIDE)
            to, at = to + RING_APART, at + tile

    return begin


def _build_multiply() -> Callable[..., None]:
    """`f(args, words, j, q, some, moving)`: multiply what is fixed by `some` chunks, from chunk q
    on, of what streams by from `j` on: their pieces are `moving`. The sums of the last ones are
    delivered, where they do not go straight to the output."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.tiles import build_multiply_tiles

    lead, sums_of = subroutine(_build_lead()), subroutine(build_sums(), returns=2)
    announce, deliver = subroutine(build_announce(), returns=1), subroutine(build_deliver())
    multiply_tiles, bytes_of = shared(build_multiply_tiles), subroutine(piece_bytes, returns=1)
    size = 4

    def multiply(args: int, words: int, j: int, q: int, some: int, moving: int) -> None:
        count, apart = slot(words, Stream.COUNT), slot(words, Stream.APART)
        ring_end, split = slot(args, slots.ROWS) + RING, slot(args, slots.PIECES)
        moving_apart = bytes_of(slot(args, slots.K)) if split else RING_APART
        width = min(PAIR, slot(words, Stream.END) - j) if split else PAIR
        last = (q + some) * CHUNK >= slot(words, Stream.DEPTH)
        order, ends = slot(words, Stream.ORDER), last and slot(args, slots.EPILOGUE)
        a, (c, c_row) = slot(args, slots.PANELS) + q * CHUNK_BYTES, sums_of(args, words, j, 0)
        c_step = PAIR * c_row if order == COLUMNS_STREAM else PAIR * size
        for r in range(0, count, DELIVERED):
            rows, lines = min(DELIVERED, count - r), slot(args, slots.LINES) + 8
            listed = announce(args, words, j, r, rows) if ends else 0
            for f in range(r, r + rows, PAIR):
                left = r + rows - f
                if f == 0 and not split:
                    lead(args, words, j, q, some, moving, lines, listed)
                elif order != COLUMNS_STREAM:
                    multiply_tiles(
                        some, moving, moving_apart, PAIR, a, apart, left, ring_end, RING, c, c_row,
                        q, lines, listed,
                    )  # fmt: skip
                else:
                    multiply_tiles(
                        some, a, apart, left, moving, moving_apart, width, ring_end, RING, c, c_row,
                        q, lines, listed,
                    )  # fmt: skip
                a, c = a + 2 * apart, c + c_step
                lines, listed = lines + 8 * FETCHED * some, listed - FETCHED * some
            if last and not slot(words, Stream.STRAIGHT):
                deliver(args, words, j, r, rows)

    return multiply


def _build_lead() -> Callable[..., None]:
    """`f(args, words, j, q, some, moving, lines, listed)`: multiply the first pair of what is fixed
    by chunks of what streams by, which are split meanwhile: all but the first, and the one that
    follows them."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.split import Split
    from dnnc.kernels.unit.tiles import multiply_splitting

    place_of, chunk_of = (subroutine(build(), returns=1) for build in (build_place, build_chunk))
    steps_of, sums_of = (subroutine(build(), returns=2) for build in (build_steps, build_sums))
    by_columns, by_rows = multiply_splitting(Split.COLUMNS), multiply_splitting(Split.ROWS)
    size = 4

    def lead(
        args: int, words: int, j: int, q: int, some: int, moving: int, lines: int, listed: int
    ) -> None:
        row, tile = steps_of(args, words)
        c, c_row = sums_of(args, words, j, 0)
        a, apart = slot(args, slots.PANELS) + q * CHUNK_BYTES, slot(words, Stream.APART)
        ring_end, depth = slot(args, slots.ROWS) + RING, slot(words, Stream.DEPTH)
        done, then, following = (q + 1) * CHUNK, (q + some) * CHUNK, j
        if then >= depth:
            # Behind the last ones, any will do: they are split once more.
            then, following = 0, j + PAIR if j + PAIR < slot(words, Stream.END) else j
        source, after = place_of(args, words, j), chunk_of(args, words, following, then)
        if slot(words, Stream.ORDER) != COLUMNS_STREAM:
            by_rows(
                some, moving, RING_APART, a, apart, ring_end, RING, c, c_row, q, lines, listed,
                source + done * size, row, tile, depth - done, after, depth - then,
            )  # fmt: skip
        else:
            by_columns(
                some, a, apart, moving, RING_APART, ring_end, RING, c, c_row, q, lines, listed,
                source + done * row, row, tile, depth - done, after, depth - then,
            )  # fmt: skip

    return lead
