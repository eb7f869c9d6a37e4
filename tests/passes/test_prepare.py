"""Splitting a program that predicts into what depends on weights only, and the rest."""

from __future__ import annotations

import dnnc
from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.verify import verify
from dnnc.ops.control import Scan
from dnnc.passes import pack
from dnnc.passes.check import compare, random_inputs
from dnnc.passes.pipeline import optimize_split
from dnnc.passes.prepare import split_prepared

NORMALIZED = """
graph f(x: data f32[n, 4], w: parameter f32[4, 8], s: state f32[8], b: parameter f32[8]) {
  %0: f32[n, 8] = matmul x, w
  %1: f32[8] = sqrt s
  %2: f32[n, 8] = divide %0, %1
  %3: f32[n, 8] = add %2, b
  return y = %3
}
"""


def run_split(before: Graph, after: Graph, whole: Graph) -> None:
    """Assert that the two graphs together compute what the whole does."""
    verify(before)
    verify(after)
    inputs = random_inputs(whole, dict.fromkeys(whole.symbols, 3))
    prepared = interpret(before, {i.name: inputs[i.name] for i in before.inputs})
    known = {**inputs, **prepared}
    results = interpret(after, {i.name: known[i.name] for i in after.inputs})
    for name, expected in interpret(whole, inputs).items():
        assert abs(results[name] - expected).max(initial=0) < 1e-4


def test_what_depends_on_weights_is_prepared() -> None:
    graph = parse_graph(NORMALIZED)
    before, after = split_prepared(graph)
    assert print_graph(before) == (
        "graph f.prepare(s: state f32[8]) {\n  %0: f32[8] = sqrt s\n  return prepared_0 = %0\n}"
    )
    assert [i.name for i in after.inputs] == ["x", "w", "b", "prepared_0"]
    assert after.input("prepared_0").role == "state"
    run_split(before, after, graph)


def test_a_normalization_leaves_the_program() -> None:
    graph = parse_graph(NORMALIZED)
    before, after = optimize_split(graph)
    assert [i.name for i in after.inputs] == ["x", "b", "prepared_0"]
    kernels = [node for node in after.nodes if node.op.name != "reshape"]
    assert len(kernels) == 1
    run_split(before, after, graph)


def test_a_program_that_trains_is_not_split() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[4], w: parameter f32[4]) {
          %0: f32[4] = exp w
          %1: f32[4] = multiply %0, x
          return y = %1, w <- %1
        }
        """
    )
    before, after = split_prepared(graph)
    assert not before.outputs
    assert compare(graph, after) is None


def test_what_costs_nothing_stays() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[n, 4], w: parameter f32[4]) {
          %0: f32[1, 4] = reshape w
          %1: f32[n, 4] = broadcast %0
          %2: f32[n, 4] = multiply %1, x
          return y = %2
        }
        """
    )
    before, after = split_prepared(graph)
    assert not before.outputs
    assert [i.name for i in after.inputs] == ["x", "w"]


def test_what_depends_on_the_size_of_the_batch_stays() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[n, 4], w: parameter f32[8, 4]) where n <= 8 {
          %0: f32[8, 4] = exp w
          %1: f32[n, 4] = slice %0 {axis = 0, start = 0, stop = n}
          %2: f32[n, 4] = add %1, x
          return y = %2
        }
        """
    )
    before, after = split_prepared(graph)
    assert [o.value.type.shape for o in before.outputs] == [(8, 4)]
    run_split(before, after, graph)


def test_a_prepared_name_does_not_hide_an_input() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[4], prepared_0: parameter f32[4]) {
          %0: f32[4] = exp prepared_0
          %1: f32[4] = multiply %0, x
          return y = %1
        }
        """
    )
    before, after = split_prepared(graph)
    assert [o.name for o in before.outputs] == ["prepared_1"]
    run_split(before, after, graph)


def test_weights_of_products_are_packed_before() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[n, 4], w: parameter f32[4, 40], v: parameter f32[3, 40]) {
          %0: f32[n, 40] = matmul x, w
          %1: f32[n, 40] = tanh %0
          %2: f32[n, 3] = matmul %1, v {transpose_b = true}
          return y = %2
        }
        """
    )
    before, after = optimize_split(graph)
    assert [str(o.value.type) for o in before.outputs] == ["f32[12, 16]", "f32[40, 16]"]
    assert [i.name for i in after.inputs] == ["x", "prepared_0", "prepared_1"]
    run_split(before, after, graph)


def test_weights_with_few_long_columns_are_transposed_before() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[n, 150], w: parameter f32[150, 10], v: parameter f32[7, 150]) {
          %0: f32[n, 10] = matmul x, w
          %1: f32[n, 7] = matmul x, v {transpose_b = true}
          return y = %0, z = %1
        }
        """
    )
    before, after = optimize_split(graph)
    assert [str(o.value.type) for o in before.outputs] == ["f32[10, 150]"]
    run_split(before, after, graph)


def test_products_of_data_are_not_packed() -> None:
    graph = parse_graph(
        """
        graph f(x: data f32[n, 4], w: parameter f32[4, 4], v: parameter f32[4, 1]) {
          %0: f32[n, n] = matmul x, x {transpose_b = true}
          %1: f32[n, 4] = matmul %0, x
          %2: f32[n, 1] = matmul %1, v
          %3: f32[4, 4] = matmul w, w
          %4: f32[n, 4] = matmul x, w
          return y = %2, z = %3, w <- %3
        }
        """
    )
    assert "packed" not in print_graph(optimize_split(graph)[1])
    assert pack.run_prepared(graph) is graph


def test_a_loop_captures_packed_weights() -> None:
    net = dnnc.parse(
        "model M { in x: [batch, time, 3]\n out y: [batch, time, 20]\n y = x -> lstm(20) }"
    ).model("M")
    graph = net.network.predict
    before, after = optimize_split(graph)
    loop = next(node for node in after.nodes if isinstance(node.op, Scan))
    assert "packed_matmul" in print_graph(loop.op.body)
    assert [o.value.type.shape[1] for o in before.outputs] == [16, 16]
    run_split(before, after, graph)
