"""Random numbers in kernels: the bits of `dnnc.ir.random`, as LLVM instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dnnc.ir.random import MULTIPLIER, ROUNDS, WEYL

__all__ = ["key_of", "uniform"]

_I64 = ir.IntType(64)
_LOW = 0xFFFFFFFF


def _const(value: int) -> ir.Constant:
    value &= (1 << 64) - 1
    return ir.Constant(_I64, value - (1 << 64) if value >> 63 else value)


def key_of(b: ir.IRBuilder, seed: Any, place: Any) -> Any:
    """The 32-bit key of a place of a program, in an i64."""
    step = b.mul(b.add(place, _const(1)), _const(0x9E3779B97F4A7C15))
    z = b.add(seed, step)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = b.mul(b.xor(z, b.lshr(z, _const(shift))), _const(factor))
    z = b.xor(z, b.lshr(z, _const(31)))
    return b.lshr(z, _const(32))


def uniform(b: ir.IRBuilder, dtype: str, key: Any, step: Any, index: Any) -> Any:
    """The number in [0, 1) of element `index` in step `step`; all i64."""
    low = _const(_LOW)
    x0, x1 = b.and_(index, low), b.and_(step, low)
    for turn in range(ROUNDS):
        round_key = b.and_(b.add(key, _const(turn * WEYL)), low)
        wide = b.mul(x0, _const(MULTIPLIER))
        x0 = b.xor(b.xor(b.lshr(wide, _const(32)), round_key), x1)
        x1 = b.and_(wide, low)
    if dtype == "f32":
        kind = ir.FloatType()
        top = b.trunc(b.lshr(x0, _const(8)), ir.IntType(32))
        return b.fmul(b.sitofp(top, kind), ir.Constant(kind, 2.0**-24))
    kind = ir.DoubleType()
    high = b.shl(b.lshr(x0, _const(5)), _const(26))
    whole = b.add(high, b.lshr(x1, _const(6)))
    return b.fmul(b.sitofp(whole, kind), ir.Constant(kind, 2.0**-53))
