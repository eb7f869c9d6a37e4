"""Matrix products on the matrix unit.

Both operands are split into pieces. Those of the fixed operand stay in the second-level cache: rows
of A, or columns of B. The other one streams by, 32 columns or rows at a time, which are split while
they are multiplied and need not leave the first-level cache: a few chunks of the depth at a time
where the fixed operand is more than one pair of tiles. Sums over long depths are taken in blocks,
which are added up in the output. Blocks of the depth depend on the sizes and the cache, and a sum
is taken in the same order in tiles of any size, so an element has the same bits for any number of
threads.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.unit.operands import build_put_columns, build_put_rows
from dnnc.kernels.unit.places import COLUMNS_STREAM, ROWS_STREAM, Stream, build_order
from dnnc.kernels.unit.sizes import (
    CHUNK,
    DELIVERED,
    MOST_FIXED,
    PAIR,
    SIDE,
    longest_sum,
    piece_bytes,
)
from dnnc.kernels.unit.stream import build_stream
from dnnc.ops.packed import FEWEST_ROWS

__all__ = ["build_favours_unit", "may_favour_unit", "unit_kernel"]

#: An estimate of the cycles more that a line takes which two threads store to.
_SHARED_LINE = 200


def build_favours_unit() -> Callable[..., int]:
    """`f(m, n, k, flip_a, flip_b, pieces)`: whether a product is faster on the unit, by
    estimates in processor cycles; with `pieces` B is split already."""
    from dnnc.kernels.subroutine import subroutine

    return _favours(subroutine(build_order(), returns=1))


def may_favour_unit(m: int, n: int, k: int, *layout: int) -> bool:
    """As `build_favours_unit`, when compiling."""
    return bool(_favours(build_order())(m, n, k, *layout))


def _favours(order_of: Callable[..., int]) -> Callable[..., int]:
    def favours(m: int, n: int, k: int, flip_a: int, flip_b: int, pieces: int) -> int:
        tall, wide = (m + SIDE - 1) // SIDE * SIDE, (n + SIDE - 1) // SIDE * SIDE
        deep = (k + CHUNK - 1) // CHUNK * CHUNK
        rows_stream = order_of(m, n, k, flip_a, flip_b, pieces) == ROWS_STREAM
        fixed, streaming = (n, m) if rows_stream else (m, n)
        if m < FEWEST_ROWS if pieces else k < CHUNK or streaming < PAIR:
            return 0
        # What streams by is split while the unit works.
        split = fixed * deep + (0 if pieces else streaming // 2 * deep)
        return 1 if tall * wide * deep // 64 + split < m * n * k // 24 else 0

    return favours


def unit_kernel() -> Kernel:
    """The kernel; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("unit_product", _build, unrolled=False)


def _build() -> Callable[[int, int, int], int]:
    """Each thread's part of the output is cut along rows or columns, whichever takes less time."""
    from dnnc.kernels.intrinsics import share, slot, store
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.tiles import configure, release

    region, put = subroutine(_build_region()), store("i64")
    order_of, along_columns = (
        subroutine(f, returns=1) for f in (build_order(), _build_along_columns())
    )

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        flips = slot(args, slots.FLIP_A), slot(args, slots.FLIP_B)
        words, order = slot(args, slots.WORDS), order_of(m, n, k, *flips, slot(args, slots.PIECES))
        columns = along_columns(args, order, threads)
        step = SIDE if order != ROWS_STREAM and not columns else PAIR
        each = ((n if columns else m) + step - 1) // step
        start, stop = share(slot(args, slots.BATCH) * each, 1, tid, threads)
        put(words, Stream.ORDER, order)
        configure()
        while start < stop:
            matrix = start // each
            first = (start - matrix * each) * step
            last = min(stop - matrix * each, each) * step
            put(words, Stream.MATRIX, matrix)
            if columns == (order == ROWS_STREAM):
                region(args, words, first, min(last, n if columns else m), 0, m if columns else n)
            else:
                region(args, words, 0, m if columns else n, first, min(last, n if columns else m))
            start = matrix * each + last // step
        release()
        return 0

    return kernel


