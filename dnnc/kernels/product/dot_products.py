"""Matrix products of which both operands are read along their rows.

They take long sums of few results, where packing B, or leaving lanes of a vector empty, would cost
more than adding up lanes at the end. B is stored transposed, or has few columns and becomes so.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile, dot_sizes

__all__ = ["RESULTS", "dot_kernel", "turned_bytes"]

#: Of shorter sums than DOTS_BLOCK several tiles side by side stay in the first-level cache: as many
#: as have so many elements of a column together.
_BESIDE = 1536
#: Tiles one below the other that are computed at a time.
_STRIPS = 8
#: Most results that are computed at a time, and more than one row of tiles has: there is memory for
#: so many.
RESULTS = 512


def dot_kernel(tile: Tile) -> Kernel:
    """The kernel of such products; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("dot_products", lambda: _build(tile), tile.dtype, tile.lanes, unrolled=False)


def turned_bytes(columns: int, depth: int, size: int) -> int:
    """Memory for the part of B, of elements of `size` bytes, that is transposed at a time."""
    return columns * (min(depth, slots.DOTS_BLOCK) * size + 128)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import lookup, share, slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine

    shapes, lanes, size = dot_sizes(), tile.lanes, tile.bytes_each
    multiply, finish = subroutine(_build_block(tile, shapes)), shared(build_finish)
    transpose, most = shared(build_transpose, size), shapes[0][1]
    height_of = lookup(tuple(_height(shapes, wide) for wide in range(most + 1)))
    columns_of = subroutine(_build_columns(most), returns=2)

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        wide, across = columns_of(n, k)
        height = height_of(wide)
        strips, panels = (m + height - 1) // height, (n + across - 1) // across
        blocks = (k + slots.DOTS_BLOCK - 1) // slots.DOTS_BLOCK
        block = ((k + blocks - 1) // blocks + lanes - 1) // lanes * lanes
        each = strips * panels
        start, stop = share(slot(args, slots.BATCH) * each, 1, tid, threads)
        b_row, turned = k * size, -1
        if not slot(args, slots.FLIP_B):
            # An odd number of cache lines: rows used together are not in the same sets.
            b_row = (block * size + 63) // 64 * 64 | 64
        while start < stop:
            matrix = start // each
            panel = (start - matrix * each) // strips
            strip = start - matrix * each - panel * strips
            count = min(strips - strip, stop - start)
            if blocks == 1:
                count = min(count, _STRIPS, max(RESULTS // (height * across), 1))
            i, j = strip * height, panel * across
            rows, columns = min(count * height, m - i), min(across, n - j)
            c, c_row = slot(args, slots.TILE), columns * size
            if slot(args, slots.OUT):
                c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
            for k0 in range(0, k, block):
                depth = min(block, k - k0)
                a = slot(args, slots.A) + ((matrix * m + i) * k + k0) * size
                b = slot(args, slots.B) + ((matrix * n + j) * k + k0) * size
                if not slot(args, slots.FLIP_B):
                    part = (matrix * panels + panel) * blocks + k0 // block
                    if turned != part:
                        source = slot(args, slots.B) + ((matrix * k + k0) * n + j) * size
                        transpose(slot(args, slots.PANELS), b_row, source, n * size, depth, columns)
                        turned = part
                    b = slot(args, slots.PANELS)
                multiply(
                    wide, (columns + wide - 1) // wide, c, c_row, a, k * size, b, b_row, rows,
                    columns, depth, k0,
                )  # fmt: skip
            if slot(args, slots.EPILOGUE):
                words, own = slot(args, slots.WORDS), args + 8 * slots.SLOTS
                code = slot(args, slots.EPILOGUE)
                finish(code, own, words, c, c_row, rows, columns, matrix, i, j, 1)
            start += count
        return 0

    return kernel


def _build_columns(most: int) -> Callable[[int, int], tuple[int, int]]:
    """`f(n, k)`: columns of the widest tile and of a panel, of `n` with sums of `k` products."""

    def columns(n: int, k: int) -> tuple[int, int]:
        groups = (n + most - 1) // most
        wide, beside = (n + groups - 1) // groups, max(min(groups, _BESIDE // k), 1)
        # Threads share panels, which therefore have as many tiles each.
        while groups % beside:
            beside -= 1
        return wide, beside * wide

    return columns


def _height(shapes: tuple[tuple[int, int], ...], wide: int) -> int:
    """Rows of the narrowest tile that has so many columns."""
    return next(rows for rows, columns in reversed(shapes) if columns >= wide)


def _build_block(tile: Tile, shapes: tuple[tuple[int, int], ...]) -> Callable[..., None]:
    """`f(wide, groups, c, c_row, a, a_row, b, b_row, rows, columns, depth, add)`: one block of the
    result, which is added to what is there where `add` is not 0.

    Columns are divided evenly among so many `groups`, of `wide` columns at most. All are computed
    by the narrowest tile that has so many, or the next one where that is as high and enough.
    """
    from dnnc.kernels.product.dots import dot_tile
    from dnnc.kernels.subroutine import subroutine

    (height, _), *narrower = shapes
    multiply, size = dot_tile(tile, *shapes[0]), tile.bytes_each
    alike = [shape for shape in narrower if shape[0] == height]
    multiply_less = dot_tile(tile, *(alike or shapes)[0])
    enough = alike[0][1] if alike else 0

    def block(
        wide: int, groups: int, c: int, c_row: int, a: int, a_row: int, b: int, b_row: int,
        rows: int, columns: int, depth: int, add: int,
    ) -> None:  # fmt: skip
        for i in range(0, rows, height):
            some, j, at = min(height, rows - i), 0, a + i * a_row
            for left in range(groups, 0, -1):
                count = (columns - j + left - 1) // left
                to, by = c + i * c_row + j * size, b + j * b_row
                if count > enough:
                    multiply(to, c_row, at, a_row, by, b_row, some, count, depth, add)
                else:
                    multiply_less(to, c_row, at, a_row, by, b_row, some, count, depth, add)
                j += count

    if not narrower:
        return block
    limit, this = narrower[0][1], subroutine(block)
    others = subroutine(_build_block(tile, tuple(narrower)))

    def choose(
        wide: int, groups: int, c: int, c_row: int, a: int, a_row: int, b: int, b_row: int,
        rows: int, columns: int, depth: int, add: int,
    ) -> None:  # fmt: skip
        if wide > limit:
            this(wide, groups, c, c_row, a, a_row, b, b_row, rows, columns, depth, add)
        else:
            others(wide, groups, c, c_row, a, a_row, b, b_row, rows, columns, depth, add)

    return choose
