"""The invariants of graphs, checked after passes when `DNNC_VERIFY=1`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dnnc.ir.graph import ROLES, Graph, Node, Value
from dnnc.ir.operator import TypeRuleError

__all__ = ["IRError", "verify"]


class IRError(AssertionError):
    """A graph breaks an invariant: a fault of the compiler, not of the user's program."""


def verify(graph: Graph) -> None:
    """Raise IRError, naming the node, unless the graph and its regions are sound.

    Names of inputs and of outputs are unique; roles are known; types of results are those that the
    operator infers; every value is a result of a node of the graph or one of its inputs; there are
    no cycles; an update has the type of the input that it updates; symbols come from inputs.
    """
    _verify(graph, graph.name, frozenset())


def _verify(graph: Graph, path: str, outer: frozenset[str]) -> None:
    _verify_inputs(graph, path)
    _verify_outputs(graph, path)
    _verify_acyclic(graph, path)
    known = {item.value for item in graph.inputs}
    symbols = graph.symbols | outer
    for number, node in enumerate(graph.nodes):
        place = f"{path}: node {number}, `{node.op.name}`"
        if node.origin.path:
            place += f" of {node.origin.path}"
        _verify_node(node, place, known)
        known.update(node.results)
        unknown = node.op.symbols.union(*(r.type.symbols for r in node.results)) - symbols
        if unknown:
            raise IRError(f"{place}: no input has the size {', '.join(sorted(unknown))}")
        for name, value in node.op.attributes().items():
            if isinstance(value, Graph):
                _verify(value, f"{place}, {name}", symbols)
    for output in graph.outputs:
        if output.value not in known:
            raise IRError(f"{path}: output `{output.name}` is a value of another graph")


def _unique(path: str, what: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise IRError(f"{path}: {what} `{name}` occurs {count} times")


def _verify_inputs(graph: Graph, path: str) -> None:
    _unique(path, "input", (item.name for item in graph.inputs))
    for item in graph.inputs:
        if item.value.node is not None:
            raise IRError(f"{path}: input `{item.name}` is the result of an operator")
        if item.role not in ROLES:
            raise IRError(f"{path}: input `{item.name}` has no known role: {item.role}")


def _verify_outputs(graph: Graph, path: str) -> None:
    _unique(path, "output", (output.name for output in graph.outputs))
    _unique(path, "update of", (o.updates for o in graph.outputs if o.updates is not None))
    inputs = {item.name: item for item in graph.inputs}
    for output in graph.outputs:
        if output.updates is None:
            continue
        item = inputs.get(output.updates)
        if item is None:
            raise IRError(f"{path}: output `{output.name}` updates no input: {output.updates}")
        if output.value.type != item.value.type:
            raise IRError(
                f"{path}: output `{output.name}` is {output.value.type}, "
                f"and updates `{item.name}`, which is {item.value.type}"
            )


def _verify_node(node: Node, place: str, known: set[Value]) -> None:
    for operand, value in enumerate(node.operands):
        if value not in known:
            raise IRError(f"{place}: operand {operand} is a value of another graph")
    for index, result in enumerate(node.results):
        if result.node is not node or result.index != index:
            raise IRError(f"{place}: result {index} belongs to another node")
    try:
        types = node.op.infer(*(value.type for value in node.operands))
    except TypeRuleError as error:
        raise IRError(f"{place}: {error.message}") from error
    if types != tuple(result.type for result in node.results):
        raise IRError(
            f"{place}: results are {', '.join(str(r.type) for r in node.results)}, "
            f"and should be {', '.join(map(str, types))}"
        )


def _verify_acyclic(graph: Graph, path: str) -> None:
    """Depth first by a stack; a node met again before it is left lies on a cycle."""
    entered: set[int] = set()
    path_here: set[int] = set()
    stack = [(o.value.node, False) for o in graph.outputs if o.value.node is not None]
    while stack:
        node, leave = stack.pop()
        if leave:
            path_here.remove(id(node))
        elif id(node) not in entered:
            entered.add(id(node))
            path_here.add(id(node))
            stack.append((node, True))
            for producer in (value.node for value in node.operands if value.node is not None):
                if id(producer) in path_here:
                    raise IRError(f"{path}: `{producer.op.name}` needs its own result")
                stack.append((producer, False))
