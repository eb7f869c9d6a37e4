"""Look-ups and sums by row against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.kernels.abi import lower
from dnnc.ops import reduce, shape
from tests.kernels.arrays import RANDOM, draw, run_on_threads, value_of


def check(run_node, node, *arrays):
    wanted = node.op.evaluate(*arrays)[0]
    np.testing.assert_allclose(run_on_threads(run_node, node, arrays)[0], wanted, rtol=1e-6)


@pytest.mark.parametrize("index", ["i4", "i8", "u1"])
def test_gather(run_node, index):
    for row, count in [((), (4,)), ((7,), (2, 3)), ((2, 40), ()), ((3,), (0,))]:
        table = draw(9, *row)
        indices = RANDOM.integers(0, 9, count).astype(index)
        node = shape.gather(value_of(table), value_of(indices)).node
        check(run_node, node, table, indices)


def test_gather_outside_the_table(run_node):
    table, indices = np.ones((3, 2), "f4"), np.array([1, 3, -1], "i4")
    node = shape.gather(value_of(table), value_of(indices)).node
    got = run_node(node, lower(node), [table, indices])[0]
    np.testing.assert_array_equal(got, [[1, 1], [np.nan] * 2, [np.nan] * 2])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_scatter_add(run_node, dtype):
    for row, count in [((), (40,)), ((7,), (5, 8)), ((100,), (40,)), ((3,), (0,))]:
        indices = RANDOM.integers(0, 6, count).astype("i4")
        updates = (RANDOM.standard_normal((*count, *row)) * 9).astype(dtype)
        node = shape.scatter_add(value_of(indices), value_of(updates), 6).node
        check(run_node, node, indices, updates)


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1"])
def test_argmax(run_node, dtype):
    for axis in range(3):
        array = RANDOM.integers(0, 4, (3, 9, 5)).astype(dtype)
        check(run_node, reduce.argmax(value_of(array), axis).node, array)
    if dtype == "f4":
        array = np.array([[1, np.nan, 5, np.nan], [-np.inf, -np.inf, -np.inf, -np.inf]], "f4")
        check(run_node, reduce.argmax(value_of(array), 1).node, array)
