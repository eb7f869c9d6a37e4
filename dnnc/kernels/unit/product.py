"""Matrix products on the matrix unit.

Both operands are split into pieces: groups of columns of B that stay in the second-level cache, and
blocks of rows of A that pass by each group. Sums over long depths are taken in blocks, which are
added up in the output. Blocks of the depth depend on the sizes alone, and a sum is taken in the
same order in tiles of any size, so an element has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.unit.sizes import CHUNK, CHUNK_BYTES, FETCHED, SIDE

__all__ = [
    "PAIR",
    "build_favours_unit",
    "build_multiply_tiles",
    "column_room",
    "most_pairs",
    "piece_bytes",
    "row_room",
    "unit_kernel",
]

#: Rows and columns of the largest product of tiles.
PAIR = 2 * SIDE
#: Bytes from one row to the next of what is turned, 32 steps of the depth at a time, so that it
#: stays in the first-level cache: rows do not share sets of it.
_TURNED_ROW = 4 * CHUNK + 64


def piece_bytes(depth: int) -> int:
    """Bytes of the pieces of 16 rows or columns."""
    return (depth + CHUNK - 1) // CHUNK * CHUNK_BYTES


def most_pairs(group: int, panel: int) -> int:
    """Pairs of panels, of so many bytes each, that are multiplied by at a time: half as many bytes
    more than a group has, since blocks of A take little."""
    return max((group + group // 2) // (2 * panel), 1)


def column_room(group: int, columns: int | None, depth: int) -> int:
    """Bytes for the pieces of a group of so many columns, or any number, of at most that depth.

    Less deep ones may be more columns in as many bytes.
    """
    pair = 2 * piece_bytes(depth)
    most = group + group // 2
    if columns is not None:
        most = min(most, (columns + PAIR - 1) // PAIR * pair)
    return max(most, pair)


def row_room(rows: int, depth: int) -> int:
    """Bytes for the pieces of a block of so many rows, and for what is turned before."""
    return (rows + SIDE - 1) // SIDE * piece_bytes(depth) + rows * _TURNED_ROW


def build_favours_unit() -> Callable[[int, int, int, int], int]:
    """`f(m, n, k, pieces)`: whether a product is faster on the unit, by estimates in processor
    cycles; with `pieces` B is split already. It never is without a depth."""

    def favours(m: int, n: int, k: int, pieces: int) -> int:
        tall, wide = (m + SIDE - 1) // SIDE * SIDE, (n + SIDE - 1) // SIDE * SIDE
        deep = (k + CHUNK - 1) // CHUNK * CHUNK
        unit = tall * wide * deep // 64 + (m if pieces else m + n) * deep
        return 1 if unit < m * n * k // 24 else 0

    return favours


def unit_kernel() -> Kernel:
    """The kernel; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("unit_product", _build, unrolled=False)


