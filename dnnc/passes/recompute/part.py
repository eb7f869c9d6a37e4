"""What of a node has to run again: a group of pointwise work for some of its results alone.

    %y, %mean, %next = fused %x, %scale, %running {...}     →     %y = fused %x, %scale, %mean {...}

A kernel that normalizes also makes statistics and their running averages. Its copy makes none of
them: it reads those that are there, which are the same numbers.

A part must round as the whole does. It may not in two places: sums are taken in an order that
depends on all that a kernel computes, and a product that one sum alone reads becomes one
instruction with it, which rounds once. So a part has no reductions, and where a product might be
rounded in the one kernel and not in the other, the whole node runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Node, Output, Value, nodes_between, sorted_nodes
from dnnc.ir.operator import Operator
from dnnc.ir.rewrite import replace
from dnnc.ops.control import Fused
from dnnc.ops.elementwise import (
    Add,
    FloorDivide,
    Modulo,
    Multiply,
    Negate,
    StopGradient,
    Subtract,
)
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.fuse.reads import ANCHORS, REDUCTIONS

__all__ = ["Part", "part_of"]

#: Operators that may take a product in without rounding it, and those that hand one on.
_ADDING = (Add, Subtract, FloorDivide, Modulo)
_HANDING_ON = (Negate, StopGradient, Broadcast, Reshape)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """`op` applied to `operands` makes again those `results` of a node."""

    node: Node
    op: Operator
    operands: tuple[Value, ...]
    results: tuple[Value, ...]


def part_of(node: Node, wanted: Collection[Value], there: Collection[Value]) -> Part:
    """What makes the results that are `wanted`; `there` are those that may be read instead."""
    op = node.op
    if not isinstance(op, Fused) or len(node.results) == 1:
        return Part(node, op, node.operands, node.results)
    body = op.body
    if any(isinstance(inner.op, ANCHORS) for inner in body.nodes):
        return Part(node, op, node.operands, node.results)
    wanted_here = [o.value for o, r in zip(body.outputs, node.results, strict=True) if r in wanted]
    given = {item.value: operand for item, operand in zip(body.inputs, node.operands, strict=True)}
    stored = {
        output.value: result
        for output, result in zip(body.outputs, node.results, strict=True)
        if result in there and result not in wanted and output.value not in given
    }
    if not _rounds_alike(op, wanted_here, stored):
        return Part(node, op, node.operands, node.results)
    read: dict[Value, Value] = {}
    for value, result in stored.items():
        read[value] = Value(value.type, hint=result.hint)
        given[read[value]] = result
    made = replace(wanted_here, read)
    nodes = sorted_nodes(made)
    used = {value for inner in nodes for value in inner.operands}
    inputs = [value for value in given if value in used]
    part = Graph(
        body.name,
        tuple(Input(f"x{i}", value) for i, value in enumerate(inputs)),
        tuple(Output(f"y{i}", value) for i, value in enumerate(made)),
    )
    # What is left may be small: a kernel that went over all else would write it many times.
    shapes = [v.shape for v in (*inputs, *made, *(r for n in nodes for r in n.results))]
    space = tuple(
        size if any(len(s) == len(op.space) and s[k] != 1 for s in shapes) else dim(1)
        for k, size in enumerate(op.space)
    )
    operands = tuple(given[value] for value in inputs)
    results = tuple(result for result in node.results if result in wanted)
    return Part(node, Fused(part, space), operands, results)


def _rounds_alike(op: Fused, wanted: Collection[Value], stored: Collection[Value]) -> bool:
    """Whether what makes the values `wanted` of a body from those `stored` rounds as the body."""
    nodes = op.body.nodes
    # An output has one more reader, who gets it rounded.
    readers = Counter(value for node in nodes for value in node.operands)
    readers.update(output.value for output in op.body.outputs)
    return not any(
        isinstance(node.op, REDUCTIONS)
        or any(value in stored and _is_swept(value, op) for value in node.operands)
        or (isinstance(node.op, _ADDING) and not _adds_alike(node, readers, stored))
        for node in nodes_between(wanted, stored.__contains__)
    )


def _is_swept(value: Value, op: Fused) -> bool:
    """Whether a value varies along reduced axes: a later sweep may compute it again, and round
    otherwise than the one that stored it."""
    # A value of one element has no axes.
    return bool(value.shape) and any(value.shape[axis] != 1 for axis in op.reduced)


def _adds_alike(node: Node, readers: Counter[Value], stored: Collection[Value]) -> bool:
    """Whether it is certain that the same product, or none, becomes one instruction with a sum."""
    products = [value for value in node.operands if _is_product(value)]
    if all(value in stored for value in products):
        return True
    if len(products) > 1 or not isinstance(node.op, Add | Subtract):
        return False
    value = products[0]
    plain = value.node is not None and isinstance(value.node.op, Multiply)
    return plain and readers[value] == 1 and value.shape == node.results[0].shape


def _is_product(value: Value) -> bool:
    """Whether a value is a product, or one with another sign or shape."""
    while value.node is not None and isinstance(value.node.op, _HANDING_ON):
        value = value.node.operands[0]
    return value.node is not None and isinstance(value.node.op, Multiply)
