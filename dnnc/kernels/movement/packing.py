"""Copies of parts of matrices in the order in which tiles read them.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["build_pack", "build_transpose"]

#: Rows or columns that are too few to be transposed by vectors.
_FEW = 4


def build_pack(dtype: str, lanes: int) -> Callable[..., None]:
    """`f(target, source, stride, depth, columns, wide)`: rows of `columns` elements, each `stride`
    bytes apart, become rows of `wide`, which are one or two vectors of `lanes`. What stands beyond
    `columns` there is of no use."""
    from dnnc.kernels.intrinsics import copy_bytes
    from dnnc.kernels.subroutine import subroutine

    one, two = (subroutine(_build_rows(dtype, vectors * lanes)) for vectors in (1, 2))
    size = 4 if dtype == "f32" else 8

    def pack(target: int, source: int, stride: int, depth: int, columns: int, wide: int) -> None:
        # Whole rows are copied faster. All but the last end before the last element that is needed.
        beyond = (wide - columns) * size
        whole = max(depth - (beyond + stride - 1) // stride, 0) if beyond else depth
        if wide == lanes:
            one(target, source, stride, whole)
        else:
            two(target, source, stride, whole)
        for k in range(whole, depth):
            copy_bytes(target + k * wide * size, source + k * stride, columns * size)

    return pack


def _build_rows(dtype: str, wide: int) -> Callable[..., None]:
    """`f(target, source, stride, rows)`: rows of `wide` elements, adjacent in the target. The
    number is known to the compiler, so that a row is copied without a loop."""
    from dnnc.kernels.intrinsics import load, store

    get, put = load(dtype, 1), store(dtype, 0)

    def copy(target: int, source: int, stride: int, rows: int) -> None:
        for k in range(rows):
            for j in range(wide):
                put(target, k * wide + j, get(source + k * stride, j))

    return copy


def build_transpose(bytes_each: int) -> Callable[..., None]:
    """`f(target, target_row, source, source_row, rows, columns)`: `rows` of the source become
    columns.

    Strides of rows are in bytes; elements of a row are adjacent on both sides.
    """
    from dnnc.kernels.intrinsics import load, store
    from dnnc.kernels.movement.moves import transpose_block, transpose_part, transpose_side

    dtype = "i32" if bytes_each == 4 else "i64"
    get, put = load(dtype, 1), store(dtype, 0)
    turn, part = transpose_block(bytes_each), transpose_part(bytes_each)
    side = transpose_side(bytes_each)

    def transpose(
        target: int, target_row: int, source: int, source_row: int, rows: int, columns: int
    ) -> None:
        if rows < _FEW or columns < _FEW:
            for j in range(columns):
                for i in range(rows):
                    put(target + j * target_row, i, get(source + i * source_row, j))
            return
        small = rows < side or columns < side
        for first_column in range(0, columns, side):
            # The last blocks overlap the ones before: that moves some elements twice.
            j = first_column if small else min(first_column, columns - side)
            for first_row in range(0, rows, side):
                i = first_row if small else min(first_row, rows - side)
                to = target + j * target_row + i * bytes_each
                at = source + i * source_row + j * bytes_each
                if small:
                    height, width = min(side, rows - i), min(side, columns - j)
                    part(to, target_row, at, source_row, height, width)
                else:
                    turn(to, target_row, at, source_row)

    return transpose
