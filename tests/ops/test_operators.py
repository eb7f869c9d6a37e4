"""Every operator against its own definition: type rule, meaning, gradient and text agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.ir.verify import verify
from dnnc.ops import OPERATORS, NoGradientError
from tests.ops.operator_examples import EXAMPLES, Example, graph_of

Array = np.ndarray
CASES = [
    pytest.param(example, dtype, id=f"{name}-{number}-{dtype}")
    for name, examples in EXAMPLES.items()
    for number, example in enumerate(examples)
    for dtype in sorted(example.dtypes, key=str)
    # All element types for the first two examples, floating-point ones for all.
    if number < 2 or dtype.is_float
]
IN_F64 = [case for case in CASES if case.values[1] is DType.F64]
#: Operators that refuse to be differentiated.
WITHOUT_GRADIENT = {
    "max_pool_gradient",
    "max_pool_indexed",
    "max_pool_indexed_gradient",
    "fused",
    "sweep",
    "pack_columns",
    "packed_matmul",
    "pack_weights",
    "conv_last",
    "conv_last_input_gradient",
    "conv_last_weight_gradient",
}
STEP = 1e-6
TOLERANCE = 1e-6


def test_every_operator_has_examples() -> None:
    assert set(EXAMPLES) == set(OPERATORS)
    for name, examples in EXAMPLES.items():
        assert {example.make(DType.F64).name for example in examples} == {name}


def named(arrays: Sequence[Array]) -> dict[str, Array]:
    return {f"x{i}": array for i, array in enumerate(arrays)}


@pytest.mark.parametrize(("example", "dtype"), CASES)
def test_type_rule_meaning_and_text_agree(example: Example, dtype: DType) -> None:
    graph = graph_of(example, dtype)
    verify(graph)
    arrays = named(example.arrays(dtype))
    results = interpret(graph, arrays)
    for output in graph.outputs:
        array = results[output.name]
        assert array.dtype == output.value.type.dtype.numpy
        assert array.shape == output.value.type.concrete({})

    text = print_graph(graph)
    again = parse_graph(text)
    verify(again)
    assert print_graph(again) == text
    for name, array in interpret(again, arrays).items():
        np.testing.assert_array_equal(array, results[name])

    op, same = (g.outputs[0].value.node.op for g in (graph, again))
    assert op.substitute({"n": 3}) is op
    if not any(isinstance(value, Graph) for value in op.attributes().values()):
        assert op == same
        assert hash(op) == hash(same)


def weighted(values: Sequence[Value], seed: int) -> Value | None:
    """A number in which every element of the floating-point values has its own weight."""
    rng = np.random.default_rng(seed)
    total = None
    for value in values:
        if value.type.dtype.is_float:
            shape = value.type.concrete({})
            weights = ops.constant(rng.normal(size=shape), value.type.dtype)
            part = ops.reduce_sum(ops.multiply(value, weights), range(len(shape)))
            part = ops.cast(part, DType.F64)
            total = part if total is None else ops.add(total, part)
    return total


def numeric(f: Callable[[list[Array]], float], arrays: list[Array], operand: int) -> Array:
    """Central finite differences of f for every element of an operand."""
    slope = np.zeros_like(arrays[operand])
    for index in np.ndindex(slope.shape):
        ends = []
        for step in (STEP, -STEP):
            moved = [array.copy() for array in arrays]
            moved[operand][index] += step
            ends.append(f(moved))
        slope[index] = (ends[0] - ends[1]) / (2 * STEP)
    return slope


def check_gradients(graph: Graph, loss: Value, arrays: list[Array]) -> list[Value]:
    """Compare gradients of `loss` with finite differences; the gradients."""
    places = [i for i, a in enumerate(arrays) if a.dtype == np.float64]
    found = gradients(loss, [graph.inputs[i].value for i in places])
    outputs = [
        Output("loss", loss),
        *(Output(f"d{i}", g) for i, g in zip(places, found, strict=True)),
    ]
    results = interpret(Graph("f", graph.inputs, tuple(outputs)), named(arrays))
    plain = Graph("f", graph.inputs, (Output("loss", loss),))
    for i in places:
        expected = numeric(lambda x: float(interpret(plain, named(x))["loss"]), arrays, i)
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(results[f"d{i}"], expected, rtol=0, atol=TOLERANCE * scale)
    return found


@pytest.mark.parametrize(("example", "dtype"), IN_F64)
def test_gradient_agrees_with_finite_differences(example: Example, dtype: DType) -> None:
    graph = graph_of(example, dtype)
    name = example.make(dtype).name
    if name == "stop_gradient" or (name == "cast" and graph.outputs[0].value.type.dtype != dtype):
        return  # These differ from their meaning on purpose, or by rounding; tested by name below.
    loss = weighted([output.value for output in graph.outputs], seed=1)
    if loss is None:
        return
    if name in WITHOUT_GRADIENT:
        with pytest.raises(NoGradientError):
            gradients(loss, [item.value for item in graph.inputs])
        return
    found = check_gradients(graph, loss, example.arrays(dtype))
    if example.smooth and found:
        second = weighted(found, seed=2)
        assert second is not None
        check_gradients(graph, second, example.arrays(dtype))


@pytest.mark.parametrize("target", list(DType))
def test_gradient_of_cast_passes_between_floats_only(target: DType) -> None:
    x = Value(TensorType.make(DType.F64, [2]))
    y = ops.cast(ops.cast(x, target), DType.F64)
    (dx,) = gradients(ops.reduce_sum(y, 0), [x])
    graph = Graph("f", (Input("x", x),), (Output("dx", dx),))
    expected = 1.0 if target.is_float else 0.0
    np.testing.assert_array_equal(interpret(graph, {"x": np.array([0.5, 2.5])})["dx"], expected)
