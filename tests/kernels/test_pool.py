"""Pooling and its gradients against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.graph import apply_all
from dnnc.ops import pool
from tests.kernels.arrays import RANDOM, run_on_threads, value_of

#: N, H, W, window, strides, pads.
CASES = [
    ((2, 8, 12), (2, 2), (2, 2), (0, 0, 0, 0)),
    ((1, 9, 7), (2, 2), (2, 2), (0, 0, 0, 0)),
    ((2, 7, 9), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((2, 7, 9), (3, 2), (1, 1), (1, 0, 0, 1)),
    ((3, 5, 5), (5, 5), (5, 5), (0, 0, 0, 0)),
    ((1, 10, 11), (1, 2), (3, 4), (0, 1, 2, 0)),
    ((1, 9, 40), (2, 2), (2, 2), (1, 1, 0, 1)),
    ((1, 9, 37), (3, 2), (2, 2), (1, 0, 0, 1)),
    ((1, 9, 8), (2, 2), (2, 2), (-1, -2, 0, -1)),
    ((1, 11, 10), (7, 5), (2, 2), (1, 2, 2, 1)),
]
#: Less than a vector of channels; vectors and a part; one, two and four vectors at a time.
CHANNELS = [1, 3, 21, 16, 32, 64]
DTYPES = ["f4", "f8", "i4", "i8", "u1", "i1"]


def check(run_node, node, *arrays):
    wanted = node.op.evaluate(*arrays)[0]
    got = run_on_threads(run_node, node, arrays)[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def check_all(run_node, x, movement, **how):
    for make in (pool.max_pool, pool.sum_pool):
        node = make(value_of(x), *movement, **how).node
        check(run_node, node, x)
    dy = RANDOM.integers(-9, 9, node.results[0].type.concrete({})).astype(x.dtype)
    node = pool.max_pool_gradient(value_of(x), value_of(dy), *movement, **how).node
    check(run_node, node, x, dy)
    check(run_node, pool.sum_pool_gradient(value_of(dy), x.shape, *movement, **how).node, dy)
    if how:
        check_indexed(run_node, x, dy, movement)


def check_indexed(run_node, x, dy, movement):
    """The indices of largest elements lead their gradient where the image itself does."""
    how = pool.max_pool(value_of(x), *movement, channels_last=True).node.op.movement
    node = apply_all(pool.MaxPoolIndexed(**how), value_of(x))[0].node
    y, indices = run_on_threads(run_node, node, (x,))
    np.testing.assert_array_equal(y, node.op.evaluate(x)[0])
    gradient = pool.MaxPoolIndexedGradient(**how, shape=node.operands[0].shape)
    node = apply_all(gradient, value_of(indices), value_of(dy))[0].node
    wanted = pool.MaxPoolGradient(**how).evaluate(x, dy)[0]
    np.testing.assert_array_equal(gradient.evaluate(indices, dy)[0], wanted)
    np.testing.assert_array_equal(run_on_threads(run_node, node, (indices, dy))[0], wanted)


def image(shape, dtype):
    """Small integers, so that there are many ties, and for floats some numbers that are none."""
    x = RANDOM.integers(0 if dtype == "u1" else -4, 4, shape).astype(dtype)
    if dtype in ("f4", "f8"):
        x[RANDOM.random(shape) < 0.05] = np.nan
        x[RANDOM.random(shape) < 0.05] = -np.inf
    return x


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows(run_node, case):
    sizes, *movement = case
    for channels in (3, 32):
        check_all(run_node, image((*sizes, channels), "f4"), movement, channels_last=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(run_node, dtype):
    for movement in (((2, 2), (2, 2)), ((3, 3), (2, 2), (1, 1, 1, 1))):
        for channels in CHANNELS:
            x = image((2, 6, 7, channels), dtype)
            check_all(run_node, x, movement, channels_last=True)


def test_channels_first(run_node):
    check_all(run_node, image((2, 3, 8, 9), "f4"), ((3, 3), (2, 2), (1, 1, 1, 1)))


def test_no_images(run_node):
    x = np.zeros((0, 4, 4, 2), "f4")
    check_all(run_node, x, ((2, 2),), channels_last=True)
