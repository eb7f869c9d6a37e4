"""Kernels for elementwise work and reductions: one kernel for each fused node.

Four shapes of loops, chosen by which axes are reduced:

    flat     nothing is reduced: rows of the last axis, spread over threads
    row      the last axis is reduced: accumulators in registers, a unit for each kept element
    split    everything is reduced: a fixed number of parts, which the next call joins
    column   the last axis is kept: accumulators for a block of columns, rows are walked in order

The order of additions depends on sizes alone, never on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Graph, Input, Node, Output, Value
from dnnc.kernels.abi import ANCHORED, Call, lowering
from dnnc.kernels.fused_builder import Body
from dnnc.kernels.fused_columns import column_calls
from dnnc.kernels.fused_loops import flat_calls, row_calls, split_calls
from dnnc.ops.base import OPERATORS, Elementwise, Operator, apply
from dnnc.ops.control import Fused
from dnnc.ops.creation import RandomUniform
from dnnc.ops.reduce import Reduction

__all__ = ["elementwise_calls"]

#: Reductions to one element of fewer elements than this stay on one thread.
_SMALL = 4096


def elementwise_calls(op: Fused, operands: Sequence[Value], results: Sequence[Value]) -> list[Call]:
    """The calls of a fused body without an anchor, from operands to results."""
    body = Body.of(op, operands, results)
    axes = body.space.axes
    if not body.phases.count or not any(axis.reduced for axis in axes):
        return flat_calls(body)
    if not axes[-1].reduced:
        return column_calls(body)
    if all(axis.reduced for axis in axes):
        sizes = [axis.size.constant for axis in axes]
        if len(sizes) != 1 or sizes[0] is None or sizes[0] >= _SMALL:
            return split_calls(body)
    return row_calls(body)


@lowering(Fused)
def lower_fused(node: Node) -> list[Call]:
    op = node.op
    assert isinstance(op, Fused)
    anchor = next((n for n in op.body.nodes if type(n.op) in ANCHORED), None)
    if anchor is None:
        return elementwise_calls(op, node.operands, node.results)
    return ANCHORED[type(anchor.op)](node, anchor)


def lower_alone(node: Node) -> list[Call]:
    """A node by itself, as a fused body of one."""
    inputs = tuple(Input(f"x{k}", Value(operand.type)) for k, operand in enumerate(node.operands))
    op, space = node.op, node.results[0].shape
    reduced: tuple[int, ...] = ()
    if isinstance(op, Reduction):
        reduced, space = op.axes, node.operands[0].shape
        op = type(op)(op.axes, keep=True)
    result = apply(op, *(item.value for item in inputs))
    body = Graph(op.name, inputs, (Output("y", result),))
    return elementwise_calls(Fused(body, space, reduced), node.operands, node.results)


def _alone() -> list[type[Operator]]:
    simple = (Elementwise, Reduction, RandomUniform)
    return [cls for cls in OPERATORS.values() if issubclass(cls, simple)]


lowering(*_alone())(lower_alone)
