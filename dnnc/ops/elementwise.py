"""Arithmetic and functions, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import (
    ANY,
    FLOATS,
    Array,
    Elementwise,
    Gradients,
    OnnxOp,
    apply,
    operator,
)
from dnnc.ops.logic import binary, equal, greater, greater_equal, less_equal, select, unary

__all__ = [
    "Absolute",
    "Add",
    "Cast",
    "Ceil",
    "Cos",
    "Divide",
    "Erf",
    "Exp",
    "Floor",
    "FloorDivide",
    "Log",
    "Log1p",
    "Maximum",
    "Minimum",
    "Modulo",
    "Multiply",
    "Negate",
    "Power",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sqrt",
    "StopGradient",
    "Subtract",
    "Tanh",
    "absolute",
    "add",
    "cast",
    "ceil",
    "cos",
    "divide",
    "erf",
    "exp",
    "floor",
    "floor_divide",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "modulo",
    "multiply",
    "negate",
    "power",
    "round",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "stop_gradient",
    "subtract",
    "tanh",
]


class Smooth(Elementwise):
    """Base of functions of one floating-point number with a derivative."""

    accepts = FLOATS


class Step(Elementwise):
    """Base of functions of one number that are constant nearly everywhere: no gradient."""

    accepts = FLOATS

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (None,)


class Binary(Elementwise):
    """Base of functions of two numbers."""

    arity = 2


@operator
class Negate(Elementwise):
    """-x."""

    name, onnx = "negate", OnnxOp("Neg", since=13)
    scalar, compute = "-a", np.negative

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (negate(dz),)


@operator
class Absolute(Elementwise):
    """The value without its sign; the gradient at 0 is 0."""

    name, onnx = "absolute", OnnxOp("Abs", since=13)
    scalar, compute = "absolute(a)", np.absolute

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (multiply(dz, sign(x)),)


@operator
class Sign(Step):
    """-1, 0 or 1."""

    name, onnx, accepts = "sign", OnnxOp("Sign", since=13), Elementwise.accepts
    scalar, compute = "sign(a)", np.sign


@operator
class Exp(Smooth):
    """e to the power of x."""

    name, onnx = "exp", OnnxOp("Exp", since=13)
    scalar, compute = "exp(a)", np.exp

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (multiply(dz, z),)


@operator
class Log(Smooth):
    """The natural logarithm."""

    name, onnx = "log", OnnxOp("Log", since=13)
    scalar, compute = "log(a)", np.log

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (divide(dz, x),)


@operator
class Log1p(Smooth):
    """log(1 + x), exact for small x."""

    name = "log1p"
    scalar, compute = "log1p(a)", np.log1p

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (divide(dz, add(x, 1)),)


@operator
class Sqrt(Smooth):
    """The square root; its gradient at 0 is infinite."""

    name, onnx = "sqrt", OnnxOp("Sqrt", since=13)
    scalar, compute = "sqrt(a)", np.sqrt

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (divide(multiply(dz, 0.5), z),)


@operator
class Sin(Smooth):
    """The sine of an angle in radians."""

    name, onnx = "sin", OnnxOp("Sin", since=7)
    scalar, compute = "sin(a)", np.sin

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (multiply(dz, cos(x)),)


@operator
class Cos(Smooth):
    """The cosine of an angle in radians."""

    name, onnx = "cos", OnnxOp("Cos", since=7)
    scalar, compute = "cos(a)", np.cos

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (negate(multiply(dz, sin(x))),)


@operator
class Tanh(Smooth):
    """The hyperbolic tangent."""

    name, onnx = "tanh", OnnxOp("Tanh", since=13)
    scalar, compute = "tanh(a)", np.tanh

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (multiply(dz, subtract(1, multiply(z, z))),)


def _erf(x: Array) -> Array:
    exact = np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64))
    return np.asarray(exact, np.float64)


def _sigmoid(x: Array) -> Array:
    # exp of -|x| never overflows, and keeps the tails exact.
    tail = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, tail) / (1 + tail))


@operator
class Erf(Smooth):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x."""

    name, onnx = "erf", OnnxOp("Erf", since=13)
    scalar, compute = "erf(a)", _erf

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        slope = multiply(exp(negate(multiply(x, x))), 2 / math.sqrt(math.pi))
        return (multiply(dz, slope),)


@operator
class Sigmoid(Smooth):
    """1 / (1 + exp(-x))."""

    name, onnx = "sigmoid", OnnxOp("Sigmoid", since=13)
    scalar, compute = "sigmoid(a)", _sigmoid

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (multiply(dz, multiply(z, subtract(1, z))),)


@operator
class Floor(Step):
    """The largest whole number that is not larger."""

    name, onnx = "floor", OnnxOp("Floor", since=13)
    scalar, compute = "floor(a)", np.floor


@operator
class Ceil(Step):
    """The smallest whole number that is not smaller."""

    name, onnx = "ceil", OnnxOp("Ceil", since=13)
    scalar, compute = "ceil(a)", np.ceil


