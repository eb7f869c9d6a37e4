"""Computing values again within a budget of memory: text, meaning, bits, and what cannot be met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import dnnc
from dnnc.diagnostics import DnnError
from dnnc.ir.graph import Graph
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.verify import verify
from dnnc.model.compiled import bytes_in
from dnnc.ops.control import Fused
from dnnc.passes import recompute
from dnnc.passes.check import check_pass
from dnnc.passes.pipeline import optimize
from dnnc.passes.recompute.part import Part, part_of
from dnnc.program.footprint import memory_budget
from tests.passes.random_graphs import random_graph

CHAIN = """
graph f(x: f32[n, 256], y: f32[n, 256]) {
  %0: f32[n, 256] = exp x
  %1: f32[256, 256] = matmul x, %0 {transpose_a = true, transpose_b = false}
  %2: f32[256, 256] = matmul %1, %1 {transpose_a = false, transpose_b = false}
  %3: f32[n, 256] = matmul y, %2 {transpose_a = false, transpose_b = false}
  %4: f32[n, 256] = matmul %3, %2 {transpose_a = false, transpose_b = false}
  %5: f32[256, 256] = matmul y, %4 {transpose_a = true, transpose_b = false}
  %6: f32[n, 256] = matmul %0, %5 {transpose_a = false, transpose_b = false}
  return z = %6
}
"""

CONV = """
model Net {
  in x: [batch, 3, 12, 12]
  out logits: [batch, 5]
  a = x -> conv(16, 3) -> batch_norm -> relu
  b = a -> conv(16, 3, bias = false) -> batch_norm -> relu -> dropout(0.2)
    -> conv(16, 3, bias = false) -> batch_norm
  logits = relu(a + b) -> conv(32, 3, stride = 2) -> batch_norm -> gelu -> flatten -> dense(64)
    -> gelu -> dropout(0.3) -> dense(5)
}
"""

ENCODER = """
model Net {
  in x: [batch, 16, 32]
  out logits: [batch, 5]
  y = x
  repeat 3 { y = y -> encoder_layer(32, 4, drop = 0.1) }
  logits = y -> layer_norm -> mean(axis = 1) -> dense(5)
}
"""

LSTM = """
model Net {
  in x: [batch, 12, 16]
  out logits: [batch, 5]
  logits = x -> dense(32) -> gelu -> layer_norm -> lstm(24) -> dense(32) -> gelu
    -> dropout(0.2) -> layer_norm -> lstm(24) -> last -> dense(32) -> gelu -> dense(5)
}
"""

#: Networks, and the shape of what they are trained on.
NETWORKS = {
    "conv": (CONV, (64, 3, 12, 12)),
    "encoder": (ENCODER, (32, 16, 32)),
    "lstm": (LSTM, (32, 12, 16)),
}


def within(graph: Graph, share: float, batch: int = 64) -> tuple[Graph, int, int]:
    """The graph within a part of what it takes; the arena before and after."""
    measure = memory_budget(0, graph, batch, threads=1).measure
    whole = measure(graph).arena()
    result = recompute.run(graph, memory_budget(int(share * whole), graph, batch, threads=1))
    return result, whole, measure(result).arena()


def test_the_copy_waits_for_what_comes_before_its_reader() -> None:
    graph = optimize(parse_graph(CHAIN))
    result, whole, less = within(graph, 0.8, batch=4096)
    assert less < whole
    text = print_graph(result)
    assert print_graph(parse_graph(text)) == text
    assert text.count("exp") == 2
    assert text.count(" = after x, ") == 1
    check_pass("recompute", graph, result)
    assert within(result, 1.0, batch=4096)[0] is result


def test_nothing_changes_where_the_budget_is_kept() -> None:
    graph = optimize(parse_graph(CHAIN))
    assert within(graph, 1.0)[0] is graph


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(seed: int) -> None:
    graph = optimize(random_graph(seed, size=20, backward=True))
    whole = memory_budget(0, graph, 64, threads=1).measure(graph).arena()
    for share in (0.9, 0.7):
        result = reduced(graph, int(share * whole))
        if result is not None:
            verify(result)
            check_pass("recompute", graph, result)


def reduced(graph: Graph, size: int) -> Graph | None:
    """The graph within a budget, or None where that cannot be met."""
    try:
        return recompute.run(graph, memory_budget(size, graph, 64, threads=1))
    except DnnError as error:
        require_too_small(error)
        return None


def require_too_small(error: DnnError) -> tuple[int, int]:
    """What an error says that a program takes, and the least budget that it offers."""
    (diagnostic,) = error.diagnostics
    if diagnostic.code != "E704":
        raise error
    words = diagnostic.label.replace(",", "").split()
    whole, least = [bytes_in(word) for word in words if word.endswith(("KB", "MB"))]
    return whole, least


State = tuple[list[float], dict[str, bytes]]


def steps(name: str, threads: int, memory: int | None) -> State:
    """Losses and variables after some steps of the compiled program with a budget."""
    text, shape = NETWORKS[name]
    net = dnnc.parse(text).model("Net", seed=1, threads=threads)
    trainer = net.trainer("cross_entropy(logits, label)", "adam()", memory=memory)
    draw = np.random.default_rng(0)
    x = draw.standard_normal(shape, dtype=np.float32)
    label = draw.integers(0, 5, shape[0])
    losses = [trainer.step(x=x, label=label) for _ in range(2)]
    return losses, {name: np.asarray(a).tobytes() for name, a in trainer.variables.items()}


def smallest(name: str, threads: int) -> tuple[int, int]:
    """What the network takes without a budget, and with the smallest that is offered."""
    with pytest.raises(DnnError) as caught:
        steps(name, threads, 1000)
    return require_too_small(caught.value)


def require_same_bits(name: str, threads: int, shares: Sequence[float]) -> None:
    """Train within shares of the memory, where they are enough, and within the least."""
    expected = steps(name, 1, None)
    whole, least = smallest(name, threads)
    assert least < 0.9 * whole
    for size in [least, *(int(share * whole) for share in shares if share * whole > least)]:
        assert steps(name, threads, size) == expected, f"{size} of {whole} bytes"


def test_a_network_trains_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    require_same_bits("conv", 2, ())
    monkeypatch.setenv("DNNC_VERIFY", "1")
    whole, least = smallest("conv", 1)
    assert steps("conv", 1, (whole + least) // 2) == steps("conv", 1, None)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_to_the_same_bits(name: str, threads: int) -> None:
    require_same_bits(name, threads, (0.9, 0.75, 0.5))


def fused_parts(text: str, wanted: int, there: int) -> Part:
    """The part of the one group of a graph that makes a result, with another one to read."""
    graph = optimize(parse_graph(text))
    (node,) = [node for node in graph.nodes if len(node.results) > 1]
    return part_of(node, {node.results[wanted]}, {node.results[there]})


def test_a_part_that_is_small_goes_over_few_elements() -> None:
    part = fused_parts(NORM, 1, 0)
    assert isinstance(part.op, Fused)
    assert [str(size) for size in part.op.space] == ["1", "256"]


NORM = """
graph f(x: f32[n, 256], old: f32[256]) {
  %0: f32[256] = reduce_sum x {axes = [0], keep = false}
  %1: f32[256] = divide %0, old
  %2: f32[n, 256] = subtract x, %1
  %3: f32[n, 256] = exp %2
  return sum = %0, mean = %1, y = %3
}
"""


def test_sizes_of_memory() -> None:
    assert bytes_in("200MB") == 200_000_000
    assert bytes_in(" 1.5 gib") == 3 * 2**29
    assert bytes_in("4096") == 4096
    for text in ("", "MB", "2 potatoes", "-1MB"):
        with pytest.raises(DnnError, match="E412"):
            bytes_in(text)
