"""Programs of every operator, and of random graphs through all passes, against the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType
from dnnc.ops.base import OPERATORS, Elementwise
from dnnc.passes.pipeline import optimize
from dnnc.program.executable import Executable
from dnnc.program.kept import pack, unpack
from tests.ops.operator_examples import EXAMPLES, Example, graph_of
from tests.passes.random_graphs import random_graph

TOLERANCE = {DType.F32: 1e-4, DType.F64: 1e-10}


def cases(*dtypes: DType) -> list[object]:
    """Operators with loops of their own; single elements have tests of their own."""
    return [
        pytest.param(example, dtype, id=f"{name}-{number}-{dtype}")
        for name, examples in EXAMPLES.items()
        if not issubclass(OPERATORS[name], Elementwise)
        for number, example in enumerate(examples)
        for dtype in sorted(example.dtypes, key=str)
        if dtype in dtypes
    ]


def make_nothing() -> list[Graph]:
    raise AssertionError("the kernels are there")


def check(graph: Graph, arrays: dict[str, np.ndarray], tolerance: float) -> None:
    with np.errstate(all="ignore"):
        expected = interpret(graph, arrays)
    program = Executable(graph, threads=1)
    # As a later process finds it in the cache.
    (plan,) = unpack(pack([program.plan]), make_nothing)
    results = [program(arrays), Executable(plan, threads=2)(arrays)]
    for name, array in expected.items():
        found = results[0][name]
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found, array, tolerance, tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(found, array, err_msg=name)
        assert found.tobytes() == results[1][name].tobytes()


def check_example(example: Example, dtype: DType) -> None:
    names = (f"x{i}" for i in range(len(example.operands)))
    arrays = dict(zip(names, example.arrays(dtype), strict=True))
    check(graph_of(example, dtype), arrays, TOLERANCE.get(dtype, 0))


@pytest.mark.parametrize(("example", "dtype"), cases(DType.F32))
def test_operators(example: Example, dtype: DType) -> None:
    check_example(example, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("example", "dtype"), cases(*set(DType) - {DType.F32}))
def test_operators_of_other_types(example: Example, dtype: DType) -> None:
    check_example(example, dtype)


def check_random(seed: int, size: int, backward: bool) -> None:
    graph = optimize(random_graph(seed, size, backward))
    for n in (3, 1):
        rng = np.random.default_rng(seed)
        arrays = {
            item.name: rng.uniform(-2, 2, item.value.type.concrete({"n": n}))
            for item in graph.inputs
        }
        check(graph, arrays, 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_random_graphs(seed: int) -> None:
    check_random(seed, size=20, backward=seed % 2 == 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 300))
def test_many_random_graphs(seed: int) -> None:
    check_random(seed, size=10 + seed % 30, backward=seed % 2 == 1)
