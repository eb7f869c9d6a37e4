"""Copies of parts of matrices in the order in which tiles read them.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["build_pack", "build_transpose"]


def build_pack(dtype: str, wide: int) -> Callable[..., None]:
    """`f(target, source, stride, depth, columns)`: rows of `columns` elements, each `stride`
    bytes apart, become rows of `wide`. What stands beyond `columns` there is of no use."""
    from dnnc.kernels.intrinsics import copy_bytes, load, store

    get, put = load(dtype, 1), store(dtype, 0)
    size = 4 if dtype == "f32" else 8

    def pack(target: int, source: int, stride: int, depth: int, columns: int) -> None:
        # Whole rows are copied faster. All but the last end before the last element that is needed.
        beyond = (wide - columns) * size
        whole = max(depth - (beyond + stride - 1) // stride, 0) if beyond else depth
        for k in range(whole):
            for j in range(wide):
                put(target, k * wide + j, get(source + k * stride, j))
        for k in range(whole, depth):
            copy_bytes(target + k * wide * size, source + k * stride, columns * size)

    return pack


def build_transpose(bytes_each: int) -> Callable[..., None]:
    """`f(target, target_row, source, source_row, rows, columns)`: `rows` of the source become
    columns.

    Strides of rows are in bytes; elements of a row are adjacent on both sides.
    """
    from dnnc.kernels.intrinsics import load, store
    from dnnc.kernels.moves import transpose_block, transpose_side

    dtype = "i32" if bytes_each == 4 else "i64"
    get, put = load(dtype, 1), store(dtype, 0)
    turn, side = transpose_block(bytes_each), transpose_side(bytes_each)

    def transpose(
        target: int, target_row: int, source: int, source_row: int, rows: int, columns: int
    ) -> None:
        if rows < side or columns < side:
            for j in range(columns):
                for i in range(rows):
                    put(target + j * target_row, i, get(source + i * source_row, j))
            return
        for first_column in range(0, columns, side):
            # The last blocks overlap the ones before: that moves some elements twice.
            j = min(first_column, columns - side)
            for first_row in range(0, rows, side):
                i = min(first_row, rows - side)
                place = target + j * target_row + i * bytes_each
                turn(place, target_row, source + i * source_row + j * bytes_each, source_row)

    return transpose
