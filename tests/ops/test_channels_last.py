"""Convolutions with channels last against those that programs are written with."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.types import DType
from dnnc.ops.conv import Conv, ConvInputGradient, ConvWeightGradient
from dnnc.ops.winograd import winograd

Array = np.ndarray


def sizes(*values: int) -> Any:
    return tuple(map(dim, values))


#: Attributes, then the shapes of x and w.
CASES: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ({}, (2, 3, 5, 4), (4, 3, 2, 3)),
    ({"pads": sizes(1, 2, 0, -1)}, (1, 2, 5, 6), (17, 2, 3, 3)),
    ({"groups": 2, "dilations": sizes(2, 1)}, (1, 4, 6, 5), (6, 2, 2, 2)),
    ({"groups": 3, "pads": sizes(1, 1, 1, 1)}, (2, 3, 4, 4), (3, 1, 3, 3)),
    ({"strides": sizes(2, 3), "pads": sizes(1, 0, 1, 1)}, (1, 2, 7, 8), (3, 2, 3, 2)),
    ({"strides": sizes(2, 2), "dilations": sizes(3, 2)}, (1, 2, 9, 8), (3, 2, 2, 3)),
    ({"strides": sizes(2, 1), "groups": 3}, (1, 3, 5, 4), (3, 1, 2, 2)),
    ({"strides": sizes(2, 2), "groups": 2}, (1, 4, 5, 4), (2, 2, 1, 1)),
]


def last(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1)


def drawn(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def conv_last(x: Array, packed: Array, w: tuple[int, ...], **how: Any) -> Array:
    op = ops.ConvLast(outputs=dim(w[0]), kernel=sizes(*w[2:]), **how)
    (y,) = op.evaluate(last(x), packed)
    return y


@pytest.mark.parametrize(("how", "x_shape", "w_shape"), CASES)
def test_convolution(how: dict[str, Any], x_shape: Any, w_shape: Any) -> None:
    x, w = drawn(*x_shape), drawn(*w_shape)
    (packed,) = ops.PackWeights(groups=how.get("groups", 1)).evaluate(w)
    (expected,) = Conv(**how).evaluate(x, w)
    np.testing.assert_allclose(conv_last(x, packed, w_shape, **how), last(expected), atol=1e-12)


@pytest.mark.parametrize(("how", "x_shape", "w_shape"), CASES)
def test_gradients(how: dict[str, Any], x_shape: Any, w_shape: Any) -> None:
    x, w = drawn(*x_shape), drawn(*w_shape)
    dy = drawn(*Conv(**how).evaluate(x, w)[0].shape)
    by_weight = ops.ConvLastWeightGradient(**how, shape=sizes(*w_shape))
    (expected,) = ConvWeightGradient(**how, shape=sizes(*w_shape)).evaluate(x, dy)
    np.testing.assert_allclose(by_weight.evaluate(last(x), last(dy))[0], expected, atol=1e-12)

    given = {name: how[name] for name in ("groups", "strides", "dilations") if name in how}
    (packed,) = ops.PackWeights(backward=True, **given).evaluate(w)
    n, c, h, width = x_shape
    by_input = ops.ConvLastInputGradient(
        **how, kernel=sizes(*w_shape[2:]), shape=sizes(n, h, width, c)
    )
    (expected,) = ConvInputGradient(**how, shape=sizes(*x_shape)).evaluate(dy, w)
    found = by_input.evaluate(last(dy), packed)[0]
    np.testing.assert_allclose(found, last(expected), atol=1e-12)


@pytest.mark.parametrize(("tile", "taps"), [(4, 3), (2, 5), (2, 3)])
def test_convolution_by_tiles(tile: int, taps: int) -> None:
    pads, w_shape = sizes(1, 0, 2, 1), (5, 3, taps, taps)
    x, w = drawn(2, 3, 7, 9), drawn(*w_shape)
    (packed,) = ops.PackWeights(tile=tile).evaluate(w)
    (expected,) = Conv(pads=pads).evaluate(x, w)
    found = conv_last(x, packed, w_shape, pads=pads, tile=tile)
    np.testing.assert_allclose(found, last(expected), atol=1e-10)


@pytest.mark.parametrize("apart", [(2, 2), (3, 1), (9, 2)])
def test_convolution_by_tiles_with_dilations(apart: tuple[int, int]) -> None:
    movement: dict[str, Any] = {"pads": sizes(9, 3, 9, 3), "dilations": sizes(*apart)}
    x, w = drawn(2, 3, 7, 9), drawn(5, 3, 3, 3)
    (packed,) = ops.PackWeights(tile=2).evaluate(w)
    (expected,) = Conv(**movement).evaluate(x, w)
    found = conv_last(x, packed, w.shape, tile=2, **movement)
    np.testing.assert_allclose(found, last(expected), atol=1e-10)


@pytest.mark.parametrize(("results", "taps"), [(4, 3), (2, 5), (2, 3)])
def test_transforms_are_exact(results: int, taps: int) -> None:
    found = winograd(results, taps)
    inputs = [Fraction(i * i + 1, i + 2) for i in range(results + taps - 1)]
    weights = [Fraction(3 - i, i + 1) for i in range(taps)]
    products = [
        sum(a * x for a, x in zip(row, inputs, strict=True))
        * sum(b * g for b, g in zip(column, weights, strict=True))
        for row, column in zip(found.bt, found.g, strict=True)
    ]
    for i, row in enumerate(found.at):
        total = sum(a * p for a, p in zip(row, products, strict=True))
        assert total == sum(inputs[i + k] * weights[k] for k in range(taps))


def test_weights_that_do_not_fit_are_an_error() -> None:
    x = ops.constant(drawn(1, 4, 4, 2), DType.F64)
    w = ops.constant(drawn(3, 2, 2, 2), DType.F64)
    packed = ops.apply(ops.PackWeights(), w)
    op = ops.ConvLast(outputs=dim(3), kernel=sizes(3, 3))
    with pytest.raises(ops.TypeRuleError, match="`conv_last` needs weights f64"):
        ops.apply(op, x, packed)
