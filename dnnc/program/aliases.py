"""Values that lie in the memory of another value, so that they cost nothing."""

from __future__ import annotations

from dataclasses import dataclass

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Value
from dnnc.ops.control import After
from dnnc.ops.elementwise import StopGradient
from dnnc.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose

__all__ = ["Alias", "alias_of", "bytes_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """`offset` bytes into the memory of `value`."""

    value: Value
    offset: Dim


def bytes_of(value: Value) -> Dim:
    """Bytes that a value takes."""
    return value.type.elements * value.type.dtype.size


def alias_of(value: Value) -> Alias | None:
    """What a value is an alias of, or None where it has memory of its own."""
    node = value.node
    if node is None:
        return None
    operand = node.operands[0] if node.operands else None
    if operand is None:
        return None
    match node.op:
        case Reshape() | StopGradient() | After():
            return Alias(operand, dim(0))
        case Broadcast() if operand.type.elements == value.type.elements:
            return Alias(operand, dim(0))
        case Concat() if len(node.operands) == 1:
            return Alias(operand, dim(0))
        case Transpose(permutation=permutation):
            # Order in memory is that of the axes longer than one.
            long = [axis for axis in permutation if operand.shape[axis] != 1]
            return Alias(operand, dim(0)) if long == sorted(long) else None
        case Slice(axis=axis, start=start):
            if any(size != 1 for size in operand.shape[:axis]):
                return None
            row = product(operand.shape[axis + 1 :]) * value.type.dtype.size
            return Alias(operand, dim(start) * row)
    return None
