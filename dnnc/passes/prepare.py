"""Split a program that predicts in two: what depends on weights only, and the rest.

    graph f(x, w: parameter, s: state) {          graph f.prepare(w: parameter, s: state) {
      %0 = multiply w, s                            %0 = multiply w, s
      %1 = matmul x, %0                             return prepared_0 = %0
      return %1                            →      }
    }                                             graph f(x, prepared_0: state) {
                                                    %0 = matmul x, prepared_0
                                                    return %0
                                                  }

The first graph runs once after weights have changed, the second for every prediction. A prepared
value that would only move or repeat elements (reshape, broadcast, a constant) stays in the second
graph, where it costs nothing.
"""

from __future__ import annotations

import dataclasses

from dnnc.ir.graph import Graph, Input, Output, Role, Value
from dnnc.ir.rewrite import replace
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.shape import Broadcast, Reshape

__all__ = ["fixed_values", "split_prepared"]

_FREE = (Broadcast, Reshape, Constant, Iota, Size)


def split_prepared(graph: Graph) -> tuple[Graph, Graph]:
    """`(prepare, run)`: results of the first are inputs of the second, by name and with role
    "state".

    A graph with updates changes its own weights: nothing of it can be prepared, and the first
    graph has no outputs. Inputs that a graph does not need are left out, except data and scalars
    of the second.
    """
    training = any(output.updates is not None for output in graph.outputs)
    prepared = [] if training else _frontier(graph)
    taken = {item.name for item in graph.inputs}
    names = _fresh_names(len(prepared), taken)
    outputs = tuple(Output(n, v) for n, v in zip(names, prepared, strict=True))
    new = [Value(value.type, hint=value.hint) for value in prepared]
    values = replace((o.value for o in graph.outputs), dict(zip(prepared, new, strict=True)))
    after = tuple(
        dataclasses.replace(output, value=value)
        for output, value in zip(graph.outputs, values, strict=True)
    )
    added = tuple(Input(n, v, "state") for n, v in zip(names, new, strict=True))
    run = _with_needed_inputs(graph, (*graph.inputs, *added), after, ("data", "scalar", "value"))
    before = dataclasses.replace(graph, name=f"{graph.name}.prepare", outputs=outputs)
    return _with_needed_inputs(before, graph.inputs, outputs, ()), run


def _frontier(graph: Graph) -> list[Value]:
    """Values computed from weights only that other computations need, in order."""
    fixed = fixed_values(graph)
    found: dict[Value, None] = {}
    needed = [v for node in graph.nodes if node.results[0] not in fixed for v in node.operands]
    for value in (*needed, *(output.value for output in graph.outputs)):
        source = _computed(value)
        if source is not None and source in fixed:
            found.setdefault(source)
    return list(found)


def _computed(value: Value) -> Value | None:
    """What has to be computed so that `value` costs nothing; None where that is nothing."""
    while value.node is not None and isinstance(value.node.op, _FREE):
        if not value.node.operands:
            return None
        value = value.node.operands[0]
    return value if value.node is not None else None


def fixed_values(graph: Graph) -> set[Value]:
    """Values that depend on weights only, and not on sizes that inputs bring."""
    fixed = {item.value for item in graph.inputs if item.is_variable}
    for node in graph.nodes:
        if isinstance(node.op, RandomUniform) or not fixed.issuperset(node.operands):
            continue
        if any(isinstance(value, Graph) for value in node.op.attributes().values()):
            continue
        if node.op.symbols or any(result.type.symbols for result in node.results):
            continue
        fixed.update(node.results)
    return fixed


def _fresh_names(count: int, taken: set[str]) -> list[str]:
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = f"prepared_{number}"
        number += 1
        if name not in taken:
            names.append(name)
    return names


def _with_needed_inputs(
    graph: Graph, inputs: tuple[Input, ...], outputs: tuple[Output, ...], always: tuple[Role, ...]
) -> Graph:
    """The graph with these outputs, and those of the inputs that it needs or whose role says so."""
    result = dataclasses.replace(graph, inputs=inputs, outputs=outputs)
    used = {operand for node in result.nodes for operand in node.operands}
    used.update(output.value for output in outputs)
    kept = tuple(item for item in inputs if item.role in always or item.value in used)
    return dataclasses.replace(result, inputs=kept)
