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

__all__ = ["build_favours_unit", "most_pairs", "piece_bytes", "row_room", "unit_kernel"]

#: Sizes of a tile: rows, columns, and steps of the depth; and bytes of its three pieces.
_SIDE, _CHUNK, _CHUNK_BYTES = 16, 32, 3072
#: Rows and columns of the largest product of tiles.
_PAIR = 32


def piece_bytes(depth: int) -> int:
    """Bytes of the pieces of 16 rows or columns."""
    return (depth + _CHUNK - 1) // _CHUNK * _CHUNK_BYTES


def most_pairs(group: int, panel: int) -> int:
    """Pairs of panels, of so many bytes each, that are multiplied by at a time: half as many bytes
    more than a group has, since blocks of A take little."""
    return max((group + group // 2) // (2 * panel), 1)


def row_room(rows: int, depth: int) -> int:
    """Bytes for the pieces of a block of so many rows, and for a part of a matrix that is turned
    before it is split."""
    from dnnc.kernels.product.operands import row_bytes

    block = (rows + _SIDE - 1) // _SIDE * piece_bytes(depth)
    return block + max(rows * row_bytes(depth, 4), depth * 4 * _SIDE)


def build_favours_unit() -> Callable[[int, int, int], int]:
    """`f(m, n, k)`: whether a product is faster on the unit, by estimates in processor cycles."""

    def favours(m: int, n: int, k: int) -> int:
        tall, wide = (m + 15) // 16 * 16, (n + 15) // 16 * 16
        deep = (k + 31) // 32 * 32
        unit = tall * wide * deep // 64 + (m + n) * deep
        return 1 if unit < m * n * k // 24 else 0

    return favours


def unit_kernel() -> Kernel:
    """The kernel; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("unit_product", _build, unrolled=False)


def _build() -> Callable[[int, int, int], int]:
    """Each thread's part of the output is cut along rows or columns, whichever are more: the other
    operand is split by every thread."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.tiles import configure, release

    region = subroutine(_build_region())

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n = slot(args, slots.M), slot(args, slots.N)
        strips, pairs = (m + _PAIR - 1) // _PAIR, (n + _PAIR - 1) // _PAIR
        columns = n >= m
        each = pairs if columns else strips
        start, stop = share(slot(args, slots.BATCH) * each, 1, tid, threads)
        configure()
        while start < stop:
            matrix = start // each
            first = (start - matrix * each) * _PAIR
            last = min(stop - matrix * each, each) * _PAIR
            if columns:
                region(args, matrix, 0, m, first, min(last, n))
            else:
                region(args, matrix, first, min(last, m), 0, n)
            start = matrix * each + last // _PAIR
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
        block = ((k + blocks - 1) // blocks + _CHUNK - 1) // _CHUNK * _CHUNK
        apart = bytes_of(block)
        group = pairs_of(slot(args, slots.GROUP), apart) * _PAIR
        for g in range(left, right, group):
            columns = min(group, right - g)
            for k0 in range(0, k, block):
                depth = min(block, k - k0)
                put_columns(args, matrix, g, columns, k0, depth, apart)
                for i in range(row, stop, block_rows):
                    rows = min(block_rows, stop - i)
                    multiply(args, matrix, i, rows, g, columns, k0, depth, apart)

    return region


def _build_put_columns() -> Callable[..., None]:
    """`f(args, matrix, first, columns, k0, depth, apart)`: split columns of B."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared
    from dnnc.kernels.unit.split import split_columns

    transpose, size, panel = shared(build_transpose, 4), 4, 4 * _SIDE

    def put_columns(
        args: int, matrix: int, first: int, columns: int, k0: int, depth: int, apart: int
    ) -> None:
        n, k, to = slot(args, slots.N), slot(args, slots.K), slot(args, slots.PANELS)
        b = slot(args, slots.B) + matrix * k * n * size
        if not slot(args, slots.FLIP_B) and not slot(args, slots.WIDTH):
            split_columns(to, apart, b + (k0 * n + first) * size, n * size, depth, columns)
            return
        turned = slot(args, slots.ROWS) + slot(args, slots.BLOCK) // _SIDE * apart
        for j in range(first, first + columns, _SIDE):
            some = min(_SIDE, first + columns - j)
            at = b + (j * k + k0 * _SIDE) * size
            if slot(args, slots.FLIP_B):
                transpose(turned, panel, b + (j * k + k0) * size, k * size, some, depth)
                at = turned
            split_columns(to, apart, at, panel, depth, some)
            to += apart

    return put_columns


def _build_put_rows() -> Callable[..., None]:
    """`f(args, matrix, i, rows, k0, depth, apart)`: split a block of rows of A."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.product.operands import row_bytes
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.split import split_rows

    transpose, size = shared(build_transpose, 4), 4
    bytes_of = subroutine(row_bytes, returns=1)

    def put_rows(
        args: int, matrix: int, i: int, rows: int, k0: int, depth: int, apart: int
    ) -> None:
        m, k, to = slot(args, slots.M), slot(args, slots.K), slot(args, slots.ROWS)
        a = slot(args, slots.A) + matrix * m * k * size
        at, stride = a + (i * k + k0) * size, k * size
        if slot(args, slots.FLIP_A):
            at, stride = to + slot(args, slots.BLOCK) // _SIDE * apart, bytes_of(depth, size)
            transpose(at, stride, a + (k0 * m + i) * size, m * size, depth, rows)
        for r in range(0, rows, _SIDE):
            split_rows(to, at, stride, min(_SIDE, rows - r), depth)
            to, at = to + apart, at + _SIDE * stride

    return put_rows


def _build_multiply() -> Callable[..., None]:
    """One block of rows by the columns of a group."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.product.strips import Strip
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.tiles import add_rows

    finish, put_rows = shared(build_finish), subroutine(_build_put_rows())
    multiply_tiles, size = subroutine(_build_multiply_tiles()), 4

    def multiply(
        args: int, matrix: int, i: int, rows: int, g: int, columns: int, k0: int, depth: int,
        apart: int,
    ) -> None:  # fmt: skip
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
        words = slot(args, slots.WORDS) + 8 * Strip.WORDS
        put_rows(args, matrix, i, rows, k0, depth, apart)
        b, chunks = slot(args, slots.PANELS), (depth + _CHUNK - 1) // _CHUNK
        for j in range(g, g + columns, _PAIR):
            some = min(_PAIR, g + columns - j)
            sums, row = slot(args, slots.TILE), _PAIR * size
            multiply_tiles(slot(args, slots.ROWS), apart, rows, b, some, chunks, sums, row)
            b += 2 * apart
            c, c_row = sums, row
            if slot(args, slots.OUT):
                c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
                add_rows(c, c_row, sums, row, rows, some, k0)
            if code and k0 + depth == k:
                finish(code, own, words, c, c_row, rows, some, matrix, i, j, 1)

    return multiply


def _build_multiply_tiles() -> Callable[..., None]:
    """`f(a, apart, rows, b, columns, chunks, c, c_row)`: rows of A by a pair of panels of B."""
    from dnnc.kernels.unit.tiles import multiply_pieces

    four, two_high, two_wide, one = (
        multiply_pieces(rows, columns) for rows, columns in ((2, 2), (2, 1), (1, 2), (1, 1))
    )

    def multiply_tiles(
        a: int, apart: int, rows: int, b: int, columns: int, chunks: int, c: int, c_row: int
    ) -> None:
        for r in range(0, rows, _PAIR):
            if rows - r > _SIDE:
                if columns > _SIDE:
                    four(chunks, a, apart, b, apart, c, c_row)
                else:
                    two_high(chunks, a, apart, b, apart, c, c_row)
            elif columns > _SIDE:
                two_wide(chunks, a, apart, b, apart, c, c_row)
            else:
                one(chunks, a, apart, b, apart, c, c_row)
            a, c = a + 2 * apart, c + _PAIR * c_row

    return multiply_tiles
