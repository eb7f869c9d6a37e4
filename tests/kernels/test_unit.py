"""Products on the matrix unit against NumPy, and how exact they are."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from llvmlite import ir

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import lower
from dnnc.kernels.code import Code
from dnnc.kernels.product import matmul as matmul_module
from dnnc.kernels.product import slots
from dnnc.kernels.target import Target
from dnnc.kernels.unit.product import may_favour_unit, unit_kernel
from dnnc.kernels.unit.split import Split
from dnnc.ops.base import TypeRuleError, apply
from dnnc.ops.linear import matmul
from dnnc.ops.packed import FEWEST_ROWS, PackColumns, PackedMatMul
from dnnc.passes.pipeline import optimize
from dnnc.tuning.processor import matrix_unit
from tests.kernels.test_matmul import expected, node_of, operands
from tests.kernels.test_targets import compiled

#: Whatever is stored how, 32 rows or columns stream by. The last block of the deepest sum is one
#: step deep.
SIZES = [
    (32, 32, 32), (40, 33, 63), (48, 49, 96), (64, 64, 832), (65, 97, 833), (130, 40, 1700),
    (200, 350, 70), (600, 90, 40), (100, 700, 300), (70, 33, 2500), (35, 32, 31 * 832 + 1),
    (96, 64, 40), (48, 80, 200), (80, 48, 64), (600, 64, 32), (64, 608, 70), (16, 80, 40),
]  # fmt: skip
#: Sizes for which what streams by has to be split before.
SMALL = [(1, 1, 1), (16, 16, 32), (17, 1, 33), (1, 17, 5), (15, 31, 64), (33, 32, 31)]
UNIT = pytest.mark.skipif(not matrix_unit(), reason="this processor has no matrix unit")
FLIPS = list(itertools.product([False, True], repeat=2))


@pytest.fixture
def unit_call(monkeypatch):
    """`call(node)`: the call of a product's kernel on the unit, whatever its sizes favour."""
    monkeypatch.setattr(matmul_module, "_may_favour_unit", lambda *sizes: True)

    def call(node):
        (made,) = lower(node)
        return dataclasses.replace(made, kernel=unit_kernel())

    return call


def on_the_unit(call):
    return isinstance(call.arguments[slots.UNIT], Code)


def errors(run_node, monkeypatch, arrays):
    """The root of the mean squared error of a product, on the unit and without it, each as a part
    of the sum of the sizes of what is added."""
    node = node_of(arrays, False, False)
    a, b = (array.astype(np.float64) for array in arrays)
    exact, sizes = a @ b, np.abs(a) @ np.abs(b)
    results = []
    for there in (True, False):
        monkeypatch.setattr(matmul_module, "unit_usable", lambda there=there: there)
        (call,) = lower(node)
        assert on_the_unit(call) == there
        got = run_node(node, [call], arrays)[0]
        results.append(float(np.sqrt(np.mean(((got - exact) / sizes) ** 2))))
    return results


@UNIT
@pytest.mark.parametrize("transpose", FLIPS, ids=str)
def test_product(run_node, unit_call, transpose):
    for m, n, k in SIZES:
        arrays = operands(DType.F32, (), m, n, k, *transpose)
        node = node_of(arrays, *transpose)
        one, two, three = (
            run_node(node, [unit_call(node)], arrays, threads=t)[0] for t in (1, 2, 3)
        )
        np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-6, atol=1e-6 * k**0.5)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@UNIT
@pytest.mark.parametrize("columns", [28, 16])
@pytest.mark.parametrize("transpose_b", [False, True], ids=str)
def test_few_columns_are_fixed(run_node, unit_call, transpose_b, columns):
    arrays = operands(DType.F32, (), 300, columns, 200, False, transpose_b)
    node = node_of(arrays, False, transpose_b)
    one, two = (run_node(node, [unit_call(node)], arrays, threads=t)[0] for t in (1, 2))
    np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(one, two)