@operator
class Round(Step):
    """The nearest whole number; halves go to the even one."""

    name, onnx = "round", OnnxOp("Round", since=11)
    scalar, compute = "round(a)", np.rint


def _same(x: Array) -> Array:
    return x


@operator
@dataclass(frozen=True)
class Cast(Elementwise):
    """The same value in another element type.

    Floating-point numbers are cut towards zero where they become integers; any number but 0
    becomes true. The gradient passes between floating-point types only.
    """

    name: ClassVar[str] = "cast"
    onnx: ClassVar[OnnxOp] = OnnxOp("Cast", since=13)
    accepts: ClassVar[frozenset[DType]] = ANY
    compute: ClassVar[Callable[[Array], Array]] = _same
    dtype: DType

    @property
    def scalar(self) -> str:  # type: ignore[override]
        """The formula names the element type."""
        return f"cast_{self.dtype}(a)"

    def result_dtype(self, *types: TensorType) -> DType:
        return self.dtype

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (cast(dz, x.type.dtype) if self.dtype.is_float and x.type.dtype.is_float else None,)


@operator
class StopGradient(Step):
    """The value itself, which counts as a constant when gradients are derived."""

    name, accepts = "stop_gradient", ANY
    scalar, compute = "a", _same


@operator
class Add(Binary):
    """x + y."""

    name, onnx = "add", OnnxOp("Add", since=13)
    scalar, compute = "a + b", np.add

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        return dz, dz


@operator
class Subtract(Binary):
    """x - y."""

    name, onnx = "subtract", OnnxOp("Sub", since=13)
    scalar, compute = "a - b", np.subtract

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        return dz, negate(dz)


@operator
class Multiply(Binary):
    """x * y."""

    name, onnx = "multiply", OnnxOp("Mul", since=13)
    scalar, compute = "a * b", np.multiply

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        return multiply(dz, y), multiply(dz, x)


@operator
class Divide(Binary):
    """x / y of floating-point numbers; integers have `floor_divide`."""

    name, onnx, accepts = "divide", OnnxOp("Div", since=13), FLOATS
    scalar, compute = "a / b", np.divide

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        dx = divide(dz, y)
        return dx, negate(multiply(dx, z))


@operator
class Power(Binary):
    """x to the power of y.

    The gradient is finite at x = 0 wherever the function is smooth there; where x is not positive
    the gradient of y counts as 0.
    """

    name, onnx, accepts = "power", OnnxOp("Pow", since=13), FLOATS
    scalar, compute = "power(a, b)", np.power

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        # Guarding the exponent, and not the product, keeps 0 * inf out of every further derivative.
        lower = select(equal(y, 0), 1, subtract(y, 1))
        base = select(greater(x, 0), x, 1)
        return multiply(dz, multiply(y, power(x, lower))), multiply(dz, multiply(z, log(base)))


@operator
class Maximum(Binary):
    """The larger of two values; where equal, the gradient goes to the first. NaN wins."""

    name, onnx = "maximum", OnnxOp("Max", since=13)
    scalar, compute = "maximum(a, b)", np.maximum

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        first = greater_equal(x, y)
        return select(first, dz, 0), select(first, 0, dz)


@operator
class Minimum(Binary):
    """The smaller of two values; where equal, the gradient goes to the first. NaN wins."""

    name, onnx = "minimum", OnnxOp("Min", since=13)
    scalar, compute = "minimum(a, b)", np.minimum

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        first = less_equal(x, y)
        return select(first, dz, 0), select(first, 0, dz)


@operator
class FloorDivide(Binary):
    """floor(x / y), also below zero, as in Python. Integers divided by 0 give 0."""

    name = "floor_divide"
    scalar, compute = "a // b", np.floor_divide

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        return None, None


@operator
class Modulo(Binary):
    """x - y * floor(x / y): the sign is that of y, as in Python. Modulo 0, integers give 0."""

    name = "modulo"
    scalar, compute = "a % b", np.remainder

    def gradient(self, dz: Value, z: Value, x: Value, y: Value) -> Gradients:
        return dz, negate(multiply(dz, floor_divide(x, y)))


add, subtract, multiply, divide = binary(Add), binary(Subtract), binary(Multiply), binary(Divide)
power, maximum, minimum = binary(Power), binary(Maximum), binary(Minimum)
floor_divide, modulo = binary(FloorDivide), binary(Modulo)
negate, absolute, sign = unary(Negate), unary(Absolute), unary(Sign)
exp, log, log1p, sqrt = unary(Exp), unary(Log), unary(Log1p), unary(Sqrt)
sin, cos, tanh, erf, sigmoid = unary(Sin), unary(Cos), unary(Tanh), unary(Erf), unary(Sigmoid)
floor, ceil, round = unary(Floor), unary(Ceil), unary(Round)
stop_gradient = unary(StopGradient)


def cast(x: Value, dtype: DType) -> Value:
    """The value in another element type; itself where it has that type already."""
    return x if x.type.dtype is dtype else apply(Cast(dtype), x)
