"""Rewriting keeps what does not change, and reaches everything that does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.graph import Graph, Input, Node, Origin, Output, Value, origin
from dnnc.ir.interpret import interpret
from dnnc.ir.rewrite import rebuild, replace, substitute_graph, uses
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.types import DType, TensorType
from tests.ir.graphs import LOOP, MLP


def keep(node: Node, operands: tuple[Value, ...]) -> None:
    return None


def add_to_subtract(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    match node.op:
        case ops.Add():
            return [ops.subtract(*operands)]
    return None


@pytest.mark.parametrize("text", [MLP, LOOP])
def test_a_rule_that_never_fires_keeps_the_graph(text: str) -> None:
    graph = parse_graph(text)
    assert rebuild(graph, keep) is graph
    assert rebuild(graph, keep, regions=True) is graph


def test_users_of_a_replaced_value_are_copied() -> None:
    graph = parse_graph(MLP)
    changed = rebuild(graph, add_to_subtract)
    assert print_graph(changed) == MLP.replace("add", "subtract")
    assert print_graph(graph) == MLP
    assert [item.value for item in changed.inputs] == [item.value for item in graph.inputs]
    # What does not depend on the sum is shared.
    assert changed.nodes[0] is graph.nodes[0]


def test_regions_are_entered_on_request() -> None:
    graph = parse_graph(LOOP)
    assert rebuild(graph, add_to_subtract) is graph
    changed = rebuild(graph, add_to_subtract, regions=True)
    assert print_graph(changed) == LOOP.replace("add", "subtract")


def test_rules_see_rewritten_operands_and_bodies() -> None:
    graph = parse_graph(LOOP)
    seen: list[tuple[str, ...]] = []

    def watch(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        made_by = tuple(v.node.op.name if v.node else "input" for v in operands)
        seen.append((node.op.name, *made_by))
        if isinstance(node.op, ops.Scan):
            assert [n.op.name for n in node.op.body.nodes] == ["subtract", "size", "multiply"]
        return add_to_subtract(node, operands)

    rebuild(graph, watch, regions=True)
    assert ("multiply", "subtract", "size") in seen


def test_replacements_take_the_origin() -> None:
    x = Value(TensorType(DType.F32))
    with origin(Origin(path="here")):
        y = ops.add(x, x)
    graph = rebuild(Graph("f", (Input("x", x),), (Output("y", y),)), add_to_subtract)
    assert [node.origin.path for node in graph.nodes] == ["here"]


def test_replacements_of_another_type_are_refused() -> None:
    graph = parse_graph(MLP)
    with pytest.raises(
        ValueError, match=r"matmul: a result of type f32\[n, 3\] became f32\[n, 4\]"
    ):
        rebuild(graph, lambda node, operands: operands[:1])
    with pytest.raises(ValueError, match="1 results became 0"):
        rebuild(graph, lambda node, operands: [])


def test_replace() -> None:
    x, y = (Value(TensorType(DType.F32)) for _ in range(2))
    inner = ops.exp(x)
    outer = ops.add(ops.sin(inner), x)
    assert replace([outer], {}) == [outer]
    assert replace([inner, x], {inner: y, x: y}) == [y, y]
    (changed,) = replace([outer], {inner: y})
    graph = Graph("f", (Input("x", x), Input("y", y)), (Output("z", changed),))
    result = interpret(graph, {"x": np.float32(1), "y": np.float32(0)})
    assert result["z"] == 1


def test_substitution_reaches_types_attributes_and_regions() -> None:
    graph = substitute_graph(parse_graph(LOOP), {"t": 5})
    text = LOOP.replace("f64[t, 2]", "f64[5, 2]").replace("dim = t", "dim = 5")
    assert print_graph(graph) == text
    assert substitute_graph(graph, {"t": 3}) is graph
    assert substitute_graph(parse_graph(MLP), {"n": 3}).bounds == {}


def test_uses() -> None:
    graph = parse_graph(MLP)
    used = uses(graph)
    assert [node.op.name for node in used[graph.input("x").value]] == ["matmul", "matmul"]
    assert [node.op.name for node in used[graph.nodes[1].results[0]]] == ["matmul", "reduce_sum"]


def test_depth_needs_no_recursion() -> None:
    x = Value(TensorType(DType.F32))
    y = x
    for _ in range(3_000):
        y = ops.add(y, x)
    graph = rebuild(Graph("f", (Input("x", x),), (Output("y", y),)), add_to_subtract)
    again = parse_graph(print_graph(substitute_graph(graph, {"n": 1})))
    assert interpret(again, {"x": np.float32(1)})["y"] == 1 - 3_000
