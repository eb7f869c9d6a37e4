"""Look-ups of rows, sums by row, and the position of the largest element.

An index outside the table is never followed: such a row is looked up as NaN (as 0 where elements
are integers) and is not added anywhere. Whoever feeds a program checks its indices; this keeps
memory safe.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.ir.dims import product
from dnnc.ir.graph import Node
from dnnc.kernels.abi import Buffer, Call, Integer, lowering, make_kernel
from dnnc.ops.reduce import ArgMax
from dnnc.ops.shape import Gather, ScatterAdd

__all__: list[str] = []


@lowering(Gather)
def lower_gather(node: Node) -> list[Call]:
    (table, indices), y = node.operands, node.results[0]
    dtype, index = str(y.type.dtype), str(indices.type.dtype)
    kernel = make_kernel("gather", lambda: _build_gather(dtype, index), dtype, index)
    sizes = (indices.type.elements, table.shape[0], product(table.shape[1:]))
    values = (Buffer(y, written=True), Buffer(table), Buffer(indices))
    return [Call(kernel, (*values, *(Integer(size) for size in sizes)))]


@lowering(ScatterAdd)
def lower_scatter_add(node: Node) -> list[Call]:
    (indices, updates), y = node.operands, node.results[0]
    dtype, index = str(y.type.dtype), str(indices.type.dtype)
    kernel = make_kernel("scatter_add", lambda: _build_scatter(dtype, index), dtype, index)
    sizes = (indices.type.elements, y.shape[0], product(y.shape[1:]))
    values = (Buffer(y, written=True), Buffer(indices), Buffer(updates))
    return [Call(kernel, (*values, *(Integer(size) for size in sizes)), updates.type.elements)]


@lowering(ArgMax)
def lower_argmax(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    axis = node.op.attributes()["axis"]
    dtype = str(x.type.dtype)
    kernel = make_kernel("argmax", lambda: _build_argmax(dtype), dtype)
    sizes = (product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :]))
    return [Call(kernel, (Buffer(y, written=True), Buffer(x), *(Integer(s) for s in sizes)))]


def _build_gather(dtype: str, index: str) -> Callable[[int, int, int], int]:
    import numpy as np

    from dnnc.kernels.intrinsics import NUMBA_TYPES, copy_bytes, load, share, slot, store

    get, put = load(index), store(dtype)
    missing = NUMBA_TYPES[dtype](np.nan if dtype in ("f32", "f64") else 0)
    size = {"f32": 4, "f64": 8, "i32": 4, "i64": 8}.get(dtype, 1)

    def kernel(args: int, tid: int, threads: int) -> int:
        y, table, indices = slot(args, 0), slot(args, 1), slot(args, 2)
        rows, width = slot(args, 4), slot(args, 5)
        start, stop = share(slot(args, 3), 1, tid, threads)
        for i in range(start, stop):
            row = int(get(indices, i))
            if 0 <= row < rows:
                copy_bytes(y + i * width * size, table + row * width * size, width * size)
            else:
                for j in range(width):
                    put(y, i * width + j, missing)
        return 0

    return kernel


def _build_scatter(dtype: str, index: str) -> Callable[[int, int, int], int]:
    """Threads share the columns where there are enough, else the rows; either way a sum is in the
    order of the indices."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    get_index, get_update, get, put = load(index), load(dtype, 1), load(dtype, 0), store(dtype, 0)
    number = NUMBA_TYPES[dtype]

    def kernel(args: int, tid: int, threads: int) -> int:
        y, indices, updates = slot(args, 0), slot(args, 1), slot(args, 2)
        count, rows, width = slot(args, 3), slot(args, 4), slot(args, 5)
        first, last, top, bottom = 0, width, 0, rows
        if width >= 32 * threads:
            first, last = share(width, 16, tid, threads)
        else:
            top, bottom = share(rows, 1, tid, threads)
        for row in range(top, bottom):
            for j in range(first, last):
                put(y, row * width + j, number(0))
        for i in range(count):
            row = int(get_index(indices, i))
            if top <= row < bottom:
                to, at = row * width, i * width
                for j in range(first, last):
                    put(y, to + j, number(get(y, to + j) + get_update(updates, at + j)))
        return 0

    return kernel


def _build_argmax(dtype: str) -> Callable[[int, int, int], int]:
    """As in NumPy a NaN counts as the largest."""
    from dnnc.kernels.intrinsics import load, share, slot, store

    get, put = load(dtype, 1), store("i64", 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        y, x = slot(args, 0), slot(args, 1)
        extent, inner = slot(args, 3), slot(args, 4)
        start, stop = share(slot(args, 2) * inner, 1, tid, threads)
        for i in range(start, stop):
            first = i // inner * inner * extent + i % inner
            best, place = get(x, first), 0
            for k in range(1, extent):
                value = get(x, first + k * inner)
                if value > best or (value != value and best == best):
                    best, place = value, k
            put(y, i, place)
        return 0

    return kernel
