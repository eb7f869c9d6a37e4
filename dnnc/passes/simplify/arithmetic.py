"""Algebra on elements, exact in floating point.

    x * 1 → x      x / 4 → x * 0.25      x ** 2 → x * x      -(-x) → x      x + (-y) → x - y

Never fired, since NaN, infinity or -0.0 would show: x * 0 → 0, x - x → 0, x / x → 1, 0 - x → -x,
not (x < y) → x >= y. Exceptions, which nobody should notice: x + 0.0 → x leaves -0.0 as it is, and
x ** 0.5 → sqrt(x) gives NaN for x = -inf, where the power is infinite; x ** 3 may differ from x *
x * x in the last bit.
"""

from __future__ import annotations

import math

from dnnc.ir.graph import Value
from dnnc.ir.operator import OPERATORS, Operator
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import Elementwise
from dnnc.ops.creation import Constant
from dnnc.ops.elementwise import (
    Absolute,
    Add,
    Cast,
    Divide,
    FloorDivide,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Power,
    Sqrt,
    StopGradient,
    Subtract,
)
from dnnc.ops.logic import (
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    NotEqual,
    Select,
)
from dnnc.ops.shape import Broadcast
from dnnc.passes.simplify.rules import fill, made_by, make, rule, uniform

__all__: list[str] = []


def _result_type(op: Operator, *operands: Value) -> TensorType:
    return op.infer(*(value.type for value in operands))[0]


def _shaped(x: Value, type: TensorType) -> Value:
    """`x` broadcast to the shape of the result that it replaces."""
    return x if x.type == type else make(Broadcast(type.shape), x)


@rule(Add)
def add_zero(op: Add, x: Value, y: Value) -> Value | None:
    for one, other in ((x, y), (y, x)):
        if uniform(other) == 0:
            return _shaped(one, _result_type(op, x, y))
    return None


@rule(Add)
def add_negated(_: Add, x: Value, y: Value) -> Value | None:
    if (negated := made_by(y, Negate)) is not None:
        return make(Subtract(), x, *negated[1])
    if (negated := made_by(x, Negate)) is not None:
        return make(Subtract(), y, *negated[1])
    return None


@rule(Subtract)
def subtract_zero(op: Subtract, x: Value, y: Value) -> Value | None:
    return _shaped(x, _result_type(op, x, y)) if uniform(y) == 0 else None


@rule(Subtract)
def subtract_negated(_: Subtract, x: Value, y: Value) -> Value | None:
    negated = made_by(y, Negate)
    return None if negated is None else make(Add(), x, *negated[1])


@rule(Multiply)
def multiply_by_one(op: Multiply, x: Value, y: Value) -> Value | None:
    for one, other in ((x, y), (y, x)):
        number = uniform(other)
        if number == 1:
            return _shaped(one, _result_type(op, x, y))
        if number == -1:
            return _shaped(make(Negate(), one), _result_type(op, x, y))
    return None


@rule(Multiply)
def multiply_integer_by_zero(op: Multiply, x: Value, y: Value) -> Value | None:
    type = _result_type(op, x, y)
    return fill(0, type) if type.dtype.is_integer and 0 in (uniform(x), uniform(y)) else None


@rule(Multiply)
def multiply_negated(op: Multiply, x: Value, y: Value) -> Value | None:
    left, right = made_by(x, Negate), made_by(y, Negate)
    if left is not None and right is not None:
        return make(op, left[1][0], right[1][0])
    for negated, other in ((left, y), (right, x)):
        number = uniform(other)
        if negated is not None and number is not None and other.type.dtype.is_float:
            return make(op, negated[1][0], fill(-number, other.type))
    return None


@rule(Divide)
def divide_by_power_of_two(op: Divide, x: Value, y: Value) -> Value | None:
    number = uniform(y)
    if number == 1:
        return _shaped(x, _result_type(op, x, y))
    if number is None or number == 0 or not math.isfinite(number):
        return None
    mantissa, exponent = math.frexp(number)
    # Far from the ends of the range the reciprocal is a normal number in every element type.
    if abs(mantissa) != 0.5 or abs(exponent) > 100:
        return None
    return make(Multiply(), x, fill(1.0 / number, y.type))


@rule(Power)
def power_of_constant(op: Power, x: Value, y: Value) -> Value | None:
    number = uniform(y)
    if number is None or _result_type(op, x, y) != x.type:
        return None
    if number == 0:
        return fill(1, x.type)
    if number == 1:
        return x
    if number == 2:
        return make(Multiply(), x, x)
    if number == 3:
        return make(Multiply(), make(Multiply(), x, x), x)
    if number == 4:
        square = make(Multiply(), x, x)
        return make(Multiply(), square, square)
    if number == 0.5:
        return make(Sqrt(), x)
    if number == -1:
        return make(Divide(), fill(1, x.type), x)
    if number == -0.5:
        return make(Divide(), fill(1, x.type), make(Sqrt(), x))
    return None