@UNIT
@pytest.mark.parametrize("transpose", FLIPS, ids=str)
def test_the_way_to_the_output_changes_no_bit(run_node, unit_call, transpose):
    """Whole tiles are stored at once; in a matrix of one column more, sums go by scratch memory."""
    for m, n, k in [(96, 64, 40), (64, 96, 250), (640, 32, 100), (96, 96, 900)]:
        a, b = operands(DType.F32, (2,), m, n, k, *transpose)
        more = np.concatenate([b, b[:, :1] if transpose[1] else b[..., :1]], 2 - transpose[1])
        whole, wider = (
            run_node(node, [unit_call(node)], arrays, threads=2)[0]
            for arrays in ([a, b], [a, more])
            for node in [node_of(arrays, *transpose)]
        )
        np.testing.assert_array_equal(whole, wider[..., :n])


@UNIT
def test_batches_and_small_groups(run_node, unit_call, monkeypatch):
    monkeypatch.setattr("dnnc.kernels.product.matmul.second_cache", lambda: 1 << 13)
    for lead, (m, n, k) in itertools.product(
        [(3,), (2, 2)], [(17, 70, 40), (70, 33, 900), (48, 64, 40)]
    ):
        for transpose in FLIPS:
            arrays = operands(DType.F32, lead, m, n, k, *transpose)
            node = node_of(arrays, *transpose)
            one, two = (run_node(node, [unit_call(node)], arrays, threads=t)[0] for t in (1, 2))
            np.testing.assert_allclose(one, expected(node, arrays), rtol=1e-6, atol=1e-4)
            np.testing.assert_array_equal(one, two)


@UNIT
@pytest.mark.parametrize("pieces", [False, True], ids=str)
@pytest.mark.parametrize("transpose", [False, True], ids=str)
def test_packed_product(run_node, unit_call, transpose, pieces):
    for m, n, k in SIZES + SMALL * pieces:
        a, b = operands(DType.F32, (), m, n, k, False, transpose)
        weight = Value(TensorType.make(DType.F32, b.shape))
        pack = apply(PackColumns(transpose, pieces), weight).node
        packed = run_node(pack, lower(pack), [b], threads=2)[0]
        np.testing.assert_array_equal(packed.view("i4"), pack.op.evaluate(b)[0].view("i4"))
        values = [Value(TensorType.make(DType.F32, array.shape)) for array in (a, packed)]
        node = apply(PackedMatMul(dim(n), pieces), *values).node
        wanted = a.astype("f8") @ (b.T if transpose else b).astype("f8")
        for call in (*(unit_call(node) for _ in range(pieces)), *lower(node)):
            got = run_node(node, [call], [a, packed], threads=2)[0]
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * k**0.5)
        np.testing.assert_allclose(node.op.evaluate(a, packed)[0], wanted, rtol=1e-4, atol=1e-3)


@UNIT
def test_rows_known_when_running(run_node):
    """Few rows are multiplied without the unit, many on it, by one call."""
    a, b = (Value(TensorType.make(DType.F32, shape)) for shape in (("n", 200), (200, 300)))
    node = matmul(a, b).node
    (call,) = lower(node)
    assert on_the_unit(call)
    for rows in (0, 1, 2, 5, 40, 300):
        arrays = operands(DType.F32, (), rows, 300, 200, False, False)
        want = expected(node_of(arrays, False, False), arrays)
        one, two = (run_node(node, [call], arrays, {"n": rows}, threads=t)[0] for t in (1, 2))
        np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(one, two)


