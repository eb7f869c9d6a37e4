"""Fused nodes around a product or a convolution, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.ops.base import apply
from dnnc.ops.channels_last import (
    ConvLast,
    ConvLastInputGradient,
    ConvLastWeightGradient,
    PackWeights,
)
from dnnc.ops.control import Fused
from tests.kernels.arrays import RANDOM, assert_near, draw, run_on_threads, value_of


def fuse(make, *arrays):
    """A fused node whose body `make` builds from values of these shapes."""
    values = list(map(value_of, arrays))
    inside = [Value(v.type) for v in values]
    result = make(*inside)
    inputs = tuple(Input(f"x{k}", v) for k, v in enumerate(inside))
    body = Graph("fused", inputs, (Output("y", result),))
    return apply(Fused(body, result.shape, ()), *values).node


def check(run_node, make, *arrays):
    node = fuse(make, *arrays)
    assert_near(run_on_threads(run_node, node, arrays)[0], node.op.evaluate(*arrays)[0], 1e-5)


def relu(x):
    return ops.maximum(x, 0)


@pytest.mark.parametrize(
    "sizes",
    [
        (37, 70, 20),
        (9, 32, 600),
        (60, 40, 1100),
        (1, 5, 3),
        (13, 33, 0),
        (1, 700, 600),
        (4, 1, 9),
        (37, 65, 40),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_product_with_bias(run_node, sizes, dtype):
    m, n, k = sizes
    arrays = draw(m, k, dtype=dtype), draw(k, n, dtype=dtype), draw(1, n, dtype=dtype)
    check(run_node, lambda a, b, c: relu(ops.add(ops.matmul(a, b), c)), *arrays)


@pytest.mark.parametrize(
    ("columns", "depth"),
    [
        (10, 200),
        (7, 600),
        (16, 40),
        (20, 150),
        (200, 70),
        (21, 800),
        (9, 1100),
        (33, 1024),
        (65, 30),
        (49, 900),
    ],
    ids=str,
)
def test_epilogues_of_every_order_of_loops(run_node, columns, depth):
    """Few columns, long sums, and either operand stored transposed; sums in more than one block."""
    for rows, a_flip, b_flip in [(70, False, False), (70, True, False), (20, False, True)]:
        a = draw(2, *((depth, rows) if a_flip else (rows, depth)))
        b = draw(2, *((columns, depth) if b_flip else (depth, columns)))

        def scores(a, b, row, column, flip=(a_flip, b_flip)):
            sums = ops.matmul(a, b, transpose_a=flip[0], transpose_b=flip[1])
            return relu(ops.add(ops.multiply(sums, row), column))

        check(run_node, scores, a, b, draw(2, rows, 1), draw(1, 1, columns))


def test_product_with_operands_of_all_kinds(run_node):
    a, b = draw(2, 3, 20, 16), draw(2, 3, 40, 16)
    mask, row, one = draw(1, 1, 20, 40), draw(2, 1, 20, 1), draw()

    def scores(a, b, mask, row, one):
        x = ops.multiply(ops.matmul(a, b, transpose_b=True), one)
        return ops.select(ops.greater(mask, row), x, ops.exp(ops.multiply(x, -1.0)))

    check(run_node, scores, a, b, mask, row, one)


def test_product_into_another_type(run_node):
    check(run_node, lambda a, b: ops.greater(ops.matmul(a, b), 0.5), draw(30, 5), draw(5, 40))
    whole = [RANDOM.integers(-5, 5, s).astype("i4") for s in [(6, 7), (7, 8), (6, 8)]]
    check(run_node, lambda a, b, c: ops.add(ops.matmul(a, b), c), *whole)


def test_update_in_place():
    arrays = [draw(20, 30), draw(20, 40), draw(30, 40)]
    node = fuse(
        lambda x, dy, w: ops.subtract(w, ops.multiply(ops.matmul(x, dy, transpose_a=True), 0.1)),
        *arrays,
    )
    (call,) = lower(node)
    assert call.in_place == ((node.results[0], node.operands[2]),)


#: Shape of x [N, H, W, C], of w, stride, padding, groups.
LAST = [
    ((2, 9, 11, 3), (5, 3, 3, 3), 1, 1, 1),
    ((2, 8, 32, 3), (40, 3, 3, 3), 1, 1, 1),
    ((2, 6, 7, 8), (9, 8, 1, 1), 1, 0, 1),
    ((2, 9, 12, 3), (4, 3, 3, 3), 2, 1, 1),
    ((2, 9, 12, 18), (18, 1, 3, 3), 1, 1, 18),
    ((2, 9, 12, 6), (6, 1, 3, 3), 2, 1, 6),
    ((2, 29, 1, 6), (12, 6, 3, 1), 1, (1, 0), 1),
    ((2, 1, 29, 6), (12, 6, 1, 3), 2, (0, 1), 1),
    # Whole vectors of channels, of a group or only of all groups together.
    ((2, 5, 7, 48), (80, 48, 3, 3), 1, 1, 1),
    ((2, 6, 9, 32), (96, 8, 3, 3), 1, 1, 4),
    ((2, 6, 9, 96), (32, 24, 3, 3), 2, 1, 4),
    ((2, 5, 7, 64), (64, 1, 3, 3), 1, 1, 64),
    ((1, 2, 1100, 20), (20, 1, 1, 3), 1, (0, 1), 20),
]


def last(case):
    """x, packed weights for both directions, and the operators."""
    x_shape, w_shape, stride, pad, groups = case
    pad = (pad, pad) if isinstance(pad, int) else pad
    x, w, step = draw(*x_shape), draw(*w_shape), (dim(stride), dim(stride))
    how = {"strides": step, "pads": (*map(dim, pad), *map(dim, pad)), "groups": groups}
    kernel = tuple(map(dim, w_shape[2:]))
    back = PackWeights(groups=groups, backward=True, strides=step)
    packed = PackWeights(groups=groups).evaluate(w)[0], back.evaluate(w)[0]
    forward = ConvLast(outputs=dim(w_shape[0]), kernel=kernel, **how)
    shape = tuple(map(dim, x_shape))
    return x, packed, forward, ConvLastInputGradient(kernel=kernel, shape=shape, **how)


@pytest.mark.parametrize("case", LAST, ids=str)
def test_convolution(run_node, case):
    x, (packed, _), op, _ = last(case)
    n, h, width, channels = op.evaluate(x, packed)[0].shape
    bias, residual = draw(1, 1, 1, channels), draw(n, h, width, channels)
    column, image = draw(1, 1, width, 1), draw(n, 1, 1, 1)

    def block(x, w, bias, residual):
        return relu(ops.add(ops.add(apply(op, x, w), bias), residual))

    def other(x, w, column, image):
        counts = ops.iota((1, h, 1, 1), 1, DType.F32)
        scaled = ops.multiply(apply(op, x, w), column)
        return ops.add(ops.add(scaled, image), ops.broadcast(counts, (n, h, width, channels)))

    check(run_node, block, x, packed, bias, residual)
    check(run_node, other, x, packed, column, image)


@pytest.mark.parametrize("apart", [(1, 1), (2, 2), (3, 2)], ids=str)
def test_convolution_by_tiles(run_node, apart):
    x, w, dilations = draw(2, 9, 12, 8), draw(20, 8, 3, 3), tuple(map(dim, apart))
    movement = {"dilations": dilations, "pads": dilations * 2}
    op = ConvLast(outputs=dim(20), kernel=(dim(3), dim(3)), tile=2, **movement)
    bias, residual, line = draw(1, 1, 1, 20), draw(2, 9, 12, 20), draw(1, 9, 12, 1)

    def block(x, w, bias, residual, line):
        sums = ops.add(ops.add(apply(op, x, w), bias), residual)
        return relu(ops.multiply(sums, line))

    packed = PackWeights(tile=2).evaluate(w)[0]
    check(run_node, block, x, packed, bias, residual, line)


@pytest.mark.parametrize("case", LAST, ids=str)
def test_gradients_of_convolutions(run_node, case):
    x, (packed, back), op, gradient = last(case)
    dy = draw(*op.evaluate(x, packed)[0].shape)
    weight = case[1]

    def masked(dy, w, x):
        dx = apply(gradient, dy, w)
        return ops.select(ops.greater(x, 0.0), dx, ops.multiply(dx, 0.0))

    def step(x, dy, w):
        by_weight = ConvLastWeightGradient(shape=tuple(map(dim, weight)), **gradient.movement)
        return ops.subtract(w, ops.multiply(apply(by_weight, x, dy), 0.1))

    check(run_node, masked, dy, back, x)
    check(run_node, step, x, dy, draw(*weight))


def test_sizes_known_when_running(run_node):
    sizes = (("n", 20), (20, 40), (1, 40))
    types = [TensorType.make(DType.F32, tuple(map(dim, s))) for s in sizes]
    values, inside = [Value(t) for t in types], [Value(t) for t in types]
    result = relu(ops.add(ops.matmul(*inside[:2]), inside[2]))
    inputs = tuple(Input(f"x{k}", v) for k, v in enumerate(inside))
    op = Fused(Graph("fused", inputs, (Output("y", result),)), result.shape, ())
    node = apply(op, *values).node
    for n in (1, 37):
        arrays = draw(n, 20), draw(20, 40), draw(1, 40)
        got = run_node(node, lower(node), arrays, {"n": n}, threads=2)[0]
        wanted = np.maximum(arrays[0] @ arrays[1] + arrays[2], 0)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