@rule(Negate)
def negate_twice(_: Negate, x: Value) -> Value | None:
    inner = made_by(x, Negate)
    return None if inner is None else inner[1][0]


@rule(Absolute)
def absolute_of_sign_change(op: Absolute, x: Value) -> Value | None:
    inner = made_by(x, Negate, Absolute)
    return None if inner is None else make(op, *inner[1])


@rule(LogicalNot)
def invert(_: LogicalNot, x: Value) -> Value | None:
    inner = made_by(x, LogicalNot, Equal, NotEqual)
    if inner is None:
        return None
    # Orders do not invert: both x < y and x >= y are false for NaN.
    if isinstance(inner[0], Equal):
        return make(NotEqual(), *inner[1])
    return make(Equal(), *inner[1]) if isinstance(inner[0], NotEqual) else inner[1][0]


@rule(LogicalAnd, LogicalOr)
def logic_with_constant(op: LogicalAnd | LogicalOr, x: Value, y: Value) -> Value | None:
    type = _result_type(op, x, y)
    neutral = isinstance(op, LogicalAnd)
    if x is y:
        return x
    for one, other in ((x, y), (y, x)):
        known = uniform(other)
        if known is not None:
            return _shaped(one, type) if known == neutral else fill(not neutral, type)
    return None


@rule(Less, LessEqual, Greater, GreaterEqual)
def constant_on_the_right(op: Elementwise, x: Value, y: Value) -> Value | None:
    if uniform(x) is None or uniform(y) is not None:
        return None
    turned: dict[str, Elementwise] = {
        "less": Greater(),
        "less_equal": GreaterEqual(),
        "greater": Less(),
        "greater_equal": LessEqual(),
    }
    return make(turned[op.name], y, x)


@rule(Select)
def select_known(op: Select, condition: Value, x: Value, y: Value) -> Value | None:
    known = uniform(condition)
    type = _result_type(op, condition, x, y)
    if x is y:
        return _shaped(x, type)
    if known is not None:
        return _shaped(x if known else y, type)
    inverted = made_by(condition, LogicalNot)
    return None if inverted is None else make(op, inverted[1][0], y, x)


@rule(Maximum, Minimum)
def extreme_of_one(_: Maximum | Minimum, x: Value, y: Value) -> Value | None:
    return x if x is y else None


@rule(FloorDivide)
def floor_divide_integer_by_one(op: FloorDivide, x: Value, y: Value) -> Value | None:
    if x.type.dtype.is_integer and uniform(y) == 1:
        return _shaped(x, _result_type(op, x, y))
    return None


@rule(StopGradient)
def stop_gradient_has_done_its_work(_: StopGradient, x: Value) -> Value | None:
    return x


#: Element types that hold every value of the key.
_WIDER: dict[DType, frozenset[DType]] = {
    DType.BOOL: frozenset(DType),
    DType.U8: frozenset({DType.U8, DType.I32, DType.I64, DType.F32, DType.F64}),
    DType.I8: frozenset({DType.I8, DType.I32, DType.I64, DType.F32, DType.F64}),
    DType.I32: frozenset({DType.I32, DType.I64, DType.F64}),
    DType.I64: frozenset({DType.I64}),
    DType.F32: frozenset({DType.F32, DType.F64}),
    DType.F64: frozenset({DType.F64}),
}


@rule(Cast)
def cast_of_cast(op: Cast, x: Value) -> Value | None:
    if op.dtype is x.type.dtype:
        return x
    inner = made_by(x, Cast)
    if inner is None or x.type.dtype not in _WIDER[inner[1][0].type.dtype]:
        return None
    return make(op, inner[1][0])


def broadcast_implicitly(op: Elementwise, *operands: Value) -> Value | None:
    """f(broadcast(x), y) → f(x, y), broadcast afterwards where the result would be smaller."""
    bare = tuple(_unbroadcast(value) for value in operands)
    if all(a is b for a, b in zip(bare, operands, strict=True)):
        return None
    return _shaped(make(op, *bare), _result_type(op, *operands))


def _unbroadcast(value: Value) -> Value:
    inner = made_by(value, Broadcast)
    if inner is None:
        return value
    # A constant of one element is best without axes: it suits every shape.
    x = inner[1][0]
    constant = made_by(x, Constant)
    if constant is not None and x.type.rank and len(constant[0].values) == 1:
        return make(Constant(constant[0].dtype, (), constant[0].values))
    return x


# Tried last: rules that know an operator need not look through broadcasts of the others.
rule(*(cls for cls in OPERATORS.values() if issubclass(cls, Elementwise)))(broadcast_implicitly)
