"""Graphs as text: printing, reading back, and what is said of malformed text."""

from __future__ import annotations

import pytest

from dnnc import ops
from dnnc.diagnostics import DnnError
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.ir.verify import verify
from tests.ir.graphs import LOOP, MLP


@pytest.mark.parametrize("text", [MLP, LOOP])
def test_reading_and_printing_are_inverse(text: str) -> None:
    graph = parse_graph(text)
    verify(graph)
    assert print_graph(graph) == text


def test_what_was_read() -> None:
    graph = parse_graph(MLP)
    assert [(item.name, item.role) for item in graph.inputs] == [
        ("x", "data"),
        ("w", "parameter"),
        ("layer.0.b", "parameter"),
    ]
    assert graph.bounds == {"n": 64}
    assert [(output.name, output.updates) for output in graph.outputs] == [
        ("y", None),
        ("w", "w"),
        ("sum", "layer.0.b"),
    ]


def test_comments_and_layout_do_not_matter() -> None:
    text = "graph f(x: f32[]) {  # a comment\n\n %7: f32[] = exp\n   x\n return y = %7 }"
    with pytest.raises(DnnError):
        parse_graph(text)
    graph = parse_graph(text.replace("exp\n  ", "exp"))
    assert print_graph(graph) == "graph f(x: f32[]) {\n  %0: f32[] = exp x\n  return y = %0\n}"


def test_names_that_are_no_plain_names_are_quoted() -> None:
    x = Value(TensorType(DType.F32))
    graph = Graph("a b", (Input('"x" <-', x, "state"),), (Output("out put", ops.exp(x), '"x" <-'),))
    text = print_graph(graph)
    assert text.splitlines()[0] == 'graph "a b"("\\"x\\" <-": state f32[]) {'
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_constants_keep_every_bit(dtype: DType) -> None:
    numbers = [0.1, 1e-45, 1 / 3, -0.0, float("inf"), float("-inf"), 1e30, 5.0]
    value = ops.constant(numbers, dtype)
    graph = Graph("f", (), (Output("y", value),))
    again = parse_graph(print_graph(graph)).outputs[0].value
    assert value.node is not None
    assert again.node is not None
    assert again.node.op == value.node.op


def test_nan_reads_back() -> None:
    text = "graph f() {\n  %0: f32[1] = constant {values = [nan]}\n  return y = %0\n}"
    assert print_graph(parse_graph(text)) == text


def test_attributes_may_be_symbolic() -> None:
    x = Value(TensorType.make(DType.F32, [1, 1, dim("h"), 4]))
    y = ops.sum_pool(x, (dim("h"), 2), pads=(0, dim("h") // 2, 0, 0))
    text = print_graph(Graph("f", (Input("x", x),), (Output("y", y),)))
    assert "window = [h, 2], strides = [h, 2], pads = [0, h // 2, 0, 0]" in text
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("%0: f32[2] = exq x", "E290", "no operator exq; exp?"),
        ("%0: f32[2] = exp z", "E290", "no value z"),
        ("%0: f32[3] = exp x", "E290", r"makes f32\[2\]"),
        ("%0: f16[2] = exp x", "E290", "no element type f16"),
        ("%0: f32[2] = add x", "E208", "takes 2 operands"),
        ("%0: f32[2] = reverse x, x {axis = 0}", "E290", "reverse"),
        ("%0: f32[2] = reverse x {axes = 0}", "E290", "no attribute axes"),
        ("%0: f32[2] = reverse x {axis = n}", "E290", "wrong type"),
        ("%0: f32[2] = reverse x {axis = 1.5}", "E290", "wrong type"),
        ("%0: f32[2] = reverse x {axis = 1}", "E204", "axis 1"),
        ("%0: f32[2] = reverse x", "E290", "axis"),
        ("%0: f32[2] = exp x $", "E290", "unexpected character"),
        ("%0: f32[2 = exp x", "E290", "expected ,"),
        ("%0, %1: f32[2] = exp x", "E290", "expected :"),
        ("%0: f32[2] = constant {values = [x]}", "E290", "wrong type"),
    ],
)
def test_malformed_text(line: str, code: str, message: str) -> None:
    text = f"graph f(x: f32[2]) {{\n  {line}\n  return y = %0\n}}"
    with pytest.raises(DnnError, match=message) as caught:
        parse_graph(text, "file.ir")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert diagnostic.span is not None
    assert diagnostic.span.place.startswith("file.ir:2:")


def test_text_that_ends_early() -> None:
    with pytest.raises(DnnError, match="end of text"):
        parse_graph("graph f(x: f32[2]")
