"""The verifier finds each broken invariant, and names the node."""

from __future__ import annotations

import dataclasses

import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Node, Origin, Output, Value
from dnnc.ir.text import parse_graph
from dnnc.ir.types import DType, TensorType
from dnnc.ir.verify import IRError, verify
from tests.ir.graphs import LOOP, MLP

X = Value(TensorType.make(DType.F32, [2]))
Y = ops.exp(X)


def graph(inputs: tuple[Input, ...], *outputs: Output) -> Graph:
    return Graph("f", inputs, outputs)


def node_with(type: TensorType, operand: Value = X) -> Value:
    node = Node(ops.Exp(), (operand,), origin=Origin(path="layer"))
    node.results = (Value(type, node),)
    return node.results[0]


def cycle() -> Value:
    value = node_with(X.type)
    assert value.node is not None
    value.node.operands = (value,)
    return value


def foreign_result() -> Value:
    value = node_with(X.type)
    assert value.node is not None
    value.node.results = (Y,)
    return Value(X.type, value.node)


@pytest.mark.parametrize("text", [MLP, LOOP])
def test_sound_graphs_pass(text: str) -> None:
    verify(parse_graph(text))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (graph((Input("x", X), Input("x", X))), "input `x` occurs 2 times"),
        (graph((Input("x", X),), Output("y", Y), Output("y", X)), "output `y` occurs 2 times"),
        (
            graph((Input("x", X),), Output("a", Y, "x"), Output("b", X, "x")),
            "update of `x` occurs 2 times",
        ),
        (graph((Input("x", Y),)), "input `x` is the result of an operator"),
        (graph((Input("x", X, "weight"),)), "no known role: weight"),
        (graph((), Output("y", Y)), "f: node 0, `exp`: operand 0 is a value of another graph"),
        (graph((), Output("y", X)), "output `y` is a value of another graph"),
        (graph((Input("x", X),), Output("y", Y, "z")), "updates no input: z"),
        (
            graph((Input("x", X),), Output("y", ops.reduce_sum(X, 0), "x")),
            r"output `y` is f32\[\], and updates `x`, which is f32\[2\]",
        ),
        (
            graph((Input("x", X),), Output("y", node_with(TensorType(DType.F32)))),
            r"`exp` of layer: results are f32\[\], and should be f32\[2\]",
        ),
        (
            graph((Input("x", X),), Output("y", node_with(X.type, ops.cast(X, DType.I32)))),
            "`exp` of layer: `exp` needs floating-point numbers",
        ),
        (graph((Input("x", X),), Output("y", cycle())), "`exp` needs its own result"),
        (graph((Input("x", X),), Output("y", foreign_result())), "belongs to another node"),
        (graph((), Output("y", ops.size(dim("n")))), "no input has the size n"),
        (graph((), Output("y", ops.iota([dim("n")]))), "no input has the size n"),
    ],
)
def test_broken_graphs_are_refused(broken: Graph, message: str) -> None:
    with pytest.raises(IRError, match=message):
        verify(broken)


def test_regions_are_verified() -> None:
    loop = parse_graph(LOOP)
    (scan,) = [node for node in loop.nodes if isinstance(node.op, ops.Scan)]
    body = scan.op.body  # type: ignore[attr-defined]
    outputs = (*body.outputs[:1], Output("h", body.outputs[1].value))
    broken = dataclasses.replace(scan.op, body=dataclasses.replace(body, outputs=outputs))
    results = ops.apply_all(broken, *scan.operands)
    with pytest.raises(IRError, match="`scan`, body: output `h` occurs 2 times"):
        verify(Graph("f", loop.inputs, (Output("y", results[0]),)))
