"""Operators that only move elements: each is one or more copies between strided blocks.

A copy visits the elements of a block in the order of the target. Axes that lie one after the
other in both memories are merged when lowering, so that most copies are rows of adjacent bytes;
where the target's last axis is not the source's, square blocks are transposed in registers.
Kernels depend on the size of an element alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, lowering, make_kernel
from dnnc.ops.creation import Iota
from dnnc.ops.shape import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose

__all__ = ["Axis", "copy_call"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a block: its extent, and its strides in elements in both memories."""

    extent: Dim
    target: Dim
    source: Dim


@lowering(Transpose)
def lower_transpose(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    strides = _strides(x.shape)
    order = [strides[axis] for axis in node.op.attributes()["permutation"]]
    return [copy_call(y, x, _axes(y.shape, _strides(y.shape), order))]


@lowering(Broadcast)
def lower_broadcast(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    added = y.type.rank - x.type.rank
    strides = [dim(0)] * added + [
        dim(0) if size == 1 and y.shape[added + axis] != 1 else stride
        for axis, (size, stride) in enumerate(zip(x.shape, _strides(x.shape), strict=True))
    ]
    return [copy_call(y, x, _axes(y.shape, _strides(y.shape), strides))]


@lowering(Reshape)
def lower_reshape(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    return [copy_call(y, x, [Axis(y.type.elements, dim(1), dim(1))])]


@lowering(Slice)
def lower_slice(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    strides = _strides(x.shape)
    axis, start = node.op.attributes()["axis"], node.op.attributes()["start"]
    axes = _axes(y.shape, _strides(y.shape), strides)
    return [copy_call(y, x, axes, source_start=start * strides[axis])]


@lowering(Reverse)
def lower_reverse(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    axis = node.op.attributes()["axis"]
    strides = _strides(x.shape)
    start = (x.shape[axis] - 1) * strides[axis]
    backward = [-s if i == axis else s for i, s in enumerate(strides)]
    return [copy_call(y, x, _axes(y.shape, strides, backward), source_start=start)]


@lowering(Concat)
def lower_concat(node: Node) -> list[Call]:
    y, axis = node.results[0], node.op.attributes()["axis"]
    strides = _strides(y.shape)
    calls, start = [], dim(0)
    for x in node.operands:
        axes = _axes(x.shape, strides, _strides(x.shape))
        calls.append(copy_call(y, x, axes, target_start=start * strides[axis]))
        start = start + x.shape[axis]
    return calls


@lowering(Pad)
def lower_pad(node: Node) -> list[Call]:
    x, y = node.operands[0], node.results[0]
    axis, before = node.op.attributes()["axis"], node.op.attributes()["before"]
    after = node.op.attributes()["after"]
    strides = _strides(y.shape)
    row = y.shape[axis] * strides[axis]
    rows = product(y.shape[:axis])
    calls = [
        _zero_call(y, rows, row, start * strides[axis], count * strides[axis])
        for start, count in ((dim(0), before), (before + x.shape[axis], after))
        if count != 0
    ]
    axes = _axes(x.shape, strides, _strides(x.shape))
    return [*calls, copy_call(y, x, axes, target_start=before * strides[axis])]


@lowering(Iota)
def lower_iota(node: Node) -> list[Call]:
    y = node.results[0]
    axis = node.op.attributes()["axis"]
    dtype = str(y.type.dtype)
    kernel = make_kernel("iota", lambda: _build_iota(dtype), dtype)
    inner = product(y.shape[axis + 1 :])
    sizes = (Integer(y.type.elements), Integer(y.shape[axis]), Integer(inner))
    return [Call(kernel, (Buffer(y, written=True), *sizes))]


def copy_call(
    target: Value,
    source: Value,
    axes: Sequence[Axis],
    target_start: Dim | int = 0,
    source_start: Dim | int = 0,
) -> Call:
    """Copy a block; `axes` in the order of the target, starts in elements."""
    size = target.type.dtype.size
    merged = _merge(axes)
    # The column runs along the target; where the source does not, the row is the axis that does.
    column = merged.pop()
    along = [i for i, axis in enumerate(merged) if axis.source == 1]
    row = merged.pop(along[-1] if along and column.source != 1 else -1) if merged else _ONE
    inner = (row.extent, column.extent, row.target, column.target, row.source, column.source)
    outer = [x for axis in merged for x in (axis.extent, axis.target, axis.source)]
    sizes: tuple[Dim | int, ...] = (
        product([axis.extent for axis in merged]),
        *inner,
        len(merged),
        *outer,
    )
    arguments: tuple[Argument, ...] = (
        Buffer(target, written=True),
        Buffer(source),
        *(Integer.of(start * size) for start in (target_start, source_start)),
        *(Integer.of(x) for x in sizes),
    )
    return Call(
        make_kernel("copy_block", lambda: _build_copy(size), size, unrolled=False), arguments
    )


_ONE = Axis(dim(1), dim(0), dim(0))


def _zero_call(target: Value, rows: Dim, row: Dim, start: Dim, count: Dim) -> Call:
    """Zero `count` elements from `start` on in each row."""
    size = target.type.dtype.size
    sizes = tuple(Integer.of(x * size) for x in (row, start, count))
    kernel = make_kernel("zero_rows", _build_zero)
    return Call(kernel, (Buffer(target, written=True), Integer(rows), *sizes))


def _strides(shape: Sequence[Dim]) -> list[Dim]:
    return [product(list(shape[axis + 1 :])) for axis in range(len(shape))]


def _axes(extents: Sequence[Dim], target: Sequence[Dim], source: Sequence[Dim]) -> list[Axis]:
    return [Axis(*parts) for parts in zip(extents, target, source, strict=True)]


def _merge(axes: Sequence[Axis]) -> list[Axis]:
    """The same block with the fewest axes; at least one."""
    merged: list[Axis] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        if merged:
            before = merged[-1]
            steps = (axis.extent * axis.target, axis.extent * axis.source)
            if (before.target, before.source) == steps:
                merged[-1] = Axis(before.extent * axis.extent, axis.target, axis.source)
                continue
        merged.append(axis)
    return merged or [Axis(dim(1), dim(1), dim(1))]


_WORD = {1: "u8", 4: "i32", 8: "i64"}


def _build_copy(size: int) -> Callable[[int, int, int], int]:
    """The kernel of copies: threads share the rows, or the columns where there is but one row."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine

    block = subroutine(_build_block(size))

    def kernel(args: int, tid: int, threads: int) -> int:
        outer, rows, columns = slot(args, 4), slot(args, 5), slot(args, 6)
        grain = 16
        parts = (rows + grain - 1) // grain
        first, last = 0, columns
        start, stop = 0, outer * parts
        if rows == 1 and outer < threads:
            first, last = share(columns, 64, tid, threads)
        else:
            start, stop = share(stop, 1, tid, threads)
        for unit in range(start, stop):
            target, source = slot(args, 0) + slot(args, 2), slot(args, 1) + slot(args, 3)
            rest = unit // parts
            for k in range(slot(args, 11) - 1, -1, -1):
                extent = slot(args, 12 + 3 * k)
                index = rest % extent
                rest //= extent
                target += index * slot(args, 13 + 3 * k) * size
                source += index * slot(args, 14 + 3 * k) * size
            row = unit % parts * grain
            block(args, target, source, row, min(row + grain, rows), first, last)
        return 0

    return kernel


def _build_block(size: int) -> Callable[..., None]:
    """Rows `row` to `stop` and columns `first` to `last` of a plane."""
    from dnnc.kernels.intrinsics import copy_bytes, load, slot, store
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    word = _WORD[size]
    get, put = load(word, 1), store(word, 0)
    blocks = size > 1
    # Single bytes take the plain loop below: the call is compiled, and never made.
    transpose = shared(build_transpose, size if blocks else 4)

    def block(
        args: int, target: int, source: int, row: int, stop: int, first: int, last: int
    ) -> None:
        t_row, t_column = slot(args, 7) * size, slot(args, 8)
        s_row, s_column = slot(args, 9) * size, slot(args, 10)
        count = last - first
        if blocks and t_column == 1 and s_row == size and s_column > 1:
            # Rows of the target are columns of the source.
            to = target + row * t_row + first * size
            at = source + row * size + first * s_column * size
            transpose(to, t_row, at, s_column * size, count, stop - row)
            return
        for i in range(row, stop):
            to, at = target + i * t_row, source + i * s_row
            if t_column == 1 and s_column == 1:
                copy_bytes(to + first * size, at + first * size, count * size)
            elif t_column == 1 and s_column == 0:
                value = get(at, 0)
                for j in range(first, last):
                    put(to, j, value)
            else:
                for j in range(first, last):
                    put(to, j * t_column, get(at, j * s_column))

    return block


def _build_zero() -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import share, slot, zero_bytes

    def kernel(args: int, tid: int, threads: int) -> int:
        start, stop = share(slot(args, 1), 1, tid, threads)
        for row in range(start, stop):
            zero_bytes(slot(args, 0) + row * slot(args, 2) + slot(args, 3), slot(args, 4))
        return 0

    return kernel


def _build_iota(dtype: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import NUMBA_TYPES, share, slot, store

    put, number = store(dtype, 0), NUMBA_TYPES[dtype]

    def kernel(args: int, tid: int, threads: int) -> int:
        extent, inner = slot(args, 2), slot(args, 3)
        start, stop = share(slot(args, 1), 64, tid, threads)
        for i in range(start, stop):
            put(slot(args, 0), i, number(i // inner % extent))
        return 0

    return kernel
