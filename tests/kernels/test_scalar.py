"""Every elementwise operator in a kernel against its meaning in NumPy, over the whole range."""

import math

import numpy as np
import pytest

from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import OPERATORS, Elementwise, apply, apply_all
from dnnc.ops.control import Fused
from dnnc.ops.elementwise import Cast
from dnnc.program.executable import Executable

#: Bounds of the error in units in the last place, as `dnnc.kernels.elementary` states them.
BOUNDS = {
    "exp": 1.01,
    "log": 1.01,
    "log1p": 1.01,
    "tanh": 4,
    "erf": 6,
    "sigmoid": 3,
    "power": 1,
    "sin": 2,
    "cos": 2,
}


def operators(arity: int, dtype: DType) -> list[Elementwise]:
    found = []
    for cls in OPERATORS.values():
        if not issubclass(cls, Elementwise) or cls.arity != arity or cls is Cast:
            continue
        if dtype in cls.accepts:
            found.append(cls())
    return found


def run_all(ops: list[Elementwise], operands: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Results by operator, all from one kernel."""
    shape = (dim("n"),)
    inputs = [
        Input(f"x{k}", Value(TensorType(DType.of(x), shape)), "data")
        for k, x in enumerate(operands)
    ]
    values = [item.value for item in inputs]
    outputs = tuple(Output(f"y{k}", apply(op, *values)) for k, op in enumerate(ops))
    fused = Fused(Graph("body", tuple(inputs), outputs), shape)
    outer = [Input(item.name, Value(item.value.type), "data") for item in inputs]
    results = apply_all(fused, *(item.value for item in outer))
    graph = Graph("all", tuple(outer), tuple(Output(f"y{k}", v) for k, v in enumerate(results)))
    arrays = dict(zip((item.name for item in outer), operands, strict=True))
    found = Executable(graph, threads=1)(arrays)
    return {repr(op): found[f"y{k}"] for k, op in enumerate(ops)}


def floats(dtype: DType) -> np.ndarray:
    """Ordinary, small, huge, denormal and special numbers."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype.numpy)
    tiny, huge = math.log10(float(info.smallest_subnormal)), math.log10(float(info.max))
    with np.errstate(all="ignore"):
        spread = 10.0 ** rng.uniform(tiny, huge, 4000) * rng.choice([-1.0, 1.0], 4000)
        parts = [
            np.linspace(-20, 20, 4001),
            np.linspace(-110, 90, 2001),
            np.linspace(-1.5, 1.5, 3001),
            spread,
            np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1e-45, -1e-45]),
            np.array([info.max, info.min, info.tiny, -info.tiny, info.smallest_subnormal]),
        ]
        return np.concatenate(parts).astype(dtype.numpy)


def exact(op: Elementwise, *operands: np.ndarray) -> np.ndarray:
    """The meaning of an operator: for f32 computed in f64, which the functions are measured by."""
    if op.name in BOUNDS and operands[0].dtype == np.float32:
        operands = tuple(x.astype(np.float64) for x in operands)
    return op.evaluate(*operands)[0]


