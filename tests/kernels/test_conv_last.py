"""Convolutions with channels last and packed weights, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.kernels.convolution.slots import Form
from dnnc.kernels.tiles import most_vectors, tiles
from dnnc.ops.base import apply
from dnnc.ops.channels_last import (
    ConvLast,
    ConvLastInputGradient,
    ConvLastWeightGradient,
    PackWeights,
)
from dnnc.ops.conv import Conv
from tests.kernels.arrays import check_node, draw, value_of


@pytest.mark.skipif(most_vectors() < 3, reason="tiles have at most two vectors")
def test_wider_tiles_where_a_single_vector_would_be_left():
    lanes = tiles("f32")[0].lanes

    def vectors(count):
        op = ConvLastWeightGradient(shape=())
        form = Form.of(op, "f32", tuple(map(dim, (count * lanes - 5, 8, 3, 3)))).evened()
        narrow = form.narrow
        return form.tile.vectors, narrow.vectors if narrow else 0

    assert [vectors(count) for count in (2, 3, 4, 5, 6, 7, 9)] == [
        (2, 0), (3, 0), (2, 0), (3, 2), (2, 0), (2, 1), (3, 0),
    ]  # fmt: skip


#: Shape of x [N, H, W, C], shape of w, strides, pads, dilations, groups.
CASES = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 9, 11, 3), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 28, 28, 4), (16, 4, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((3, 9, 13, 34), (16, 34, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 7, 17, 24), (24, 8, 5, 5), (1, 1), (2, 1, 2, 2), (1, 1), 3),
    ((2, 9, 14, 2), (7, 2, 3, 7), (1, 1), (1, 3, 1, 3), (1, 1), 1),
    ((1, 8, 32, 3), (20, 3, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 1),
    ((2, 12, 70, 2), (6, 2, 5, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((3, 6, 7, 8), (9, 8, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 9, 12, 3), (4, 3, 3, 3), (2, 2), (0, 1, 1, 0), (1, 1), 1),
    ((2, 8, 8, 3), (4, 3, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    ((2, 11, 13, 3), (4, 3, 3, 2), (3, 2), (2, 1, 0, 3), (1, 1), 1),
    ((1, 12, 12, 2), (3, 2, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    ((1, 13, 14, 2), (3, 2, 3, 4), (2, 3), (1, 4, 3, 2), (3, 2), 1),
    ((2, 9, 9, 6), (8, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    ((1, 9, 9, 40), (80, 20, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 2),
    # Taps of a line that share what they read: with strides, dilations, both, and very many.
    ((2, 9, 31, 5), (18, 5, 5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 1),
    ((1, 9, 32, 5), (18, 5, 5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 1),
    ((2, 7, 48, 36), (34, 18, 2, 7), (1, 3), (0, 3, 1, 2), (1, 1), 2),
    ((1, 9, 30, 5), (18, 5, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    ((1, 3, 48, 20), (3, 20, 2, 7), (1, 2), (0, 3, 1, 3), (1, 1), 1),
    ((1, 3, 48, 20), (3, 20, 1, 23), (1, 2), (0, 11, 0, 11), (1, 1), 1),
    ((1, 3, 1040, 3), (18, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((1, 3, 1031, 3), (18, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((1, 7, 41, 10), (36, 5, 2, 4), (1, 2), (1, 4, 0, 5), (1, 3), 2),
    ((1, 3, 40, 4), (20, 4, 2, 11), (1, 1), (0, 5, 1, 5), (1, 1), 1),
    ((1, 3, 40, 3), (17, 3, 2, 31), (1, 1), (0, 9, 1, 9), (1, 1), 1),
    # An odd number of vectors of outputs: whole ones, a part of the last, and of groups.
    ((2, 12, 19, 20), (48, 20, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    ((2, 30, 17, 9), (67, 9, 3, 3), (2, 1), (1, 0, 1, 2), (1, 1), 1),
    ((1, 14, 14, 70), (80, 70, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((1, 9, 9, 12), (132, 6, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 2),
    ((2, 9, 9, 6), (6, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6),
    ((2, 9, 40, 4), (8, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 4),
    ((2, 9, 40, 5), (5, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 5),
    ((2, 12, 21, 40), (40, 1, 3, 5), (1, 1), (2, 5, 3, 1), (2, 3), 40),
    ((2, 7, 7, 48), (48, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 48),
    ((3, 10, 34, 37), (37, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 37),
    ((2, 9, 30, 32), (32, 1, 5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 32),
    ((1, 6, 25, 16), (16, 1, 2, 9), (1, 1), (0, 9, 3, 2), (2, 1), 16),
    ((1, 5, 29, 16), (16, 1, 3, 11), (1, 1), (1, 5, 1, 5), (1, 1), 16),
    ((1, 4, 40, 20), (20, 1, 3, 3), (1, 1), (2, -9, 3, -12), (1, 2), 20),
    ((1, 3, 2, 16), (16, 1, 3, 3), (1, 2), (7, 20, 6, 17), (1, 1), 16),
    ((1, 1, 1200, 18), (18, 1, 1, 3), (1, 1), (0, 1, 0, 1), (1, 1), 18),
    ((0, 5, 5, 16), (16, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 16),
    ((1, 12, 21, 3), (3, 1, 3, 2), (3, 1), (-1, 0, 3, 1), (2, 1), 3),
    ((1, 12, 21, 3), (3, 1, 3, 2), (1, 3), (1, 0, 0, 1), (1, 1), 3),
    ((1, 9, 9, 2), (3, 2, 3, 3), (1, 1), (-1, 0, 1, -2), (1, 1), 1),
    ((1, 40, 700, 2), (3, 2, 3, 3), (1, 1), (-15, -340, -18, -345), (1, 1), 1),
    ((1, 3, 3, 2), (3, 2, 3, 3), (1, 1), (5, 90, 2, 80), (1, 1), 1),
    ((0, 5, 5, 2), (3, 2, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((1, 40, 60, 40), (12, 40, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 20, 1, 18), (35, 18, 3, 1), (1, 1), (1, 0, 1, 0), (1, 1), 1),
    ((13, 4, 4, 33), (70, 33, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 9, 14, 13), (45, 13, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 11, 14, 24), (64, 24, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((2, 70, 70, 16), (16, 16, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
]
#: A weight that leaves the cache.
LARGE = ((3, 7, 9, 130), (140, 130, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1)


def movement(case):
    strides, pads, dilations, groups = case[2:]
    sizes = {"strides": strides, "pads": pads, "dilations": dilations}
    return {"groups": groups, **{name: tuple(map(dim, s)) for name, s in sizes.items()}}


def sizes_of(array):
    return tuple(map(dim, array.shape))


def output_shape(x, w, case):
    first = TensorType.make(DType.F32, (x.shape[0], x.shape[3], *x.shape[1:3]))
    y = Conv(**movement(case)).infer(first, TensorType.make(DType.F32, w.shape))[0].concrete({})
    return (y[0], *y[2:], y[1])


def check(run_node, op, *arrays):
    node = apply(op, *map(value_of, arrays)).node
    # The reference needs something to slide over.
    nothing = [np.zeros(node.results[0].type.concrete({}))]
    check_node(run_node, node, arrays, None if all(a.size for a in arrays) else nothing)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(run_node, case, dtype):
    x, w = draw(*case[0], dtype=dtype), draw(*case[1], dtype=dtype)
    packed = PackWeights(groups=case[5]).evaluate(w)[0]
    op = ConvLast(outputs=dim(len(w)), kernel=sizes_of(w)[2:], **movement(case))
    check(run_node, op, x, packed)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_by_input(run_node, case, dtype):
    x, w = draw(*case[0], dtype=dtype), draw(*case[1], dtype=dtype)
    how = movement(case)
    pack = PackWeights(
        groups=case[5], backward=True, strides=how["strides"], dilations=how["dilations"]
    )
    packed = pack.evaluate(w)[0]
    dy = draw(*output_shape(x, w, case), dtype=dtype)
    op = ConvLastInputGradient(kernel=sizes_of(w)[2:], shape=sizes_of(x), **how)
    check(run_node, op, dy, packed)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", [*CASES, LARGE], ids=str)
def test_by_weight(run_node, case, dtype):
    x, w = draw(*case[0], dtype=dtype), draw(*case[1], dtype=dtype)
    dy = draw(*output_shape(x, w, case), dtype=dtype)
    check(run_node, ConvLastWeightGradient(shape=sizes_of(w), **movement(case)), x, dy)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_packing(run_node, case, dtype):
    w = draw(*case[1], dtype=dtype)
    for backward in (False, True):
        how = {name: movement(case)[name] for name in ("strides", "dilations")} if backward else {}
        check(run_node, PackWeights(groups=case[5], backward=backward, **how), w)


@pytest.mark.parametrize("groups", [1, 2])
def test_packing_of_large_weights(run_node, groups):
    for shape in [(70, 45, 3, 3), (36, 33, 5, 5), (64, 70, 1, 1), (32, 16, 3, 3)]:
        w = draw(*shape)
        for backward in (False, True):
            check(run_node, PackWeights(groups=groups, backward=backward), w)


def test_sizes_known_when_running(run_node):
    x = Value(TensorType.make(DType.F32, (dim("n"), dim("h"), dim("w"), 2)))
    w = draw(5, 2, 3, 3)
    pads = ((dim("h") - 1) // 2 * 2 + 3 - dim("h"), dim(1), dim(0), dim(1))
    how = {"strides": (dim(2), dim(1)), "outputs": dim(5), "kernel": (dim(3), dim(3))}
    packed = PackWeights().evaluate(w)[0]
    node = apply(ConvLast(pads=pads, **how), x, value_of(packed)).node
    for n, h, width in [(1, 9, 8), (3, 8, 33)]:
        arrays = draw(n, h, width, 2), packed
        known = ConvLast(pads=tuple(dim(p.substitute({"h": h})) for p in pads), **how)
        sizes = {"n": n, "h": h, "w": width}
        got = run_node(node, lower(node), arrays, sizes, threads=2)[0]
        np.testing.assert_allclose(got, known.evaluate(*arrays)[0], rtol=1e-4, atol=1e-4)
