"""Parts of the operands of a product: where a strip reads them, packed or as they lie.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.product.lines import build_list_lines
from dnnc.kernels.tiles import Tile

__all__ = ["build_list_rows", "build_pack_panels", "build_rows", "panel_vectors", "row_bytes"]

#: Vectors of a block of B, at most, that are multiplied by rows of A where those lie as columns.
_FEW_VECTORS = 768


def panel_vectors(widest: Tile) -> int:
    """Vectors side by side in a panel of columns: one where tiles take vectors apart."""
    return 1 if widest.vectors == 3 else 2


def build_pack_panels(widest: Tile) -> Callable[..., None]:
    """`f(args, b, v, last, to, block, k0, depth)`: vectors of columns from `v` to `last` of the
    matrix at `b`, from row `k0` on, as panels with room for `block` rows each."""
    from dnnc.kernels.intrinsics import slot, zero_bytes
    from dnnc.kernels.movement.packing import build_pack, build_transpose
    from dnnc.kernels.subroutine import shared

    lanes, size, wide = widest.lanes, widest.bytes_each, panel_vectors(widest) * widest.lanes
    copy, transpose = shared(build_pack, widest.dtype, wide, wide), shared(build_transpose, size)

    def pack_panels(
        args: int, b: int, v: int, last: int, to: int, block: int, k0: int, depth: int
    ) -> None:
        n, k, apart = slot(args, slots.N), slot(args, slots.K), block * wide * size
        first, stop = v * lanes, min(last * lanes, n)
        if not slot(args, slots.FLIP_B):
            copy(to, apart, b + (k0 * n + first) * size, n * size, depth, stop - first)
            return
        for j in range(first, stop, wide):
            source = b + (j * k + k0) * size
            if stop - j < wide:
                zero_bytes(to, depth * wide * size)
            transpose(to, wide * size, source, k * size, min(stop - j, wide), depth)
            to += apart

    return pack_panels


def row_bytes(depth: int, size: int) -> int:
    """Bytes from one row of a packed block to the next, which do not share sets of the cache."""
    return (depth * size + 63) // 64 * 64 + 64


def build_rows(widest: Tile) -> Callable[..., tuple[int, int, int]]:
    """`f(args, matrix, i, rows, k0, depth, vectors)`: where a block of rows of A begins, and how
    far apart rows and elements of a row are. Rows that are columns in memory are transposed, unless
    few vectors of columns of B are multiplied by them."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine

    size, transpose = widest.bytes_each, shared(build_transpose, widest.bytes_each)
    bytes_of = subroutine(row_bytes, returns=1)

    def rows_of(
        args: int, matrix: int, i: int, rows: int, k0: int, depth: int, vectors: int
    ) -> tuple[int, int, int]:
        m, k = slot(args, slots.M), slot(args, slots.K)
        a = slot(args, slots.A) + matrix * m * k * size
        if not slot(args, slots.FLIP_A):
            return a + (i * k + k0) * size, k * size, size
        if vectors * depth <= _FEW_VECTORS:
            return a + (k0 * m + i) * size, size, m * size
        apart = bytes_of(depth, size)
        transpose(slot(args, slots.ROWS), apart, a + (k0 * m + i) * size, m * size, depth, rows)
        return slot(args, slots.ROWS), apart, size

    return rows_of


def build_list_rows(size: int) -> Callable[..., None]:
    """`f(args, lines, matrix, i, rows, k0, depth, part, stop, parts)`: add the parts from `part` to
    `stop`, of so many, of a block of rows of A to a list of lines to fetch."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared

    list_lines = shared(build_list_lines)

    def list_rows(
        args: int, lines: int, matrix: int, i: int, rows: int, k0: int, depth: int, part: int,
        stop: int, parts: int,
    ) -> None:  # fmt: skip
        m, k = slot(args, slots.M), slot(args, slots.K)
        first, stride, count, across = i * k + k0, k * size, rows, depth
        if slot(args, slots.FLIP_A):
            first, stride, count, across = k0 * m + i, m * size, depth, rows
        at = slot(args, slots.A) + (matrix * m * k + first) * size
        begin, end = count * part // parts, count * stop // parts
        list_lines(lines, at + begin * stride, stride, end - begin, across * size)

    return list_rows