def _build() -> Callable[[int, int, int], int]:
    """Each thread's part of the output is cut along rows or columns, whichever are more, since the
    other operand is split by every thread; or along rows, if B is split already and small."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.tiles import configure, release

    region, bytes_of = subroutine(_build_region()), subroutine(piece_bytes, returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n = slot(args, slots.M), slot(args, slots.N)
        strips, pairs = (m + SIDE - 1) // SIDE, (n + PAIR - 1) // PAIR
        # Rows of A and of the result then are one thread's, from one product of a network to the
        # next; pieces of B that stay in the cache may be read by all.
        pieces = 2 * pairs * bytes_of(slot(args, slots.K))
        near = slot(args, slots.PIECES) and pieces <= slot(args, slots.GROUP)
        columns = n >= m and not (near and strips >= threads)
        each, step = (pairs, PAIR) if columns else (strips, SIDE)
        start, stop = share(slot(args, slots.BATCH) * each, 1, tid, threads)
        configure()
        while start < stop:
            matrix = start // each
            first, last = start - matrix * each, min(stop - matrix * each, each)
            if columns:
                region(args, matrix, 0, m, first * step, min(last * step, n))
            else:
                region(args, matrix, first * step, min(last * step, m), 0, n)
            start = matrix * each + last
        release()
        return 0

    return kernel


def _build_region() -> Callable[..., None]:
    """The loops over one rectangle of the output."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    bytes_of = subroutine(piece_bytes, returns=1)
    pairs_of = subroutine(most_pairs, returns=1)
    put_columns = subroutine(_build_put_columns())
    multiply = subroutine(_build_multiply())

    def region(args: int, matrix: int, row: int, stop: int, left: int, right: int) -> None:
        k, block_rows = slot(args, slots.K), slot(args, slots.BLOCK)
        blocks = (k + slots.DEPTH - 1) // slots.DEPTH
        block = ((k + blocks - 1) // blocks + CHUNK - 1) // CHUNK * CHUNK
        apart = bytes_of(block)
        group = pairs_of(slot(args, slots.GROUP), apart) * PAIR
        for g in range(left, right, group):
            columns = min(group, right - g)
            for k0 in range(0, k, block):
                depth = min(block, k - k0)
                b, b_apart = slot(args, slots.PANELS), apart
                if slot(args, slots.PIECES):
                    n, b_apart = slot(args, slots.N), bytes_of(k)
                    b = slot(args, slots.B) + (n + SIDE - 1) // SIDE * k * 4 * SIDE
                    b += g // SIDE * b_apart + bytes_of(k0)
                else:
                    put_columns(args, matrix, g, columns, k0, depth, apart)
                for i in range(row, stop, block_rows):
                    rows = min(block_rows, stop - i)
                    multiply(args, matrix, i, rows, g, columns, k0, depth, apart, b, b_apart)

    return region


def _build_put_columns() -> Callable[..., None]:
    """`f(args, matrix, first, columns, k0, depth, apart)`: split columns of B."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.split import split_columns

    transpose, size, panel = shared(build_transpose, 4), 4, 4 * SIDE
    bytes_of = subroutine(piece_bytes, returns=1)

    def put_columns(
        args: int, matrix: int, first: int, columns: int, k0: int, depth: int, apart: int
    ) -> None:
        n, k, to = slot(args, slots.N), slot(args, slots.K), slot(args, slots.PANELS)
        b = slot(args, slots.B) + matrix * k * n * size
        if not slot(args, slots.FLIP_B) and not slot(args, slots.WIDTH):
            split_columns(to, apart, b + (k0 * n + first) * size, n * size, depth, columns)
            return
        turned = slot(args, slots.ROWS) + slot(args, slots.BLOCK) // SIDE * apart
        for j in range(first, first + columns, SIDE):
            some = min(SIDE, first + columns - j)
            if slot(args, slots.WIDTH):
                split_columns(to, apart, b + (j * k + k0 * SIDE) * size, panel, depth, some)
            else:
                for q in range(0, depth, CHUNK):
                    deep, at = min(CHUNK, depth - q), b + (j * k + k0 + q) * size
                    transpose(turned, panel, at, k * size, some, deep)
                    split_columns(to + bytes_of(q), apart, turned, panel, deep, some)
            to += apart

    return put_columns


def _build_put_rows() -> Callable[..., None]:
    """`f(args, matrix, i, rows, k0, depth, apart)`: split a block of rows of A."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.split import split_rows

    transpose, size = shared(build_transpose, 4), 4
    bytes_of = subroutine(piece_bytes, returns=1)

    @subroutine
    def put(to: int, apart: int, at: int, stride: int, rows: int, depth: int) -> None:
        for r in range(0, rows, SIDE):
            split_rows(to, at, stride, 4 * SIDE, min(SIDE, rows - r), depth)
            to, at = to + apart, at + SIDE * stride

    def put_rows(
        args: int, matrix: int, i: int, rows: int, k0: int, depth: int, apart: int
    ) -> None:
        m, k, to = slot(args, slots.M), slot(args, slots.K), slot(args, slots.ROWS)
        a = slot(args, slots.A) + matrix * m * k * size
        turned = to + slot(args, slots.BLOCK) // SIDE * apart
        if not slot(args, slots.FLIP_A):
            put(to, apart, a + (i * k + k0) * size, k * size, rows, depth)
            return
        for q in range(0, depth, CHUNK):
            deep, at = min(CHUNK, depth - q), a + ((k0 + q) * m + i) * size
            transpose(turned, _TURNED_ROW, at, m * size, deep, rows)
            put(to + bytes_of(q), apart, turned, _TURNED_ROW, rows, deep)

    return put_rows


def _build_multiply() -> Callable[..., None]:
    """One block of rows by the columns of a group."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.product.strips import Strip
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.tiles import add_rows

    finish, announce = shared(build_finish), shared(build_finish, True)
    put_rows, put = subroutine(_build_put_rows()), store("i64")
    multiply_tiles, size = shared(build_multiply_tiles), 4

    def multiply(
        args: int, matrix: int, i: int, rows: int, g: int, columns: int, k0: int, depth: int,
        apart: int, b: int, b_apart: int,
    ) -> None:  # fmt: skip
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        own, lines = args + 8 * slots.SLOTS, slot(args, slots.LINES)
        words = slot(args, slots.WORDS) + 8 * Strip.WORDS
        code = slot(args, slots.EPILOGUE) if k0 + depth == k else 0
        # What an epilogue reads and writes beyond the second-level cache is fetched meanwhile. The
        # next rows of A and results without an epilogue, too, would cost more than they gain.
        far = slot(args, slots.BATCH) * m * (n + k) * size > slot(args, slots.GROUP)
        put_rows(args, matrix, i, rows, k0, depth, apart)
        a, chunks = slot(args, slots.ROWS), (depth + CHUNK - 1) // CHUNK
        wide = PAIR if rows > SIDE else 2 * PAIR
        sums, row = slot(args, slots.TILE), wide * size
        for j in range(g, g + columns, wide):
            some = min(wide, g + columns - j)
            c, c_row = sums, row
            if slot(args, slots.OUT):
                c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
            put(lines, 0, 0)
            if code and far:
                announce(code, own, words, lines, 0, rows, some, matrix, i, j, 1)
            multiply_tiles(
                a, apart, rows, b, b_apart, some, chunks, sums, row, lines + 8, slot(lines, 0)
            )
            b += wide // SIDE * b_apart
            if slot(args, slots.OUT):
                for first in range(0, some, PAIR):
                    part, most = first * size, min(some - first, PAIR)
                    add_rows(c + part, c_row, sums + part, row, rows, most, k0)
            if code:
                finish(code, own, words, c, c_row, rows, some, matrix, i, j, 1)

    return multiply


def build_multiply_tiles() -> Callable[..., None]:
    """`f(a, a_apart, rows, b, b_apart, columns, chunks, c, c_row, lines, count)`: rows of A by at
    most two panels of B, or four where there is one strip of rows; whole tiles are stored.

    The cache lines at `count` addresses of a table at `lines` are fetched meanwhile.
    """
    from dnnc.kernels.unit.tiles import multiply_pieces

    square, high = multiply_pieces(2, 2), multiply_pieces(2, 1)
    four, two, one = (multiply_pieces(1, columns) for columns in (4, 2, 1))

    def multiply_tiles(
        a: int, a_apart: int, rows: int, b: int, b_apart: int, columns: int, chunks: int, c: int,
        c_row: int, lines: int, count: int,
    ) -> None:  # fmt: skip
        for r in range(0, rows, PAIR):
            if rows - r > SIDE:
                if columns > SIDE:
                    square(chunks, a, a_apart, b, b_apart, c, c_row, lines, count)
                else:
                    high(chunks, a, a_apart, b, b_apart, c, c_row, lines, count)
            elif columns > 3 * SIDE:
                four(chunks, a, a_apart, b, b_apart, c, c_row, lines, count)
            else:
                if columns > SIDE:
                    two(chunks, a, a_apart, b, b_apart, c, c_row, lines, count)
                if columns <= SIDE or columns > PAIR:
                    done = columns // PAIR
                    right = c + done * 4 * PAIR
                    one(chunks, a, a_apart, b + 2 * done * b_apart, b_apart, right, c_row, 0, 0)
            a, c = a + 2 * a_apart, c + PAIR * c_row
            lines, count = lines + 8 * FETCHED * chunks, count - FETCHED * chunks

    return multiply_tiles
