"""Copies of parts of matrices in the order in which tiles read them.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["build_pack", "build_transpose"]

#: Rows or columns that are too few to be transposed by vectors.
_FEW = 4


def build_pack(dtype: str, wide: int, step: int) -> Callable[..., None]:
    """`f(target, apart, source, stride, depth, columns)`: panels of `step` columns of a matrix.

    Rows of the source are `stride` bytes apart. Those of a panel become adjacent rows of `wide`
    elements; panels are `apart` bytes apart. What stands beyond a panel's columns is of no use, but
    numbers: products of what was in memory may take a hundred times as long.
    """
    from dnnc.kernels.intrinsics import copy_bytes, load, store, zero_bytes

    get, put = load(dtype, 1), store(dtype, 0)
    size = 4 if dtype == "f32" else 8

    def pack(target: int, apart: int, source: int, stride: int, depth: int, columns: int) -> None:
        # Whole rows of panels, whose length is known, are copied without a loop. All but the last
        # end before the last element that is needed.
        beyond = ((columns + step - 1) // step * step - step + wide - columns) * size
        whole = max(depth - (max(beyond, 0) + stride - 1) // stride, 0)
        for k in range(whole):
            to, at = target + k * wide * size, source + k * stride
            for _ in range(0, columns, step):
                for j in range(wide):
                    put(to, j, get(at, j))
                to, at = to + apart, at + step * size
        for k in range(whole, depth):
            to, at = target + k * wide * size, source + k * stride
            for c in range(0, columns, step):
                zero_bytes(to, wide * size)
                copy_bytes(to, at + c * size, min(step, columns - c) * size)
                to += apart

    return pack


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
