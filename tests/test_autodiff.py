"""Gradients of whole graphs: loops, depth, sharing, and what has no gradient.

The rules of single operators are tested with the operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from dnnc import ops
from dnnc.autodiff import gradients, pullback, share_scans
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Origin, Output, Value, origin, sorted_nodes
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.ir.verify import verify
from dnnc.ops import NoGradientError

Array = np.ndarray


def tensor(*shape: int | str, dtype: DType = DType.F64) -> Value:
    return Value(TensorType.make(dtype, [dim(s) for s in shape]))


def graph_of(inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> Graph:
    graph = Graph(
        "f",
        tuple(Input(name, value) for name, value in inputs.items()),
        tuple(Output(name, value) for name, value in outputs.items()),
    )
    verify(graph)
    return graph


def total(x: Value) -> Value:
    return ops.reduce_sum(x, range(x.type.rank)) if x.type.rank else x


def check(
    inputs: Mapping[str, Value], loss: Value, arrays: Mapping[str, Array], order: int
) -> None:
    """Compare gradients of `loss`, and those of their squares, with finite differences."""
    names = [name for name, value in inputs.items() if value.type.dtype.is_float]
    found = gradients(loss, [inputs[name] for name in names])
    results = interpret(
        graph_of(inputs, {f"d{n}": g for n, g in zip(names, found, strict=True)}), arrays
    )
    plain = graph_of(inputs, {"loss": loss})
    for name in names:
        for index in np.ndindex(arrays[name].shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {n: np.array(a) for n, a in arrays.items()}
                moved[name][index] += step
                ends.append(float(interpret(plain, moved)["loss"]))
            assert results[f"d{name}"][index] == pytest.approx(
                (ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-7
            )
    if order > 1:
        squares: Value = ops.constant(0, DType.F64)
        for gradient in found:
            squares = ops.add(squares, total(ops.multiply(gradient, gradient)))
        check(inputs, squares, arrays, order - 1)


def lstm(reverse: bool) -> tuple[dict[str, Value], Value, dict[str, Array]]:
    """A loss of a small LSTM-like loop, over a symbolic number of turns."""
    h, c, x, w, u = tensor(2, 3), tensor(2, 3), tensor(2, 4), tensor(4, 3), tensor(3, 3)
    z = ops.tanh(ops.add(ops.matmul(x, w), ops.matmul(h, u)))
    c_next = ops.add(ops.multiply(c, ops.sigmoid(z)), z)
    h_next = ops.multiply(z, ops.tanh(c_next))
    inputs = {"h": h, "c": c, "x": x, "w": w, "u": u}
    body = Graph(
        "turn",
        tuple(Input(name, value) for name, value in inputs.items()),
        (Output("h", h_next), Output("c", c_next), Output("y", h_next)),
    )
    xs, ws, us, start = tensor("t", 2, 4), tensor(4, 3), tensor(3, 3), tensor(2, 3)
    last, stacked = ops.scan(body, [start, ops.zeros(start.type)], [xs], [ws, us], reverse)
    loss = ops.add(total(ops.multiply(stacked[0], stacked[0])), total(ops.sin(last[1])))
    rng = np.random.default_rng(1)
    arrays = {
        "x": rng.normal(size=(3, 2, 4)),
        "w": rng.normal(size=(4, 3)),
        "u": rng.normal(size=(3, 3)),
        "h": rng.normal(size=(2, 3)),
    }
    return {"x": xs, "w": ws, "u": us, "h": start}, loss, arrays


@pytest.mark.parametrize("reverse", [False, True])
def test_loop(reverse: bool) -> None:
    inputs, loss, arrays = lstm(reverse)
    check(inputs, loss, arrays, order=1)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_second_derivative_of_a_loop(reverse: bool) -> None:
    inputs, loss, arrays = lstm(reverse)
    check(inputs, loss, arrays, order=2)


def scans(graph: Graph) -> int:
    return sum(node.op.name == "scan" for node in graph.nodes)


def test_loops_that_differ_in_what_they_emit_become_one() -> None:
    inputs, loss, arrays = lstm(reverse=False)
    found = gradients(loss, list(inputs.values()))
    graph = graph_of(
        inputs, {"loss": loss, **{f"d{n}": g for n, g in zip(inputs, found, strict=True)}}
    )
    shared = share_scans(graph)
    verify(shared)
    assert (scans(graph), scans(shared)) == (3, 2)
    assert share_scans(shared) is shared
    ours, theirs = interpret(graph, arrays), interpret(shared, arrays)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


def test_loops_in_a_row_are_shared_too() -> None:
    h, x = tensor(), tensor()
    body = Graph("turn", (Input("h", h), Input("x", x)), (Output("h", ops.sin(ops.add(h, x))),))
    emitting = Graph("turn", body.inputs, (*body.outputs, Output("y", body.outputs[0].value)))
    xs, start = tensor("t"), tensor()
    _, first = ops.scan(emitting, [start], [xs])
    last, _ = ops.scan(emitting, [start], [first[0]])
    found = gradients(last[0], [xs, start])
    graph = graph_of({"x": xs, "h": start}, {"y": last[0], "dx": found[0], "dh": found[1]})
    assert scans(share_scans(graph)) == 4


def test_nested_loop() -> None:
    a, b = tensor(), tensor()
    inner = Graph(
        "inner", (Input("a", a), Input("b", b)), (Output("a", ops.sin(ops.multiply(a, b))),)
    )
    h, x, w = tensor(), tensor(2), tensor()
    last, _ = ops.scan(inner, [ops.multiply(h, w)], [x])
    outer = Graph("outer", (Input("h", h), Input("x", x), Input("w", w)), (Output("h", last[0]),))
    xs, start, ws = tensor("t", 2), tensor(), tensor()
    loss = ops.scan(outer, [start], [xs], [ws])[0][0]
    rng = np.random.default_rng(2)
    arrays = {"x": rng.normal(size=(3, 2)), "h": np.array(0.7), "w": np.array(1.1)}
    check({"x": xs, "h": start, "w": ws}, loss, arrays, order=1)


def test_loop_with_integers_and_unused_results() -> None:
    """A counter as carry, indices as sequence, a table as capture."""
    count, h, i, table = tensor(dtype=DType.I32), tensor(2), tensor(dtype=DType.I32), tensor(3, 2)
    row = ops.multiply(ops.gather(table, i), ops.cast(count, DType.F64))
    after = ops.add(h, ops.multiply(row, row))
    body = Graph(
        "turn",
        (Input("count", count), Input("h", h), Input("i", i), Input("table", table)),
        (Output("count", ops.add(count, 1)), Output("h", after), Output("unused", ops.exp(h))),
    )
    tables, start, index = tensor(3, 2), tensor(2), tensor("t", dtype=DType.I32)
    last, _ = ops.scan(body, [ops.constant(1, DType.I32), start], [index], [tables])
    arrays = {
        "table": np.arange(6.0).reshape(3, 2) / 3,
        "h": np.array([0.5, -1.0]),
        "i": np.array([2, 0, 2], np.int32),
    }
    check({"table": tables, "h": start, "i": index}, total(ops.sin(last[1])), arrays, order=1)


def test_loop_whose_turn_ignores_its_carry() -> None:
    h, x = tensor(), tensor()
    body = Graph("turn", (Input("h", h), Input("x", x)), (Output("h", ops.multiply(x, x)),))
    xs, start = tensor("t"), tensor()
    last, _ = ops.scan(body, [start], [xs])
    check({"x": xs, "h": start}, last[0], {"x": np.array([1.0, 2.0, 3.0]), "h": np.array(1.0)}, 1)


def test_loop_that_only_repeats() -> None:
    """Its backward loop needs no sequence but for the length."""
    h, x = tensor(), tensor(dtype=DType.I32)
    body = Graph("turn", (Input("h", h), Input("x", x)), (Output("h", ops.multiply(h, 2.0)),))
    xs, start = tensor("t", dtype=DType.I32), tensor()
    last, _ = ops.scan(body, [start], [xs])
    check({"x": xs, "h": start}, last[0], {"x": np.zeros(4, np.int32), "h": np.array(1.0)}, 1)


def test_depth_needs_no_recursion() -> None:
    x = tensor()
    y = x
    for _ in range(5_000):
        y = ops.sin(y)
    (dx,) = gradients(y, [x])
    result = interpret(graph_of({"x": x}, {"dx": dx}), {"x": np.array(1.0)})
    assert 0 < result["dx"] < 1


def test_zeros_where_nothing_flows() -> None:
    x, y = tensor(2), tensor(3)
    dx, dy = gradients(total(x), [x, y])
    result = interpret(
        graph_of({"x": x, "y": y}, {"dx": dx, "dy": dy}), {"x": np.ones(2), "y": np.ones(3)}
    )
    np.testing.assert_array_equal(result["dx"], np.ones(2))
    np.testing.assert_array_equal(result["dy"], np.zeros(3))
    assert pullback([total(x)], [ops.constant(1, DType.F64)], [y]) == [None]


def test_a_value_is_its_own_gradient() -> None:
    x = tensor()
    (dx,) = gradients(x, [x])
    assert interpret(graph_of({}, {"dx": dx}), {})["dx"] == 1


def test_values_between_count_as_variables() -> None:
    x = tensor()
    h = ops.multiply(x, 3.0)
    dh, dx = gradients(ops.multiply(h, h), [h, x])
    result = interpret(graph_of({"x": x}, {"dh": dh, "dx": dx}), {"x": np.array(2.0)})
    assert (result["dh"], result["dx"]) == (12, 36)


def test_seed_of_a_tensor() -> None:
    x, seed = tensor(2), tensor(2)
    (dx,) = gradients(ops.multiply(x, x), [x], seed)
    arrays = {"x": np.array([1.0, 2.0]), "seed": np.array([10.0, 100.0])}
    result = interpret(graph_of({"x": x, "seed": seed}, {"dx": dx}), arrays)
    np.testing.assert_array_equal(result["dx"], [20, 400])


def test_stop_gradient() -> None:
    x = tensor()
    (dx,) = gradients(ops.multiply(x, ops.stop_gradient(x)), [x])
    assert interpret(graph_of({"x": x}, {"dx": dx}), {"x": np.array(3.0)})["dx"] == 3


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (tensor(2), "from a scalar"),
        (tensor(dtype=DType.I32), "floating-point"),
    ],
)
def test_what_has_no_gradient(y: Value, message: str) -> None:
    with pytest.raises(NoGradientError, match=message):
        gradients(y, [y])


def test_second_derivative_of_max_pooling_is_refused() -> None:
    x = tensor(1, 1, 4, 4)
    y = total(ops.exp(ops.max_pool(x, (2, 2))))
    (dx,) = gradients(y, [x])
    with pytest.raises(NoGradientError, match="max pooling"):
        gradients(total(ops.multiply(dx, dx)), [x])


def test_nothing_is_asked_of_operators_that_do_not_lie_between() -> None:
    x, image = tensor(), tensor(1, 1, 4, 4)
    refused = total(ops.max_pool_gradient(image, ops.max_pool(image, (2, 2)), (2, 2)))
    (dx,) = gradients(ops.multiply(x, refused), [x])
    assert dx is refused or dx.node is not None


def test_symbolic_shapes() -> None:
    x, w, b = tensor("n", "c"), tensor("c", 4), tensor(4)
    y = ops.add(ops.matmul(x, w), b)
    p = ops.exp(ops.subtract(y, ops.reduce_max(y, 1, keep=True)))
    loss = total(ops.divide(p, ops.reduce_sum(p, 1, keep=True)))
    for value, gradient in zip((x, w, b), gradients(loss, [x, w, b]), strict=True):
        assert gradient.type == value.type


def test_gradients_carry_origins() -> None:
    x = tensor()
    with origin(Origin(path="layer")):
        y = ops.sin(x)
    (dx,) = gradients(ops.exp(y), [x])
    assert dx.node is not None
    assert dx.node.origin.path == "layer"


def test_contributions_are_added_in_a_fixed_order() -> None:
    def names(values: Sequence[Value]) -> list[str]:
        return [node.op.name for node in sorted_nodes(values)]

    def made() -> list[Value]:
        x = tensor(2)
        y = ops.add(ops.multiply(x, ops.sin(x)), ops.exp(x))
        return gradients(total(y), [x])

    assert names(made()) == names(made())