@UNIT
@pytest.mark.parametrize("cache", [1 << 13, 1 << 21])
@pytest.mark.parametrize("depth", [70, 700, 900])
@pytest.mark.parametrize("transpose", FLIPS, ids=str)
def test_epilogue(run_node, monkeypatch, transpose, depth, cache):
    """Bias, activation and a residual follow, in tiles of all sizes, fetched meanwhile or not."""
    monkeypatch.setattr(matmul_module, "_may_favour_unit", lambda *sizes: True)
    monkeypatch.setattr("dnnc.kernels.product.matmul.second_cache", lambda: cache)
    for m, n in [(16, 64), (33, 50), (100, 130), (130, 100), (70, 40)]:
        a, b = operands(DType.F32, (), m, n, depth, *transpose)
        random = np.random.default_rng(1)
        bias, rest = random.standard_normal((1, n)), random.standard_normal((m, n))
        arrays = [a, b, bias.astype(np.float32), rest.astype(np.float32)]
        values = [Value(TensorType.make(DType.F32, array.shape)) for array in arrays]
        x, w, offset, residual = values
        y = ops.add(ops.maximum(ops.add(ops.matmul(x, w, *transpose), offset), 0.0), residual)
        inputs = tuple(Input(f"x{k}", value) for k, value in enumerate(values))
        graph = optimize(Graph("layer", inputs, (Output("y", y),)))
        node = graph.outputs[0].value.node
        (made,) = lower(node)
        call = dataclasses.replace(made, kernel=unit_kernel())
        given = [arrays[values.index(value)] for value in node.operands]
        left, right = a.T if transpose[0] else a, b.T if transpose[1] else b
        want = np.maximum(left.astype("f8") @ right + bias, 0) + rest
        one, two, five = (run_node(node, [call], given, threads=t)[0] for t in (1, 2, 5))
        np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, five)


@UNIT
@pytest.mark.parametrize("transpose", FLIPS, ids=str)
def test_depth_known_when_running(run_node, monkeypatch, transpose):
    """Groups of columns that are less deep than they might be are wider."""
    monkeypatch.setattr("dnnc.kernels.product.matmul.second_cache", lambda: 1 << 18)
    for shapes in [((80, "k"), ("k", 400)), ((80, 900), (900, 400))]:
        a, b = (shape[::-1] if flip else shape
                for shape, flip in zip(shapes, transpose, strict=True))  # fmt: skip
        values = [Value(TensorType.make(DType.F32, shape)) for shape in (a, b)]
        node = matmul(*values, transpose_a=transpose[0], transpose_b=transpose[1]).node
        for k in (40, 500, 840, 900) if "k" in a else (900,):
            arrays = operands(DType.F32, (), 80, 400, k, *transpose)
            got = run_node(node, lower(node), arrays, {"k": k}, threads=2)[0]
            np.testing.assert_allclose(got, expected(node, arrays), rtol=1e-5, atol=1e-4)


@UNIT
def test_numbers_are_split_without_error(run_node, unit_call):
    """The product with an identity is the matrix to the bit: three pieces hold every number."""
    random = np.random.default_rng(5)
    a = np.exp2(random.uniform(-100, 127, (90, 70))) * random.choice([-1, 1], (90, 70))
    a = a.astype(np.float32)
    a[0, :3] = np.finfo(np.float32).max, -np.finfo(np.float32).max, 0
    identity = np.eye(70, dtype=np.float32)
    for arrays, want in (((a, identity), a), ((identity, a[:70]), a[:70])):
        node = node_of(arrays, False, False)
        np.testing.assert_array_equal(run_node(node, [unit_call(node)], arrays)[0], want)


@UNIT
@pytest.mark.parametrize("kind", ["normal", "positive", "scaled"])
@pytest.mark.parametrize("depth", [64, 300, 2000])
def test_as_exact_as_multiply_adds(run_node, monkeypatch, kind, depth):
    random = np.random.default_rng(7)
    a, b = random.standard_normal((256, depth)), random.standard_normal((depth, 256))
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    if kind == "scaled":
        a, b = (x * np.exp2(random.integers(-20, 20, x.shape)) for x in (a, b))
    unit, adds = errors(run_node, monkeypatch, [a.astype(np.float32), b.astype(np.float32)])
    assert unit <= adds < 1e-6


@UNIT
def test_numbers_that_are_not_finite(run_node, unit_call):
    a, b = operands(DType.F32, (), 40, 40, 40, False, False)
    a[3, 5], a[7, 9] = np.nan, np.inf
    a[9, :] = 1e-42
    node = node_of((a, b), False, False)
    got = run_node(node, [unit_call(node)], (a, b))[0]
    assert np.isnan(got[[3, 7]]).all()
    assert (got[9] == 0).all()
    others = np.delete(np.arange(40), [3, 7, 9])
    assert np.isfinite(got[others]).all()


