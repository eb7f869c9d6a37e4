"""The memory plan: offsets, lifetimes, the order of nodes."""

import random

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.load import load_lowerings
from dnnc.program.executable import Executable
from dnnc.program.memory import ALIGNMENT, Interval, arrange
from dnnc.program.schedule import scheduled


@pytest.fixture(autouse=True)
def lowerings() -> None:
    load_lowerings()


def value(*shape: int | str) -> Value:
    return Value(TensorType.make(DType.F32, [dim(size) for size in shape]))


@pytest.mark.parametrize("seed", range(20))
def test_storages_that_live_together_do_not_overlap(seed: int) -> None:
    rng = random.Random(seed)
    intervals = []
    for _ in range(rng.randint(0, 40)):
        first = rng.randint(0, 30)
        intervals.append(
            Interval(rng.choice([0, 1, 64, 100, 5000]), first, first + rng.randint(0, 9))
        )
    layout = arrange(intervals)
    for i, (a, x) in enumerate(zip(intervals, layout.offsets, strict=True)):
        assert x % ALIGNMENT == 0
        assert x + a.bytes <= layout.peak
        for b, y in list(zip(intervals, layout.offsets, strict=True))[:i]:
            together = a.first <= b.last and b.first <= a.last and a.bytes and b.bytes
            assert not (together and x < y + b.bytes and y < x + a.bytes)
    assert layout.peak <= layout.naive


def test_a_long_chain_needs_two_buffers() -> None:
    x = value("n", 64)
    y = x
    for _ in range(10):
        y = ops.reverse(y, 1)
    program = Executable(Graph("chain", (Input("x", x, "data"),), (Output("y", y),)))
    arrays = {"x": np.zeros((1000, 64), np.float32)}
    program(arrays)
    layout = next(iter(program._programs.values())).binding.arrangement.layout
    assert layout.peak == 2 * 1000 * 64 * 4
    assert layout.naive == 9 * 1000 * 64 * 4


def test_readers_of_an_old_value_come_before_its_update() -> None:
    w, x = value(8, 8), value("n", 8)
    updated = ops.subtract(w, ops.multiply(ops.matmul(x, x, transpose_a=True), 0.1))
    late = ops.tanh(ops.matmul(x, w))
    graph = Graph(
        "f",
        (Input("w", w, "parameter"), Input("x", x, "data")),
        (Output("new", updated, "w"), Output("late", late)),
    )
    nodes, _ = scheduled(graph)
    names = [node.op.name for node in nodes]
    reader = next(node for node in nodes if w in node.operands and node.op.name == "matmul")
    assert nodes.index(reader) < nodes.index(updated.node)
    assert sorted(names) == sorted(node.op.name for node in graph.nodes)


def test_the_order_is_the_same_every_time() -> None:
    x = value("n", 8)
    y = ops.add(ops.exp(x), ops.tanh(x))
    graph = Graph("f", (Input("x", x, "data"),), (Output("y", y), Output("z", ops.sin(y))))
    first, second = scheduled(graph)[0], scheduled(graph)[0]
    assert first == second
