"""Compute while compiling what does not depend on any input.

    %0: f32[] = constant 2;  %1: f32[] = sqrt %0      →      %1: f32[] = constant 1.4142135
    %0: i64[] = size 12                               →      %0: i64[] = constant 12

Only small results are folded: a large constant would have to be stored and loaded, where a
broadcast or an iota costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.operator import Array, Operator
from dnnc.ir.rewrite import rebuild
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import apply
from dnnc.ops.control import Fused, Scan
from dnnc.ops.creation import Constant, Iota, Size
from dnnc.ops.shape import Broadcast
from dnnc.passes.trace import fired

__all__ = ["fold_node", "run"]

#: Most elements of a folded result.
LIMIT = 256


def run(graph: Graph) -> Graph:
    return rebuild(graph, _fold, regions=True)


def _fold(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    value = fold_node(node.op, operands)
    return None if value is None else [value]


def fold_node(op: Operator, operands: tuple[Value, ...]) -> Value | None:
    """The constant that an operator makes of constants, or None."""
    if isinstance(op, Size):
        known = op.dim.constant
        return None if known is None else _constant(op, op.evaluate()[0], op.dtype)
    if isinstance(op, Constant | Iota | Broadcast | Scan | Fused) or not op.pure or not operands:
        return None
    arrays: list[Array] = []
    for value in operands:
        if value.node is None or not isinstance(value.node.op, Constant):
            return None
        arrays.append(value.node.op.array)
    types = op.infer(*(value.type for value in operands))
    if len(types) != 1 or not _is_small(types[0]):
        return None
    return _constant(op, op.evaluate(*arrays)[0], types[0].dtype)


def _constant(op: Operator, array: Array, dtype: DType) -> Value:
    fired(f"fold {op.name}")
    flat = tuple(array.reshape(-1).tolist())
    return apply(Constant(dtype, tuple(array.shape), flat))


def _is_small(type: TensorType) -> bool:
    sizes = [size.constant for size in type.shape]
    return all(s is not None for s in sizes) and math.prod(s or 0 for s in sizes) <= LIMIT