def test_few_rows_are_multiplied_by_panels():
    assert may_favour_unit(FEWEST_ROWS, 512, 512, 0, 0, 1)
    assert not may_favour_unit(FEWEST_ROWS - 1, 512, 512, 0, 0, 1)


def test_pieces_of_nothing(run_node):
    weight = Value(TensorType.make(DType.F32, (0, 40)))
    node = apply(PackColumns(pieces=True), weight).node
    assert run_node(node, lower(node), [np.empty((0, 40), "f4")])[0].shape == (0, 16)
    with pytest.raises(TypeRuleError):
        apply(PackColumns(pieces=True), Value(TensorType.make(DType.F64, (40, 40))))


SWITCHED = """
import os
from dnnc.kernels.target import unit_usable
from dnnc.tuning.processor import matrix_unit

assert matrix_unit() and unit_usable()
os.environ["DNNC_VECTOR_BITS"] = "256"
assert not matrix_unit() and not unit_usable()
os.environ["DNNC_VECTOR_BITS"] = ""
os.environ["DNNC_MATRIX_UNIT"] = "0"
assert not matrix_unit() and not unit_usable()
"""
NARROW_BEFORE = """
import os
from dnnc.kernels.target import host, unit_usable
from dnnc.tuning.processor import matrix_unit

assert host().vector_bits == 256
os.environ["DNNC_VECTOR_BITS"] = ""
assert matrix_unit() and not unit_usable()
"""


@UNIT
@pytest.mark.parametrize(("program", "bits"), [(SWITCHED, ""), (NARROW_BEFORE, "256")])
def test_the_unit_can_be_switched_off(program, bits):
    """Also where kernels of this process are compiled for vectors that were narrower before."""
    environment = os.environ | {"DNNC_VECTOR_BITS": bits, "DNNC_MATRIX_UNIT": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def assembly(rows, columns, splits):
    from dnnc.kernels.unit.tiles import write_multiply_pieces

    target = Target("x86_64-unknown-linux-gnu", "sapphirerapids", "", 512, 32)

    def write(module: ir.Module) -> ir.Function:
        return write_multiply_pieces(module, "tile", rows, columns, splits)

    return compiled(write, target)


@pytest.mark.parametrize("splits", Split, ids=str)
def test_numbers_are_split_between_products(splits):
    """All vector work of a round stands between products, and none is kept on the stack."""
    text = assembly(2, 2, splits)
    assert not re.search(r"zmm\d+, \S*\(%rsp|\(%rsp\), %zmm", text)
    assert "(%rsp)" in text
    first, *rest = re.split(r"\ttdpbf16ps\t", text)
    assert len(rest) == 24
    assert not re.search(r"zmm\d+, \S*\(%r", first)
    stores = [len(re.findall(r"vmovup[sd]\t%zmm\d+, |vmovdqu64\t%zmm\d+, ", part)) for part in rest]
    assert sum(stores) == 2 * 3 * 16
    assert max(stores) <= 6


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 1), (1, 2), (1, 1)])
def test_sums_stay_in_tiles(rows, columns):
    text = assembly(rows, columns, None)
    products = re.findall(r"tdpbf16ps\t%tmm(\d), %tmm(\d), %tmm(\d)", text)
    # LLVM may take several steps in one round.
    assert len(products) % (6 * rows * columns) == 0
    assert {int(found[2]) for found in products} == set(range(rows * columns))
    # Other registers stay empty: see `_products`.
    loaded = {int(found) for found in re.findall(r"tileloadd\t.*%tmm(\d)", text)}
    assert len(loaded) <= 6
    assert {int(number) for found in products for number in found} == loaded
    # Each sum is stored once; what keeps the unit awake is an operand.
    stored = [int(found) for found in re.findall(r"tilestored\t%tmm(\d)", text)]
    assert sorted(tile for tile in stored if tile < rows * columns) == list(range(rows * columns))
    assert len(stored) > rows * columns
