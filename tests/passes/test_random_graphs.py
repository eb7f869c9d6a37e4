"""Every pass keeps what random graphs compute, and the whole list of passes does."""

from __future__ import annotations

import pytest

from dnnc.ir.graph import Graph
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.verify import verify
from dnnc.passes.check import check_pass, compare
from dnnc.passes.pipeline import PASSES, optimize
from tests.passes.random_graphs import random_graph, random_loop
from tests.passes.random_images import random_images


def run_and_check(graph: Graph) -> None:
    verify(graph)
    for step in PASSES:
        after = step.run(graph)
        check_pass(step.name, graph, after)
        graph = after
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize("seed", range(30))
def test_forward(seed: int) -> None:
    run_and_check(random_graph(seed))


@pytest.mark.parametrize("seed", range(30))
def test_backward(seed: int) -> None:
    run_and_check(random_graph(seed, size=12, backward=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 600))
def test_many(seed: int) -> None:
    run_and_check(random_graph(seed, size=20 + seed % 40, backward=seed % 2 == 0))


@pytest.mark.parametrize("seed", range(5))
def test_the_result_is_determined(seed: int) -> None:
    first, second = (optimize(random_graph(seed, backward=True)) for _ in range(2))
    assert print_graph(first) == print_graph(second)


def test_a_second_run_changes_nothing_numerically() -> None:
    graph = random_graph(7, backward=True)
    once = optimize(graph)
    assert compare(graph, optimize(once)) is None


@pytest.mark.parametrize("seed", range(25))
def test_loops(seed: int) -> None:
    run_and_check(random_loop(seed))


@pytest.mark.parametrize("seed", range(25))
def test_gradients_of_loops(seed: int) -> None:
    run_and_check(random_loop(seed, size=8, backward=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_loops(seed: int) -> None:
    run_and_check(random_loop(seed, size=6 + seed % 12, backward=seed % 2 == 0))


@pytest.mark.parametrize("seed", range(20))
def test_images(seed: int) -> None:
    run_and_check(random_images(seed))


@pytest.mark.parametrize("seed", range(20))
def test_gradients_of_images(seed: int) -> None:
    run_and_check(random_images(seed, size=6, backward=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_images(seed: int) -> None:
    run_and_check(random_images(seed, size=5 + seed % 10, backward=seed % 2 == 0))
