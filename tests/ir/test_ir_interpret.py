"""The interpreter, and how it finds the sizes behind symbols."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.binding import BindingError, bind_symbols
from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.text import parse_graph
from dnnc.ir.types import DType, TensorType
from tests.ir.graphs import LOOP, MLP


def test_outputs_and_updates_come_by_name() -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    w, b = np.ones((4, 3), np.float32), np.array([0, 1, 2], np.float32)
    result = interpret(parse_graph(MLP), {"x": x, "w": w, "layer.0.b": b})
    y = x @ w + b
    np.testing.assert_array_equal(result["y"], y)
    np.testing.assert_array_equal(result["w"], x.T @ y)
    np.testing.assert_array_equal(result["sum"], y.sum(0))
    np.testing.assert_array_equal(w, 1)


def test_loop_in_reverse() -> None:
    x = np.arange(6.0).reshape(3, 2)
    result = interpret(parse_graph(LOOP), {"h": np.ones(2), "x": x})
    h, emitted = np.ones(2), np.zeros((3, 2))
    for turn in (2, 1, 0):
        emitted[turn] = h + x[turn]
        h = emitted[turn] * 3
    np.testing.assert_array_equal(result["last"], h)
    np.testing.assert_array_equal(result["all"], np.exp(emitted))


def test_loop_of_no_turns() -> None:
    result = interpret(parse_graph(LOOP), {"h": np.ones(2), "x": np.zeros((0, 2))})
    np.testing.assert_array_equal(result["last"], 1)
    assert result["all"].shape == (0, 2)


def test_inputs_that_are_not_needed_may_be_missing() -> None:
    x, y = Value(TensorType(DType.F32)), Value(TensorType(DType.F32))
    graph = Graph("f", (Input("x", x), Input("y", y)), (Output("z", ops.exp(x)),))
    assert interpret(graph, {"x": np.float32(0)})["z"] == 1
    with pytest.raises(KeyError, match="x"):
        interpret(graph, {"y": np.float32(0)})


def test_element_types_must_agree() -> None:
    x = Value(TensorType(DType.F32))
    graph = Graph("f", (Input("x", x),), (Output("y", x),))
    with pytest.raises(TypeError, match="`x` is f32"):
        interpret(graph, {"x": np.float64(0)})


def of_shapes(*shapes: tuple[Dim | int, ...], bounds: dict[str, Dim] | None = None) -> Graph:
    values = (Value(TensorType.make(DType.F32, shape)) for shape in shapes)
    inputs = tuple(Input(f"x{i}", value) for i, value in enumerate(values))
    return Graph("f", inputs, (), bounds or {})


n, m, h = dim("n"), dim("m"), dim("h")


@pytest.mark.parametrize(
    ("graph", "shapes", "sizes"),
    [
        (of_shapes((n, 3), (n, m)), [(2, 3), (2, 5)], {"n": 2, "m": 5}),
        (of_shapes((2 * n + 1,)), [(7,)], {"n": 3}),
        (of_shapes((n * m,), (n,)), [(6,), (2,)], {"n": 2, "m": 3}),
        (of_shapes((ceil_div(h, 2), h)), [(3, 5)], {"h": 5}),
        (of_shapes((n + m,), (n - m,), (m,)), [(5,), (1,), (2,)], {"n": 3, "m": 2}),
    ],
)
def test_symbols_are_solved(
    graph: Graph, shapes: list[tuple[int, ...]], sizes: dict[str, int]
) -> None:
    assert bind_symbols(graph, {f"x{i}": shape for i, shape in enumerate(shapes)}) == sizes


@pytest.mark.parametrize(
    ("graph", "shapes", "message"),
    [
        (of_shapes((n, 3)), [(2, 4)], "axis 1 of `x0` must be 3, got 4"),
        (of_shapes((n,), (n,)), [(2,), (3,)], "axis 0 of `x1` must be n = 2, got 3"),
        (of_shapes((n, 3)), [(2,)], r"`x0` is f32\[n, 3\], got an array \[2\]"),
        (of_shapes((n,), bounds={"n": dim(4)}), [(5,)], "n is 5, more than 4"),
        (of_shapes((ceil_div(h, 2), h)), [(4, 5)], r"must be \(h \+ 1\) // 2 = 3, got 4"),
        (of_shapes((2 * n,)), [(5,)], r"axis 0 of `x0` is 2 \* n, which 5 does not determine"),
    ],
)
def test_shapes_that_do_not_fit(graph: Graph, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(BindingError, match=message):
        bind_symbols(graph, {f"x{i}": shape for i, shape in enumerate(shapes)})
