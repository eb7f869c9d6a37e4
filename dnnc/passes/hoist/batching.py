"""One turn's operator, applied to all turns at once: a first axis of time is added to its operands.

    in a turn   %2: f32[b, k] = matmul %x, w              all turns   %2: f32[t, b, k]

Operands that are the same in every turn keep their shape. A product with one matrix becomes one
product of as many times the rows, and a convolution or a pooling one of as many times the images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Elementwise
from dnnc.ops.conv import Conv, ConvInputGradient
from dnnc.ops.linear import MatMul
from dnnc.ops.pool import MaxPool, MaxPoolGradient, SumPool, SumPoolGradient
from dnnc.ops.reduce import ArgMax, Reduction
from dnnc.ops.shape import (
    Broadcast,
    Concat,
    Gather,
    Pad,
    Reshape,
    Reverse,
    Slice,
    Transpose,
)
from dnnc.passes.simplify import make

__all__ = ["batched", "can_batch", "repeated"]

_ONE_AXIS = (Slice, Pad, Reverse, Concat, ArgMax)
_IMAGES = (Conv, ConvInputGradient, MaxPool, MaxPoolGradient, SumPool, SumPoolGradient)


def can_batch(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether `batched` knows the operator when the flagged operands differ from turn to turn."""
    op = node.op
    if isinstance(op, Gather):
        return not stacked[0]
    if isinstance(op, Conv | ConvInputGradient):
        return not stacked[1]
    if isinstance(op, MaxPool | MaxPoolGradient | SumPool | SumPoolGradient):
        return all(stacked)
    return isinstance(
        op, (Elementwise, MatMul, Reduction, Broadcast, Reshape, Transpose, *_ONE_AXIS)
    )


def batched(node: Node, operands: Sequence[Value], stacked: Sequence[bool], length: Dim) -> Value:
    """The results of a node in all turns, with time as the first axis."""
    op, shape = node.op, node.results[0].shape
    if isinstance(op, Elementwise):
        ranks = [len(shape)] * len(operands)
        return _filled(make(op, *map(_padded, operands, stacked, ranks)), length, shape)
    if isinstance(op, Broadcast):
        return make(Broadcast((length, *shape)), _padded(operands[0], True, len(shape)))
    if isinstance(op, Reshape):
        return make(Reshape((length, *shape)), operands[0])
    if isinstance(op, Transpose):
        return make(Transpose((0, *(axis + 1 for axis in op.permutation))), operands[0])
    if isinstance(op, Reduction):
        return make(type(op)(tuple(axis + 1 for axis in op.axes), op.keep), operands[0])
    if isinstance(op, _ONE_AXIS):
        all_stacked = [_stack(v, s, length) for v, s in zip(operands, stacked, strict=True)]
        return make(dataclasses.replace(op, axis=op.axis + 1), *all_stacked)
    if isinstance(op, MatMul):
        return _product(op, operands, stacked, length)
    if isinstance(op, Gather):
        return make(op, *operands)
    assert isinstance(op, _IMAGES)
    return _images(op, operands, stacked, length, shape)


def repeated(value: Value, length: Dim) -> Value:
    """A value that is the same in every turn, stacked."""
    return make(Broadcast((length, *value.shape)), value)


def _stack(value: Value, stacked: bool, length: Dim) -> Value:
    return value if stacked else repeated(value, length)


def _padded(value: Value, stacked: bool, rank: int) -> Value:
    """A stacked operand with as many axes after time as the result has in one turn."""
    if not stacked:
        return value
    missing = rank - (value.type.rank - 1)
    if missing <= 0:
        return value
    return make(Reshape((value.shape[0], *[dim(1)] * missing, *value.shape[1:])), value)


def _filled(value: Value, length: Dim, shape: tuple[Dim, ...]) -> Value:
    full = (length, *shape)
    return value if value.shape == full else make(Broadcast(full), value)


def _product(op: MatMul, operands: Sequence[Value], stacked: Sequence[bool], length: Dim) -> Value:
    a, b = operands
    if not stacked[1] and b.type.rank == 2 and not op.transpose_a:
        rows = make(Reshape((length * a.shape[1], a.shape[2])), a)
        product = make(op, rows, b)
        return make(Reshape((length, a.shape[1], product.shape[1])), product)
    return make(op, _stack(a, stacked[0], length), _stack(b, stacked[1], length))


def _images(
    op: Conv | ConvInputGradient | MaxPool | MaxPoolGradient | SumPool | SumPoolGradient,
    operands: Sequence[Value],
    stacked: Sequence[bool],
    length: Dim,
    shape: tuple[Dim, ...],
) -> Value:
    joined = [
        make(Reshape((length * v.shape[1], *v.shape[2:])), v) if s else v
        for v, s in zip(operands, stacked, strict=True)
    ]
    if isinstance(op, ConvInputGradient | SumPoolGradient):
        op = dataclasses.replace(op, shape=(length * shape[0], *shape[1:]))
    return make(Reshape((length, *shape)), make(op, *joined))
