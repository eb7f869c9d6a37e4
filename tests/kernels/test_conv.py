"""Convolution and its gradients against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.ops.conv import Conv, conv, conv_input_gradient, conv_weight_gradient
from tests.kernels.arrays import RANDOM, check_node, draw, value_of

#: Shape of x, shape of w, strides, pads, dilations, groups.
CASES = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 3, 9, 11), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 4, 28, 28), (16, 4, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((1, 3, 8, 32), (20, 3, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 1),
    ((2, 2, 12, 70), (6, 2, 5, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((3, 8, 6, 7), (9, 8, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 3, 9, 12), (4, 3, 3, 3), (2, 2), (0, 1, 1, 0), (1, 1), 1),
    ((2, 3, 8, 8), (4, 3, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    ((2, 3, 11, 13), (4, 3, 3, 2), (3, 2), (2, 1, 0, 3), (1, 1), 1),
    ((1, 2, 12, 12), (3, 2, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    ((1, 2, 13, 14), (3, 2, 3, 4), (2, 3), (1, 4, 3, 2), (3, 2), 1),
    ((2, 6, 9, 9), (8, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    ((2, 6, 9, 9), (6, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6),
    ((2, 4, 9, 40), (8, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 4),
    ((2, 5, 9, 40), (5, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 5),
    ((2, 3, 12, 21), (3, 1, 3, 5), (1, 1), (2, 5, 3, 1), (2, 3), 3),
    ((1, 3, 12, 21), (3, 1, 3, 2), (3, 1), (-1, 0, 3, 1), (2, 1), 3),
    ((1, 3, 12, 21), (3, 1, 3, 2), (1, 3), (1, 0, 0, 1), (1, 1), 3),
    ((1, 2, 9, 9), (3, 2, 3, 3), (1, 1), (-1, 0, 1, -2), (1, 1), 1),
    ((1, 2, 40, 700), (3, 2, 3, 3), (1, 1), (-15, -340, -18, -345), (1, 1), 1),
    ((1, 2, 3, 3), (3, 2, 3, 3), (1, 1), (5, 90, 2, 80), (1, 1), 1),
    ((0, 2, 5, 5), (3, 2, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((1, 40, 40, 60), (12, 40, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
]


def numbers(shape, dtype):
    if dtype == "i4":
        return RANDOM.integers(-9, 9, shape).astype(dtype)
    return draw(*shape, dtype=dtype)


def check(run_node, node, *arrays):
    # The reference needs something to slide over.
    nothing = [np.zeros(node.results[0].type.concrete({}))]
    check_node(run_node, node, arrays, None if all(a.size for a in arrays) else nothing)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_and_gradients(run_node, case, dtype):
    movement = case[2:]
    x, w = (numbers(shape, dtype) for shape in case[:2])
    y = conv(value_of(x), value_of(w), *movement)
    dy = numbers(y.type.concrete({}), dtype)
    check(run_node, y.node, x, w)
    by_input = conv_input_gradient(value_of(dy), value_of(w), x.shape, *movement)
    check(run_node, by_input.node, dy, w)
    by_weight = conv_weight_gradient(value_of(x), value_of(dy), w.shape, *movement)
    check(run_node, by_weight.node, x, dy)


def test_sizes_known_when_running(run_node):
    x = Value(TensorType.make(DType.F32, (dim("n"), 2, dim("h"), dim("w"))))
    w = Value(TensorType.make(DType.F32, (5, 2, 3, 3)))
    same = ((dim("h") - 1) // 2 * 2 + 3 - dim("h"), 1, 0, 1)
    node = conv(x, w, (2, 1), same).node
    for n, h, width in [(1, 9, 8), (3, 8, 33)]:
        arrays = draw(n, 2, h, width), draw(5, 2, 3, 3)
        known = Conv(
            strides=(dim(2), dim(1)), pads=tuple(dim(p).substitute({"h": h}) for p in same)
        )
        sizes = {"n": n, "h": h, "w": width}
        got = run_node(node, lower(node), arrays, sizes, threads=2)[0]
        np.testing.assert_allclose(got, known.evaluate(*arrays)[0], rtol=1e-4, atol=1e-4)


def test_by_weight_of_many_outputs(run_node):
    x, dy = draw(9, 5, 10, 10), draw(9, 70, 10, 10)
    movement = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    check(
        run_node,
        conv_weight_gradient(value_of(x), value_of(dy), (70, 5, 3, 3), *movement).node,
        x,
        dy,
    )
