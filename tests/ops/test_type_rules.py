"""Operands that do not fit, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dnnc import ops
from dnnc.diagnostics import CODES
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops import TypeRuleError
from dnnc.ops.base import Elementwise, Operator, operator


def f32(*shape: int | str) -> Value:
    return Value(TensorType.make(DType.F32, [dim(s) for s in shape]))


def i32(*shape: int | str) -> Value:
    return Value(TensorType.make(DType.I32, [dim(s) for s in shape]))


def boolean(*shape: int | str) -> Value:
    return Value(TensorType.make(DType.BOOL, [dim(s) for s in shape]))


def turn() -> Graph:
    h, x, k = f32(2), f32(3), f32()
    total = ops.add(ops.reduce_sum(x, 0), k)
    return Graph(
        "turn",
        (Input("h", h), Input("x", x), Input("k", k)),
        (Output("h", ops.multiply(h, total)), Output("y", total)),
    )


def widening() -> Graph:
    h, x = f32(2), f32()
    return Graph("turn", (Input("h", h), Input("x", x)), (Output("h", ops.concat([h, h], 0)),))


@pytest.mark.parametrize(
    ("make", "code", "operand", "message"),
    [
        (lambda: ops.exp(i32(2)), "E201", 0, r"`exp` needs floating-point numbers, got i32\[2\]"),
        (lambda: ops.negate(boolean()), "E201", 0, r"`negate` needs numbers, got bool\[\]"),
        (lambda: ops.logical_and(boolean(), f32()), "E201", 1, r"needs bool, got f32\[\]"),
        (lambda: ops.select(f32(), f32(), f32()), "E201", 0, r"`select` needs bool"),
        (lambda: ops.gather(f32(3), f32(2)), "E201", 1, "`gather` needs integers"),
        (lambda: ops.iota([2], dtype=DType.BOOL), "E201", 0, "`iota` needs numbers"),
        (lambda: ops.random_uniform(i32(), i32(), [2], 0), "E201", 0, r"needs i64\[\]"),
        (lambda: ops.matmul(boolean(2, 2), boolean(2, 2)), "E201", 0, "`matmul` needs numbers"),
        (lambda: ops.add(f32(2), i32(2)), "E202", 1, r"one element type, got f32\[2\] and i32"),
        (lambda: ops.select(boolean(), f32(), i32()), "E202", 1, "one element type"),
        (lambda: ops.matmul(f32(2, 2), i32(2, 2)), "E202", 1, "one element type"),
        (lambda: ops.concat([f32(2), i32(2)], 0), "E202", 1, "one element type"),
        (lambda: ops.add(f32(2), f32(3)), "E203", 1, "shapes do not broadcast"),
        (lambda: ops.add(f32("n"), f32("m")), "E203", 1, r"f32\[n\] and f32\[m\]"),
        (lambda: ops.select(boolean(2), f32(2), f32(3)), "E203", 2, "do not broadcast"),
        (lambda: ops.reshape(f32(2, 3), [7]), "E203", 0, r"has 6 elements, and shape \[7\] has 7"),
        (lambda: ops.reshape(f32("n", 2), ["m"]), "E203", 0, r"has 2 \* n elements"),
        (lambda: ops.broadcast(f32(2), [3]), "E203", 0, r"f32\[2\] does not broadcast to f32\[3\]"),
        (lambda: ops.broadcast(f32(2, 1), [2]), "E203", 0, "does not broadcast"),
        (lambda: ops.concat([f32(2, 2), f32(3, 3)], 0), "E203", 1, "other sizes differ"),
        (lambda: ops.scatter_add(i32(2), f32(3), 4), "E203", 1, "one update for each index"),
        (lambda: ops.matmul(f32(2, 784), f32(128, 10)), "E203", 1, "sizes differ: 784 and 128"),
        (lambda: ops.matmul(f32(2, 3, 4), f32(3, 4, 5)), "E203", 1, "leading sizes differ"),
        (lambda: ops.conv(f32(1, 3, 8, 8), f32(4, 2, 3, 3)), "E203", 1, "has 3, .* takes 2"),
        (
            lambda: ops.conv_input_gradient(f32(1, 4, 5, 5), f32(4, 3, 3, 3), [1, 3, 8, 8]),
            "E203", 0, r"needs a gradient f32\[1, 4, 6, 6\]",
        ),
        (
            lambda: ops.max_pool_gradient(f32(1, 1, 4, 4), f32(1, 1, 4, 4), (2, 2)),
            "E203", 1, r"needs a gradient f32\[1, 1, 2, 2\]",
        ),
        (
            lambda: ops.attention(f32(2, 3, 1, 4), f32(2, 5, 2, 4), f32(2, 5, 2, 4), scale=1.0),
            "E203", 1, r"keys have to be f32\[2, 5, 1, 4\], got f32\[2, 5, 2, 4\]",
        ),
        (
            lambda: ops.attention(f32(2, 3, 1, 4), f32(2, 5, 1, 4), f32(2, 6, 1, 4), scale=1.0),
            "E203", 2, r"values have to be f32\[2, 5, 1, 4\]",
        ),
        (
            lambda: ops.attention(
                f32(2, 3, 1, 4), f32(2, 5, 1, 4), f32(2, 5, 1, 4), boolean(2, 1, 3, 1), scale=1.0
            ),
            "E203", 3, r"mask has to be bool\[2, 1, 3, 5\]",
        ),
        (
            lambda: ops.attention(f32(3, 1, 4), f32(2, 5, 1, 4), f32(2, 5, 1, 4), scale=1.0),
            "E205", 0, "needs a tensor with 4 axes",
        ),
        (lambda: ops.reduce_sum(f32(2), 1), "E204", 0, r"along axis 1, but f32\[2\] has 1 axes"),
        (lambda: ops.reduce_max(f32(2), -2), "E204", 0, "along axis -2"),
        (lambda: ops.reduce_sum(f32(2), [0, 0]), "E204", 0, "each axis once"),
        (lambda: ops.argmax(f32(2), 1), "E204", 0, "axis 1"),
        (lambda: ops.transpose(f32(2, 3), [0, 0]), "E204", 0, "every axis once"),
        (lambda: ops.slice(f32(2), 1, 0, 1), "E204", 0, "axis 1"),
        (lambda: ops.gather(f32(), i32(2)), "E204", 0, "axis 0"),
        (lambda: ops.transpose(f32(2, 3), [0]), "E205", 0, "needs a tensor with 1 axes"),
        (lambda: ops.matmul(f32(2), f32(2)), "E205", 0, "needs a tensor with 2 axes"),
        (lambda: ops.matmul(f32(2, 3), f32(2, 3, 4)), "E205", 1, "needs a tensor with 2 axes"),
        (lambda: ops.conv(f32(3, 8, 8), f32(4, 3, 3, 3)), "E205", 0, "needs a tensor with 4 axes"),
        (lambda: ops.concat([f32(2), f32(2, 2)], 0), "E205", 1, "needs a tensor with 1 axes"),
        (lambda: ops.conv(f32(1, 3, 2, 8), f32(4, 3, 3, 3)), "E206", 0, "window of 3 .* size of 2"),
        (
            lambda: ops.conv(f32(1, 3, 4, 8), f32(4, 3, 3, 3), dilations=(2, 1)),
            "E206", 0, "window of 5 does not fit a size of 4",
        ),
        (
            lambda: ops.conv(f32(1, 4, 8, 8), f32(3, 2, 3, 3), groups=2),
            "E206", 1, "2 groups do not divide 3 output channels",
        ),
        (lambda: ops.conv(f32(1, 3, 8, 8), f32(4, 3, 3, 3), (0, 1)), "E206", 0, "must be positive"),
        (lambda: ops.max_pool(f32(1, 1, 4, 4), (5, 1)), "E206", 0, "window of 5 .* size of 4"),
        (lambda: ops.max_pool(f32(1, 1, 4, 4), (0, 1)), "E206", 0, "the window must be positive"),
        (lambda: ops.slice(f32(4), 0, 2, 5), "E206", 0, r"2 to 5 does not fit axis 0 of f32"),
        (lambda: ops.slice(f32("n"), 0, 3, 2), "E206", 0, "does not fit"),
        (lambda: ops.pad(f32(4), 0, -1, 0), "E206", 0, "by a negative size"),
        (lambda: ops.constant(0.5, DType.I32), "E207", 0, "0.5 is no number of type i32"),
        (lambda: ops.constant(300, DType.U8), "E207", 0, "300 is no number of type u8"),
        (lambda: ops.multiply(i32(2), 0.5), "E207", 0, "0.5 is no number of type i32"),
        (lambda: ops.apply(ops.Add(), f32()), "E208", 0, "takes 2 operands, got 1"),
        (lambda: ops.apply(ops.Concat(0)), "E208", 0, "at least one"),
        (lambda: ops.scan(turn(), [f32(2)], [f32("t", 3)]), "E208", 0, "3 inputs got 2 operands"),
        (lambda: ops.scan(turn(), [f32(2)], [f32("t", 2)], [f32()]), "E203", 1, r"`x` is f32\[3\]"),
        (lambda: ops.scan(turn(), [f32(2)], [f32()], [f32()]), "E205", 1, "has no axes"),
        (lambda: ops.scan(turn(), [f32(3)], [f32("t", 3)], [f32()]), "E203", 0, "`h` is"),
        (lambda: ops.scan(widening(), [f32(2)], [f32(5)]), "E203", 0, r"but gets f32\[4\]"),
    ],
)  # fmt: skip
def test_misfits(make: Callable[[], object], code: str, operand: int, message: str) -> None:
    with pytest.raises(TypeRuleError, match=message) as caught:
        make()
    assert (caught.value.code, caught.value.operand) == (code, operand)
    assert code in CODES


def test_symbolic_sizes_that_agree() -> None:
    n, h = dim("n"), dim("h")
    assert ops.reshape(f32("n", 6), [2 * n, 3]).shape == (2 * n, 3)
    assert ops.concat([f32("n", 2), f32("h", 2)], 0).shape[0] == n + h
    assert ops.slice(f32("n"), 0, 1, n).shape == (n - 1,)
    image = Value(TensorType.make(DType.F32, [n, 1, h, h]))
    same = ops.conv(image, f32(4, 1, 3, 3), (2, 2), pads=(0, 0, *[(h + 1) // 2 * 2 + 1 - h] * 2))
    assert same.shape == (n, 4, (h + 1) // 2, (h + 1) // 2)


def test_a_facet_that_is_missing_fails_at_once() -> None:
    with pytest.raises(TypeError, match="Half lacks `scalar`"):

        @operator
        class Half(Elementwise):
            """Half of x."""

            name = "half"

            def gradient(self, dz: Value, z: Value, x: Value) -> tuple[Value]:
                return (dz,)

    with pytest.raises(TypeError, match="Bare lacks `infer`"):

        @operator
        class Bare(Operator):
            """Nothing."""

            name = "bare"

    with pytest.raises(TypeError, match="lacks a name or a docstring"):

        @operator
        class Silent(ops.Add):
            name = "silent"

    with pytest.raises(TypeError, match="add is defined twice"):

        @operator
        class Twice(ops.Add):
            """Addition again."""

    assert not {"half", "bare", "silent"} & set(ops.OPERATORS)


def test_builders_return_what_would_not_change() -> None:
    x = f32(2, "n")
    assert ops.reshape(x, x.shape) is x
    assert ops.broadcast(x, x.shape) is x
    assert ops.transpose(x, [0, 1]) is x
    assert ops.transpose(x, [-2, -1]) is x
    assert ops.cast(x, DType.F32) is x
    assert ops.slice(x, 1, 0, dim("n")) is x
    assert ops.pad(x, 0, 0, 0) is x
    assert ops.concat([x], 1) is x


def test_numbers_take_the_element_type_of_the_other_operand() -> None:
    assert ops.add(i32(2), 1).type == i32(2).type
    assert ops.subtract(1, f32(2)).type == f32(2).type
    assert ops.select(boolean(2), 0, f32()).type == f32(2).type
    with pytest.raises(TypeError, match="at least one operand must be a tensor"):
        ops.add(1, 2)


def test_sizes_that_are_known_are_constants() -> None:
    assert isinstance(ops.size(3).node.op, ops.Constant)  # type: ignore[union-attr]
    assert isinstance(ops.size(dim("n")).node.op, ops.Size)  # type: ignore[union-attr]
