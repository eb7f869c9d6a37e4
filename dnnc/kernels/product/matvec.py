"""Products of a matrix and a vector: matrix products with one row or one column, and the last
column of others.

They read each element of the matrix once, so what counts is to read it in long runs.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile

__all__ = ["PIECE", "last_column_kernel", "vector_kernel"]

#: Most elements of the result that a thread computes at a time.
PIECE = 512
#: Rows of a matrix at a time, each with so many chains of additions.
_ROWS, _CHAINS = 4, 2
#: Panels at a time.
_PANELS = 4


def vector_kernel(tile: Tile) -> Kernel:
    """The kernel of such products; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("matvec", lambda: _build(tile), tile.dtype, tile.lanes)


def last_column_kernel(tile: Tile) -> Kernel:
    """A kernel `f(args, first, last)`, with the same slots: some rows of the last column of one
    product, counted from the first row of all."""
    return make_kernel("last_column", lambda: _build_last_column(tile), tile.dtype, tile.lanes)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.product.columns import WIDEST
    from dnnc.kernels.subroutine import shared, subroutine

    multiply, finish = subroutine(_build_piece(tile)), shared(build_finish)
    size, widest = tile.bytes_each, WIDEST * tile.lanes

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        x, a, count, rows = slot(args, slots.A), slot(args, slots.B), n, slot(args, slots.FLIP_B)
        if n == 1 and m > 1:
            x, a, count, rows = (
                slot(args, slots.B),
                slot(args, slots.A),
                m,
                1 - slot(args, slots.FLIP_A),
            )
        # Units depend on sizes alone, and are whole cache lines, so that threads share none.
        width = slot(args, slots.WIDTH)
        grain = 16 if rows else _PANELS * width if width else widest
        units = (count + grain - 1) // grain
        unit, stop = share(slot(args, slots.BATCH) * units, 1, tid, threads)
        while unit < stop:
            matrix = unit // units
            first = (unit - matrix * units) * grain
            last = min(first + min(stop - unit, PIECE // grain) * grain, count)
            unit += (last - first + grain - 1) // grain
            out = slot(args, slots.TILE)
            if slot(args, slots.OUT):
                out = slot(args, slots.OUT) + (matrix * count + first) * size
            vector, whole = x + matrix * k * size, a + matrix * count * k * size
            multiply(out, vector, whole, rows, width, first, last, count, k)
            if slot(args, slots.EPILOGUE):
                code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                words, some = slot(args, slots.WORDS), last - first
                if count == n:
                    finish(code, own, words, out, size, 1, some, matrix, 0, first, 1)
                else:
                    finish(code, own, words, out, size, some, 1, matrix, first, 0, 1)
        return 0

    return kernel


def _build_last_column(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import load, slot, store
    from dnnc.kernels.product.columns import add_rows
    from dnnc.kernels.product.dots import dot_tile
    from dnnc.kernels.subroutine import shared, subroutine

    # Whichever rows come together, each sum is taken in the same order.
    dot, add, finish = dot_tile(tile, _ROWS, 1, _CHAINS), add_rows(tile, 1), shared(build_finish)
    column_of, size = subroutine(_build_column(tile), returns=1), tile.bytes_each
    get, put, lanes = load(tile.dtype, 1), store(tile.dtype, 0), tile.lanes

    def kernel(args: int, first: int, last: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        matrix, sums = first // m, slot(args, slots.TILE)
        x, a = column_of(args, matrix), slot(args, slots.A) + matrix * m * k * size
        while first < last:
            i, some = first - matrix * m, min(PIECE, last - first)
            if slot(args, slots.FLIP_A):
                for j in range(0, some, lanes):
                    at = a + (i + j) * size
                    add(sums + j * size, x, at, m * size, 0, min(lanes, some - j), k)
            else:
                for j in range(0, some, _ROWS):
                    at = a + (i + j) * k * size
                    dot(sums + j * size, size, at, k * size, x, 0, min(_ROWS, some - j), 1, k, 0)
            if slot(args, slots.OUT):
                to = slot(args, slots.OUT) + (first * n + n - 1) * size
                for row in range(some):
                    put(to, row * n, get(sums, row))
            if slot(args, slots.EPILOGUE):
                code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                words = slot(args, slots.WORDS)
                finish(code, own, words, sums, size, some, 1, matrix, i, n - 1, 1)
            first += some
        return 0

    return kernel


def _build_column(tile: Tile) -> Callable[[int, int], int]:
    """`f(args, matrix)`: where the last column of a matrix B is, one number behind the other: in
    place of panels where it has to be copied."""
    from dnnc.kernels.intrinsics import load, slot, store

    size, get, put = tile.bytes_each, load(tile.dtype, 1), store(tile.dtype, 0)

    def column(args: int, matrix: int) -> int:
        n, k, width = slot(args, slots.N), slot(args, slots.K), slot(args, slots.WIDTH)
        to: int = slot(args, slots.PANELS)
        if slot(args, slots.FLIP_B):
            return int(slot(args, slots.B) + (matrix * n + n - 1) * k * size)
        source, step = slot(args, slots.B) + (matrix * k * n + n - 1) * size, n
        if width:
            inside, step = (n - 1) % width, width
            source = slot(args, slots.B) + ((n - 1 - inside) * k + inside) * size
        for i in range(k):
            put(to, i, get(source, i * step))
        return to

    return column


def _build_piece(tile: Tile) -> Callable[..., None]:
    """`f(out, x, a, rows, width, first, last, count, depth)`: products of `x` with some of the
    `count` rows or columns of the matrix at `a`, or with panels of its columns."""
    from dnnc.kernels.product.columns import WIDEST
    from dnnc.kernels.product.dots import dot_tile
    from dnnc.kernels.subroutine import subroutine

    dot, add = dot_tile(tile, 1, _ROWS, _CHAINS), subroutine(_build_add(tile))
    add_panels = subroutine(_build_add_panels(tile))
    size, widest = tile.bytes_each, WIDEST * tile.lanes

    def multiply(
        out: int,
        x: int,
        a: int,
        rows: int,
        width: int,
        first: int,
        last: int,
        count: int,
        depth: int,
    ) -> None:
        if rows:
            for i in range(first, last, _ROWS):
                to, row, some = out + (i - first) * size, a + i * depth * size, min(_ROWS, last - i)
                dot(to, 0, x, 0, row, depth * size, 1, some, depth, 0)
        elif width:
            # Several panels at a time, which are read side by side.
            for i in range(first, last, _PANELS * width):
                to, some = out + (i - first) * size, min(_PANELS * width, last - i)
                add_panels(to, x, a + i * depth * size, width, some, depth)
        else:
            for i in range(first, last, widest):
                to, some = out + (i - first) * size, min(widest, last - i)
                add(to, x, a + i * size, count * size, some, depth)

    return multiply


def _build_add_panels(tile: Tile) -> Callable[..., None]:
    """`f(out, x, a, width, count, depth)`: as `_build_add`, of panels that are `width` wide."""
    from dnnc.kernels.product.columns import add_rows

    lanes, size, four = tile.lanes, tile.bytes_each, add_rows(tile, _PANELS)
    pair, single = add_rows(tile, 2), add_rows(tile, 1)

    def add_panels(out: int, x: int, a: int, width: int, count: int, depth: int) -> None:
        row, j = width * size, 0
        apart = depth * row if width == lanes else lanes * size
        while j < count:
            # Vectors that lie beyond all panels are not even read with an empty mask.
            inside, some, to = j % width, count - j, out + j * size
            at = a + ((j - inside) * depth + inside) * size
            if width == lanes and some > 3 * lanes:
                four(to, x, at, row, apart, some, depth)
                j += 4 * lanes
            elif some > lanes:
                pair(to, x, at, row, apart, min(some, 2 * lanes), depth)
                j += 2 * lanes
            else:
                single(to, x, at, row, apart, some, depth)
                j += lanes

    return add_panels


def _build_add(tile: Tile) -> Callable[..., None]:
    """`f(out, x, a, a_row, count, depth)`: the sum over k of x[k] times `count` elements of row k
    of `a`, at most the widest unit."""
    from dnnc.kernels.product.columns import WIDEST, add_rows

    lanes, size = tile.lanes, tile.bytes_each
    all_of, part = add_rows(tile, WIDEST, whole=True), add_rows(tile, 4)
    pair, single = add_rows(tile, 2), add_rows(tile, 1)

    def add(out: int, x: int, a: int, a_row: int, count: int, depth: int) -> None:
        j, step = 0, lanes * size
        while j < count:
            to, place, some = out + j * size, a + j * size, count - j
            if some >= WIDEST * lanes:
                all_of(to, x, place, a_row, step, some, depth)
                j += WIDEST * lanes
            elif some > 2 * lanes:
                part(to, x, place, a_row, step, min(some, 4 * lanes), depth)
                j += 4 * lanes
            elif some > lanes:
                pair(to, x, place, a_row, step, some, depth)
                j += 2 * lanes
            else:
                single(to, x, place, a_row, step, some, depth)
                j += lanes

    return add
