"""Kernels for elementwise work and reductions: one kernel for each fused node.

Four shapes of loops, chosen by which axes are reduced:

    flat     nothing is reduced: rows of the last axis, spread over threads
    row      the last axis is reduced: accumulators in registers, a unit for each kept element
    split    everything is reduced: a fixed number of parts, which the next call joins
    column   the last axis is kept: accumulators for a block of columns, or for parts of the rows
             where columns are few

The order of additions depends on sizes alone, never on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dnnc.ir.graph import Graph, Input, Node, Output, Value
from dnnc.kernels.abi import ANCHORED, Call, lower, lowering
from dnnc.kernels.fused.builder import Body
from dnnc.kernels.fused.columns import column_calls
from dnnc.kernels.fused.loops import flat_calls, row_calls, split_calls
from dnnc.kernels.fused.space import View
from dnnc.ops.base import OPERATORS, Elementwise, Operator, apply
from dnnc.ops.control import Fused
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.reduce import Reduction
from dnnc.ops.shape import Broadcast, Reshape

__all__ = ["elementwise_calls", "is_pointwise"]

_POINTWISE = (Elementwise, Reduction, RandomUniform, Constant, Size, Iota, Broadcast, Reshape)

#: Reductions to one element of fewer elements than this stay on one thread.
_SMALL = 4096


def is_pointwise(op: Fused) -> bool:
    """Whether a fused body has no anchor."""
    return all(isinstance(node.op, _POINTWISE) for node in op.body.nodes)


def elementwise_calls(
    op: Fused,
    operands: Sequence[Value],
    results: Sequence[Value],
    parts: Mapping[Value, View] | None = None,
) -> list[Call]:
    """The calls of a fused body without an anchor, from operands to results.

    `parts` are results that are written into larger tensors.
    """
    body = Body.of(op, operands, results, parts)
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
    anchor = next((n for n in op.body.nodes if not isinstance(n.op, _POINTWISE)), None)
    if anchor is None:
        return elementwise_calls(op, node.operands, node.results)
    if type(anchor.op) in ANCHORED:
        return ANCHORED[type(anchor.op)](node, anchor)
    return anchor_alone(node, anchor)


def anchor_alone(node: Node, anchor: Node) -> list[Call]:
    """A fused node around an operator as two steps: the operator, then the rest of the body."""
    op = node.op
    assert isinstance(op, Fused)
    outside = dict(zip((item.value for item in op.body.inputs), node.operands, strict=True))
    made = apply(anchor.op, *(outside[value] for value in anchor.operands))
    assert made.node is not None
    result = anchor.results[0]
    known: dict[Value, Value] = {result: Value(result.type)}
    known |= {item.value: item.value for item in op.body.inputs}
    for inner in op.body.nodes:
        if inner is not anchor:
            known[inner.results[0]] = apply(inner.op, *(known[v] for v in inner.operands))
    inputs = (*op.body.inputs, Input("anchor", known[result]))
    outputs = tuple(Output(item.name, known[item.value]) for item in op.body.outputs)
    rest = Fused(Graph(op.body.name, inputs, outputs), op.space)
    return [*lower(made.node), *elementwise_calls(rest, (*node.operands, made), node.results)]


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
