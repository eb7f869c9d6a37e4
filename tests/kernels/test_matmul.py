"""Matrix products against NumPy, on sizes around every boundary of the tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.kernels.load import load_lowerings
from dnnc.kernels.product import matmul as matmul_module
from dnnc.kernels.product.matmul import matmul_call
from dnnc.kernels.product.orders import build_dots_pay, build_turned_pays
from dnnc.kernels.tiles import Tile
from dnnc.ops.base import apply
from dnnc.ops.linear import matmul
from dnnc.ops.packed import PackColumns, PackedMatMul

SIZES = [
    (1, 1, 1), (2, 3, 5), (4, 32, 16), (14, 32, 64), (15, 33, 17), (29, 70, 31), (61, 100, 40),
    (1, 130, 600), (126, 10, 84), (33, 17, 1030), (3, 0, 4), (3, 4, 0), (0, 3, 4), (20, 64, 1024),
    (33, 20, 2100), (33, 65, 129), (530, 33, 70), (90, 49, 14000),
    (1, 1, 50), (1, 1000, 9), (1100, 1, 40), (7, 1, 67), (50, 10, 517), (61, 13, 1999),
    (17, 31, 1000), (24, 16, 768), (25, 3, 129), (70, 16, 33), (33, 15, 1),
    (30, 200, 70), (41, 333, 130), (126, 300, 260), (9, 144, 40), (16, 80, 2), (700, 100, 300),
    (60, 47, 1056), (64, 100, 900), (200, 17, 1100), (200, 20, 2112),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _without_matrix_unit(monkeypatch):
    """Products on the matrix unit have tests of their own: test_unit.py."""
    monkeypatch.setattr(matmul_module, "unit_usable", lambda: False)


def operands(dtype, lead, m, n, k, transpose_a, transpose_b, seed=0):
    random = np.random.default_rng(seed)
    a_shape = (*lead, k, m) if transpose_a else (*lead, m, k)
    b_shape = (*lead, n, k) if transpose_b else (*lead, k, n)
    draw = lambda s: (  # noqa: E731
        random.standard_normal(s) if dtype.is_float else random.integers(-9, 9, s)
    )
    return [draw(shape).astype(dtype.numpy) for shape in (a_shape, b_shape)]


def node_of(arrays, transpose_a, transpose_b):
    values = [Value(TensorType.make(DType.of(a), a.shape)) for a in arrays]
    return matmul(*values, transpose_a=transpose_a, transpose_b=transpose_b).node


def expected(node, arrays):
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    return node.op.evaluate(*wide)[0]


@pytest.mark.parametrize("transpose", list(itertools.product([False, True], repeat=2)), ids=str)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.I32], ids=str)
def test_product(run_node, dtype, transpose):
    for m, n, k in SIZES:
        arrays = operands(dtype, (), m, n, k, *transpose)
        node = node_of(arrays, *transpose)
        one, two, three = (run_node(node, lower(node), arrays, threads=t)[0] for t in (1, 2, 3))
        wanted = expected(node, arrays)
        bound = 1e-13 if dtype is DType.F64 else 1e-5
        np.testing.assert_allclose(one, wanted, rtol=bound, atol=bound * (k + 1) ** 0.5)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_small_groups_of_panels(run_node, monkeypatch):
    """A small second-level cache: groups of few panels, and lines that are fetched meanwhile."""
    monkeypatch.setattr("dnnc.kernels.product.matmul.second_cache", lambda: 1 << 13)
    for m, n, k in [(70, 150, 40), (9, 130, 1100), (200, 96, 700), (30, 200, 70)]:
        for transpose in itertools.product([False, True], repeat=2):
            arrays = operands(DType.F32, (), m, n, k, *transpose)
            node = node_of(arrays, *transpose)
            one, two = (run_node(node, lower(node), arrays, threads=t)[0] for t in (1, 2))
            np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-5, atol=4e-4)
            np.testing.assert_array_equal(one, two)


def test_batches_share_threads(run_node):
    for lead, (m, n, k) in itertools.product([(3,), (2, 2), (0,)], [(5, 40, 7), (30, 9, 33)]):
        for transpose in itertools.product([False, True], repeat=2):
            arrays = operands(DType.F32, lead, m, n, k, *transpose)
            node = node_of(arrays, *transpose)
            one, two = (run_node(node, lower(node), arrays, threads=t)[0] for t in (1, 2))
            np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(one, two)


def test_sizes_known_when_running(run_node):
    a, b = (Value(TensorType.make(DType.F32, shape)) for shape in (("n", 20), (20, 40)))
    node = matmul(a, b).node
    call = matmul_call(node.op, a, b, node.results[0])
    for batch in (0, 1, 2, 37):
        arrays = operands(DType.F32, (), batch, 40, 20, False, False)
        got = run_node(node, [call], arrays, {"n": batch}, threads=2)[0]
        np.testing.assert_allclose(got, arrays[0] @ arrays[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transpose", list(itertools.product([False, True], repeat=2)), ids=str)
def test_order_of_loops_is_chosen_when_running(run_node, transpose):
    """Few columns by as many rows, or so deep a sum, as the call brings."""
    for a_shape, b_shape, fixed in [(("n", 300), (300, 9), (None, 9, 300)),
                                    ((70, "n"), ("n", 9), (70, 9, None))]:  # fmt: skip
        shapes = [
            s[::-1] if flip else s for s, flip in zip((a_shape, b_shape), transpose, strict=True)
        ]
        a, b = (Value(TensorType.make(DType.F32, shape)) for shape in shapes)
        flips = {"transpose_a": transpose[0], "transpose_b": transpose[1]}
        node = matmul(a, b, **flips).node
        for size in (0, 1, 2, 15, 16, 40, 200):
            m, n, k = (size if known is None else known for known in fixed)
            arrays = operands(DType.F32, (), m, n, k, *transpose)
            one, two = (
                run_node(node, lower(node), arrays, {"n": size}, threads=t)[0] for t in (1, 2)
            )
            np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-5, atol=2e-4)
            np.testing.assert_array_equal(one, two)


def test_orders_of_loops_are_chosen_by_what_they_save():
    """With vectors of 16 lanes: those that the last columns leave empty, and what is transposed."""
    tile = Tile("f32", 8, 3, 16)
    turned_pays, dots_pay = build_turned_pays(tile), build_dots_pay(tile)
    assert [turned_pays(600, n, 256) for n in (10, 20, 33, 64, 128)] == [1, 1, 1, 1, 0]
    assert [turned_pays(m, 33, 256) for m in (16, 33, 64)] == [0, 0, 1]
    assert [dots_pay(64, n, 1024, 1) for n in (16, 20, 24, 28, 48)] == [1, 1, 1, 0, 0]
    assert [dots_pay(64, 20, k, 1) for k in (100, 256, 600, 1024)] == [0, 0, 1, 1]
    assert [dots_pay(m, 20, 1024, 0) for m in (15, 20, 64)] == [0, 0, 1]
    assert [dots_pay(m, 500, 300, 1) for m in (24, 25)] == [1, 0]


@pytest.mark.parametrize(
    ("columns", "parts"), [(70, (2, 3, 7, 13, 33)), (10, (16, 17, 22, 31))], ids=str
)
def test_an_element_has_the_same_bits_in_every_tile(run_node, columns, parts):
    a, b = operands(DType.F32, (), 40, columns, 1900, False, False)
    whole = node_of((a, b), False, False)
    want = run_node(whole, lower(whole), (a, b))[0]
    for rows in parts:
        part = node_of((a[:rows], b), False, False)
        got = run_node(part, lower(part), (a[:rows], b))[0]
        np.testing.assert_array_equal(got, want[:rows])


@pytest.mark.parametrize("transpose", [False, True], ids=str)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64], ids=str)
def test_packed_product(run_node, dtype, transpose):
    load_lowerings()
    for m, n, k in SIZES:
        a, b = operands(dtype, (), m, n, k, False, transpose)
        weight = Value(TensorType.make(dtype, b.shape))
        pack = apply(PackColumns(transpose), weight).node
        packed = run_node(pack, lower(pack), [b], threads=2)[0]
        np.testing.assert_array_equal(packed, pack.op.evaluate(b)[0])
        values = [Value(TensorType.make(dtype, array.shape)) for array in (a, packed)]
        node = apply(PackedMatMul(dim(n)), *values).node
        one, two, three = (
            run_node(node, lower(node), [a, packed], threads=t)[0] for t in (1, 2, 3)
        )
        bound = 1e-13 if dtype is DType.F64 else 1e-5
        wanted = a.astype("f8") @ (b.T if transpose else b).astype("f8")
        np.testing.assert_allclose(one, wanted, rtol=bound, atol=bound * (k + 1) ** 0.5)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
