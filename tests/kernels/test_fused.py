"""Fused kernels against the interpreter: every shape of loops, odd sizes, random bodies."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import apply_all
from dnnc.ops.control import Fused, Sweep
from dnnc.program.executable import Executable
from dnnc.program.locations import CallItem

Shape = Sequence[Dim | int | str]


def value(dtype: DType, shape: Shape) -> Value:
    return Value(TensorType.make(dtype, [dim(size) for size in shape]))


def fused_graph(
    inputs: list[Value], outputs: list[Value], space: Shape, reduced: tuple[int, ...] = ()
) -> Graph:
    """A graph of one fused node with this body."""
    named = tuple(Input(f"x{k}", v) for k, v in enumerate(inputs))
    body = Graph("body", named, tuple(Output(f"y{k}", v) for k, v in enumerate(outputs)))
    outer = tuple(Input(f"x{k}", Value(v.type), "data") for k, v in enumerate(inputs))
    fused = Fused(body, tuple(dim(size) for size in space), reduced)
    results = apply_all(fused, *(item.value for item in outer))
    return Graph("outer", outer, tuple(Output(f"y{k}", v) for k, v in enumerate(results)))


def arrays_for(graph: Graph, sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for item in graph.inputs:
        shape = item.value.type.concrete(sizes)
        dtype = item.value.type.dtype
        if dtype.is_float:
            arrays[item.name] = rng.standard_normal(shape).astype(dtype.numpy)
        else:
            arrays[item.name] = rng.integers(0, 3, shape).astype(dtype.numpy)
    return arrays


def check(graph: Graph, *choices: dict[str, int], rtol: float = 2e-5, atol: float = 2e-5) -> None:
    """Kernel against interpreter for several sizes; one and two threads give the same bits."""
    one, two = Executable(graph, threads=1), Executable(graph, threads=2)
    for sizes in choices:
        arrays = arrays_for(graph, sizes)
        with np.errstate(all="ignore"):
            expected = interpret(graph, arrays, sizes)
        found, other = one(arrays), two(arrays)
        for name, array in expected.items():
            assert found[name].shape == array.shape
            assert found[name].dtype == array.dtype
            np.testing.assert_allclose(found[name], array, rtol, atol, err_msg=f"{name} at {sizes}")
            assert found[name].tobytes() == other[name].tobytes(), f"{name} at {sizes}"


SIZES = ({"n": 5, "m": 7}, {"n": 1, "m": 1}, {"n": 130, "m": 33}, {"n": 3, "m": 1000})
EMPTY = {"n": 0, "m": 7}


def test_rows_columns_and_scalars_broadcast() -> None:
    x, row = value(DType.F32, ["n", "m"]), value(DType.F32, [1, "m"])
    column, scalar = value(DType.F32, ["n", 1]), value(DType.F32, [])
    y = ops.add(ops.multiply(x, row), ops.multiply(column, ops.exp(scalar)))
    z = ops.select(ops.greater(x, 0.0), y, row)
    check(fused_graph([x, row, column, scalar], [y, z], ["n", "m"]), *SIZES, EMPTY)


def test_four_axes_with_a_channel() -> None:
    x, c = value(DType.F32, ["n", 3, "m", 5]), value(DType.F32, [1, 3, 1, 1])
    y = ops.maximum(ops.add(x, c), 0.0)
    check(fused_graph([x, c], [y], ["n", 3, "m", 5]), *SIZES, EMPTY)


def test_one_kernel_serves_all_shapes_of_one_formula() -> None:
    flat = [value(DType.F32, ["n"])]
    cube = [value(DType.F32, ["n", 4, "m"])]
    graphs = [
        fused_graph(flat, [ops.tanh(flat[0])], ["n"]),
        fused_graph(cube, [ops.tanh(cube[0])], ["n", 4, "m"]),
    ]
    keys = {
        item.call.kernel.key for graph in graphs for item in Executable(graph, threads=1).plan.items
    }
    assert len(keys) == 1


def test_counts_sizes_and_casts() -> None:
    x = value(DType.F32, ["n", "m"])
    rows = ops.iota([dim("n"), dim("m")], 0, DType.I32)
    columns = ops.iota([dim("n"), dim("m")], 1)
    n = ops.size(dim("n"), DType.F32)
    y = ops.add(ops.cast(rows, DType.F32), ops.multiply(x, n))
    mask = ops.less_equal(columns, ops.cast(rows, DType.I64))
    check(fused_graph([x], [y, mask], ["n", "m"]), *SIZES)


def test_random_numbers_have_the_bits_of_the_reference() -> None:
    seed, step = value(DType.I64, []), value(DType.I64, [])
    x = value(DType.F32, ["n", "m"])
    shape = [dim("n"), dim("m")]
    u = ops.random_uniform(seed, step, shape, 3)
    wide = ops.random_uniform(seed, step, shape, 4, DType.F64)
    rows = ops.random_uniform(seed, step, [dim("n"), 1], 5)
    kept = ops.select(ops.less(u, 0.5), x, 0.0)
    graph = fused_graph([seed, step, x], [u, wide, ops.add(rows, x), kept], shape)
    ex = Executable(graph, threads=2)
    for sizes in SIZES:
        arrays = arrays_for(graph, sizes)
        arrays["x0"], arrays["x1"] = np.array(-12345678901), np.array(2**31 + 5)
        expected, found = interpret(graph, arrays, sizes), ex(arrays)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def softmax(x: Value, axis: int) -> Value:
    e = ops.exp(ops.subtract(x, ops.reduce_max(x, axis, keep=True)))
    return ops.divide(e, ops.reduce_sum(e, axis, keep=True))


def norm(x: Value, axes: tuple[int, ...], count: Value) -> tuple[Value, Value, Value]:
    mean = ops.divide(ops.reduce_sum(x, axes, keep=True), count)
    centred = ops.subtract(x, mean)
    squares = ops.reduce_sum(ops.multiply(centred, centred), axes, keep=True)
    variance = ops.divide(squares, count)
    y = ops.divide(centred, ops.sqrt(ops.add(variance, 1e-5)))
    return mean, variance, y


def test_softmax_along_rows_and_columns() -> None:
    x = value(DType.F32, ["n", "m"])
    check(fused_graph([x], [softmax(x, 1)], ["n", "m"], (1,)), *SIZES, EMPTY)
    check(fused_graph([x], [softmax(x, 0)], ["n", "m"], (0,)), *SIZES)


def test_layer_norm_with_weights() -> None:
    x, g = value(DType.F32, ["n", "m"]), value(DType.F32, [1, "m"])
    mean, variance, y = norm(x, (1,), ops.size(dim("m"), DType.F32))
    check(fused_graph([x, g], [ops.multiply(y, g), mean, variance], ["n", "m"], (1,)), *SIZES)


def test_batch_norm_of_images_and_of_rows() -> None:
    x, g = value(DType.F32, ["n", 6, "m", 5]), value(DType.F32, [1, 6, 1, 1])
    count = ops.multiply(ops.size(dim("n") * dim("m"), DType.F32), 5.0)
    mean, variance, y = norm(x, (0, 2, 3), count)
    space = ["n", 6, "m", 5]
    check(fused_graph([x, g], [ops.multiply(y, g), mean, variance], space, (0, 2, 3)), *SIZES)
    x = value(DType.F32, ["n", "m"])
    mean, variance, y = norm(x, (0,), ops.size(dim("n"), DType.F32))
    check(fused_graph([x], [y, mean, variance], ["n", "m"], (0,)), *SIZES, rtol=1e-3)


def test_channels_last_statistics() -> None:
    x = value(DType.F32, ["n", "m", 6])
    mean, _, y = norm(x, (0, 1), ops.size(dim("n") * dim("m"), DType.F32))
    check(fused_graph([x], [y, mean], ["n", "m", 6], (0, 1)), *SIZES, rtol=1e-3)
    total = ops.reduce_sum(ops.maximum(x, 0.0), (0, 1), keep=True)
    highest = ops.reduce_max(x, (0, 1), keep=True)
    check(fused_graph([x], [total, highest], ["n", "m", 6], (0, 1)), *SIZES)


@pytest.mark.parametrize("channels", [3, 16, 64])
def test_batch_norm_with_channels_last(channels: int) -> None:
    """What training computes, forward and backward: sweeps that reduce, that store, and that do
    both; running statistics that are updated in place; rows that are whole tiles and that are
    not."""
    for line in (dim("m"), dim("m") * 8):
        space = ["n", line, channels]
        x, dy, r = (value(DType.F32, space) for _ in range(3))
        g, old = (value(DType.F32, [1, 1, channels]) for _ in range(2))
        count = ops.size(dim("n") * line, DType.F32)
        mean, variance, y = norm(x, (0, 1), count)
        z = ops.maximum(ops.add(ops.multiply(y, g), r), 0.0)
        running = ops.add(ops.multiply(old, 0.9), ops.multiply(mean, 0.1))
        check(fused_graph([x, g, r, old], [z, variance, running], space, (0, 1)), *SIZES, rtol=1e-3)
        masked = ops.select(ops.greater(x, 0.0), dy, 0.0)
        sums = [ops.reduce_sum(v, (0, 1), keep=True) for v in (masked, ops.multiply(masked, r))]
        graph = fused_graph([x, dy, r], [masked, *sums], space, (0, 1))
        check(graph, *SIZES, rtol=1e-4, atol=1e-3)
        dx = ops.subtract(masked, ops.divide(ops.add(sums[0], ops.multiply(r, sums[1])), count))
        updated = ops.add(old, ops.divide(sums[1], g))
        outputs = [dx, sums[0], updated]
        check(fused_graph([x, dy, r, g, old], outputs, space, (0, 1)), *SIZES, rtol=1e-3)


def test_sweeps_of_different_bodies_share_kernels() -> None:
    space = ["n", "m", 16]
    x, r = value(DType.F32, space), value(DType.F32, space)
    _, _, y = norm(x, (0, 1), ops.size(dim("n") * dim("m"), DType.F32))
    keys = []
    for inputs, result in (([x], y), ([r, x], ops.add(y, r))):
        graph = fused_graph(inputs, [result], space, (0, 1))
        items = Executable(graph, threads=1).plan.items
        keys.append([item.call.kernel.key for item in items if isinstance(item, CallItem)])
    # The sum and the sum of squares are the same; what follows is not.
    assert keys[0][:2] == keys[1][:2]
    assert keys[0][2] != keys[1][2]


def test_everything_reduced_in_several_sweeps() -> None:
    x, y = value(DType.F32, ["n", "m"]), value(DType.F32, ["n", "m"])
    loss = ops.reduce_sum(ops.multiply(ops.subtract(x, y), 0.5), (0, 1), keep=True)
    check(fused_graph([x, y], [loss], ["n", "m"], (0, 1)), *SIZES, {"n": 300, "m": 900})
    z = value(DType.F32, ["n"])
    total = softmax(z, 0)
    check(fused_graph([z], [total], ["n"], (0,)), *SIZES, {"n": 50000})


def test_middle_axis_reduced() -> None:
    x = value(DType.F32, [2, "n", "m"])
    check(fused_graph([x], [softmax(x, 1)], [2, "n", "m"], (1,)), *SIZES)
    x = value(DType.F32, [2, "n", "m"])
    check(fused_graph([x], [softmax(x, 2)], [2, "n", "m"], (2,)), *SIZES)


@pytest.mark.parametrize("dtype", [DType.I32, DType.I64, DType.U8, DType.F64])
def test_reductions_of_other_types(dtype: DType) -> None:
    x = value(dtype, ["n", "m"])
    for axes in ((0,), (1,), (0, 1)):
        outputs = [
            reduce(x, axes, keep=True)
            for reduce in (ops.reduce_sum, ops.reduce_max, ops.reduce_min)
        ]
        check(fused_graph([x], outputs, ["n", "m"], axes), *SIZES)


def test_nan_wins_in_maxima() -> None:
    x = value(DType.F32, ["n", "m"])
    array = np.random.default_rng(0).standard_normal((40, 70)).astype(np.float32)
    array[3, 5] = array[17, 69] = np.nan
    for axes in ((0,), (1,), (0, 1)):
        outputs = [ops.reduce_max(x, axes, keep=True), ops.reduce_min(x, axes, keep=True)]
        graph = fused_graph([x], outputs, ["n", "m"], axes)
        found, expected = Executable(graph)({"x0": array}), interpret(graph, {"x0": array})
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_long_sums_are_accurate() -> None:
    x = value(DType.F32, ["n", "m"])
    array = np.random.default_rng(0).uniform(0.5, 1.5, (4, 1_000_000)).astype(np.float32)
    for axes in ((1,), (0, 1)):
        graph = fused_graph([x], [ops.reduce_sum(x, axes, keep=True)], ["n", "m"], axes)
        found = Executable(graph)({"x0": array})["y0"]
        np.testing.assert_allclose(found, array.sum(axes, np.float64, keepdims=True), 1e-6)
    x, array = value(DType.F32, ["n", 4]), array.reshape(-1, 4)
    for axes in ((0,), (0, 1)):
        graph = fused_graph([x], [ops.reduce_sum(x, axes, keep=True)], ["n", 4], axes)
        found = Executable(graph)({"x0": array})["y0"]
        np.testing.assert_allclose(found, array.sum(axes, np.float64, keepdims=True), 1e-6)


def test_slices_are_read_where_they_lie() -> None:
    x, y = value(DType.F32, ["n", 12, "m"]), value(DType.F32, ["n", 4, "m"])
    first, second = ops.slice(x, 1, 0, 4), ops.slice(x, 1, 7, 11)
    column = ops.reshape(ops.slice(ops.slice(x, 1, 5, 6), 2, 0, 1), [dim("n"), 1, 1])
    inputs = [value(DType.F32, v.shape) for v in (first, second, column, y)]
    a, b, c, d = inputs
    z = ops.add(ops.multiply(ops.sigmoid(a), b), ops.multiply(c, d))
    named = tuple(Input(f"x{k}", v) for k, v in enumerate(inputs))
    for outputs, reduced in (
        ([z], ()),
        ([softmax(z, 2)], (2,)),
        ([ops.reduce_sum(z, (0, 1), keep=True)], (0, 1)),
        ([softmax(z, 1)], (1,)),
    ):
        body = Graph("b", named, tuple(Output(f"y{k}", v) for k, v in enumerate(outputs)))
        op = Fused(body, z.shape, reduced)
        results = apply_all(op, first, second, column, y)
        graph = Graph(
            "f",
            (Input("x", x, "data"), Input("y", y, "data")),
            tuple(Output(f"y{k}", v) for k, v in enumerate(results)),
        )
        calls = [i for i in Executable(graph).plan.items if isinstance(i, CallItem)]
        # Only what a slice is cut from again is copied.
        assert sum(item.call.kernel.name == "copy_block" for item in calls) <= 1
        check(graph, *SIZES)


def test_sweep_over_groups_of_all_sizes() -> None:
    rate, x, y = (value(DType.F32, []) for _ in range(3))
    kept = ops.add(ops.multiply(x, 0.9), y)
    outputs = (Output("a", kept), Output("b", ops.multiply(kept, ops.exp(rate))))
    named = (Input("rate", rate), Input("x", x), Input("y", y))
    op = Sweep(Graph("element", named, outputs), 1)
    shapes: list[Shape] = [(3, 5), (1,), (), (0, 4), ("n", 7), (257,), (70, 70)]
    operands = [value(DType.F32, [])]
    operands += [value(DType.F32, shape) for shape in shapes for _ in range(2)]
    results = apply_all(op, *operands)
    graph = Graph(
        "outer",
        tuple(Input(f"x{k}", v, "data") for k, v in enumerate(operands)),
        tuple(Output(f"y{k}", v) for k, v in enumerate(results)),
    )
    run = Executable(graph, threads=1)
    assert len(run.plan.items) == 1
    check(graph, {"n": 1}, {"n": 90}, {"n": 0})


UNARY = ("negate", "absolute", "exp", "tanh", "sigmoid", "sin", "floor", "sign")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")


def random_body(rng: random.Random, reduced: tuple[int, ...]) -> tuple[list[Value], list[Value]]:
    """Inputs and outputs of a random body over [n, 3, m]."""
    space: list[Dim | int | str] = ["n", 3, "m"]
    inputs = [value(DType.F32, space)]
    for _ in range(rng.randint(1, 3)):
        inputs.append(value(DType.F32, [s if rng.random() < 0.5 else 1 for s in space]))
    pool = list(inputs)
    full = [inputs[0]]
    for _ in range(rng.randint(3, 9)):
        a, b = rng.choice(full), rng.choice(pool)
        kind = rng.random()
        if kind < 0.35:
            made = getattr(ops, rng.choice(UNARY))(ops.multiply(a, 0.25))
        elif kind < 0.75 or not reduced:
            made = getattr(ops, rng.choice(BINARY))(a, b)
        else:
            part = getattr(ops, rng.choice(("reduce_sum", "reduce_max", "reduce_min")))
            pool.append(ops.multiply(part(a, reduced, keep=True), 0.01))
            made = ops.subtract(a, pool[-1])
        pool.append(made)
        full.append(made)
    outputs = [full[-1]]
    kept = [v for v in pool if v.node and all(v.shape[axis] == 1 for axis in reduced)]
    kept = [v for v in kept if v.type.elements == outputs[0].type.elements or reduced]
    wanted = [dim(1) if k in reduced else dim(s) for k, s in enumerate(space)]
    outputs += [v for v in kept if reduced and list(v.shape) == wanted][:1]
    return inputs, outputs


@pytest.mark.parametrize("seed", range(12))
def test_random_bodies(seed: int) -> None:
    rng = random.Random(seed)
    reduced = [(), (2,), (0,), (0, 2), (0, 1, 2), (1, 2)][seed % 6]
    inputs, outputs = random_body(rng, reduced)
    graph = fused_graph(inputs, outputs, ["n", 3, "m"], reduced)
    check(graph, {"n": 4, "m": 19}, {"n": 1, "m": 1}, {"n": 37, "m": 5}, rtol=2e-4, atol=2e-4)
