"""Elementary functions as straight-line arithmetic, so that loops over them vectorize.

Each function takes an `Arithmetic`, which writes LLVM instructions, and values of its float type.
Bounds of the error, in units in the last place, over all finite arguments unless stated:

    f32   exp 1, log 1, log1p 1, tanh 4, erf 6, sigmoid 3, power 1, sin and cos 2 for |x| <= 1e9
    f64   exp 1, log 1; the others are those of the C library

Sources: log, log1p and the f64 exp follow the reductions of FDLIBM (Sun Microsystems, 1993); sin
and cos use the polynomials of Cephes (Moshier); tanh and erf are odd rational minimax
approximations on [-7.9, 7.9] and [-3.92, 3.92].
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

__all__ = [
    "Arithmetic",
    "cos",
    "erf",
    "exp",
    "exp_negative",
    "log",
    "log1p",
    "power",
    "sigmoid",
    "sin",
    "tanh",
]

Number = Any


class Arithmetic:
    """Writes arithmetic of one float type, "f32" or "f64", at a builder's position."""

    def __init__(self, builder: ir.IRBuilder, dtype: str) -> None:
        self.builder, self.dtype = builder, dtype
        self.wide = dtype == "f64"
        self.type: ir.Type = ir.DoubleType() if self.wide else ir.FloatType()
        self.bits: ir.IntType = ir.IntType(64 if self.wide else 32)
        self.mantissa = 52 if self.wide else 23

    def constant(self, value: float) -> Number:
        if self.wide:
            return ir.Constant(self.type, value)
        return ir.Constant(self.type, struct.unpack("f", struct.pack("f", value))[0])

    def integer(self, value: int) -> Number:
        return ir.Constant(self.bits, value)

    def number(self, value: Number | float) -> Number:
        return self.constant(value) if isinstance(value, float | int) else value

    def add(self, a: Number, b: Number | float) -> Number:
        return self.builder.fadd(a, self.number(b))

    def sub(self, a: Number | float, b: Number | float) -> Number:
        return self.builder.fsub(self.number(a), self.number(b))

    def mul(self, a: Number, b: Number | float) -> Number:
        return self.builder.fmul(a, self.number(b))

    def div(self, a: Number | float, b: Number) -> Number:
        return self.builder.fdiv(self.number(a), b)

    def fma(self, a: Number, b: Number | float, c: Number | float) -> Number:
        return self.call("llvm.fma", a, self.number(b), self.number(c))

    def call(self, name: str, *operands: Number, flags: tuple[str, ...] = ()) -> Number:
        """An LLVM intrinsic of this type."""
        kind = ir.FunctionType(self.type, [self.type] * len(operands))
        return self.external(f"{name}.{self.dtype}", kind, *operands, flags=flags)

    def external(
        self, name: str, kind: ir.FunctionType, *operands: Number, flags: tuple[str, ...] = ()
    ) -> Number:
        module = self.builder.module
        function = module.globals.get(name) or ir.Function(module, kind, name)
        return self.builder.call(function, list(operands), fastmath=flags)

    def absolute(self, a: Number) -> Number:
        return self.call("llvm.fabs", a)

    def copysign(self, a: Number, sign: Number) -> Number:
        return self.call("llvm.copysign", a, sign)

    def compare(self, how: str, a: Number, b: Number | float) -> Number:
        """False where an operand is NaN, except for "!=", which is true there."""
        ordered = how != "!="
        compare = self.builder.fcmp_ordered if ordered else self.builder.fcmp_unordered
        return compare(how, a, self.number(b))

    def is_nan(self, a: Number) -> Number:
        return self.builder.fcmp_unordered("uno", a, a)

    def select(self, condition: Number, a: Number | float, b: Number | float) -> Number:
        return self.builder.select(condition, self.number(a), self.number(b))

    def clamp(self, a: Number, low: float, high: float) -> Number:
        """NaN stays NaN."""
        a = self.select(self.compare("<", a, low), low, a)
        return self.select(self.compare(">", a, high), high, a)

    def polynomial(self, x: Number, coefficients: Sequence[float]) -> Number:
        """Coefficients from the highest power down."""
        total = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.fma(total, x, coefficient)
        return total

    def to_bits(self, a: Number) -> Number:
        return self.builder.bitcast(a, self.bits)

    def from_bits(self, a: Number) -> Number:
        return self.builder.bitcast(a, self.type)

    def rounded(self, a: Number) -> tuple[Number, Number]:
        """`a` rounded to an integer of moderate size, as a float and as bits.

        By adding 1.5 * 2**mantissa, whose last bits then count ones; converting to an
        integer would be undefined for NaN.
        """
        magic = 1.5 * 2.0**self.mantissa
        shifted = self.add(a, magic)
        whole = self.sub(shifted, magic)
        bits = self.builder.sub(self.to_bits(shifted), self.to_bits(self.constant(magic)))
        return whole, bits

    def scaled(self, a: Number, n: Number) -> Number:
        """`a * 2**n` for `n` twice as far as exponents reach, rounded once."""
        half = self.builder.ashr(n, self.integer(1))
        for part in (half, self.builder.sub(n, half)):
            a = self.mul(a, self.power_of_two(part))
        return a

    def power_of_two(self, n: Number) -> Number:
        """`2**n` for exponents of normal numbers."""
        b, bias = self.builder, self.integer(1023 if self.wide else 127)
        return self.from_bits(b.shl(b.add(n, bias), self.integer(self.mantissa)))


