"""Write the gradient of a softmax in terms of its result.

    z = e / s,  d = g / s,  dx = (d - sum(d * z)) * e      →      dx = z * (g - sum(g * z))

The gradient of a quotient needs the numerator, the divisor and the result. In a softmax the
numerator is an exponential and the gradient is multiplied by it again, so both divide out: neither
`e` nor `s`, which is constant along the axes of the sum, has to be kept for the backward pass,
only `z`, which the next operator needs anyway. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import map_regions, rebuild
from dnnc.ops.base import apply, apply_all
from dnnc.ops.elementwise import Add, Divide, Multiply, Negate, Subtract
from dnnc.ops.reduce import ReduceSum
from dnnc.ops.shape import Reshape
from dnnc.passes.simplify.rules import made_by
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    return rebuild(graph, _rewrite)


def _rewrite(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    if isinstance(node.op, Multiply):
        for factor, e in (operands, operands[::-1]):
            result = _gradient(factor, e)
            if result is not None and result.type == node.results[0].type:
                fired("gradient of a softmax from its result")
                return [result]
        return None
    op = map_regions(node.op, run)
    return None if op is node.op else apply_all(op, *operands)


def _gradient(factor: Value, e: Value) -> Value | None:
    """`z * (g - sum(g * z))` for `factor * e`; None where the pattern is another."""
    terms = made_by(factor, Add, Subtract)
    if terms is None:
        return None
    sides = [terms[1]] if isinstance(terms[0], Subtract) else [terms[1], terms[1][::-1]]
    for d, r in sides:
        quotient = made_by(d, Divide)
        if quotient is None:
            continue
        g, s = quotient[1]
        total = _weighted_sum(r, d, negative=isinstance(terms[0], Add))
        if total is None:
            continue
        z, op = total
        if made_by(z, Divide) is None or made_by(z, Divide) != (Divide(), (e, s)):
            continue
        if _is_constant_along(s.shape, z.type.rank, op.axes):
            inner = apply(ReduceSum(op.axes, True), apply(Multiply(), g, z))
            return apply(Multiply(), z, apply(Subtract(), g, inner))
    return None


def _weighted_sum(r: Value, d: Value, negative: bool) -> tuple[Value, ReduceSum] | None:
    """`z` and the reduction, where `r` is the sum of `d * z`, with the sign that is asked for."""
    r, sign = _signed(r)
    reshape = made_by(r, Reshape)
    total = made_by(r if reshape is None else reshape[1][0], ReduceSum)
    if total is None:
        return None
    source, inner_sign = _signed(total[1][0])
    product = made_by(source, Multiply)
    if product is None or (sign != inner_sign) != negative:
        return None
    op = total[0]
    if r.shape != op.kept_shape(source.type):
        return None
    for x, z in (product[1], product[1][::-1]):
        if x is d:
            return z, op
    return None


def _signed(value: Value) -> tuple[Value, bool]:
    """The value without a negation, and whether it had one."""
    negated = made_by(value, Negate)
    return (value, False) if negated is None else (negated[1][0], True)


def _is_constant_along(shape: tuple[Dim, ...], rank: int, axes: tuple[int, ...]) -> bool:
    padded = (dim(1),) * (rank - len(shape)) + shape
    return all(padded[axis] == 1 for axis in axes)
