"""How rules are written down, and the maker of nodes that applies them.

A rule takes an operator and its operands, which are simple already, and returns a simpler value of
the same type or None. It makes values with `make`, so what it returns is simple too, and one walk
over a graph, operands first, reaches the fixed point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from dnnc.ir.graph import Value
from dnnc.ir.operator import Operator
from dnnc.ir.types import TensorType
from dnnc.ops.base import apply
from dnnc.ops.creation import Constant, Number
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.fold import fold_node
from dnnc.passes.trace import fired

__all__ = ["RULES", "fill", "is_negative_zero", "made_by", "make", "rule", "simplified", "uniform"]

Rule: TypeAlias = Callable[..., Value | None]
AnyRule = TypeVar("AnyRule", bound=Rule)

#: The rules of each operator class, in the order in which they are tried.
RULES: dict[type[Operator], list[Rule]] = {}


def rule(*operators: type[Operator]) -> Callable[[AnyRule], AnyRule]:
    """Function decorator: register a rule for operators. It is called with (op, *operands)."""

    def register(function: AnyRule) -> AnyRule:
        for cls in operators:
            RULES.setdefault(cls, []).append(function)
        return function

    return register


def make(op: Operator, *operands: Value) -> Value:
    """The simplest known value of an operator with one result, applied to simple operands."""
    simpler = simplified(op, operands)
    return apply(op, *operands) if simpler is None else simpler


def simplified(op: Operator, operands: tuple[Value, ...]) -> Value | None:
    """What the first rule that fits makes of a node, or None."""
    for function in RULES.get(type(op), ()):
        result = function(op, *operands)
        if result is not None:
            fired(function.__name__)
            return result
    return fold_node(op, operands)


def made_by(value: Value, *operators: type[Operator]) -> tuple[Any, tuple[Value, ...]] | None:
    """The operator and the operands of a value, where it was made by one of `operators`."""
    if value.node is not None and isinstance(value.node.op, operators):
        return value.node.op, value.node.operands
    return None


def uniform(value: Value) -> Number | None:
    """The number that every element of a value is known to be, or None."""
    while value.node is not None and isinstance(value.node.op, Broadcast | Reshape):
        value = value.node.operands[0]
    if value.node is None or not isinstance(value.node.op, Constant):
        return None
    op = value.node.op
    if not op.values:
        return None
    first = op.values[0]
    if len(op.values) == 1:
        return first
    same = all(v == first and _sign(v) == _sign(first) for v in op.values)
    return first if same else None


def is_negative_zero(number: Number) -> bool:
    return number == 0 and _sign(number) < 0


def fill(number: Number, type: TensorType) -> Value:
    """A value of `type` whose elements are all `number`."""
    scalar = apply(Constant(type.dtype, (), (number,)))
    return make(Broadcast(type.shape), scalar) if type.shape else scalar


def _sign(number: Number) -> float:
    return math.copysign(1.0, number)
