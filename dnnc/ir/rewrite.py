"""Making new graphs from old ones.

Values are immutable, so a rewrite walks a graph with operands first and builds whatever differs;
untouched parts are shared with the old graph. All walks use loops: a network may be deeper than
Python's recursion allows. Only regions nest, and so only they recurse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dnnc.ir.dims import DimLike
from dnnc.ir.graph import (
    Graph,
    Node,
    Output,
    Value,
    apply_all,
    apply_typed,
    current_origin,
    move_origin,
    nodes_between,
    origin,
    sorted_nodes,
)

if TYPE_CHECKING:
    from dnnc.ir.operator import Operator

__all__ = ["Rule", "map_regions", "rebuild", "replace", "substitute_graph", "uses"]

#: From a node and its rewritten operands to replacements of its results, or None to keep it.
Rule: TypeAlias = Callable[[Node, tuple[Value, ...]], Sequence[Value] | None]


def rebuild(graph: Graph, rule: Rule, regions: bool = False) -> Graph:
    """The graph with every node replaced by what `rule` makes of it, operands first.

    The rule sees a node whose operands are rewritten already (pass them on, not `node.operands`).
    Where it returns None the node is kept, or copied if its operands changed. Values that it makes
    take the node's origin, and must have the types of the results they replace. Inputs stay the
    same values. With `regions`, bodies are rewritten first, and the rule sees the node with its
    new body. A graph in which nothing changed is returned as it is.
    """
    values: dict[Value, Value] = {}
    # One place to come back to, rather than one for each of thousands of nodes.
    with origin(current_origin()):
        for node in graph.nodes:
            operands = node.operands
            if values:
                operands = tuple([values.get(v, v) for v in operands])
            current = node
            if regions:
                op = map_regions(node.op, lambda body: rebuild(body, rule, regions=True))
                if op is not node.op:
                    current = _copy(node, op, operands)
            move_origin(node.origin)
            results = rule(current, operands)
            if results is None:
                results = _moved(current, operands)
            if results is not node.results:
                _record(values, node, results)
    return _with_outputs(graph, values)


def map_regions(op: Operator, change: Callable[[Graph], Graph]) -> Operator:
    """The operator with each of its bodies changed; the operator itself where nothing did."""
    changed = {}
    for name, value in op.attributes().items():
        if isinstance(value, Graph):
            body = change(value)
            if body is not value:
                changed[name] = body
    return dataclasses.replace(op, **changed) if changed else op


def replace(values: Iterable[Value], mapping: Mapping[Value, Value]) -> list[Value]:
    """The same computations with some values replaced by others, wherever they are used. What
    those were made by is not computed again."""
    wanted = list(values)
    done = dict(mapping)
    needed = nodes_between(wanted, done.__contains__)
    for node in sorted_nodes(wanted):
        if node not in needed:
            continue
        operands = tuple(done.get(v, v) for v in node.operands)
        for old, new in zip(node.results, _with_operands(node, operands).results, strict=True):
            done.setdefault(old, new)
    return [done.get(value, value) for value in wanted]


def uses(graph: Graph) -> dict[Value, list[Node]]:
    """The nodes that use each value, in order; a node stands once for each operand."""
    found: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for operand in node.operands:
            found.setdefault(operand, []).append(node)
    return found


def substitute_graph(graph: Graph, sizes: Mapping[str, DimLike]) -> Graph:
    """The graph with symbols replaced in all types and attributes, also in its regions."""
    values: dict[Value, Value] = {}
    inputs = []
    for item in graph.inputs:
        type = item.value.type.substitute(sizes)
        if type != item.value.type:
            values[item.value] = Value(type, hint=item.value.hint)
        inputs.append(dataclasses.replace(item, value=values.get(item.value, item.value)))
    for node in graph.nodes:
        op = node.op.substitute(sizes)
        operands = tuple(values.get(v, v) for v in node.operands)
        if op is node.op and operands == node.operands:
            continue
        copy = _copy(node, op, operands)
        values.update(zip(node.results, copy.results, strict=True))
    if not values:
        return graph
    bounds = {k: b.substitute(sizes) for k, b in graph.bounds.items() if k not in sizes}
    outputs = _outputs(graph, values)
    return Graph(graph.name, tuple(inputs), outputs, bounds)


def _copy(node: Node, op: Operator, operands: tuple[Value, ...]) -> Node:
    hint = node.results[0].hint if node.results else ""
    with origin(node.origin):
        result = apply_all(op, *operands, hint=hint)[0]
    assert result.node is not None
    return result.node


def _moved(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
    """The results on other operands, which have the types of those before."""
    if operands == node.operands:
        return node.results
    hint = node.results[0].hint if node.results else ""
    return apply_typed(node.op, [result.type for result in node.results], operands, hint)


def _with_operands(node: Node, operands: tuple[Value, ...]) -> Node:
    return node if operands == node.operands else _copy(node, node.op, operands)


def _record(values: dict[Value, Value], node: Node, results: Sequence[Value]) -> None:
    if len(results) != len(node.results):
        raise ValueError(f"{node.op.name}: {len(node.results)} results became {len(results)}")
    for old, new in zip(node.results, results, strict=True):
        if old is new:
            continue
        if old.type != new.type:
            raise ValueError(f"{node.op.name}: a result of type {old.type} became {new.type}")
        values[old] = new


def _outputs(graph: Graph, values: Mapping[Value, Value]) -> tuple[Output, ...]:
    return tuple(
        dataclasses.replace(output, value=values.get(output.value, output.value))
        for output in graph.outputs
    )


def _with_outputs(graph: Graph, values: Mapping[Value, Value]) -> Graph:
    if not any(output.value in values for output in graph.outputs):
        return graph
    return dataclasses.replace(graph, outputs=_outputs(graph, values))
