"""Functions of Python's on int64 as kernels need them, in code that LLVM has little to do with.

Numba's own check what cannot be in a kernel, and keep in memory what could be in registers.

Imports numba: import it only inside functions that compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from importlib import import_module
from typing import Any

from llvmlite import ir

__all__ = ["BUILTINS", "Counter", "Definition", "Range", "iterator_of", "next_of"]

# Numba has annotations, but none that hold.
types: Any = import_module("numba.core.types")
models: Any = import_module("numba.core.datamodel.models")

#: What an intrinsic is: from a context and types of arguments to a signature, and what writes code.
Definition = Callable[..., tuple[Any, Any]]

i64: Any = types.int64
_I64 = ir.IntType(64)


# Loops over ranges. What is made and read within a block, ranges and pairs, are tuples of values
# and need no code.


class Counter(types.SimpleIteratorType):  # type: ignore[misc]
    """The iterator of a range: the address of what comes next, where it stops, and the step where
    that is not known.

    `step` is that number where it is known.
    """

    def __init__(self, step: int | None) -> None:
        self.step = step
        super().__init__(f"counter by {step}", i64)


class Range(types.SimpleIterableType):  # type: ignore[misc]
    """A range: start, stop, and the step where that is not known. It is a value, and can't be what
    a variable holds that is set in several places."""

    def __init__(self, step: int | None) -> None:
        super().__init__(f"range by {step}", Counter(step))


models.register_default(Range)(models.OpaqueModel)


@models.register_default(Counter)
class _CounterModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        bounds = ir.ArrayType(_I64, 3 if kind.step is None else 2)
        super().__init__(manager, kind, bounds.as_pointer())


def _range(context: Any, *arguments: Any) -> tuple[Any, Any]:
    step = 1 if len(arguments) < 3 else getattr(arguments[2], "literal_value", None)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, stop, *by = [_I64(0), *values] if len(values) == 1 else values
        known = signature.return_type.iterator_type.step is not None
        return (start, stop) if known else (start, stop, *by)

    return Range(step)(*(i64 for _ in arguments)), generate


def iterator_of(context: Any, builder: Any, signature: Any, values: Any, loc: Any = None) -> Any:
    """Code of `iter(range)`."""
    bounds = values[0]
    with builder.goto_entry_block():
        place = builder.alloca(ir.ArrayType(_I64, len(bounds)))
    for k, bound in enumerate(bounds):
        builder.store(bound, _part(builder, place, k))
    return place


def next_of(context: Any, builder: Any, signature: Any, values: Any, loc: Any = None) -> Any:
    """Code of `next(counter)`: a pair of a number and whether there is one."""
    known, place = signature.args[0].step, values[0]
    following = _part(builder, place, 0)
    number, stop = builder.load(following), builder.load(_part(builder, place, 1))
    step = builder.load(_part(builder, place, 2)) if known is None else _I64(known)
    if known is None:
        up = builder.icmp_signed("<", number, stop)
        down = builder.icmp_signed(">", number, stop)
        more = builder.select(builder.icmp_signed(">", step, _I64(0)), up, down)
    else:
        more = builder.icmp_signed("<" if known > 0 else ">", number, stop)
    builder.store(builder.add(number, step, flags=("nsw",)), following)
    return number, more


def _part(builder: Any, place: Any, k: int) -> Any:
    zero = ir.IntType(32)(0)
    return builder.gep(place, [zero, zero.type(k)], inbounds=True)


# Numbers.


def _extreme(how: str) -> Definition:
    """The smallest or the largest."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return reduce(lambda a, b: builder.select(builder.icmp_signed(how, a, b), a, b), values)

    return lambda context, *arguments: (i64(*(i64 for _ in arguments)), generate)


def _whole(context: Any, argument: Any) -> tuple[Any, Any]:
    """A truth value or an integer as int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.cast(builder, values[0], argument, i64)

    return i64(argument), generate


def _division(of: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> Definition:
    """Quotient or remainder, rounded down; 0 where the divisor is."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, y = values
        if isinstance(y, ir.Constant):
            return of(builder, x, y)
        zero = builder.icmp_signed("==", y, y.type(0))
        return builder.select(zero, y, of(builder, x, builder.select(zero, y.type(1), y)))

    return lambda context, x, y: (i64(i64, i64), generate)


def _quotient(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if _is_power(y):
        return b.ashr(x, y.type(y.constant.bit_length() - 1))
    _, down = _rest(b, x, y)
    return b.add(b.sdiv(x, y), b.sext(down, x.type))


def _remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if _is_power(y):
        return b.and_(x, y.type(y.constant - 1))
    rest, down = _rest(b, x, y)
    return b.add(rest, b.select(down, y, y.type(0)))


def _is_power(y: ir.Value) -> bool:
    return isinstance(y, ir.Constant) and y.constant > 0 and y.constant & (y.constant - 1) == 0


def _rest(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """What division towards zero leaves, and whether division downwards goes one further."""
    rest = b.srem(x, y)
    differs = b.icmp_signed("<", b.xor(rest, y), y.type(0))
    return rest, b.and_(differs, b.icmp_signed("!=", rest, y.type(0)))


BUILTINS: dict[Any, Definition] = {
    range: _range,
    min: _extreme("<"),
    max: _extreme(">"),
    int: _whole,
    operator.floordiv: _division(_quotient),
    operator.mod: _division(_remainder),
}
