"""Copies against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.ops import creation, shape
from tests.kernels.arrays import draw, run_on_threads, value_of


def check(run_node, make, *arrays):
    node = make(*map(value_of, arrays)).node
    got = run_on_threads(run_node, node, arrays)[0]
    np.testing.assert_array_equal(got, node.op.evaluate(*arrays)[0])


def spread(*sizes, dtype="f4"):
    """Numbers that remain different as integers."""
    return (draw(*sizes, dtype="f8") * 50).astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "bool", "i8"])
def test_transpose(run_node, dtype):
    for sizes, order in [
        ((3, 4), (1, 0)), ((37, 65), (1, 0)), ((2, 33, 5, 17), (0, 2, 1, 3)),
        ((5, 1, 7), (2, 1, 0)), ((2, 3, 20, 35), (0, 1, 3, 2)),
        ((4, 5, 6), (2, 0, 1)), ((4, 5, 6), (1, 2, 0)), ((0, 3), (1, 0)),
        ((2, 3, 4, 5, 6), (4, 2, 0, 3, 1)),
    ]:  # fmt: skip
        check(
            run_node, lambda x, order=order: shape.transpose(x, order), spread(*sizes, dtype=dtype)
        )


def test_broadcast(run_node):
    for sizes, wanted in [((), (3, 4)), ((4,), (3, 4)), ((3, 1), (3, 70)), ((1, 5, 1), (2, 5, 3))]:
        check(run_node, lambda x, wanted=wanted: shape.broadcast(x, wanted), spread(*sizes))


def test_slice_and_reverse(run_node):
    for sizes in [(7,), (7, 3), (7, 3, 40)]:
        for axis in range(len(sizes)):
            check(run_node, lambda x, axis=axis: shape.slice(x, axis, 1, 3), spread(*sizes))
            check(run_node, lambda x, axis=axis: shape.reverse(x, axis), spread(*sizes))
    check(run_node, lambda x: shape.slice(x, 0, 2, 2), spread(4, 3))


def test_concat_and_pad(run_node):
    for axis in range(3):
        parts = [[3, 4, 5] for _ in range(3)]
        parts[1][axis], parts[2][axis] = 1, 0
        check(run_node, lambda *x, axis=axis: shape.concat(x, axis), *(spread(*p) for p in parts))
        check(run_node, lambda x, axis=axis: shape.pad(x, axis, 2, 3), spread(3, 4, 5))
        check(run_node, lambda x, axis=axis: shape.pad(x, axis, 0, 1), spread(3, 4, 5, dtype="i1"))


def test_iota(run_node):
    for axis in range(3):
        for dtype in (DType.I64, DType.F32, DType.U8):
            check(run_node, lambda a=axis, t=dtype: creation.iota((3, 4, 5), a, t))


def test_sizes_known_when_running(run_node):
    x = Value(TensorType.make(DType.F32, (dim("n"), 3, dim("t"))))
    node = shape.transpose(x, (2, 0, 1)).node
    for n, t in [(1, 1), (2, 33), (0, 4)]:
        array = spread(n, 3, t)
        got = run_node(node, lower(node), [array], {"n": n, "t": t}, threads=2)[0]
        np.testing.assert_array_equal(got, array.transpose(2, 0, 1))
