"""Update all small variables in one sweep.

An optimizer is a formula on the elements of a parameter, its gradient and its states, and most
networks have many small parameters: offsets, scales, the kernels of narrow convolutions. Where
variables are made anew by the same formula, one node does that for all of them, which later passes
need not look into:

    %0 = multiply %g, %lr;  v <- subtract %v, %0      →      %2, %3 = sweep %lr, %g, %v, %h, %w
    %1 = multiply %h, %lr;  w <- subtract %w, %1

Large variables stay alone, and so many small ones are several sweeps: their gradients are in the
cache while they are new, and all of them take memory until the last one is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from dnnc.ir.dims import product
from dnnc.ir.graph import Graph, Input, Node, Output, Value, apply_all, origin
from dnnc.ir.rewrite import replace, uses
from dnnc.ir.types import TensorType
from dnnc.ops.base import Elementwise
from dnnc.ops.control import Sweep
from dnnc.ops.creation import Constant
from dnnc.passes.trace import fired

__all__ = ["run"]

#: Elements of the smallest variable that is updated by itself, and of those of one sweep at most.
_LARGE, _TOGETHER = 1 << 16, 1 << 18


def run(graph: Graph) -> Graph:
    made: dict[Value, Value] = {}
    families: dict[object, list[_Formula]] = {}
    reader = _Reader(graph)
    for formula in reader.formulas():
        families.setdefault(formula.key, []).append(formula)
    for family in families.values():
        for part in _parts(family):
            if len(part) > 1:
                fired(f"update {len(part)} variables at once")
                results = _sweep(part)
                made.update(zip((v for f in part for v in f.results), results, strict=True))
    if not made:
        return graph
    outputs = tuple(
        dataclasses.replace(output, value=made.get(output.value, output.value))
        for output in graph.outputs
    )
    return dataclasses.replace(graph, outputs=outputs)


@dataclass(slots=True)
class _Formula:
    """What makes a variable anew, and its states: nodes that nothing else needs, operands first.

    Equal keys tell equal formulas of different tensors.
    """

    nodes: list[Node]
    shared: list[Value] = field(default_factory=list)
    tensors: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    key: object = None


class _Reader:
    """Finds the formulas of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.users = graph, uses(graph)
        self.stored = {output.value for output in graph.outputs}
        # For each number the first one that is computed alike.
        self.same: dict[Value, Value] = {}
        known: dict[object, Value] = {}
        for node in graph.nodes:
            if isinstance(node.op, Elementwise | Constant) and node.results[0].shape == ():
                key = node.op, tuple(self.same.get(value, value) for value in node.operands)
                self.same[node.results[0]] = known.setdefault(key, node.results[0])

    def formulas(self) -> list[_Formula]:
        small = {item.name for item in self.graph.inputs if _is_small(item)}
        values = [o.value for o in self.graph.outputs if o.updates in small]
        found = (self._formula(value) for value in dict.fromkeys(values))
        return [formula for formula in found if formula is not None]

    def _formula(self, result: Value) -> _Formula | None:
        """The formula that ends with a value; None where there is none, or other nodes need the
        value. So formulas have no nodes in common, and none needs another one's results."""
        inside = self._own(self._alike(result))
        if result.node is None or result.node not in inside:
            return None
        formula = _Formula(_in_order(result.node, inside))
        self._describe(formula)
        return formula

    def _alike(self, result: Value) -> set[Node]:
        """The elementwise nodes of one shape that a value is made by."""
        found: set[Node] = set()
        waiting = [result]
        while waiting:
            node = waiting.pop().node
            if node is None or node in found or not isinstance(node.op, Elementwise):
                continue
            shapes = {value.shape for value in node.operands}
            if node.results[0].shape == result.shape and shapes <= {result.shape, ()}:
                found.add(node)
                waiting += node.operands
        return found

    def _own(self, nodes: set[Node]) -> set[Node]:
        """Those of which no other node needs anything: so there can be no cycle, either."""
        own, waiting = set(nodes), list(nodes)
        while waiting:
            node = waiting.pop()
            if node in own and any(user not in own for user in self._users(node)):
                own.remove(node)
                waiting += [v.node for v in node.operands if v.node is not None]
        return own

    def _users(self, node: Node) -> list[Node]:
        return self.users.get(node.results[0], [])

    def _describe(self, formula: _Formula) -> None:
        places: dict[Value, object] = {}
        steps = []
        for k, node in enumerate(formula.nodes):
            for value in node.operands:
                if value in places:
                    continue
                if value.shape == ():
                    places[value] = (self.same.get(value, value), value.type.dtype)
                    formula.shared.append(value)
                else:
                    places[value] = ("tensor", len(formula.tensors), value.type.dtype)
                    formula.tensors.append(value)
            steps.append((node.op, tuple(places[value] for value in node.operands)))
            places[node.results[0]] = ("step", k)
            if node.results[0] in self.stored:
                formula.results.append(node.results[0])
        formula.key = (tuple(steps), tuple(places[value] for value in formula.results))


def _is_small(item: Input) -> bool:
    """Whether an input is a parameter that is updated together with others."""
    elements = product(item.value.shape).constant
    alone = item.value.type.rank == 0 or elements is None or elements >= _LARGE
    return item.role == "parameter" and not alone


def _parts(family: Sequence[_Formula]) -> list[list[_Formula]]:
    """Formulas of one kind as they follow one another, those of one sweep together."""
    parts: list[list[_Formula]] = []
    room = 0
    for formula in family:
        elements = product(formula.results[0].shape).constant or 0
        if not parts or elements > room:
            parts.append([])
            room = _TOGETHER
        parts[-1].append(formula)
        room -= elements
    return parts


def _in_order(last: Node, inside: set[Node]) -> list[Node]:
    """Nodes in an order that the formula alone decides."""
    order: dict[Node, None] = {}
    waiting = [(last, False)]
    while waiting:
        node, ready = waiting.pop()
        if node in order:
            continue
        if ready:
            order[node] = None
            continue
        waiting.append((node, True))
        makers = [value.node for value in node.operands]
        waiting += [(n, False) for n in reversed(makers) if n is not None and n in inside]
    return list(order)


def _sweep(family: Sequence[_Formula]) -> tuple[Value, ...]:
    """The results of all formulas, one after the other."""
    first = family[0]
    outside = [*first.shared, *first.tensors]
    numbers = {value: Value(TensorType(value.type.dtype, ())) for value in outside}
    body = Graph(
        "element",
        tuple(Input(f"x{k}", value) for k, value in enumerate(numbers.values())),
        tuple(Output(f"y{k}", y) for k, y in enumerate(replace(first.results, numbers))),
    )
    operands = [*first.shared, *(value for formula in family for value in formula.tensors)]
    with origin(first.nodes[-1].origin):
        return apply_all(Sweep(body, len(first.shared)), *operands)
