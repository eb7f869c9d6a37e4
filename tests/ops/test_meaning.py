"""What operators mean where it is easily got wrong: ties, NaN, zeros, edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType, TensorType
from dnnc.ops import Operator

Array = np.ndarray
NAN, INF = math.nan, math.inf


def run(op: Operator, *arrays: object) -> Array:
    (result,) = op.evaluate(*(np.asarray(a) for a in arrays))
    return result


def slopes(op: Operator, *arrays: object) -> list[Array]:
    """Gradients of the sum of the result."""
    given = [np.asarray(a) for a in arrays]
    values = [Value(TensorType.make(DType.of(a), a.shape)) for a in given]
    y = ops.apply(op, *values)
    loss = ops.reduce_sum(y, range(y.type.rank))
    inputs = tuple(Input(f"x{i}", value) for i, value in enumerate(values))
    outputs = tuple(Output(f"d{i}", g) for i, g in enumerate(gradients(loss, values)))
    results = interpret(Graph("f", inputs, outputs), {f"x{i}": a for i, a in enumerate(given)})
    return [results[f"d{i}"] for i in range(len(given))]


def test_maximum_and_minimum_pass_ties_to_the_first_and_keep_nan() -> None:
    np.testing.assert_array_equal(slopes(ops.Maximum(), [1.0, 2.0], [1.0, 3.0]), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(slopes(ops.Minimum(), [1.0, 2.0], [1.0, 3.0]), [[1, 1], [0, 0]])
    for op in (ops.Maximum(), ops.Minimum()):
        np.testing.assert_array_equal(run(op, [NAN, 1.0], [1.0, NAN]), [NAN, NAN])


def test_extrema_share_the_gradient_of_ties() -> None:
    x = [[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    np.testing.assert_allclose(slopes(ops.ReduceMax((1,)), x), [[[0, 0.5, 0.5], [1 / 3] * 3]])
    np.testing.assert_allclose(slopes(ops.ReduceMin((1,)), x), [[[1, 0, 0], [1 / 3] * 3]])


def test_reductions_of_nothing() -> None:
    none = np.zeros((0, 2))
    np.testing.assert_array_equal(run(ops.ReduceSum((0,)), none), [0, 0])
    np.testing.assert_array_equal(run(ops.ReduceMax((0,)), none), [-INF, -INF])
    np.testing.assert_array_equal(run(ops.ReduceMin((0,)), none), [INF, INF])
    assert run(ops.ReduceMax((0,)), np.zeros(0, np.int8)) == -128
    assert run(ops.ReduceMax((0,)), [1.0, NAN, 2.0]).tolist() != [2.0]


def test_argmax_takes_the_first_of_equals() -> None:
    np.testing.assert_array_equal(run(ops.ArgMax(1), [[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]), [1, 0])


def test_power_at_zero() -> None:
    x, y = [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]
    np.testing.assert_array_equal(run(ops.Power(), x, y), [1, 0, 0, 1])
    dx, dy = slopes(ops.Power(), x, y)
    np.testing.assert_array_equal(dx, [0, 1, 0, 0])
    np.testing.assert_array_equal(dy, [0, 0, 0, math.log(2)])


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_higher_derivatives_of_power_at_zero(exponent: float) -> None:
    x = Value(TensorType(DType.F64))
    y = ops.power(x, exponent)
    for order in range(1, 4):
        (y,) = gradients(y, [x])
        found = interpret(Graph("f", (Input("x", x),), (Output("y", y),)), {"x": np.array(0.0)})
        assert found["y"] == (math.factorial(order) if order == exponent else 0)


def test_absolute_has_no_slope_at_zero() -> None:
    np.testing.assert_array_equal(slopes(ops.Absolute(), [-1.0, 0.0, 2.0]), [[-1, 0, 1]])


def test_logarithm_outside_its_domain() -> None:
    np.testing.assert_array_equal(run(ops.Log(), [0.0, -1.0, INF]), [-INF, NAN, INF])


def test_sigmoid_and_erf_in_their_tails() -> None:
    np.testing.assert_array_equal(run(ops.Sigmoid(), [-INF, 0.0, INF, NAN]), [0, 0.5, 1, NAN])
    assert run(ops.Sigmoid(), -700.0) == math.exp(-700)
    assert run(ops.Erf(), [0.5, -3.0]).tolist() == [math.erf(0.5), math.erf(-3.0)]
    assert run(ops.Erf(), np.float32([0.5])).dtype == np.float32


def test_division_and_remainder_floor_as_in_python() -> None:
    x, y = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    expected = [divmod(int(a), int(b)) for a, b in zip(x, y, strict=True)]
    np.testing.assert_array_equal(run(ops.FloorDivide(), x, y), [q for q, _ in expected])
    np.testing.assert_array_equal(run(ops.Modulo(), x, y), [r for _, r in expected])
    np.testing.assert_array_equal(run(ops.Modulo(), [-0.5], [2.0]), [1.5])
    zero = np.zeros(4, np.int32)
    np.testing.assert_array_equal(run(ops.FloorDivide(), x, zero), 0)
    np.testing.assert_array_equal(run(ops.Modulo(), x, zero), 0)


def test_round_goes_to_even() -> None:
    np.testing.assert_array_equal(run(ops.Round(), [0.5, 1.5, 2.5, -0.5]), [0, 2, 2, -0.0])


def test_casts() -> None:
    np.testing.assert_array_equal(run(ops.Cast(DType.I32), [1.9, -1.9]), [1, -1])
    np.testing.assert_array_equal(run(ops.Cast(DType.BOOL), [0.0, 0.1, NAN]), [False, True, True])
    np.testing.assert_array_equal(run(ops.Cast(DType.F32), [True, False]), [1, 0])
    assert ops.Cast(DType.I8).scalar == "cast_i8(a)"


def test_comparisons_with_nan() -> None:
    for op, expected in [(ops.Equal(), False), (ops.NotEqual(), True), (ops.LessEqual(), False)]:
        assert run(op, NAN, NAN) == expected
    np.testing.assert_array_equal(run(ops.IsFinite(), [1.0, INF, NAN]), [True, False, False])


def test_select_does_not_touch_the_other_branch() -> None:
    dx = slopes(ops.Select(), [True, False], [1.0, 2.0], [3.0, 4.0])
    np.testing.assert_array_equal(dx[1], [1, 0])
    np.testing.assert_array_equal(dx[2], [0, 1])


@pytest.mark.parametrize("index", [-1, 3])
def test_indices_out_of_range(index: int) -> None:
    with pytest.raises(IndexError, match="do not fit 3 rows"):
        run(ops.Gather(), np.zeros(3), np.array([0, index]))
    with pytest.raises(IndexError, match="do not fit 3 rows"):
        run(ops.ScatterAdd(dim(3)), np.array([index]), np.zeros(1))


def test_scatter_adds_duplicates() -> None:
    total = run(ops.ScatterAdd(dim(3)), np.array([2, 0, 2]), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(total, [2, 0, 5])


def test_max_pool_gives_the_gradient_to_the_first_maximum() -> None:
    op = ops.MaxPool(window=(dim(2), dim(2)), strides=(dim(2), dim(2)))
    x = np.array([[[[1.0, 3.0], [3.0, 2.0]]]])
    np.testing.assert_array_equal(slopes(op, x)[0], [[[[0, 1], [0, 0]]]])


def test_padding_of_max_pool_never_wins() -> None:
    op = ops.MaxPool(
        window=(dim(2), dim(2)), strides=(dim(2), dim(2)), pads=(dim(1), dim(1), dim(1), dim(1))
    )
    low = np.full((1, 1, 2, 2), -5.0)
    np.testing.assert_array_equal(run(op, low), low)
    least = np.full((1, 1, 2, 2), -INF)
    np.testing.assert_array_equal(slopes(op, least)[0], np.ones((1, 1, 2, 2)))
    smallest = np.full((1, 1, 2, 2), -128, np.int8)
    np.testing.assert_array_equal(run(op, smallest), smallest)


def direct_convolution(
    x: Array, w: Array, stride: int, pad: int, dilation: int, groups: int
) -> Array:
    """Convolution by its definition, one output at a time."""
    n, _, height, width = x.shape
    outputs, channels, kh, kw = w.shape
    rows = (height + 2 * pad - dilation * (kh - 1) - 1) // stride + 1
    columns = (width + 2 * pad - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((n, outputs, rows, columns))
    for b, o, r, c in np.ndindex(y.shape):
        first = o // (outputs // groups) * channels
        for i, u, v in np.ndindex(channels, kh, kw):
            row, column = r * stride + u * dilation - pad, c * stride + v * dilation - pad
            if 0 <= row < height and 0 <= column < width:
                y[b, o, r, c] += x[b, first + i, row, column] * w[o, i, u, v]
    return y


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (3, 1, 1, 4), (2, 0, 2, 2)],
)
def test_convolution_by_its_definition(stride: int, pad: int, dilation: int, groups: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(4, 4 // groups, 3, 2))
    op = ops.Conv(
        strides=(dim(stride),) * 2,
        pads=(dim(pad),) * 4,
        dilations=(dim(dilation),) * 2,
        groups=groups,
    )
    expected = direct_convolution(x, w, stride, pad, dilation, groups)
    np.testing.assert_allclose(run(op, x, w), expected, rtol=1e-12, atol=1e-12)


def test_convolution_gradients_are_adjoint() -> None:
    """<conv(x, w), dy> = <x, dx> = <w, dw>."""
    rng = np.random.default_rng(1)
    x, w, dy = (rng.normal(size=s) for s in ((2, 4, 6, 5), (6, 2, 3, 2), (2, 6, 3, 4)))
    movement = ops.Conv(
        strides=(dim(2), dim(1)), pads=(dim(0), dim(0), dim(1), dim(0)), groups=2
    ).movement
    shapes = [tuple(map(dim, a.shape)) for a in (x, w)]
    y = run(ops.Conv(**movement), x, w)
    dx = run(ops.ConvInputGradient(**movement, shape=shapes[0]), dy, w)
    dw = run(ops.ConvWeightGradient(**movement, shape=shapes[1]), x, dy)
    np.testing.assert_allclose([(x * dx).sum(), (w * dw).sum()], [(y * dy).sum()] * 2)


def test_constants_compare_by_their_bits() -> None:
    zero, minus = (ops.Constant(DType.F32, (), (value,)) for value in (0.0, -0.0))
    assert zero != minus
    assert zero == ops.Constant(DType.F32, (), (0.0,))
    assert zero != ops.Constant(DType.F64, (), (0.0,))
    nan = (ops.Constant(DType.F32, (), (float("nan"),)) for _ in range(2))
    assert len(set(nan)) == 1
    assert ops.Constant(DType.F32, (), (0.1,)).values == (float(np.float32(0.1)),)
    with pytest.raises(ValueError, match="read-only"):
        zero.array[...] = 1


def test_random_numbers_follow_seed_and_step() -> None:
    op = ops.RandomUniform((dim(4),), 1, DType.F64)
    one, same, other = (run(op, np.int64(7), np.int64(step)) for step in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


def test_windows_of_an_empty_batch() -> None:
    x, dy = np.zeros((0, 2, 4, 4)), np.zeros((0, 2, 2, 2))
    pool = ops.OPERATORS["max_pool_gradient"](window=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))
    assert run(pool, x, dy).shape == x.shape
    value, weight = (Value(TensorType.make(DType.F64, s)) for s in (x.shape, (6, 1, 3, 3)))
    node = ops.conv(value, weight, pads=(1, 1, 1, 1), groups=2).node
    assert node is not None
    assert run(node.op, x, np.ones((6, 1, 3, 3))).shape == (0, 6, 4, 4)


@pytest.mark.parametrize(
    ("size", "last", "message"), [(20, True, "at most 256"), (2, False, "takes images")]
)
def test_indices_of_pooling_are_bytes_and_channels_last(
    size: int, last: bool, message: str
) -> None:
    op = ops.MaxPoolIndexed(
        window=(dim(size), dim(size)), strides=(dim(size), dim(size)), channels_last=last
    )
    with pytest.raises(ops.TypeRuleError, match=message):
        op.infer(TensorType.make(DType.F32, [1, 40, 40, 3]))