def _build_along_columns() -> Callable[[int, int, int], int]:
    """`f(args, order, threads)`: whether threads share columns rather than rows, by estimates in
    processor cycles: the other operand is split by every thread."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    bytes_of = subroutine(piece_bytes, returns=1)

    def along_columns(args: int, order: int, threads: int) -> int:
        batch, m, n = slot(args, slots.BATCH), slot(args, slots.M), slot(args, slots.N)
        k = slot(args, slots.K)
        if slot(args, slots.PIECES):
            # Where pieces of B stay in the cache all may read them: rows of A and of the result are
            # one thread's then, from one product of a network to the next.
            pieces = 2 * ((n + PAIR - 1) // PAIR) * bytes_of(k)
            near = pieces <= slot(args, slots.GROUP)
            return 1 if n >= m and not (near and m > SIDE * (threads - 1)) else 0
        step = PAIR if order == ROWS_STREAM else SIDE
        tall, wide = (m + step - 1) // step, (n + PAIR - 1) // PAIR
        most_tall = (batch * tall + threads - 1) // threads * step
        most_wide = (batch * wide + threads - 1) // threads * PAIR
        # Each thread has so many matrices. What streams by is split while the unit works.
        matrices = (batch + threads - 1) // threads
        of_rows, of_columns = (k // 2, k) if order == ROWS_STREAM else (k, k // 2)
        by_columns = most_wide * (m * k // 64 + of_columns) + matrices * m * of_rows
        by_rows = most_tall * (n * k // 64 + of_rows) + matrices * n * of_columns
        if n % SIDE:
            # Lines that hold the end of one part and the beginning of another.
            by_columns += matrices * m * _SHARED_LINE
        return 1 if by_columns <= by_rows else 0

    return along_columns


def _build_region() -> Callable[[int, int, int, int, int, int], None]:
    """`f(args, words, first, stop, start, end)`: the loops over one rectangle of the output: what
    is fixed from `first` to `stop`, and what streams by from `start` to `end`."""
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import subroutine

    longest_of = subroutine(longest_sum, returns=1)
    bytes_of, put = subroutine(piece_bytes, returns=1), store("i64")
    put_rows, put_columns = subroutine(build_put_rows()), subroutine(build_put_columns())
    stream = subroutine(build_stream())

    def region(args: int, words: int, first: int, stop: int, start: int, end: int) -> None:
        k, group = slot(args, slots.K), slot(args, slots.GROUP)
        m, n, split = slot(args, slots.M), slot(args, slots.N), slot(args, slots.PIECES)
        longest = longest_of(m, n, group, split)
        blocks = (k + longest - 1) // longest
        block = ((k + blocks - 1) // blocks + CHUNK - 1) // CHUNK * CHUNK
        # Half as many bytes more than a group has, since what streams by takes little.
        most = max((group + group // 2) // (2 * bytes_of(block)), 1) * PAIR
        parts = (stop - first + min(most, MOST_FIXED) - 1) // min(most, MOST_FIXED)
        even = ((stop - first + parts - 1) // parts + PAIR - 1) // PAIR * PAIR
        # What is split already stays in the cache, and what is fixed is so for a short time.
        across, count = most if split else end - start, min(DELIVERED, even) if split else even
        put(words, Stream.APART, bytes_of(block))
        for g in range(start, end, across):
            put(words, Stream.END, min(g + across, end))
            for k0 in range(0, k, block):
                put(words, Stream.K0, k0)
                put(words, Stream.DEPTH, min(block, k - k0))
                for f in range(first, stop, count):
                    put(words, Stream.FIRST, f)
                    put(words, Stream.COUNT, min(count, stop - f))
                    if slot(words, Stream.ORDER) == COLUMNS_STREAM:
                        put_rows(args, words)
                    else:
                        put_columns(args, words)
                    stream(args, words, g)

    return region