def exp(m: Arithmetic, x: Number) -> Number:
    """e to the power of x."""
    x, vanishes = _bounded(m, x, *((-746.0, 710.0) if m.wide else (-104.0, 89.0)))
    p, bits = _exp_parts(m, x)
    return m.select(vanishes, 0.0, m.scaled(p, bits))


def exp_negative(m: Arithmetic, x: Number) -> Number:
    """e to the power of x, for x of at most 1; 0 instead of numbers less than the normal ones."""
    p, bits = _exp_parts(m, x)
    vanishes = m.compare("<", x, -708.0 if m.wide else -87.0)
    return m.select(vanishes, 0.0, m.mul(p, m.power_of_two(bits)))


def _bounded(m: Arithmetic, x: Number, low: float, high: float) -> tuple[Number, Number]:
    """An argument of the exponential cut off above, and whether the result vanishes.

    There it is replaced by 0: processors are slow where a product underflows, and masks make
    many such arguments.
    """
    vanishes = m.compare("<", x, low)
    x = m.select(vanishes, 0.0, x)
    return m.select(m.compare(">", x, high), high, x), vanishes


def _exp_parts(m: Arithmetic, x: Number) -> tuple[Number, Number]:
    """p and an integer n with e**x = p * 2**n and p near 1."""
    n, bits = m.rounded(m.mul(x, 1.44269504088896338700e00))
    if m.wide:
        return _exp_wide(m, x, n), bits
    r = m.fma(n, -0.693145751953125, x)
    r = m.fma(n, -1.42860682030941723e-6, r)
    coefficients = (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
    p = m.polynomial(r, coefficients)
    return m.add(m.fma(m.mul(r, r), p, r), 1.0), bits


def _exp_wide(m: Arithmetic, x: Number, n: Number) -> Number:
    high = m.fma(n, -6.93147180369123816490e-01, x)
    low = m.mul(n, 1.90821492927058770002e-10)
    r = m.sub(high, low)
    t = m.mul(r, r)
    coefficients = (
        4.13813679705723846039e-08,
        -1.65339022054652515390e-06,
        6.61375632143793436117e-05,
        -2.77777777770155933842e-03,
        1.66666666666666019037e-01,
    )
    c = m.sub(r, m.mul(t, m.polynomial(t, coefficients)))
    quotient = m.div(m.mul(r, c), m.sub(2.0, c))
    return m.sub(1.0, m.sub(m.sub(low, quotient), high))


_LOG_NARROW = (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693)
_LOG_WIDE = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


def _log_parts(m: Arithmetic, x: Number) -> tuple[Number, Number]:
    """For positive finite x: f and k with x = (1 + f) * 2**k and 1 + f near 1."""
    b = m.builder
    # The bits of sqrt(1/2): mantissas are taken from there to twice as much.
    middle = m.integer(0x3FE6A09E667F3BCD if m.wide else 0x3F3504F3)
    shift = m.integer(m.mantissa)
    bits = m.to_bits(x)
    k = b.ashr(b.sub(bits, middle), shift)
    f = m.sub(m.from_bits(b.sub(bits, b.shl(k, shift))), 1.0)
    return f, b.sitofp(k, m.type)


def _log_of_parts(m: Arithmetic, f: Number, k: Number, correction: Number | None) -> Number:
    s = m.div(f, m.add(f, 2.0))
    z = m.mul(s, s)
    r = m.mul(z, m.polynomial(z, _LOG_WIDE if m.wide else _LOG_NARROW))
    half = m.mul(m.mul(f, f), 0.5)
    low = 1.90821492927058770002e-10 if m.wide else 9.0580006145e-06
    high = 6.93147180369123816490e-01 if m.wide else 6.9313812256e-01
    tail = m.mul(k, low) if correction is None else m.fma(k, low, correction)
    inner = m.sub(half, m.fma(s, m.add(half, r), tail))
    return m.fma(k, high, m.sub(f, inner))


def _log_edges(m: Arithmetic, x: Number, result: Number) -> Number:
    """Infinity for infinity, minus infinity for zero, NaN below and for NaN."""
    result = m.select(m.compare("<", x, float("inf")), result, x)
    result = m.select(m.compare("==", x, 0.0), float("-inf"), result)
    return m.select(m.compare("<", x, 0.0), float("nan"), result)


def log(m: Arithmetic, x: Number) -> Number:
    """The natural logarithm."""
    small = m.compare("<", x, 2.2250738585072014e-308 if m.wide else 1.1754943508222875e-38)
    lift = 54 if m.wide else 25
    f, k = _log_parts(m, m.select(small, m.mul(x, 2.0**lift), x))
    k = m.select(small, m.sub(k, float(lift)), k)
    return _log_edges(m, x, _log_of_parts(m, f, k, None))


def log1p(m: Arithmetic, x: Number) -> Number:
    """log(1 + x), exact for small x."""
    if m.wide:
        return m.external("log1p", ir.FunctionType(m.type, [m.type]), x)
    u = m.add(x, 1.0)
    # What 1 + x lost to rounding.
    lost = m.select(m.compare(">", x, 1.0), m.sub(1.0, m.sub(u, x)), m.sub(x, m.sub(u, 1.0)))
    correction = m.div(lost, u)
    f, k = _log_parts(m, u)
    result = _log_edges(m, u, _log_of_parts(m, f, k, correction))
    # The sign of zero, and numbers so small that 1 + x is 1.
    return m.select(m.compare("==", u, 1.0), x, result)


def tanh(m: Arithmetic, x: Number) -> Number:
    """The hyperbolic tangent."""
    if m.wide:
        return m.external("tanh", ir.FunctionType(m.type, [m.type]), x)
    c = m.clamp(x, -7.90531110763549805, 7.90531110763549805)
    s = m.mul(c, c)
    top = (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
    bottom = (
        1.19825839466702e-06,
        1.18534705686654e-04,
        2.26843463243900e-03,
        4.89352518554385e-03,
    )
    result = m.div(m.mul(c, m.polynomial(s, top)), m.polynomial(s, bottom))
    return m.select(m.compare("<", m.absolute(x), 4e-4), x, result)


def sigmoid(m: Arithmetic, x: Number) -> Number:
    """1 / (1 + e**-x), without overflow on either side."""
    size = m.builder.fneg(m.absolute(x))
    p, n = _exp_parts(m, size)
    # By too large a power of two first, which is a normal number also where the result is not.
    far = 512 if m.wide else 64
    e = m.mul(m.mul(p, m.power_of_two(m.builder.add(n, m.integer(far)))), 2.0**-far)
    e = m.select(m.compare("<", size, -746.0 if m.wide else -104.0), 0.0, e)
    share = m.div(1.0, m.add(e, 1.0))
    return m.select(m.compare("<", x, 0.0), m.mul(e, share), share)


def erf(m: Arithmetic, x: Number) -> Number:
    """The error function."""
    if m.wide:
        return m.external("erf", ir.FunctionType(m.type, [m.type]), x)
    # At the ends of the interval the quotient is 1; within it may round to a little more.
    c = m.clamp(x, -3.92, 3.92)
    s = m.mul(c, c)
    top = (2.0500272e-06, 2.848755e-04, 3.7655376e-03, 5.274848e-02, 1.9040535e-01, 1.1283791e00)
    bottom = (3.809071e-05, 1.1625058e-03, 1.49690695e-02, 1.1410856e-01, 5.020751e-01, 1.0)
    result = m.div(m.mul(c, m.polynomial(s, top)), m.polynomial(s, bottom))
    return m.clamp(result, -1.0, 1.0)


def sin(m: Arithmetic, x: Number) -> Number:
    """The sine."""
    return m.call("llvm.sin", x) if m.wide else _circular(m, x, 0)


def cos(m: Arithmetic, x: Number) -> Number:
    """The cosine."""
    return m.call("llvm.cos", x) if m.wide else _circular(m, x, 1)


def _circular(m: Arithmetic, x: Number, quarter: int) -> Number:
    """sin(x + quarter * pi / 2): reduced by pi / 2 in f64, evaluated in f32."""
    b = m.builder
    w = Arithmetic(b, "f64")
    wide = b.fpext(x, w.type)
    n, bits = w.rounded(w.mul(wide, 0.63661977236758134308))
    r = w.fma(n, -1.57079632679489655800, wide)
    r = w.fma(n, -6.12323399573676603587e-17, r)
    r = b.fptrunc(r, m.type)
    turns = b.add(b.trunc(bits, m.bits), m.integer(quarter))
    z = m.mul(r, r)
    p = m.polynomial(z, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
    sine = m.fma(m.mul(z, r), p, r)
    q = m.polynomial(z, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
    cosine = m.fma(m.mul(z, z), q, m.fma(z, -0.5, 1.0))
    odd = b.icmp_unsigned("!=", b.and_(turns, m.integer(1)), m.integer(0))
    result = b.select(odd, cosine, sine)
    negative = b.icmp_unsigned("!=", b.and_(turns, m.integer(2)), m.integer(0))
    return b.select(negative, b.fneg(result), result)


def power(m: Arithmetic, x: Number, y: Number) -> Number:
    """x to the power of y, with the special cases of C's pow."""
    if m.wide:
        return m.call("llvm.pow", x, y)
    b = m.builder
    w = Arithmetic(b, "f64")
    size = m.absolute(x)
    wide_y = b.fpext(y, w.type)
    product = w.mul(wide_y, log(w, b.fpext(size, w.type)))
    result = b.fptrunc(exp(w, product), m.type)
    whole = m.compare("==", m.call("llvm.floor", y), y)
    half = m.mul(y, 0.5)
    odd = b.and_(whole, m.compare("!=", m.call("llvm.floor", half), half))
    result = m.select(odd, m.copysign(result, x), result)
    negative = b.and_(m.compare("<", x, 0.0), b.not_(whole))
    finite = b.and_(negative, m.compare("!=", size, float("inf")))
    result = m.select(finite, float("nan"), result)
    # 1 to any power, and any number to the power of 0, also NaN; -1 to an infinite power.
    unit = m.compare("==", m.absolute(y), float("inf"))
    unit = b.and_(unit, m.compare("==", size, 1.0))
    one = b.or_(m.compare("==", y, 0.0), b.or_(m.compare("==", x, 1.0), unit))
    return m.select(one, 1.0, result)
