"""Graphs as text: `print_graph` and its inverse, `parse_graph` (in `dnnc.ir.reader`).

    graph f(x: data f32[n, 784], w: parameter f32[784, 10], b: parameter f32[10]) where n <= 64 {
      %0: f32[n, 10] = matmul x, w
      %1: f32[n, 10] = add %0, b
      %2: f32[10] = reduce_sum %1 {axes = [0]}
      return y = %1, b <- %2
    }

An input has a role, unless that is "value". A node shows its results with their types, the
operator, the operands, the attributes and its regions. Attributes equal to their default are left
out, and so are `dtype` and `shape`, since the type of the result tells them. `b <- %2` is the next
value of input `b`; where the output has a name of its own that is `name = b <- %2`. Regions have
names of values of their own. A name that is no plain name stands in quotes. `#` starts a comment.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnc.ir.graph import Graph, Node, Output, Value
from dnnc.ir.reader import parse_graph
from dnnc.ir.types import DType

__all__ = ["parse_graph", "print_graph"]

_PLAIN_NAME = re.compile(r"[^\W\d][\w.]*")


def print_graph(graph: Graph) -> str:
    """The graph as text, without a line end after it."""
    return "\n".join(_graph_lines(graph, "graph"))


def _graph_lines(graph: Graph, keyword: str) -> list[str]:
    names = {item.value: _name(item.name) for item in graph.inputs}
    inputs = ", ".join(
        f"{names[item.value]}: {'' if item.role == 'value' else item.role + ' '}{item.value.type}"
        for item in graph.inputs
    )
    bounds = ", ".join(f"{symbol} <= {bound}" for symbol, bound in graph.bounds.items())
    where = f" where {bounds}" if bounds else ""
    lines = [f"{keyword} {_name(graph.name)}({inputs}){where} {{"]
    for node in graph.nodes:
        for result in node.results:
            names[result] = f"%{len(names) - len(graph.inputs)}"
        lines += [f"  {line}" for line in _node_lines(node, names)]
    outputs = ", ".join(_output(output, names) for output in graph.outputs)
    return [*lines, f"  return {outputs}".rstrip(), "}"]


def _node_lines(node: Node, names: Mapping[Value, str]) -> list[str]:
    results = ", ".join(f"{names[result]}: {result.type}" for result in node.results)
    operands = ", ".join(names[operand] for operand in node.operands)
    attributes = []
    regions: list[str] = []
    for field in dataclasses.fields(node.op):
        value = getattr(node.op, field.name)
        if isinstance(value, Graph):
            first, *rest = _graph_lines(value, field.name)
            before = regions.pop() if regions else ""
            regions += [f"{before} {first}", *rest]
        elif field.name not in ("dtype", "shape") and value != field.default:
            attributes.append(f"{field.name} = {_attribute(value, node.results[0].type.dtype)}")
    line = " ".join([f"{results} = {node.op.name}", operands]).rstrip()
    if attributes:
        line += f" {{{', '.join(attributes)}}}"
    return [line + regions[0], *regions[1:]] if regions else [line]


def _attribute(value: Any, dtype: DType) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_attribute(item, dtype) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # The shortest text that reads back as the same number of that type.
        return str(np.float32(value)) if dtype is DType.F32 else repr(value)
    return str(value)


def _output(output: Output, names: Mapping[Value, str]) -> str:
    name, value = _name(output.name), names.get(output.value, "?")
    if output.updates is None:
        return f"{name} = {value}"
    update = f"{_name(output.updates)} <- {value}"
    return update if output.updates == output.name else f"{name} = {update}"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name)
