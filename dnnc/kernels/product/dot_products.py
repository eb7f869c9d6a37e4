"""Matrix products of which both operands are read along their rows.

They take long sums of few results, where packing B, or leaving lanes of a vector empty, would cost
more than adding up lanes at the end. B is stored transposed, or has few columns and becomes so.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile, dot_sizes

__all__ = ["dot_kernel", "turned_bytes"]

#: Tiles one below the other that are computed at a time, and how much of the depth: so much of the
#: columns of a tile, with its rows of A, stays in the first-level cache; where sums are no longer
#: than `_SHORT`, those of two tiles side by side do.
_STRIPS, _DEPTH, _SHORT = 8, 1024, 768


def dot_kernel(tile: Tile) -> Kernel:
    """The kernel of such products; its slots are those of `dnnc.kernels.product.slots`."""
    return make_kernel("dot_products", lambda: _build(tile), tile.dtype, tile.lanes, unrolled=False)


def turned_bytes(columns: int, depth: int, size: int) -> int:
    """Memory for B transposed, of elements of `size` bytes."""
    return columns * (depth * size + 128)


def _build(tile: Tile) -> Callable[[int, int, int], int]:
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine

    multiply, finish = subroutine(_build_block(tile)), shared(build_finish)
    transpose, size = shared(build_transpose, tile.bytes_each), tile.bytes_each
    height, (most, _, _) = dot_sizes()

    def kernel(args: int, tid: int, threads: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        across = 2 * most if k <= _SHORT else most
        strips, panels = (m + height - 1) // height, (n + across - 1) // across
        wide = (n + panels - 1) // panels
        each = strips * panels
        start, stop = share(slot(args, slots.BATCH) * each, 1, tid, threads)
        # An odd number of cache lines: rows that are used together are not in the same sets.
        b_row = k * size if slot(args, slots.FLIP_B) else ((k * size + 63) // 64 | 1) * 64
        turned = -1
        while start < stop:
            matrix = start // each
            panel = (start - matrix * each) // strips
            strip = start - matrix * each - panel * strips
            count = min(min(_STRIPS, strips - strip), stop - start)
            start += count
            i, j = strip * height, panel * wide
            rows, columns = min(count * height, m - i), min(wide, n - j)
            a, b = slot(args, slots.A), slot(args, slots.B) + matrix * n * k * size
            a += (matrix * m + i) * k * size
            if not slot(args, slots.FLIP_B):
                if turned != matrix:
                    transpose(slot(args, slots.PANELS), b_row, b, n * size, k, n)
                    turned = matrix
                b = slot(args, slots.PANELS)
            c, c_row = slot(args, slots.TILE), columns * size
            if slot(args, slots.OUT):
                c, c_row = slot(args, slots.OUT) + ((matrix * m + i) * n + j) * size, n * size
            multiply(c, c_row, a, b + j * b_row, b_row, rows, columns, k)
            if slot(args, slots.EPILOGUE):
                words, own = slot(args, slots.WORDS), args + 8 * slots.SLOTS
                code = slot(args, slots.EPILOGUE)
                finish(code, own, words, c, c_row, rows, columns, matrix, i, j, 1)
        return 0

    return kernel


def _build_block(tile: Tile) -> Callable[..., None]:
    """`f(c, c_row, a, b, b_row, rows, columns, depth)`: one block of the result.

    Columns are divided evenly among tiles; rows of A are adjacent.
    """
    from dnnc.kernels.product.dots import dot_tile

    height, widths = dot_sizes()
    most, middle, least = widths
    large, medium, small = (dot_tile(tile, height, width) for width in widths)
    size, lanes = tile.bytes_each, tile.lanes

    def block(
        c: int, c_row: int, a: int, b: int, b_row: int, rows: int, columns: int, depth: int
    ) -> None:
        row, groups = depth * size, (columns + most - 1) // most
        blocks = (depth + _DEPTH - 1) // _DEPTH
        whole = ((depth + blocks - 1) // blocks + lanes - 1) // lanes * lanes
        for k in range(0, depth, whole):
            some_depth = min(whole, depth - k)
            for i in range(0, rows, height):
                some, j = min(height, rows - i), 0
                at = a + i * row + k * size
                for left in range(groups, 0, -1):
                    count = (columns - j + left - 1) // left
                    to, by = c + i * c_row + j * size, b + j * b_row + k * size
                    if count > middle:
                        large(to, c_row, at, row, by, b_row, some, count, some_depth, k)
                    elif count > least:
                        medium(to, c_row, at, row, by, b_row, some, count, some_depth, k)
                    else:
                        small(to, c_row, at, row, by, b_row, some, count, some_depth, k)
                    j += count

    return block
