"""Comparisons, logic and selection, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import (
    ANY,
    BOOLS,
    FLOATS,
    NUMBERS,
    Elementwise,
    Gradients,
    OnnxOp,
    apply,
    check_dtype,
    check_same_dtype,
    operator,
)
from dnnc.ops.creation import Operand, as_values

__all__ = [
    "BinaryBuilder",
    "Comparison",
    "Equal",
    "Greater",
    "GreaterEqual",
    "IsFinite",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "NotEqual",
    "Select",
    "UnaryBuilder",
    "binary",
    "equal",
    "greater",
    "greater_equal",
    "is_finite",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "not_equal",
    "select",
    "unary",
]

UnaryBuilder: TypeAlias = Callable[[Value], Value]
BinaryBuilder: TypeAlias = Callable[[Operand, Operand], Value]


def unary(op: type[Elementwise]) -> UnaryBuilder:
    """The builder of an operator with one operand."""
    return lambda x: apply(op(), x)


def binary(op: type[Elementwise]) -> BinaryBuilder:
    """The builder of an operator with two operands, of which one may be a Python number."""
    return lambda x, y: apply(op(), *as_values(x, y))


class Predicate(Elementwise):
    """Base of what is true or false: constant nearly everywhere, so without a gradient."""

    def result_dtype(self, *types: TensorType) -> DType:
        super().result_dtype(*types)
        return DType.BOOL

    def gradient(self, dz: Value, z: Value, *operands: Value) -> Gradients:
        return (None,) * len(operands)


class Comparison(Predicate):
    """Base of the comparisons of two tensors; a comparison with NaN is false, but `!=` true."""

    arity, accepts = 2, NUMBERS


@operator
class Equal(Comparison):
    """Whether two values are equal."""

    name, onnx, accepts = "equal", OnnxOp("Equal", since=13), ANY
    scalar, compute = "a == b", np.equal


@operator
class NotEqual(Comparison):
    """Whether two values differ."""

    name, accepts = "not_equal", ANY
    scalar, compute = "a != b", np.not_equal


@operator
class Less(Comparison):
    """Whether the first value is smaller."""

    name, onnx = "less", OnnxOp("Less", since=13)
    scalar, compute = "a < b", np.less


@operator
class LessEqual(Comparison):
    """Whether the first value is smaller, or equal."""

    name, onnx = "less_equal", OnnxOp("LessOrEqual", since=12)
    scalar, compute = "a <= b", np.less_equal


@operator
class Greater(Comparison):
    """Whether the first value is larger."""

    name, onnx = "greater", OnnxOp("Greater", since=13)
    scalar, compute = "a > b", np.greater


@operator
class GreaterEqual(Comparison):
    """Whether the first value is larger, or equal."""

    name, onnx = "greater_equal", OnnxOp("GreaterOrEqual", since=12)
    scalar, compute = "a >= b", np.greater_equal


@operator
class IsFinite(Predicate):
    """Whether a value is neither infinite nor NaN."""

    name, accepts = "is_finite", FLOATS
    scalar, compute = "is_finite(a)", np.isfinite


@operator
class LogicalNot(Predicate):
    """True where the operand is false."""

    name, onnx, accepts = "logical_not", OnnxOp("Not"), BOOLS
    scalar, compute = "not a", np.logical_not


@operator
class LogicalAnd(Predicate):
    """True where both operands are."""

    name, onnx, arity, accepts = "logical_and", OnnxOp("And", since=7), 2, BOOLS
    scalar, compute = "a and b", np.logical_and


@operator
class LogicalOr(Predicate):
    """True where at least one operand is."""

    name, onnx, arity, accepts = "logical_or", OnnxOp("Or", since=7), 2, BOOLS
    scalar, compute = "a or b", np.logical_or


@operator
class Select(Elementwise):
    """The second operand where the first, a bool, is true, and the third elsewhere."""

    name, onnx, arity, accepts = "select", OnnxOp("Where", since=16), 3, ANY
    scalar, compute = "b if a else c", np.where

    def result_dtype(self, *types: TensorType) -> DType:
        check_dtype(self.name, BOOLS, types[0])
        check_same_dtype(self.name, *types[1:])
        return types[1].dtype

    def gradient(self, dz: Value, z: Value, condition: Value, x: Value, y: Value) -> Gradients:
        return None, select(condition, dz, 0), select(condition, 0, dz)


equal, not_equal = binary(Equal), binary(NotEqual)
less, less_equal = binary(Less), binary(LessEqual)
greater, greater_equal = binary(Greater), binary(GreaterEqual)
logical_and, logical_or = binary(LogicalAnd), binary(LogicalOr)
logical_not, is_finite = unary(LogicalNot), unary(IsFinite)


def select(condition: Value, x: Operand, y: Operand) -> Value:
    """`x` where `condition` is true, else `y`; one of the two may be a Python number."""
    return apply(Select(), condition, *as_values(x, y))
