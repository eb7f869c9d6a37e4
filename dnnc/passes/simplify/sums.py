"""Reductions that need not be done, or are done at once.

    sum over an axis of size 1 → reshape      sum(sum(x)) → sum(x)      max(broadcast(x)) → max(x)

Two sums taken as one round in another order, as any reordering of a sum does.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.ir.types import TensorType
from dnnc.ops.base import Elementwise
from dnnc.ops.creation import Size
from dnnc.ops.elementwise import Multiply
from dnnc.ops.reduce import ReduceMax, ReduceMin, ReduceSum
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.simplify.rules import made_by, make, rule

__all__: list[str] = []

Reduction = ReduceSum | ReduceMax | ReduceMin


def _reduced_shape(shape: tuple[Dim, ...], op: Reduction) -> tuple[Dim, ...]:
    if op.keep:
        return tuple(dim(1) if i in op.axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in op.axes)


@rule(ReduceSum, ReduceMax, ReduceMin)
def reduce_axes_of_size_one(op: Reduction, x: Value) -> Value | None:
    axes = tuple(axis for axis in op.axes if x.shape[axis] != 1)
    if len(axes) == len(op.axes):
        return None
    shape = _reduced_shape(x.shape, op)
    inner = make(type(op)(axes, True), x) if axes else x
    return make(Reshape(shape), inner)


@rule(ReduceSum, ReduceMax, ReduceMin)
def reduce_of_reduce(op: Reduction, x: Value) -> Value | None:
    inner = made_by(x, type(op))
    if inner is None or inner[0].keep != op.keep:
        return None
    source = inner[1][0]
    # Next to the elementwise work that makes its operand, the inner one costs nothing.
    if source.node is not None and isinstance(source.node.op, Elementwise):
        return None
    kept = [a for a in range(source.type.rank) if op.keep or a not in inner[0].axes]
    axes = tuple(sorted({*inner[0].axes, *(kept[axis] for axis in op.axes)}))
    return make(type(op)(axes, op.keep), source)


@rule(ReduceSum, ReduceMax, ReduceMin)
def reduce_of_broadcast(op: Reduction, x: Value) -> Value | None:
    """Equal elements are their own maximum, and their sum is a multiple."""
    inner = made_by(x, Broadcast)
    if inner is None:
        return None
    source = inner[1][0]
    padded = (dim(1),) * (x.type.rank - source.type.rank) + source.shape
    equal = [a for a in op.axes if padded[a] == 1 and x.shape[a] != 1]
    if not equal or any(x.shape[a].constant == 0 for a in equal):
        return None
    if not isinstance(op, ReduceSum):
        # The maximum of no elements at all is not that of the operand.
        if any(x.shape[a].constant is None for a in equal):
            return None
        return _reduce_narrow(op, make(Reshape(padded), source), x.type)
    if not x.type.dtype.is_float:
        return None
    total = _reduce_narrow(op, make(Reshape(padded), source), x.type)
    count = dim(1)
    for axis in equal:
        count = count * x.shape[axis]
    return make(Multiply(), total, make(Size(count, x.type.dtype)))


def _reduce_narrow(op: Reduction, source: Value, type: TensorType) -> Value:
    """The reduction of a source of which the operand was a broadcast, in the shape of the
    result."""
    narrow = make(op, source)
    return make(Broadcast(_reduced_shape(type.shape, op)), narrow)
