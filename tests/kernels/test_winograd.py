"""Convolutions by Winograd's method against the direct sum in float64."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.kernels.code import Code
from dnnc.kernels.winograd import blocks, convolve
from dnnc.kernels.winograd.convolve import winograd_calls
from dnnc.kernels.winograd.pack import winograd_pack_calls
from dnnc.kernels.winograd.weight import winograd_weight_calls
from dnnc.ops.base import apply
from dnnc.ops.channels_last import ConvLast, ConvLastWeightGradient, PackWeights
from dnnc.ops.winograd import winograd
from dnnc.tuning.processor import matrix_unit
from tests.kernels.arrays import assert_near, draw, run_on_threads, value_of

#: Batch, channels, outputs, height, width, kernel, results, pads, and dilations that are not 1.
CASES = [
    (2, 16, 16, 8, 8, 3, 4, (1, 1, 1, 1)),
    (2, 16, 16, 8, 8, 3, 2, (1, 1, 1, 1)),
    (5, 12, 20, 9, 11, 3, 4, (1, 0, 1, 2)),
    (2, 8, 70, 10, 7, 3, 4, (-1, 2, 0, -1)),
    (9, 40, 33, 5, 6, 3, 2, (0, 0, 0, 0)),
    (1, 64, 64, 8, 8, 3, 4, (1, 1, 1, 1)),
    (3, 32, 64, 14, 14, 5, 2, (2, 2, 2, 2)),
    (3, 32, 64, 14, 14, 5, 4, (2, 2, 2, 2)),
    (2, 9, 20, 11, 9, 5, 4, (2, 1, 2, 3)),
    (0, 16, 16, 8, 8, 3, 4, (1, 1, 1, 1)),
]
#: Enough channels, outputs and tiles for a matrix unit.
UNIT = [
    (2, 33, 50, 19, 17, 3, 2, (1, 1, 1, 1)),
    (4, 64, 32, 13, 11, 5, 2, (2, 1, 2, 2)),
    (9, 48, 48, 9, 9, 3, 2, (0, 1, 1, 0)),
    (3, 40, 48, 19, 17, 3, 2, (1, 2, 2, 1), (2, 2)),
]
#: With dilations of lines and of columns: whole tiles in all pictures, tiles that are cut, pictures
#: of several sizes, and fewer lines than pictures.
DILATED = [
    (2, 16, 16, 16, 16, 3, 4, (2, 2, 2, 2), (2, 2)),
    (3, 12, 20, 13, 11, 3, 4, (2, 1, 1, 3), (3, 2)),
    (1, 20, 70, 11, 12, 3, 2, (1, -1, 0, 3), (1, 3)),
    (2, 9, 33, 9, 14, 5, 2, (3, 2, 2, 4), (2, 3)),
    (1, 16, 8, 6, 9, 3, 2, (3, 2, 3, 2), (5, 2)),
]
#: So many outputs that threads share them in groups.
MANY = [(3, 72, 150, 9, 10, 3, 4, (1, 1, 1, 1)), (0, 72, 150, 9, 10, 3, 4, (1, 1, 1, 1))]


def dims(*sizes):
    return tuple(map(dim, sizes))


def parts(case):
    """A case with its dilations."""
    return case if len(case) == 9 else (*case, (1, 1))


def check(run_node, node, calls, arrays, wanted, products=6):
    """`products` in one dimension decide how much the transforms round."""
    (got,) = run_on_threads(run_node, node, arrays, calls)
    bound = 1e-13 if got.dtype == np.float64 else 4e-6
    assert_near(got, wanted, bound if products < 8 else 8 * bound)
    return got


@pytest.mark.parametrize(("dtype", "unit"), [("f4", False), ("f4", True), ("f8", False)])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("case", [*CASES, *DILATED, *UNIT])
def test_convolution(run_node, monkeypatch, case, backward, dtype, unit):
    if unit and (not matrix_unit() or case[1] < 32):
        pytest.skip("this processor has no matrix unit, or it is not used")
    monkeypatch.setattr(blocks, "unit_usable", lambda: unit)
    n, c, o, h, w, k, results, pads, apart = parts(case)
    x = draw(n, h, w, c, dtype=dtype)
    weight = draw(*((c, o) if backward else (o, c)), k, k, dtype=dtype)
    packed = apply(PackWeights(tile=results, backward=backward), value_of(weight))
    direct = PackWeights(backward=backward).evaluate(weight.astype("f8"))[0]
    u = check(
        run_node,
        packed.node,
        winograd_pack_calls(packed.node.op, *packed.node.operands, packed),
        (weight,),
        packed.node.op.evaluate(weight.astype("f8"))[0],
        results + k - 1,
    )
    movement = {"pads": dims(*pads), "dilations": dims(*apart)}
    movement |= {"outputs": dim(o), "kernel": dims(k, k)}
    y = apply(ConvLast(tile=results, **movement), value_of(x), packed)
    wanted = ConvLast(**movement).evaluate(x.astype("f8"), direct)[0]
    calls = winograd_calls(y.node.op, *y.node.operands, y)
    if unit and case in UNIT:
        assert isinstance(calls[0].arguments[convolve._UNIT], Code)
        tiles = n * apart[0] * apart[1]
        for size, step in zip(wanted.shape[1:3], apart, strict=True):
            tiles *= -(-size // (step * results))
        assert tiles >= convolve._LEAST_TILES
    check(
        run_node,
        y.node,
        calls,
        (x, u),
        wanted,
        results + k - 1,
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", [*CASES, *DILATED, *MANY])
def test_gradient_by_weight(run_node, case, dtype):
    n, c, o, h, w, k, results, pads, apart = parts(case)
    x = draw(n, h, w, c, dtype=dtype)
    high = h + pads[0] + pads[2] - apart[0] * (k - 1)
    wide = w + pads[1] + pads[3] - apart[1] * (k - 1)
    dy = draw(n, high, wide, o, dtype=dtype)
    movement = {"pads": dims(*pads), "dilations": dims(*apart)}
    op = ConvLastWeightGradient(**movement, shape=dims(o, c, k, k), tile=results)
    dw = apply(op, value_of(x), value_of(dy))
    wanted = np.zeros((o, c, k, k)) if n == 0 else op.evaluate(x.astype("f8"), dy.astype("f8"))[0]
    check(
        run_node,
        dw.node,
        winograd_weight_calls(op, *dw.node.operands, dw),
        (x, dy),
        wanted,
        results + k - 1,
    )


@pytest.mark.parametrize(("results", "taps"), [(2, 3), (4, 3), (2, 5), (4, 5)])
def test_the_matrices_give_the_exact_correlation(results, taps):
    scheme, count = winograd(results, taps), results + taps - 1
    for i, k in product(range(count), range(taps)):
        # The i-th input and the k-th tap meet in result i - k.
        products = [g[k] * b[i] for g, b in zip(scheme.g, scheme.bt, strict=True)]
        sums = [sum(a * p for a, p in zip(row, products, strict=True)) for row in scheme.at]
        assert sums == [int(m == i - k) for m in range(results)]


@pytest.mark.parametrize(
    ("taps", "tile", "bound", "times"), [(3, 4, 1e-6, 3), (5, 2, 1e-6, 3), (5, 4, 4e-6, 10)]
)
def test_rounding_stays_near_that_of_the_direct_sum(taps, tile, bound, times):
    x, w, pad = draw(4, 16, 16, 64), draw(64, 64, taps, taps), taps // 2
    movement = {"pads": dims(pad, pad, pad, pad), "outputs": dim(64), "kernel": dims(taps, taps)}

    def convolved(tile, image, weight):
        packed = PackWeights(tile=tile).evaluate(weight)[0]
        return ConvLast(tile=tile, **movement).evaluate(image, packed)[0]

    exact = convolved(0, x.astype("f8"), w.astype("f8"))
    direct, fast = (np.sqrt(np.mean((convolved(t, x, w) - exact) ** 2)) for t in (0, tile))
    assert fast < bound * exact.std()
    assert fast < times * direct
