"""Programs against the interpreter: updates in place, loops, aliases, threads, errors."""

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.passes.pipeline import optimize
from dnnc.program.executable import Executable
from dnnc.program.locations import leaves


def value(*shape: int | str, dtype: DType = DType.F32) -> Value:
    return Value(TensorType.make(dtype, [dim(size) for size in shape]))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def copies(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


def check(graph: Graph, arrays: Mapping[str, np.ndarray], rounds: int = 2) -> None:
    """Kernels against interpreter, repeatedly, with one and two threads; updates carry over."""
    state = copies(arrays)
    states = [copies(arrays), copies(arrays)]
    programs = [Executable(graph, threads=1), Executable(graph, threads=2)]
    for _ in range(rounds):
        expected = interpret(graph, state)
        results = [program(own) for program, own in zip(programs, states, strict=True)]
        for output in graph.outputs:
            if output.updates is not None:
                state[output.updates] = expected[output.name].copy()
        for found, own in zip(results, states, strict=True):
            for output in graph.outputs:
                array = own[output.updates] if output.updates else found[output.name]
                np.testing.assert_allclose(
                    array, expected[output.name], 2e-5, 2e-5, err_msg=output.name
                )
        for name in state:
            assert states[0][name].tobytes() == states[1][name].tobytes()


# Updates.


def test_an_optimizer_updates_in_place() -> None:
    w, m, g = value("n", 8), value("n", 8), value("n", 8)
    new_m = ops.add(ops.multiply(m, 0.9), ops.multiply(g, 0.1))
    new_w = ops.subtract(w, ops.multiply(new_m, 0.01))
    graph = Graph(
        "sgd",
        (Input("w", w, "parameter"), Input("m", m, "state"), Input("g", g, "data")),
        (Output("w2", new_w, "w"), Output("m2", new_m, "m")),
    )
    check(graph, {"w": random(5, 8), "m": random(5, 8, seed=1), "g": random(5, 8, seed=2)})
    program = Executable(graph)
    program({"w": random(5, 8), "m": random(5, 8), "g": random(5, 8)})
    copied = [item for item in leaves(program.plan.items) if item.call.kernel.name == "copy"]
    assert copied == []


def test_an_old_value_that_is_read_later_survives() -> None:
    w, x = value(4, 4), value(4, 4)
    new = ops.add(w, 1.0)
    late = ops.multiply(ops.exp(new), w)
    graph = Graph(
        "late",
        (Input("w", w, "parameter"), Input("x", x, "data")),
        (Output("new", new, "w"), Output("late", late), Output("old", w), Output("x", x)),
    )
    check(graph, {"w": random(4, 4), "x": random(4, 4, seed=1)})


def test_what_a_kernel_reads_in_two_ways_is_not_overwritten() -> None:
    w, x = value("n", 6), value("n", 6)
    y = ops.exp(ops.multiply(x, 0.1))
    first = ops.add(ops.slice(y, 1, 0, 1), ops.slice(y, 0, 0, 1))
    z = ops.subtract(y, ops.multiply(first, 0.5))
    new = ops.subtract(w, ops.slice(w, 0, 0, 1))
    graph = Graph(
        "views",
        (Input("w", w, "state"), Input("x", x, "data")),
        (Output("z", ops.reduce_sum(z, 1)), Output("new", new, "w")),
    )
    check(graph, {"w": random(7, 6), "x": random(7, 6, seed=1)}, rounds=3)
    check(optimize(graph), {"w": random(7, 6), "x": random(7, 6, seed=1)}, rounds=3)


def test_two_inputs_swap() -> None:
    a, b = value(6), value(6)
    graph = Graph(
        "swap",
        (Input("a", a, "state"), Input("b", b, "state")),
        (Output("x", b, "a"), Output("y", a, "b")),
    )
    check(graph, {"a": random(6), "b": random(6, seed=1)}, rounds=3)


def test_rotation_with_a_computed_value() -> None:
    a, b = value(6), value(6)
    graph = Graph(
        "rotate",
        (Input("a", a, "state"), Input("b", b, "state")),
        (Output("x", ops.add(a, b), "a"), Output("y", a, "b")),
    )
    check(graph, {"a": random(6), "b": random(6, seed=1)}, rounds=3)


def test_one_value_updates_two_inputs_and_is_returned() -> None:
    a, b = value(6), value(6)
    total = ops.add(a, b)
    outputs = (Output("x", total, "a"), Output("y", total, "b"), Output("z", total))
    graph = Graph("twice", (Input("a", a, "state"), Input("b", b, "state")), outputs)
    check(graph, {"a": random(6), "b": random(6, seed=1)})


def test_update_from_a_matrix_product() -> None:
    w, x = value(5, 5), value("n", 5)
    y = ops.matmul(x, w)
    new = ops.subtract(w, ops.multiply(ops.matmul(x, y, transpose_a=True), 0.01))
    graph = Graph(
        "hebb",
        (Input("w", w, "parameter"), Input("x", x, "data")),
        (Output("y", y), Output("new", new, "w")),
    )
    check(graph, {"w": random(5, 5), "x": random(9, 5, seed=1)})


# Outputs and aliases.


def test_outputs_that_are_aliases() -> None:
    x = value("n", 6)
    y = ops.exp(x)
    outputs = (
        Output("y", y),
        Output("flat", ops.reshape(y, [dim("n") * 6])),
        Output("again", y),
        Output("x", x),
        Output("one", ops.constant([1.0, 2.0], DType.F32)),
        Output("first", ops.slice(y, 0, 0, 1)),
        Output("rows", ops.size(dim("n"), DType.I64)),
    )
    graph = Graph("aliases", (Input("x", x, "data"),), outputs)
    check(graph, {"x": random(3, 6)})
    found = Executable(graph)({"x": random(3, 6)})
    found["y"][...] = 0
    assert found["again"].any()
    assert found["flat"].any()


def test_parts_of_a_concatenation_are_written_where_they_belong() -> None:
    x, w = value("n", 6), value(6, 4)
    one, two = ops.exp(x), ops.matmul(x, w)
    halves = ops.reduce_sum(x, 1, keep=True)
    joined = ops.concat([one, two, halves, ops.tanh(one), two], 1)
    rows = ops.concat([ops.sin(x), ops.cos(x)], 0)
    outputs = (
        Output("joined", joined),
        Output("rows", ops.multiply(rows, 2.0)),
        Output("one", one),
    )
    graph = Graph("concat", (Input("x", x, "data"), Input("w", w, "parameter")), outputs)
    for n in (1, 5, 40):
        arrays = {"x": random(n, 6), "w": random(6, 4, seed=1)}
        check(graph, arrays)
        check(optimize(graph), arrays)
    names = [n for e in Executable(optimize(graph)).profile(arrays) for n in e.kernels]
    # `one` and, twice, `two` have other readers or are made by a product.
    assert names.count("copy_block") == 3


def test_results_are_fresh_arrays() -> None:
    x = value("n")
    program = Executable(Graph("f", (Input("x", x, "data"),), (Output("y", ops.exp(x)),)))
    first = program({"x": np.zeros(3, np.float32)})["y"]
    second = program({"x": np.ones(3, np.float32)})["y"]
    assert first.tolist() == [1, 1, 1]
    assert second[0] > 2


def test_sizes_may_change_from_call_to_call() -> None:
    x = value("n", 3)
    y = ops.reduce_sum(ops.exp(ops.multiply(x, 0.1)), 0)
    program = Executable(Graph("f", (Input("x", x, "data"),), (Output("y", y),)))
    for n in (4, 1, 4000, 0, 4, 17):
        array = random(n, 3, seed=n)
        expected = np.exp(array * np.float32(0.1)).sum(0)
        np.testing.assert_allclose(program({"x": array})["y"], expected, rtol=1e-5)


def test_inputs_of_other_layout_and_type_are_converted() -> None:
    x = value("n", 3)
    program = Executable(Graph("f", (Input("x", x, "data"),), (Output("y", ops.add(x, 1.0)),)))
    array = np.arange(12.0).reshape(3, 4).T
    np.testing.assert_array_equal(program({"x": array})["y"], array + 1)


# Loops.


def body(
    carries: list[Value], sequences: list[Value], captures: list[Value], outputs: list[Value]
) -> Graph:
    values = [*carries, *sequences, *captures]
    return Graph(
        "body",
        tuple(Input(f"v{k}", v) for k, v in enumerate(values)),
        tuple(Output(f"o{k}", v) for k, v in enumerate(outputs)),
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_recurrence(reverse: bool, length: int) -> None:
    h, c, x, w = value("n", 4), value("n", 4), value("n", 4), value(4, 4)
    new_c = ops.add(ops.multiply(c, 0.5), ops.tanh(ops.add(ops.matmul(h, w), x)))
    new_h = ops.tanh(new_c)
    graph_body = body([h, c], [x], [w], [new_h, new_c, new_h, ops.multiply(new_c, 2.0)])
    h0, c0, xs, w0 = value("n", 4), value("n", 4), value("t", "n", 4), value(4, 4)
    carries, stacks = ops.scan(graph_body, [h0, c0], [xs], [w0], reverse)
    outputs = {"h": carries[0], "c": carries[1], "hs": stacks[0], "cs": stacks[1]}
    graph = Graph(
        "lstm",
        tuple(Input(k, v, "data") for k, v in {"h0": h0, "c0": c0, "xs": xs, "w": w0}.items()),
        tuple(Output(k, v) for k, v in outputs.items()),
    )
    arrays = {"h0": random(3, 4), "c0": random(3, 4, seed=1)}
    arrays |= {"xs": random(length, 3, 4, seed=2), "w": random(4, 4, seed=3)}
    check(graph, arrays)


def test_carries_that_move_without_being_computed() -> None:
    a, b, x, k = value(2), value(2), value(2), value(2)
    graph_body = body([a, b], [x], [k], [b, a, x, a, k, ops.add(a, x)])
    a0, b0, xs, k0 = value(2), value(2), value("t", 2), value(2)
    carries, stacks = ops.scan(graph_body, [a0, b0], [xs], [k0])
    values = {"a": carries[0], "b": carries[1]} | {f"s{i}": s for i, s in enumerate(stacks)}
    graph = Graph(
        "moves",
        (Input("a0", a0), Input("b0", b0), Input("xs", xs), Input("k0", k0)),
        tuple(Output(name, v) for name, v in values.items()),
    )
    for length in (0, 1, 4, 5):
        arrays = {"a0": random(2), "b0": random(2, seed=1), "k0": random(2, seed=2)}
        check(graph, arrays | {"xs": random(length, 2, seed=3)})


def test_a_loop_in_a_loop() -> None:
    s, y, k = value(3), value(3), value(3)
    inner = body([s], [y], [k], [ops.add(ops.multiply(s, k), y), ops.exp(ops.multiply(s, 0.1))])
    c, row, scale = value(3), value("u", 3), value(3)
    carries, stacks = ops.scan(inner, [c], [row], [scale])
    outer = body([c], [row], [scale], [carries[0], ops.reduce_sum(stacks[0], 0), stacks[0]])
    c0, rows, scale0 = value(3), value("t", "u", 3), value(3)
    finals, results = ops.scan(outer, [c0], [rows], [scale0], reverse=True)
    graph = Graph(
        "nest",
        (Input("c0", c0), Input("rows", rows), Input("scale", scale0)),
        (Output("c", finals[0]), Output("sums", results[0]), Output("all", results[1])),
    )
    for t, u in ((1, 1), (3, 2), (2, 5), (4, 0)):
        arrays = {"c0": random(3), "rows": random(t, u, 3, seed=1), "scale": random(3, seed=2)}
        check(graph, arrays)


def test_state_of_a_loop_updates_an_input() -> None:
    h, x = value(4), value(4)
    inner = body([h], [x], [], [ops.tanh(ops.add(h, x)), h])
    h0, xs = value(4), value("t", 4)
    carries, stacks = ops.scan(inner, [h0], [xs])
    graph = Graph(
        "state",
        (Input("h", h0, "state"), Input("xs", xs, "data")),
        (Output("next", carries[0], "h"), Output("before", stacks[0])),
    )
    check(graph, {"h": random(4), "xs": random(5, 4, seed=1)}, rounds=3)


# Larger programs, threads.


def test_a_training_step_by_hand() -> None:
    x, t, w, b = value("n", 20), value("n", 5), value(20, 5), value(5)
    y = ops.add(ops.matmul(x, w), b)
    error = ops.subtract(y, t)
    loss = ops.reduce_sum(ops.multiply(error, error), [0, 1])
    dw = ops.matmul(x, error, transpose_a=True)
    db = ops.reduce_sum(error, 0)
    graph = Graph(
        "step",
        (
            Input("x", x, "data"),
            Input("t", t, "data"),
            Input("w", w, "parameter"),
            Input("b", b, "parameter"),
        ),
        (
            Output("loss", loss),
            Output("w2", ops.subtract(w, ops.multiply(dw, 1e-3)), "w"),
            Output("b2", ops.subtract(b, ops.multiply(db, 1e-3)), "b"),
        ),
    )
    arrays = {"x": random(64, 20), "t": random(64, 5, seed=1)}
    check(graph, arrays | {"w": random(20, 5, seed=2), "b": random(5, seed=3)}, rounds=4)


def test_many_threads_and_many_steps_agree() -> None:
    x = y = value("n", 50)
    for k in range(12):
        y = ops.add(ops.multiply(y, 0.9), float(k)) if k % 3 else ops.tanh(y)
    total = ops.reduce_sum(y, [0, 1])
    graph = Graph("deep", (Input("x", x, "data"),), (Output("y", y), Output("total", total)))
    array = random(700, 50)
    results = [Executable(graph, threads=k)({"x": array}) for k in (1, 2, 3, 5)]
    for other in results[1:]:
        for name in ("y", "total"):
            assert other[name].tobytes() == results[0][name].tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_runs_on_one_thread() -> None:
    x = value("n", 50)
    program = Executable(Graph("f", (Input("x", x),), (Output("y", ops.tanh(x)),)), threads=2)
    array = random(2000, 50)
    expected = program({"x": array})["y"]
    with warnings.catch_warnings():
        # Forking with threads is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(program({"x": array})["y"], expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_programs_may_be_called_from_several_threads() -> None:
    x = value("n", 50)
    program = Executable(Graph("f", (Input("x", x),), (Output("y", ops.exp(x)),)), threads=2)
    arrays = [random(900 + k, 50, seed=k) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = pool.map(lambda a: program({"x": a}), arrays)
            for array, found in zip(arrays, results, strict=True):
                np.testing.assert_allclose(found["y"], np.exp(array), 1e-6)


def test_profile_and_plan_can_be_read() -> None:
    x, w = value("n", 30), value(30, 30)
    y = ops.reduce_sum(ops.tanh(ops.matmul(x, w)), 1)
    graph = Graph("f", (Input("x", x, "data"), Input("w", w, "parameter")), (Output("y", y),))
    program = Executable(graph)
    arrays = {"x": random(20, 30), "w": random(30, 30, seed=1)}
    entries = program.profile(arrays)
    names = [entry.node.op.name for entry in entries if entry.node]
    assert names == ["matmul", "tanh", "reduce_sum"]
    assert entries[0].flops == 2 * 20 * 30 * 30
    assert all(entry.seconds > 0 and entry.bytes > 0 for entry in entries)
    assert "arena" in program.describe(arrays)


def test_first_nonfinite_names_the_node_that_made_it() -> None:
    x, w = value("n"), value("n")
    bad = ops.log(ops.subtract(x, 1.0))
    y = ops.add(ops.multiply(bad, w), w)
    graph = Graph(
        "f",
        (Input("x", x, "data"), Input("w", w, "parameter")),
        (Output("y", y), Output("w2", y, "w")),
    )
    program = Executable(graph)
    arrays = {"x": np.full(3, 2, np.float32), "w": np.ones(3, np.float32)}
    assert program.first_nonfinite(arrays) is None
    arrays["x"] = np.array([2, 0, 3], np.float32)
    found = program.first_nonfinite(arrays)
    assert found is not None
    assert found[0] is bad.node
    assert found[1] == "log"
    assert arrays["w"].tolist() == [1, 1, 1]


# Errors.


@pytest.fixture(scope="module")
def simple() -> Executable:
    x, w = value("n", 3), value("m")
    y, new = ops.reduce_sum(x, 1), ops.add(w, 1.0)
    graph = Graph(
        "f",
        (Input("x", x, "data"), Input("w", w, "parameter")),
        (Output("y", y), Output("new", new, "w")),
        {"n": dim(10)},
    )
    return Executable(graph)


GOOD = {"x": np.zeros((2, 3), np.float32), "w": np.zeros(4, np.float32)}
FAULTS = {
    "input w .* is missing": {"w": None},
    r"no input extra": {"extra": np.zeros(1)},
    r"x must be f32\[n, 3\], got float32\[2, 4\]": {"x": np.zeros((2, 4), np.float32)},
    r"x must be f32\[n, 3\], got float32\[3\]": {"x": np.zeros(3, np.float32)},
    r"x must be f32\[n, 3\], got complex128": {"x": np.zeros((2, 3), complex)},
    "contiguous array of f32, got float64": {"w": np.zeros(4)},
    "contiguous array of f32, got float32": {"w": np.zeros(8, np.float32)[::2]},
    "n is 11, more than 10": {"x": np.zeros((11, 3), np.float32)},
    "read-only": {"w": np.broadcast_to(np.zeros(1, np.float32), (1,))},
}


@pytest.mark.parametrize("message", FAULTS)
def test_inputs_that_do_not_fit(simple: Executable, message: str) -> None:
    arrays = {k: v for k, v in (GOOD | FAULTS[message]).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        simple(arrays)
    assert simple(GOOD)["y"].shape == (2,)


def test_sizes_that_disagree() -> None:
    x, y = value("n"), value("n")
    graph = Graph("f", (Input("x", x), Input("y", y)), (Output("z", ops.add(x, y)),))
    with pytest.raises(ValueError, match=r"axis 0 of `y` must be n = 3, got 4"):
        Executable(graph)({"x": random(3), "y": random(4)})