def assert_close(op: Elementwise, found: np.ndarray, expected: np.ndarray, *args: object) -> None:
    """Equal, or where the operator is approximated within its bound."""
    if op.name not in BOUNDS:
        np.testing.assert_array_equal(found, expected, err_msg=op.name)
        return
    with np.errstate(all="ignore"):
        rounded = expected.astype(found.dtype)
        same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
        unit = np.spacing(np.maximum(np.abs(rounded), np.finfo(found.dtype).tiny))
        error = np.abs(found.astype(np.float64) - expected.astype(np.float64)) / unit
    worst = np.argmax(np.where(same, 0, np.nan_to_num(error, nan=np.inf)))
    message = f"{op.name}{[a[worst] for a in args]}: {found[worst]} for {expected[worst]}"
    assert same[worst] or error[worst] <= BOUNDS[op.name], message


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_functions_of_one_float(dtype: DType) -> None:
    x = floats(dtype)
    ops = operators(1, dtype)
    found = run_all(ops, [x])
    for op in ops:
        use = np.abs(x) <= 1e9 if op.name in ("sin", "cos") else slice(None)
        assert_close(op, found[repr(op)][use], exact(op, x[use]), x[use])


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_functions_of_two_floats(dtype: DType) -> None:
    rng = np.random.default_rng(6)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2, 3, -3, 0.5, -2.5, 7, 1e30])
    a, b = (x.ravel() for x in np.meshgrid(special, special))
    a = np.concatenate([a, rng.normal(size=3000) * 10]).astype(dtype.numpy)
    b = np.concatenate([b, rng.normal(size=3000) * 3]).astype(dtype.numpy)
    ops = operators(2, dtype)
    found = run_all(ops, [a, b])
    for op in ops:
        if op.name in ("modulo", "floor_divide"):
            # NumPy's edge cases with infinity differ between versions and types.
            use = np.isfinite(a) & np.isfinite(b) & (b != 0) & (np.abs(a) < 1e6)
            expected = op.evaluate(a[use], b[use])[0]
            np.testing.assert_array_equal(found[repr(op)][use], expected, err_msg=op.name)
        else:
            assert_close(op, found[repr(op)], exact(op, a, b), a, b)


@pytest.mark.parametrize("dtype", [DType.I32, DType.I64, DType.U8, DType.I8])
def test_integers(dtype: DType) -> None:
    rng = np.random.default_rng(7)
    info = np.iinfo(dtype.numpy)
    edges = np.array([info.min, info.max, 0, 1, 2, info.max - 1], dtype.numpy)
    a, b = (x.ravel() for x in np.meshgrid(edges, edges))
    a = np.concatenate([a, rng.integers(info.min, info.max, 500, dtype.numpy)])
    b = np.concatenate([b, rng.integers(max(info.min, -9), 9, 500, dtype.numpy)])
    one, two = operators(1, dtype), operators(2, dtype)
    with np.errstate(all="ignore"):
        for op, y in zip(one, run_all(one, [a]).values(), strict=True):
            np.testing.assert_array_equal(y, op.evaluate(a)[0], err_msg=op.name)
        for op, y in zip(two, run_all(two, [a, b]).values(), strict=True):
            use = b != 0 if op.name in ("modulo", "floor_divide") else slice(None)
            expected = op.evaluate(a[use], b[use])[0]
            np.testing.assert_array_equal(y[use], expected, err_msg=f"{op.name} {dtype}")


def test_truth_values_and_selection() -> None:
    a = np.array([True, False, True, False])
    b = np.array([True, True, False, False])
    for op, y in run_all(operators(2, DType.BOOL), [a, b]).items():
        cls = next(o for o in operators(2, DType.BOOL) if repr(o) == op)
        np.testing.assert_array_equal(y, cls.evaluate(a, b)[0], err_msg=op)
    x, z = np.arange(4, dtype=np.float32), np.full(4, np.nan, np.float32)
    (select,) = operators(3, DType.BOOL)
    (found,) = run_all([select], [a, x, z]).values()
    np.testing.assert_array_equal(found, np.where(a, x, z))


@pytest.mark.parametrize("source", list(DType))
def test_casts(source: DType) -> None:
    ops: list[Elementwise] = [Cast(target) for target in DType]
    if source.is_float:
        x = np.array([0.0, -0.0, 1.5, -1.5, 100.75, 1e-30], source.numpy)
    elif source is DType.BOOL:
        x = np.array([True, False])
    else:
        info = np.iinfo(source.numpy)
        x = np.array([info.min, info.max, 0, 1, 100], source.numpy)
    found = run_all(ops, [x])
    for op in ops:
        if source.is_float and op == Cast(DType.U8):
            continue  # NumPy leaves negative numbers open.
        np.testing.assert_array_equal(found[repr(op)], op.evaluate(x)[0], err_msg=repr(op))


def test_nan_and_infinity_survive_a_chain() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    for op, y in run_all(operators(1, DType.F32), [x]).items():
        name = op.split("(")[0]
        if name in ("IsFinite",):
            assert y.tolist() == [False, False, False, True]
        elif y.dtype == np.float32:
            assert np.isnan(y[0]), name
