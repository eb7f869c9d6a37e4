"""Typed operations on single elements, as intrinsics: what formulas of operators are compiled to.

Imports numba; import it only inside `Kernel.build`. Every operation is one function on LLVM values,
so that no operand is widened on the way, and wraps or propagates NaN as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir

from dnnc.kernels import elementary
from dnnc.kernels.elementary import Arithmetic
from dnnc.kernels.intrinsics import NUMBA_TYPES, intrinsic
from dnnc.kernels.philox import key_of, uniform

__all__ = ["scalar"]

Number = Any
FLOATS = ("f32", "f64")
_BITS = {"i32": 32, "i64": 64, "u8": 8, "i8": 8, "bool": 1}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@cache
def scalar(name: str, result: str, *operands: str) -> Any:
    """The intrinsic of an operation, with the element types of its result and operands.

    Names: add sub mul div floordiv mod neg, eq ne lt le gt ge, and or not, select, cast, accumulate
    highest lowest (steps of reductions), above below (maximum and minimum with a number that is
    not NaN), key uniform (random numbers), and the functions of formulas.
    """
    numba_types = [NUMBA_TYPES[dtype] for dtype in operands]

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return _emit(builder, name, result, operands, values)

    signature = NUMBA_TYPES[result](*numba_types)
    # An intrinsic is typed by its parameters' number.
    if len(operands) == 1:

        @intrinsic
        def unary(typing_context, a):  # type: ignore[no-untyped-def]
            return signature, generate

        return unary
    if len(operands) == 2:

        @intrinsic
        def binary(typing_context, a, b):  # type: ignore[no-untyped-def]
            return signature, generate

        return binary

    @intrinsic
    def ternary(typing_context, a, b, c):  # type: ignore[no-untyped-def]
        return signature, generate

    return ternary


def _emit(
    b: ir.IRBuilder, name: str, result: str, dtypes: tuple[str, ...], values: list[Number]
) -> Number:
    dtype = dtypes[0]
    if name == "cast":
        return _cast(b, values[0], dtype, result)
    if name == "select":
        return b.select(*values)
    if name == "uniform":
        return uniform(b, result, *values)
    if name == "key":
        return key_of(b, *values)
    if name in _COMPARISONS:
        return _compare(b, _COMPARISONS[name], dtype, *values)
    if name in ("and", "or"):
        return (b.and_ if name == "and" else b.or_)(*values)
    if name == "not":
        return b.not_(values[0])
    if dtype in FLOATS:
        return _float(Arithmetic(b, dtype), name, values)
    return _integer(b, name, dtype, values)


def _compare(b: ir.IRBuilder, how: str, dtype: str, x: Number, y: Number) -> Number:
    if dtype in FLOATS:
        return Arithmetic(b, dtype).compare(how, x, y)
    signed = dtype in ("i8", "i32", "i64")
    return (b.icmp_signed if signed else b.icmp_unsigned)(how, x, y)


# Floating-point numbers.

_LLVM_FUNCTIONS = {
    "floor": "llvm.floor",
    "ceil": "llvm.ceil",
    "round": "llvm.rint",
    "sqrt": "llvm.sqrt",
    "absolute": "llvm.fabs",
}


def _float(m: Arithmetic, name: str, values: list[Number]) -> Number:
    b = m.builder
    simple: dict[str, Callable[..., Number]] = {
        "add": m.add,
        "sub": m.sub,
        "mul": m.mul,
        "div": m.div,
        "neg": b.fneg,
        "maximum": lambda x, y: _larger(m, ">", x, y),
        "minimum": lambda x, y: _larger(m, "<", x, y),
        # NaN compares unordered, so x is chosen: one comparison is enough.
        "above": lambda x, y: m.select(b.fcmp_unordered(">", x, y), x, y),
        "below": lambda x, y: m.select(b.fcmp_unordered("<", x, y), x, y),
        # Which of two zeros wins is left open.
        "highest": lambda x, y: m.call("llvm.maximum", x, y, flags=("nsz",)),
        "lowest": lambda x, y: m.call("llvm.minimum", x, y, flags=("nsz",)),
        # The one place where the order of additions is free: lanes of a sum.
        "accumulate": lambda x, y: b.fadd(x, y, flags=("reassoc", "contract")),
        "sign": lambda x: _float_sign(m, x),
        "is_finite": lambda x: m.compare("<", m.absolute(x), float("inf")),
        "mod": lambda x, y: _float_divmod(m, x, y)[1],
        "floordiv": lambda x, y: _float_divmod(m, x, y)[0],
    }
    if name in simple:
        return simple[name](*values)
    if name in _LLVM_FUNCTIONS:
        return m.call(_LLVM_FUNCTIONS[name], *values)
    return getattr(elementary, name)(m, *values)


def _larger(m: Arithmetic, how: str, x: Number, y: Number) -> Number:
    """The larger or smaller of two; NaN where either is NaN."""
    chosen = m.select(m.compare(how, x, y), x, y)
    return m.select(m.is_nan(x), x, chosen)


def _float_sign(m: Arithmetic, x: Number) -> Number:
    positive = m.select(m.compare(">", x, 0.0), 1.0, x)
    return m.select(m.compare("<", x, 0.0), -1.0, positive)


def _float_divmod(m: Arithmetic, x: Number, y: Number) -> tuple[Number, Number]:
    """Quotient rounded down and remainder with the sign of y, as in NumPy."""
    b = m.builder
    rest = b.frem(x, y)
    differs = b.xor(m.compare("<", y, 0.0), m.compare("<", rest, 0.0))
    nonzero = m.compare("!=", rest, 0.0)
    moved = m.select(b.and_(differs, nonzero), m.add(rest, y), rest)
    moved = m.select(m.compare("==", rest, 0.0), m.copysign(m.constant(0.0), y), moved)
    quotient = m.div(m.sub(x, moved), y)
    whole = m.call("llvm.floor", quotient)
    whole = m.select(m.compare(">", m.sub(quotient, whole), 0.5), m.add(whole, 1.0), whole)
    zero = m.compare("==", y, 0.0)
    return m.select(zero, m.div(x, y), whole), moved


# Integers and truth values.


def _integer(b: ir.IRBuilder, name: str, dtype: str, values: list[Number]) -> Number:
    signed = dtype in ("i8", "i32", "i64")
    compare = b.icmp_signed if signed else b.icmp_unsigned
    zero, one = ir.Constant(values[0].type, 0), ir.Constant(values[0].type, 1)
    simple: dict[str, Callable[..., Number]] = {
        "add": b.add,
        "accumulate": b.add,
        "sub": b.sub,
        "mul": b.mul,
        "neg": lambda x: b.sub(zero, x),
        "is_finite": lambda x: ir.Constant(ir.IntType(1), 1),
        "absolute": lambda x: b.select(compare("<", x, zero), b.sub(zero, x), x),
        "sign": lambda x: b.select(
            compare("<", x, zero), b.sub(zero, one), b.select(compare(">", x, zero), one, zero)
        ),
        "floordiv": lambda x, y: _integer_divmod(b, signed, x, y)[0],
        "mod": lambda x, y: _integer_divmod(b, signed, x, y)[1],
    }
    for larger in ("maximum", "highest", "above"):
        simple[larger] = lambda x, y: b.select(compare(">", x, y), x, y)
    for smaller in ("minimum", "lowest", "below"):
        simple[smaller] = lambda x, y: b.select(compare("<", x, y), x, y)
    for same in ("floor", "ceil", "round"):
        simple[same] = lambda x: x
    return simple[name](*values)


def _integer_divmod(b: ir.IRBuilder, signed: bool, x: Number, y: Number) -> tuple[Number, Number]:
    """Rounded down; 0 and 0 where y is 0. Processors trap on y = 0 and on the smallest number by
    -1.
    """
    zero, one = ir.Constant(x.type, 0), ir.Constant(x.type, 1)
    by_zero = b.icmp_unsigned("==", y, zero)
    if not signed:
        safe = b.select(by_zero, one, y)
        quotient, rest = b.udiv(x, safe), b.urem(x, safe)
        return b.select(by_zero, zero, quotient), b.select(by_zero, zero, rest)
    minus = b.icmp_unsigned("==", y, ir.Constant(x.type, -1))
    safe = b.select(b.or_(by_zero, minus), one, y)
    quotient, rest = b.sdiv(x, safe), b.srem(x, safe)
    differs = b.icmp_signed("<", b.xor(rest, safe), zero)
    down = b.and_(differs, b.icmp_unsigned("!=", rest, zero))
    quotient = b.select(down, b.sub(quotient, one), quotient)
    rest = b.select(down, b.add(rest, safe), rest)
    quotient = b.select(minus, b.sub(zero, x), quotient)
    return b.select(by_zero, zero, quotient), b.select(by_zero, zero, rest)


def _cast(b: ir.IRBuilder, x: Number, source: str, target: str) -> Number:
    if source == target:
        return x
    if target == "bool":
        if source in FLOATS:
            return b.fcmp_unordered("!=", x, ir.Constant(x.type, 0.0))
        return b.icmp_unsigned("!=", x, ir.Constant(x.type, 0))
    unsigned = source in ("u8", "bool")
    if target in FLOATS:
        kind = ir.FloatType() if target == "f32" else ir.DoubleType()
        if source in FLOATS:
            return b.fpext(x, kind) if target == "f64" else b.fptrunc(x, kind)
        return (b.uitofp if unsigned else b.sitofp)(x, kind)
    bits = _BITS[target]
    kind = ir.IntType(bits)
    if source in FLOATS:
        # Through a wider type, so that small negative numbers wrap in u8.
        wide = ir.IntType(max(bits, 32))
        whole = b.fptosi(x, wide)
        return whole if bits == wide.width else b.trunc(whole, kind)
    if _BITS[source] == bits:
        return x
    if _BITS[source] > bits:
        return b.trunc(x, kind)
    return (b.zext if unsigned else b.sext)(x, kind)
