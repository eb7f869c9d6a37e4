"""Pooling and its gradients against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc.kernels.pool
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.ops import pool

assert dnnc.kernels.pool

RANDOM = np.random.default_rng(7)
CASES = [
    ((2, 3, 8, 12), (2, 2), (2, 2), (0, 0, 0, 0)),
    ((1, 2, 9, 70), (2, 2), (2, 2), (0, 0, 0, 0)),
    ((2, 2, 7, 9), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((2, 2, 7, 9), (3, 2), (1, 1), (1, 0, 0, 1)),
    ((1, 2, 5, 5), (5, 5), (5, 5), (0, 0, 0, 0)),
    ((1, 2, 10, 11), (1, 2), (3, 4), (0, 1, 2, 0)),
    ((1, 2, 9, 40), (2, 2), (2, 2), (1, 1, 0, 1)),
    ((1, 2, 9, 37), (3, 2), (2, 2), (1, 0, 0, 1)),
    ((1, 1, 40, 40), (4, 5), (2, 2), (1, 2, 2, 1)),
]


def value_of(array):
    return Value(TensorType.make(DType.of(array), array.shape))


def check(run_node, node, *arrays):
    wanted = node.op.evaluate(*arrays)[0]
    one, two = (run_node(node, lower(node), arrays, threads=t)[0] for t in (1, 2))
    np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pooling(run_node, case):
    sizes, *movement = case
    for dtype in ("f4", "f8"):
        x = RANDOM.integers(-4, 4, sizes).astype(dtype)
        if dtype == "f8" and x.size:
            x[0, 0, 0, 1] = np.nan
        for make in (pool.max_pool, pool.sum_pool):
            node = make(value_of(x), *movement).node
            check(run_node, node, x)
        dy = RANDOM.standard_normal(node.results[0].type.concrete({})).astype(dtype)
        check(run_node, pool.max_pool_gradient(value_of(x), value_of(dy), *movement).node, x, dy)
        check(run_node, pool.sum_pool_gradient(value_of(dy), sizes, *movement).node, dy)


def test_integers(run_node):
    x = RANDOM.integers(-100, 100, (2, 2, 6, 6)).astype("i1")
    check(run_node, pool.max_pool(value_of(x), (3, 3), (2, 2), (1, 1, 1, 1)).node, x)


def test_no_images(run_node):
    x = np.zeros((0, 2, 4, 4), "f4")
    for make in (pool.max_pool, pool.sum_pool):
        check(run_node, make(value_of(x), (2, 2)).node, x)
