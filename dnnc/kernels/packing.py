"""Copies of parts of matrices in the order in which micro-kernels read them.

The builders return plain functions for Numba to compile into a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.tiles import DEPTH

__all__ = ["build_pack_panel", "build_pack_rows"]


def build_pack_panel(dtype: str, wide: int, transposed: bool) -> Callable[..., None]:
    """`f(target, source, stride, depth, columns)`: a panel `[depth, wide]` of B, zero beyond `columns`.

    Row k, column j lies at `source + k * stride` + j elements, or with k and j exchanged where `transposed`.
    """
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, store
    from dnnc.kernels.microkernel import transpose_block, transpose_side

    get, put = load(dtype, 1), store(dtype, 0)
    size = 4 if dtype == "f32" else 8
    zero = NUMBA_TYPES[dtype](0)
    turn, side = transpose_block(size), transpose_side(size)

    def pack(target: int, source: int, stride: int, depth: int, columns: int) -> None:
        if columns == wide:
            for k in range(depth):
                for j in range(wide):
                    put(target, k * wide + j, get(source + k * stride, j))
            return
        for k in range(depth):
            for j in range(columns):
                put(target, k * wide + j, get(source + k * stride, j))
            for j in range(columns, wide):
                put(target, k * wide + j, zero)

    def pack_transposed(target: int, source: int, stride: int, depth: int, columns: int) -> None:
        whole, even = columns // side * side, depth // side * side
        for j in range(0, whole, side):
            for k in range(0, even, side):
                place = target + (k * wide + j) * size
                turn(place, wide * size, source + j * stride + k * size, stride)
        for j in range(columns):
            for k in range(even if j < whole else 0, depth):
                put(target, k * wide + j, get(source + j * stride, k))
        for j in range(columns, wide):
            for k in range(depth):
                put(target, k * wide + j, zero)

    return pack_transposed if transposed else pack


def build_pack_rows(dtype: str, most: int, transposed: bool) -> Callable[..., None]:
    """`f(target, source, stride, rows, depth)`: the rows of A that one tile uses.

    Where `transposed`, A has the row k at `source + k * stride`, and the copy is `[depth, most]`; otherwise
    row i is at `source + i * stride`, and the rows of the copy are far enough apart not to share a set
    of the cache.
    """
    from dnnc.kernels.intrinsics import load, store

    get, put = load(dtype, 1), store(dtype, 0)
    size = 4 if dtype == "f32" else 8
    apart = DEPTH * size + 64

    def pack(target: int, source: int, stride: int, rows: int, depth: int) -> None:
        for i in range(rows):
            for k in range(depth):
                put(target + i * apart, k, get(source + i * stride, k))

    def pack_transposed(target: int, source: int, stride: int, rows: int, depth: int) -> None:
        if rows == most:
            for k in range(depth):
                for i in range(most):
                    put(target, k * most + i, get(source + k * stride, i))
            return
        for k in range(depth):
            for i in range(rows):
                put(target, k * most + i, get(source + k * stride, i))

    return pack_transposed if transposed else pack
