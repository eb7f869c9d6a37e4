"""The driver of matrix products: rectangles of the output for threads, groups of panels, blocks of
rows."""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.product.few_rows import build_few_rows
from dnnc.kernels.product.lines import build_list_lines
from dnnc.kernels.product.operands import (
    build_list_rows,
    build_pack_panels,
    build_rows,
    panel_vectors,
)
from dnnc.kernels.product.orders import FEW_ROWS, build_suits
from dnnc.kernels.product.strips import Strip, build_take
from dnnc.kernels.tiles import Tile

__all__ = ["build_product"]

#: Rows that threads share at a time: as many as the smallest tile has.
_GRAIN = 4
#: Most multiply-adds for a row of the result that take no longer than to fetch a cache line from
#: another thread.
_SHORT = 1 << 14
#: Most rows that read B where it lies: packing would cost more than it gives. Fewer where the rows
#: of B, if they are many, share sets of the cache.
_FEW, _FEWER, _MANY = 128, 32, 256


def build_product(widest: Tile) -> Callable[[int, int, int], int]:
    """Each thread's part of the output is cut along columns, or else along rows."""
    from dnnc.kernels.intrinsics import call_kernel, share, slot
    from dnnc.kernels.subroutine import subroutine

    rectangle = subroutine(_build_rectangle(widest))
    suits, along = (
        subroutine(build(widest), returns=1) for build in (build_suits, _build_along_columns)
    )
    few_rows, lanes, unit = subroutine(build_few_rows(widest)), widest.lanes, panel_vectors(widest)
    vectors_of = subroutine(_build_vectors(widest), returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        batch, m, n = slot(args, slots.BATCH), slot(args, slots.M), slot(args, slots.N)
        if m == 0 or n == 0:
            return 0
        suited = suits(args)
        if suited > FEW_ROWS:
            call_kernel(suited, args, tid, threads)
            return 0
        vectors = (n + lanes - 1) // lanes if suited else vectors_of(args)
        units, strips = (vectors + unit - 1) // unit, (m + _GRAIN - 1) // _GRAIN
        columns = suited or along(args, units, strips, threads)
        each = units if columns else strips
        start, stop = share(batch * each, 1, tid, threads)
        while start < stop:
            matrix = start // each
            first = start - matrix * each
            last = min(stop - matrix * each, each)
            if suited:
                few_rows(args, matrix, first * unit * lanes, min(last * unit * lanes, n))
            elif columns:
                rectangle(args, matrix, 0, m, first * unit, min(last * unit, vectors), vectors)
            else:
                rows_end = min(last * _GRAIN, m)
                rectangle(args, matrix, first * _GRAIN, rows_end, 0, vectors, vectors)
            start = matrix * each + last
        return 0

    return kernel


def _build_along_columns(widest: Tile) -> Callable[[int, int, int, int], int]:
    """`f(args, units, strips, threads)`: whether threads share columns, so many units of each
    product, rather than strips of rows.

    They do unless that is less even. They share rows, if that is as even, where they are many,
    where two threads would share lines of short rows, or where B is packed and stays in the cache:
    rows of A and of the result then are one thread's, from one product of a network to the next.
    """
    from dnnc.kernels.intrinsics import slot

    size = widest.bytes_each

    def along(args: int, units: int, strips: int, threads: int) -> int:
        batch, m, n = slot(args, slots.BATCH), slot(args, slots.M), slot(args, slots.N)
        k = slot(args, slots.K)
        most_units = (batch * units + threads - 1) // threads
        most_strips = (batch * strips + threads - 1) // threads
        if 8 * most_strips * units <= 9 * most_units * strips:
            least = 16 if n * k * size <= slot(args, slots.GROUP) else 64
            # Along rows each thread would transpose all of B.
            enough = m >= slot(args, slots.FLIP_B) * 32 * threads
            shared_lines = n * size % 64 and n * k <= _SHORT and enough
            if m >= 4 * n or shared_lines or (slot(args, slots.WIDTH) and m >= least * threads):
                return 0
        return 1 if 8 * most_units * strips <= 9 * most_strips * units else 0

    return along


def _build_vectors(widest: Tile) -> Callable[[int], int]:
    """`f(args)`: vectors of columns. A single column beyond the last whole one is left to a kernel
    of its own, which reads A again: unless that does not stay in the cache."""
    from dnnc.kernels.intrinsics import slot

    lanes, size = widest.lanes, widest.bytes_each

    def vectors(args: int) -> int:
        m, k = slot(args, slots.M), slot(args, slots.K)
        n: int = slot(args, slots.N)
        alone = n > lanes and n % lanes == 1 and k <= slots.DEPTH * lanes
        stays = m * k * size <= slot(args, slots.GROUP)
        return n // lanes if alone and stays else (n + lanes - 1) // lanes

    return vectors


def _build_rectangle(widest: Tile) -> Callable[..., None]:
    """`f(args, matrix, row, stop, v0, v1, vectors)`: rows of one product by vectors of columns from
    `v0` to `v1`; and with the last of so many `vectors` what column remains."""
    from dnnc.kernels.intrinsics import call_kernel, slot
    from dnnc.kernels.subroutine import subroutine

    region, lanes = subroutine(_build_region(widest)), widest.lanes

    def rectangle(
        args: int, matrix: int, row: int, stop: int, v0: int, v1: int, vectors: int
    ) -> None:
        region(args, matrix, row, stop, v0, v1)
        if v1 == vectors and vectors * lanes < slot(args, slots.N):
            first = matrix * slot(args, slots.M)
            call_kernel(slot(args, slots.COLUMN), args, first + row, first + stop)

    return rectangle


def _build_region(widest: Tile) -> Callable[..., None]:
    """The loops over one rectangle of the output: rows of one matrix by vectors of columns."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    unit, lanes, size = panel_vectors(widest), widest.lanes, widest.bytes_each
    widest_tile = widest.vectors
    pack = subroutine(build_pack_panels(widest))
    multiply = subroutine(_build_multiply(widest))

    def region(args: int, matrix: int, row: int, stop: int, v0: int, v1: int) -> None:
        n, k, block_rows = slot(args, slots.N), slot(args, slots.K), slot(args, slots.BLOCK)
        blocks = max((k + slots.DEPTH - 1) // slots.DEPTH, 1)
        block = (k + blocks - 1) // blocks
        few = _FEWER if k > _MANY and n * size % 4096 == 0 else _FEW
        direct = not slot(args, slots.FLIP_B) and stop - row <= few
        whole = v1 if unit == 1 else n // lanes // unit * unit
        there = v1 if slot(args, slots.WIDTH) else whole if direct else 0
        b = slot(args, slots.B) + matrix * k * n * size
        # Whole tiles, whether they are two or three vectors wide.
        fitting = slot(args, slots.GROUP) // (max(block, 1) * lanes * size)
        group = max(fitting // 6 * 6, widest_tile)
        for g in range(v0, v1, group):
            last = min(g + group, v1)
            for q in range(blocks):
                k0 = q * block
                depth = min(block, k - k0)
                first = max(g, there)
                if first < last:
                    to = slot(args, slots.PANELS) + (first - g) * block * lanes * size
                    pack(args, b, first, last, to, block, k0, depth)
                for i in range(row, stop, block_rows):
                    rows = min(block_rows, stop - i)
                    following = min(block_rows, stop - i - rows)
                    multiply(args, matrix, i, rows, g, last, k0, depth, block, there, following)

    return region


def _build_multiply(widest: Tile) -> Callable[..., None]:
    """One block of rows by the vectors of a group; those before `there` are read where B lies."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import call_kernel, slot, store, zero_bytes
    from dnnc.kernels.subroutine import shared, subroutine

    finish, announce = shared(build_finish), shared(build_finish, True)
    rows_of = subroutine(build_rows(widest), returns=3)
    list_rows = subroutine(build_list_rows(widest.bytes_each))
    list_lines = shared(build_list_lines)
    set_b, take = subroutine(_build_set_b(widest)), shared(build_take, widest.vectors, returns=1)
    put = store("i64")
    lanes, size = widest.lanes, widest.bytes_each

    def multiply(
        args: int, matrix: int, i: int, rows: int, g: int, last: int, k0: int, depth: int,
        block: int, there: int, following: int,
    ) -> None:  # fmt: skip
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        words, lines = slot(args, slots.WORDS), slot(args, slots.LINES)
        region, code, own = words + 8 * Strip.WORDS, slot(args, slots.EPILOGUE), args
        own += 8 * slots.SLOTS
        ends = code if k0 + depth == k else 0
        a, a_row, a_step = rows_of(args, matrix, i, rows, k0, depth, last - g)
        put(words, Strip.ROWS, rows)
        put(words, Strip.DEPTH, depth)
        put(words, Strip.A, a)
        put(words, Strip.A_ROW, a_row)
        put(words, Strip.A_STEP, a_step)
        put(words, Strip.ADD, k0)
        put(words, Strip.A_TABLE, 0)
        # What lies beyond the second-level cache and is not read in a row is fetched meanwhile.
        far = slot(args, slots.BATCH) * m * (n + k) * size > slot(args, slots.GROUP)
        put(words, Strip.LINES, lines if far else 0)
        v = g
        while v < last:
            vectors = take(there - v if v < there and there < last else last - v)
            column, columns = v * lanes, min(n - v * lanes, vectors * lanes)
            c, c_row = slot(args, slots.TILE), vectors * lanes * size
            if slot(args, slots.OUT):
                c_row = n * size
                c = slot(args, slots.OUT) + ((matrix * m + i) * n + column) * size
            if far:
                put(lines, 0, 0)
                if slot(args, slots.OUT):
                    list_lines(lines, c, c_row, rows, columns * size)
                if ends:
                    announce(code, own, region, lines, 0, rows, columns, matrix, i, column, 1)
                list_rows(
                    args, lines, matrix, i + rows, following, k0, depth, v - g, v - g + vectors,
                    last - g,
                )  # fmt: skip
            set_b(args, matrix, g, v, k0, block, there)
            put(words, Strip.C, c)
            put(words, Strip.C_ROW, c_row)
            put(words, Strip.COLUMNS, columns)
            if depth > 0:
                call_kernel(slot(args, slots.ONE - 1 + vectors), words, 0, 0)
            else:
                for r in range(rows):
                    zero_bytes(c + r * c_row, columns * size)
            if ends:
                finish(code, own, region, c, c_row, rows, columns, matrix, i, column, 1)
            v += vectors

    return multiply


def _build_set_b(widest: Tile) -> Callable[..., None]:
    """`f(args, matrix, g, v, k0, block, there)`: tell the strip where vector `v` of columns of B
    begins."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")
    unit, lanes, size = panel_vectors(widest), widest.lanes, widest.bytes_each
    wide = unit * lanes

    def set_b(args: int, matrix: int, g: int, v: int, k0: int, block: int, there: int) -> None:
        n, k, width = slot(args, slots.N), slot(args, slots.K), slot(args, slots.WIDTH)
        words = slot(args, slots.WORDS)
        column, step, vector = v * lanes, wide * size, lanes * size
        b = slot(args, slots.PANELS) + (v - g) * block * lanes * size
        if unit == 1:
            vector = block * lanes * size
        if width:
            inside = column % width
            b = slot(args, slots.B) + ((column - inside) * k + k0 * width + inside) * size
            step = width * size
            vector = k * width * size if width == lanes else lanes * size
        elif v < there:
            b = slot(args, slots.B) + ((matrix * k + k0) * n + column) * size
            step, vector = n * size, lanes * size
        put(words, Strip.B, b)
        put(words, Strip.B_STEP, step)
        put(words, Strip.B_VECTOR, vector)

    return set_b
