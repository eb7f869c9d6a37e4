"""Attention: rows of values, mixed by the softmax of products of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.ir.rewrite import replace
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    BOOLS,
    FLOATS,
    Array,
    Gradients,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply_all,
    check_dtype,
    check_rank,
    check_same_dtype,
    operator,
)
from dnnc.ops.creation import iota
from dnnc.ops.elementwise import add, divide, exp, log, multiply, stop_gradient, subtract
from dnnc.ops.linear import matmul
from dnnc.ops.logic import less_equal, logical_and, select
from dnnc.ops.reduce import reduce_max, reduce_sum
from dnnc.ops.shape import reshape, transpose

if TYPE_CHECKING:
    from dnnc.ops.scan_gradient import Walk

__all__ = ["Attention", "AttentionGradient", "attention"]


@dataclass(frozen=True)
class _Attention(Operator):
    """What attention and its gradient share.

    Queries are q [batch, T, heads, D], keys k [batch, S, heads, D], values v [batch, S, heads, E];
    scores [batch, heads, T, S] are the products of queries and keys times `scale`. With `causal` a
    query counts keys up to its own place. A mask [batch, heads, T, S] of bools, each of whose first
    three sizes may be 1, tells which keys count.
    """

    causal: bool
    scale: float

    def _check(self, q: TensorType, k: TensorType, v: TensorType) -> None:
        for operand, type in enumerate((q, k, v)):
            check_dtype(self.name, FLOATS, type, operand)
            check_rank(self.name, type, 4, operand)
        check_same_dtype(self.name, q, k, v)
        (batch, _, heads, depth), (_, keys, _, _) = q.shape, k.shape
        self._fit("keys have", k, (batch, keys, heads, depth), 1)
        self._fit("values have", v, (batch, keys, heads, v.shape[3]), 2)

    def _check_mask(self, q: TensorType, k: TensorType, mask: TensorType, operand: int) -> None:
        check_dtype(self.name, BOOLS, mask, operand)
        check_rank(self.name, mask, 4, operand)
        scores = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        one = (dim(1),) * 3
        pairs = zip(mask.shape, scores, (*one, scores[3]), strict=True)
        if any(size not in allowed for size, *allowed in pairs):
            self._fit("the mask has", mask, scores, operand)

    def _fit(self, what: str, type: TensorType, shape: tuple[Dim, ...], operand: int) -> None:
        if type.shape != shape:
            wanted = TensorType(type.dtype, shape)
            raise TypeRuleError(
                f"`{self.name}`: {what} to be {wanted}, got {type}",
                f"this is {type}",
                "E203",
                operand,
            )

    def _scores(self, q: Array, k: Array, mask: Array | None) -> Array:
        """Scores [batch, heads, T, S]; minus infinity for keys that do not count."""
        products = np.matmul(q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1))
        scores: Array = products * products.dtype.type(self.scale)
        counts = np.ones(scores.shape[2:], bool)
        if self.causal:
            counts = np.tril(counts)
        return np.where(counts if mask is None else counts & mask, scores, -np.inf)

    def _composed_scores(
        self, q: Value, k: Value, mask: Value | None
    ) -> tuple[Value, Value | None]:
        """The same of transposed operands, and which keys count; None for all."""
        scores = multiply(matmul(q, k, transpose_b=True), self.scale)
        if not self.causal:
            return scores, mask
        rows = iota((scores.shape[2], dim(1)), 0)
        counts = less_equal(iota((dim(1), scores.shape[3]), 1), rows)
        return scores, counts if mask is None else logical_and(mask, counts)


@operator
@dataclass(frozen=True)
class Attention(_Attention):
    """Values mixed by the softmax of scores: results [batch, T, heads, E] and log-sum-exps [batch,
    T, heads] of the scores.

    Operands are q, k, v and, if there is one, a mask. A query for which no key counts gets NaN, as
    the softmax of nothing but minus infinity does; without keys at all the results are zero.
    """

    name: ClassVar[str] = "attention"
    onnx: ClassVar[OnnxOp | None] = None
    multiple: ClassVar[bool] = True

    def infer(
        self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        self._check(q, k, v)
        if mask is not None:
            self._check_mask(q, k, mask, 3)
        return (
            TensorType(q.dtype, (*q.shape[:3], v.shape[3])),
            TensorType(q.dtype, q.shape[:3]),
        )

    def evaluate(
        self, q: Array, k: Array, v: Array, mask: Array | None = None
    ) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            scores = self._scores(q, k, mask)
            most = scores.max(axis=-1, keepdims=True, initial=-np.inf)
            most = np.where(np.isneginf(most), 0, most)
            e = np.exp(scores - most)
            total = e.sum(axis=-1, keepdims=True)
            mixed = np.matmul(e / total, v.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
            lse = (most + np.log(total))[..., 0].transpose(0, 2, 1)
        return np.ascontiguousarray(mixed, q.dtype), np.ascontiguousarray(lse, q.dtype)

    def gradient(
        self,
        dz: Sequence[Value | None],
        z: Sequence[Value],
        *operands: Value,
        walk: Walk,
        needed: Sequence[bool],
    ) -> Gradients:
        d_mixed, d_lse = dz
        if d_mixed is None or d_lse is not None:
            # Nothing but derivatives of derivatives asks for the gradient of log-sum-exps.
            return _by_walk(self._composed, dz, operands, walk)
        q, k, v, *mask = operands
        op = AttentionGradient(self.causal, self.scale)
        found = apply_all(op, q, k, v, *z, d_mixed, *mask)
        return (*found, *(None for _ in mask))

    def _composed(self, q: Value, k: Value, v: Value, mask: Value | None = None) -> list[Value]:
        q, k, v = (transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
        scores, counts = self._composed_scores(q, k, mask)
        scores = scores if counts is None else select(counts, scores, -math.inf)
        most = stop_gradient(reduce_max(scores, 3, keep=True))
        e = exp(subtract(scores, most))
        total = reduce_sum(e, 3, keep=True)
        lse = add(most, log(total))
        mixed = transpose(matmul(divide(e, total), v), (0, 2, 1, 3))
        return [mixed, transpose(reshape(lse, lse.shape[:3]), (0, 2, 1))]


@operator
@dataclass(frozen=True)
class AttentionGradient(_Attention):
    """Gradients dq, dk, dv of attention.

    Operands are q, k, v, the results of `Attention`, the gradient of the first, and the mask if
    there is one.
    """

    name: ClassVar[str] = "attention_gradient"
    onnx: ClassVar[OnnxOp | None] = None
    multiple: ClassVar[bool] = True

    def infer(
        self,
        q: TensorType,
        k: TensorType,
        v: TensorType,
        mixed: TensorType,
        lse: TensorType,
        d_mixed: TensorType,
        mask: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        self._check(q, k, v)
        check_same_dtype(self.name, q, k, v, mixed, lse, d_mixed)
        self._fit("results have", mixed, (*q.shape[:3], v.shape[3]), 3)
        self._fit("log-sum-exps have", lse, q.shape[:3], 4)
        self._fit("gradients of results have", d_mixed, (*q.shape[:3], v.shape[3]), 5)
        if mask is not None:
            self._check_mask(q, k, mask, 6)
        return q, k, v

    def evaluate(
        self,
        q: Array,
        k: Array,
        v: Array,
        mixed: Array,
        lse: Array,
        d_mixed: Array,
        mask: Array | None = None,
    ) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            scores = self._scores(q, k, mask)
            p = np.exp(scores - lse.transpose(0, 2, 1)[..., None])
            d_rows = d_mixed.transpose(0, 2, 1, 3)
            dv = np.matmul(p.swapaxes(2, 3), d_rows)
            dp = np.matmul(d_rows, v.transpose(0, 2, 3, 1))
            # What each score of a row loses because its shares add up to one.
            loss = (d_mixed * mixed).sum(axis=3).transpose(0, 2, 1)[..., None]
            ds = p * (dp - loss) * q.dtype.type(self.scale)
            ds = np.where(np.isneginf(scores), 0, ds)
            dq = np.matmul(ds, k.transpose(0, 2, 1, 3))
            dk = np.matmul(ds.swapaxes(2, 3), q.transpose(0, 2, 1, 3))
        return tuple(np.ascontiguousarray(g.transpose(0, 2, 1, 3), q.dtype) for g in (dq, dk, dv))

    def gradient(
        self,
        dz: Sequence[Value | None],
        z: Sequence[Value],
        *operands: Value,
        walk: Walk,
        needed: Sequence[bool],
    ) -> Gradients:
        return _by_walk(self._composed, dz, operands, walk)

    def _composed(
        self,
        q: Value,
        k: Value,
        v: Value,
        mixed: Value,
        lse: Value,
        d_mixed: Value,
        mask: Value | None = None,
    ) -> list[Value]:
        loss = reduce_sum(multiply(d_mixed, mixed), 3)
        q, k, v, d_mixed = (transpose(x, (0, 2, 1, 3)) for x in (q, k, v, d_mixed))
        lse, loss = (
            reshape(turned, (*turned.shape, 1))
            for turned in (transpose(x, (0, 2, 1)) for x in (lse, loss))
        )
        scores, counts = self._composed_scores(q, k, mask)
        p = exp(subtract(scores, lse))
        dp = matmul(d_mixed, v, transpose_b=True)
        ds = multiply(multiply(p, subtract(dp, loss)), self.scale)
        if counts is not None:
            p, ds = select(counts, p, 0.0), select(counts, ds, 0.0)
        found = (
            matmul(ds, k),
            matmul(ds, q, transpose_a=True),
            matmul(p, d_mixed, transpose_a=True),
        )
        return [transpose(x, (0, 2, 1, 3)) for x in found]


def _by_walk(
    compose: Callable[..., list[Value]],
    dz: Sequence[Value | None],
    operands: Sequence[Value],
    walk: Walk,
) -> Gradients:
    """Gradients of what `compose` makes of operands."""
    # Operands may depend on one another: what is differentiated are values that do not.
    inner = [Value(operand.type) for operand in operands]
    found = walk(compose(*inner), dz, inner)
    given = [value for value in found if value is not None]
    made = iter(replace(given, dict(zip(inner, operands, strict=True))))
    return tuple(None if value is None else next(made) for value in found)


def attention(
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    *,
    scale: float,
    causal: bool = False,
) -> tuple[Value, Value]:
    """Mixed values and log-sum-exps; see `Attention`."""
    operands: tuple[Any, ...] = (q, k, v) if mask is None else (q, k, v, mask)
    mixed, lse = apply_all(Attention(causal, scale), *operands)
    return mixed, lse
