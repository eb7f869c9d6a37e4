"""The list of passes: stopping after one, traces, verification, and time."""

from __future__ import annotations

import time

import pytest

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.diagnostics import DnnError
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.passes import pipeline
from dnnc.passes.check import PassError
from dnnc.passes.pipeline import PASSES, Pass, optimize

GRAPH = """
graph f(x: data f32[n, 4], w: parameter f32[4, 8], b: parameter f32[8]) {
  %0: f32[8, 4] = transpose w {permutation = [1, 0]}
  %1: f32[n, 8] = matmul x, %0 {transpose_b = true}
  %2: f32[n, 8] = add %1, b
  return y = %2
}
"""


def test_after_a_pass() -> None:
    text = print_graph(optimize(parse_graph(GRAPH), after="simplify"))
    assert "transpose w" not in text
    assert "fused" not in text
    assert "fused" in print_graph(optimize(parse_graph(GRAPH)))


def test_an_unknown_pass_is_an_error() -> None:
    with pytest.raises(DnnError) as caught:
        optimize(parse_graph(GRAPH), after="simplfy")
    assert "E701" in str(caught.value)
    assert "did you mean `simplify`?" in str(caught.value)


def test_names_of_passes_are_unique() -> None:
    assert len({step.name for step in PASSES}) == len(PASSES)


def test_every_pass_keeps_an_empty_graph() -> None:
    x = Value(TensorType(DType.F32, (dim("n"),)))
    graph = Graph("empty", (Input("x", x, "data"),), (Output("y", x),))
    for step in PASSES:
        assert step.run(graph).outputs[0].value is x


def test_trace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DNNC_DEBUG", "3")
    optimize(parse_graph(GRAPH), after="simplify")
    traced = capsys.readouterr().err
    assert "f: simplify: " in traced
    assert "1 x matmul_of_transpose" in traced
    assert "return y = %1" in traced


def test_verification_names_the_guilty_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: Graph) -> Graph:
        output = graph.outputs[0]
        value = ops.add(output.value, 1)
        return Graph(graph.name, graph.inputs, (Output(output.name, value),), graph.bounds)

    monkeypatch.setenv("DNNC_VERIFY", "1")
    monkeypatch.setattr(pipeline, "PASSES", (*PASSES[:2], Pass("wrong", wrong)))
    with pytest.raises(PassError, match="pass `wrong` changes `f`: output `y` at"):
        optimize(parse_graph(GRAPH))


def test_verification_finds_a_malformed_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def malformed(graph: Graph) -> Graph:
        return Graph(graph.name, graph.inputs, (graph.outputs[0], graph.outputs[0]))

    monkeypatch.setenv("DNNC_VERIFY", "1")
    monkeypatch.setattr(pipeline, "PASSES", (Pass("malformed", malformed),))
    with pytest.raises(PassError, match="pass `malformed` makes a malformed graph"):
        optimize(parse_graph(GRAPH))


def deep_network(depth: int) -> Graph:
    """A training step of `depth` normalized layers with residuals and momentum."""
    x = Value(TensorType(DType.F32, (dim("n"), dim(16))))
    inputs = [Input("x", x, "data")]
    parameters: list[Value] = []
    moments: list[Value] = []
    h = x
    for i in range(depth):
        for name, shape in (("w", (16, 16)), ("g", (16,)), ("b", (16,))):
            parameters.append(Value(TensorType.make(DType.F32, shape)))
            moments.append(Value(TensorType.make(DType.F32, shape)))
            inputs.append(Input(f"{name}{i}", parameters[-1], "parameter"))
            inputs.append(Input(f"m{name}{i}", moments[-1], "state"))
        w, g, b = parameters[-3:]
        z = ops.matmul(h, w)
        d = ops.subtract(z, ops.divide(ops.reduce_sum(z, 1, keep=True), 16))
        v = ops.divide(ops.reduce_sum(ops.multiply(d, d), 1, keep=True), 16)
        y = ops.add(ops.multiply(ops.divide(d, ops.sqrt(ops.add(v, 1e-5))), g), b)
        h = ops.add(h, ops.maximum(0, y))
    loss = ops.reduce_sum(ops.multiply(h, h), (0, 1))
    outputs = [Output("loss", loss)]
    slopes = gradients(loss, parameters)
    for item, p, m, slope in zip(inputs[1::2], parameters, moments, slopes, strict=True):
        after = ops.add(ops.multiply(m, 0.9), slope)
        outputs.append(Output(item.name, ops.subtract(p, ops.multiply(after, 0.01)), item.name))
        outputs.append(Output(f"m{item.name}", after, f"m{item.name}"))
    return Graph("deep", tuple(inputs), tuple(outputs))


def test_time_grows_with_the_size_of_the_graph() -> None:
    times = []
    for depth in (10, 40):
        graph = deep_network(depth)
        start = time.process_time()
        optimize(graph)
        times.append(time.process_time() - start)
    # Four times the nodes; a factor of sixteen would be quadratic.
    assert times[1] < 10 * times[0] + 0.5


def test_each_layer_is_a_few_kernels() -> None:
    graph = optimize(deep_network(10))
    kernels = [node for node in graph.nodes if node.op.name not in ("reshape", "constant")]
    # A layer: product, normalization; its gradient, two products, two sums; three updates.
    assert len(kernels) <= 10 * 10 + 4
