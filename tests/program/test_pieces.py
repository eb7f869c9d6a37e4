"""Calls that run on a piece of the batch at a time: which do, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.load import load_lowerings
from dnnc.passes.pipeline import optimize
from dnnc.program import executable, pieces
from dnnc.program.arrangement import cuts_of
from dnnc.program.executable import Executable
from dnnc.program.locations import CallItem, Piecewise
from dnnc.program.plan import make_plan
from tests.passes.random_graphs import random_graph
from tests.passes.random_images import random_images

N = "n"


@pytest.fixture(autouse=True)
def lowerings() -> None:
    load_lowerings()


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds an example or two of a small network, and cuts whatever they cost."""
    cut_all(monkeypatch, 24 * 1024)


def cut_all(monkeypatch: pytest.MonkeyPatch, cache: int) -> None:
    monkeypatch.setattr(pieces, "second_cache", lambda: cache)
    monkeypatch.setattr(pieces._Run, "pays", lambda *_: True)
    monkeypatch.setattr(pieces, "_WORTH", 100.0)


def value(*shape: int | str, dtype: DType = DType.F32) -> Value:
    return Value(TensorType.make(dtype, [dim(size) for size in shape]))


def arrays_for(graph: Graph, examples: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    arrays = {}
    for item in graph.inputs:
        kind = item.value.type
        shape = kind.concrete(dict.fromkeys((N,), examples))
        draw = random.integers(0, 2, shape) if not kind.dtype.is_float else random.random(shape)
        arrays[item.name] = np.asarray(draw).astype(kind.dtype.numpy)
    return arrays


def network() -> Graph:
    """Two convolutions with pooling, then a product by a weight of some size."""
    x, w, v = value(N, 1, 12, 12), value(8, 1, 3, 3), value(8, 8, 3, 3)
    d = value(8 * 9, 300)
    y = ops.max_pool(ops.maximum(ops.conv(x, w, pads=(1, 1, 1, 1)), 0), (2, 2))
    y = ops.max_pool(ops.maximum(ops.conv(y, v, pads=(1, 1, 1, 1)), 0), (2, 2))
    z = ops.matmul(ops.reshape(y, (y.shape[0], 8 * 9)), d)
    names = {"x": x, "w": w, "v": v, "d": d}
    inputs = tuple(Input(k, a, "data" if k == "x" else "parameter") for k, a in names.items())
    return Graph("network", inputs, (Output("z", z),))


def groups_of(graph: Graph) -> list[list[str]]:
    plan = make_plan(graph)
    groups = [item for item in plan.items if isinstance(item, Piecewise)]
    return [[item.call.kernel.name for item in group.items] for group in groups]


def whole(graph: Graph, threads: int, monkeypatch: pytest.MonkeyPatch) -> Executable:
    """The program with every call on the whole batch."""
    bind = executable.bind
    with monkeypatch.context() as patch:
        patch.setattr(executable, "bind", lambda *args: bind(*args[:4], True))
        program = Executable(graph, threads)
        program(arrays_for(graph, 9))
    return program


def results_of(program: Executable, arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Outputs and updated inputs."""
    own = {name: array.copy() for name, array in arrays.items()}
    found = program(own)
    return {name: array.tobytes() for name, array in (own | found).items()}


def test_layers_of_images_run_together() -> None:
    (group,) = groups_of(optimize(network()))
    assert len(group) == 4
    assert group[1::2] == ["max_pool"] * 2


@pytest.mark.parametrize("examples", [1, 2, 3, 7, 9, 16, 31])
def test_any_number_of_examples_and_threads(small_cache: None, examples: int) -> None:
    graph = optimize(network())
    arrays = arrays_for(graph, examples)
    wanted = interpret(graph, arrays)["z"]
    results = [Executable(graph, threads)(arrays)["z"] for threads in (1, 2, 3, 5)]
    np.testing.assert_allclose(results[0], wanted, 1e-4, 1e-5)
    assert len({result.tobytes() for result in results}) == 1


def test_bits_are_those_of_the_whole_batch(
    small_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = optimize(network())
    assert cuts_of(make_plan(graph), {N: 9}, 2)
    arrays = arrays_for(graph, 9)
    wanted = results_of(whole(graph, 2, monkeypatch), arrays)
    assert results_of(Executable(graph, 2), arrays) == wanted


SEEDS = range(24)


def drawn(seed: int) -> Graph:
    make = random_images if seed % 2 else random_graph
    return optimize(make(seed, size=14, backward=seed % 4 > 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_all(monkeypatch, 3000)
    graph = drawn(seed)
    arrays = arrays_for(graph, 9)
    wanted = results_of(whole(graph, 2, monkeypatch), arrays)
    for threads in (1, 2, 3):
        program = Executable(graph, threads)
        assert [results_of(program, arrays) for _ in range(2)] == [wanted, wanted]


def test_random_networks_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_all(monkeypatch, 3000)
    plans = (make_plan(drawn(seed)) for seed in SEEDS)
    assert sum(bool(cuts_of(plan, {N: 9}, 2)) for plan in plans) >= 5


def test_memory_is_that_of_a_piece() -> None:
    graph = optimize(network())
    plan = make_plan(graph)
    for threads in (1, 2):
        program = Executable(graph, threads)
        arrays = arrays_for(graph, 4096)
        program(arrays)
        (cut,) = cuts_of(plan, {N: 4096}, threads).values()
        assert cut.rounds * cut.each + cut.rest == 4096
        image = 12 * 12 * 8 * 4
        arena = next(iter(program._programs.values())).binding.arena_bytes
        assert arena < threads * cut.each * 1.3 * image + 4096 * 8 * 9 * 4 + 2**21


def test_few_examples_are_not_cut() -> None:
    plan = make_plan(optimize(network()))
    assert not cuts_of(plan, {N: 8}, 2)


def test_large_examples_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "second_cache", lambda: 4096)
    assert not cuts_of(make_plan(optimize(network())), {N: 64}, 2)


@pytest.mark.parametrize(("threads", "examples"), [(1, 64), (2, 64), (3, 63), (2, 2048)])
def test_threads_have_as_much_to_do(
    threads: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "second_cache", lambda: 64 * 1024)
    monkeypatch.setattr(pieces._Run, "pays", lambda *_: True)
    (cut,) = cuts_of(make_plan(optimize(network())), {N: examples}, threads).values()
    assert cut.rounds * cut.each + cut.rest == examples
    turns = -(-cut.rounds // threads)
    assert turns * cut.each + cut.rest / threads <= 1.15 * examples / threads


def test_few_examples_and_many_threads_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "second_cache", lambda: 64 * 1024)
    monkeypatch.setattr(pieces._Run, "pays", lambda *_: True)
    plan = make_plan(optimize(network()))
    for threads, examples in ((2, 3), (8, 9), (64, 2)):
        assert not cuts_of(plan, {N: examples}, threads)
    assert cuts_of(plan, {N: 64}, 2)


def test_large_weights_stay_apart() -> None:
    x, w, v = value(N, 512, 7, 7), value(512, 512, 3, 3), value(512, 512, 3, 3)
    y = ops.conv(ops.conv(x, w, pads=(1, 1, 1, 1)), v, pads=(1, 1, 1, 1))
    inputs = (Input("x", x, "data"), Input("w", w, "parameter"), Input("v", v, "parameter"))
    assert groups_of(optimize(Graph("deep", inputs, (Output("y", y),)))) == []


def chain(middle: Value, x: Value, *inputs: Input) -> list[list[str]]:
    """Groups of what uses `middle`, made of x, and goes on from there."""
    y = ops.transpose(ops.exp(ops.add(middle, 1.0)), (1, 0))
    graph = Graph("chain", (Input("x", x, "data"), *inputs), (Output("y", y),))
    return groups_of(optimize(graph))


def fused_apart(x: Value) -> Value:
    """Something elementwise in a kernel of its own."""
    pooled = ops.max_pool(ops.reshape(x, (x.shape[0], 1, 1, 64)), (1, 2))
    return ops.reshape(pooled, (x.shape[0], 32))


def test_what_looks_at_other_examples_does_not_join() -> None:
    x = value(N, 64)
    y = fused_apart(x)
    alone = chain(ops.multiply(y, 2.0), x)
    assert any("elementwise" in group for group in alone)
    # The number of examples, their order, a neighbour, and random numbers.
    count = ops.size(x.shape[0], DType.F32)
    order = ops.iota((x.shape[0], 32), 0, DType.F32)
    first = ops.slice(y, 0, 0, 1)
    seed, step = value(dtype=DType.I64), value(dtype=DType.I64)
    noise = ops.random_uniform(seed, step, (x.shape[0], 32), 7)
    others = (Input("seed", seed), Input("step", step))
    table, tall = value(40, 32), value("m", 32)
    part = ops.slice(table, 0, 0, x.shape[0])
    lower = ops.slice(tall, 0, 3, x.shape[0] + 3)
    own = ((Input("table", table),), (Input("tall", tall),))
    cases = (
        (count, ()),
        (order, ()),
        (first, ()),
        (noise, others),
        (part, own[0]),
        (lower, own[1]),
    )
    for other, inputs in cases:
        groups = chain(ops.multiply(y, other), x, *inputs)
        assert not any("elementwise" in group for group in groups), other


def test_packing_goes_before(small_cache: None) -> None:
    plan = make_plan(optimize(network()))
    kinds = [type(item).__name__ for item in plan.items]
    assert kinds.count("Piecewise") == 1
    assert "Piecewise" not in kinds[:2]
    packs = [i for i in plan.items if isinstance(i, CallItem) and "pack" in i.call.kernel.name]
    (group,) = (item for item in plan.items if isinstance(item, Piecewise))
    assert [pack.position for pack in packs] == [0, 1]
    assert group.first > 1


def test_profile_and_search_for_nan(small_cache: None) -> None:
    graph = optimize(network())
    program = Executable(graph, 2)
    arrays = arrays_for(graph, 9)
    entries = program.profile(arrays)
    assert sum("max_pool" in entry.kernels for entry in entries) == 2
    assert all(entry.seconds > 0 for entry in entries)
    assert program.first_nonfinite(arrays) is None
    arrays["x"][3, 0, 2, 2] = 3e38
    arrays["w"][:] = 3.0
    found = program.first_nonfinite(arrays)
    assert found is not None
    assert found[0].op.name == "fused"
    arrays = arrays_for(graph, 9)
    np.testing.assert_allclose(program(arrays)["z"], interpret(graph, arrays)["z"], 1e-4, 1e-5)


def test_windows_as_large_as_the_batch(small_cache: None) -> None:
    x = value(N, 2, 8, 4)
    n = x.shape[0]
    y = ops.max_pool(x, (n, 1), (1, 1), (0, 0, n - 1, 0))
    y = ops.max_pool(ops.exp(ops.max_pool(y, (1, 1), (1, 1))), (2, 2))
    graph = optimize(Graph("windows", (Input("x", x, "data"),), (Output("y", y),)))
    arrays = arrays_for(graph, 7)
    wanted = interpret(graph, arrays)["y"]
    np.testing.assert_allclose(Executable(graph, 2)(arrays)["y"], wanted, 1e-6)
