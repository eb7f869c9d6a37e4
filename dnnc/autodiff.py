"""Reverse-mode differentiation: one walk over a graph, by the operators' own gradient rules.

The walk goes from the results back to what they were made of, and builds the gradients as ordinary
values of the same graph; differentiating those again gives higher derivatives. Contributions to a
value are added in the order of the walk, so results are the same bits every time. A gradient
carries the origin of the operator that it belongs to.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from dnnc.ir.graph import Graph, Node, Output, Value, apply_all, origin, sorted_nodes
from dnnc.ir.operator import NoGradientError, Operator
from dnnc.ir.rewrite import map_regions, rebuild
from dnnc.ops.control import Scan
from dnnc.ops.creation import constant
from dnnc.ops.elementwise import add
from dnnc.ops.reduce import sum_to
from dnnc.ops.shape import zeros

__all__ = ["gradients", "pullback", "share_scans"]


def gradients(y: Value, wrt: Sequence[Value], seed: Value | None = None) -> list[Value]:
    """The gradient of `y` for each value of `wrt`, of the same types; zeros where none flows.

    `seed` is the gradient of `y` itself; without it `y` is a scalar, and the seed 1. Values in
    `wrt` may be results of operators; one that another depends on gets the gradient through that
    too. Loops are extended by what their gradient needs: put results and gradients into one graph
    and call `share_scans`, so that a loop does not run twice. Raises NoGradientError.
    """
    if not y.type.dtype.is_float:
        raise NoGradientError(f"only floating-point values have gradients, not {y.type}")
    if seed is None:
        if y.type.rank:
            raise NoGradientError(f"a gradient starts from a scalar, not from {y.type}")
        seed = constant(1, y.type.dtype)
    found = pullback([y], [seed], wrt)
    return [zeros(x.type) if g is None else g for x, g in zip(wrt, found, strict=True)]


def pullback(
    outputs: Sequence[Value], cotangents: Sequence[Value | None], wrt: Sequence[Value]
) -> list[Value | None]:
    """Gradients of `wrt`, from those of `outputs`; None where nothing flows.

    Only what lies between `wrt` and `outputs` is differentiated. Raises NoGradientError where an
    operator there has no gradient.
    """
    nodes = sorted_nodes(outputs)
    active = _active(nodes, wrt)
    totals: dict[Value, Value] = {}
    for value, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None and value in active:
            _accumulate(totals, value, cotangent)
    for node in reversed(nodes):
        if any(result in active and result in totals for result in node.results):
            with origin(node.origin):
                _differentiate(node, totals, active)
    return [totals.get(value) for value in wrt]


def _active(nodes: Sequence[Node], wrt: Sequence[Value]) -> set[Value]:
    """The floating-point values that depend on `wrt`."""
    active = {value for value in wrt if value.type.dtype.is_float}
    for node in nodes:
        if any(operand in active for operand in node.operands):
            active.update(result for result in node.results if result.type.dtype.is_float)
    return active


def _differentiate(node: Node, totals: dict[Value, Value], active: set[Value]) -> None:
    dz = tuple(totals.get(result) for result in node.results)
    needed = tuple(operand in active for operand in node.operands)
    if node.op.multiple:
        found = node.op.gradient(dz, node.results, *node.operands, walk=pullback, needed=needed)
    else:
        found = node.op.gradient(dz[0], node.results[0], *node.operands)
    for operand, gradient, need in zip(node.operands, found, needed, strict=True):
        if need and gradient is not None:
            _accumulate(totals, operand, sum_to(gradient, operand.shape))


def _accumulate(totals: dict[Value, Value], value: Value, gradient: Value) -> None:
    if gradient.type != value.type:
        raise AssertionError(f"the gradient of {value!r} has type {gradient.type}")
    before = totals.get(value)
    totals[value] = gradient if before is None else add(before, gradient)


def share_scans(graph: Graph) -> Graph:
    """One loop instead of several that differ only in what they emit.

    %a = scan %x {..., emit y};  %b = scan %x {..., emit y, c}     →     one scan {..., emit y, c}

    Such loops are those that a gradient has extended: over the same operands, with bodies that
    share their inputs and next carries. Bodies share values only until a rewrite copies them, so
    this comes before any other rewrite.
    """
    while True:
        shared = _share_once(graph)
        if shared is graph:
            break
        graph = shared
    return rebuild(graph, _share_inside)


def _share_once(graph: Graph) -> Graph:
    kinds = {node: _kind(node.op, node.operands) for node in graph.nodes if _is_scan(node)}
    emits: dict[object, dict[Value, int]] = {}
    for node, kind in kinds.items():
        positions = emits.setdefault(kind, {})
        for value in _emitted(node.op):
            positions.setdefault(value, len(positions))
    members = Counter(kinds.values())
    loops: dict[object, tuple[Value, ...]] = {}

    def share(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        kind = kinds.get(node)
        if members[kind] < 2:
            return None
        assert isinstance(node.op, Scan)
        if kind not in loops:
            loops[kind] = apply_all(_emitting(node.op, emits[kind]), *operands)
        carries, results = node.op.carries, loops[kind]
        stacks = [results[carries + emits[kind][value]] for value in _emitted(node.op)]
        return [*results[:carries], *stacks]

    return rebuild(graph, share)


def _share_inside(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    op = map_regions(node.op, share_scans)
    return None if op is node.op else apply_all(op, *operands)


def _is_scan(node: Node) -> bool:
    return isinstance(node.op, Scan)


def _kind(op: Operator, operands: tuple[Value, ...]) -> object:
    """What two loops must have in common to be one."""
    assert isinstance(op, Scan)
    inputs = tuple(item.value for item in op.body.inputs)
    steps = tuple(output.value for output in op.body.outputs[: op.carries])
    return op.carries, op.sequences, op.reverse, operands, inputs, steps


def _emitted(op: Operator) -> list[Value]:
    assert isinstance(op, Scan)
    return [output.value for output in op.body.outputs[op.carries :]]


def _emitting(op: Scan, values: Iterable[Value]) -> Scan:
    emits = tuple(Output(f"emit_{i}", value) for i, value in enumerate(values))
    outputs = (*op.body.outputs[: op.carries], *emits)
    return dataclasses.replace(op, body=dataclasses.replace(op.body, outputs=outputs))
