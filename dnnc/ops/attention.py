"""Attention: rows of values, mixed by the softmax of products of queries and keys."""

from __future__ import annotations

from collections.abc import Sequence
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
from dnnc.ops.elementwise import exp, multiply, subtract
from dnnc.ops.linear import matmul
from dnnc.ops.logic import less_equal, logical_and, select
from dnnc.ops.reduce import reduce_sum
from dnnc.ops.shape import reshape, transpose, zeros

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
        **_: object,
    ) -> Gradients:
        d_mixed, d_lse = dz
        mixed, lse = z
        d_mixed = zeros(mixed.type) if d_mixed is None else d_mixed
        # What the gradient of every score of a row loses by the sum of the row being one.
        delta = reduce_sum(multiply(d_mixed, mixed), 3)
        if d_lse is not None:
            delta = subtract(delta, d_lse)
        op = AttentionGradient(self.causal, self.scale)
        found = apply_all(op, *operands[:3], lse, delta, d_mixed, *operands[3:])
        return (*found, *(None for _ in operands[3:]))


@operator
@dataclass(frozen=True)
class AttentionGradient(_Attention):
    """Gradients dq, dk, dv of attention.

    Operands are q, k, v, the log-sum-exps, `delta` [batch, T, heads] with the sums of
    results times their gradients, the gradient of the results, and the mask if there is one.
    """

    name: ClassVar[str] = "attention_gradient"
    onnx: ClassVar[OnnxOp | None] = None
    multiple: ClassVar[bool] = True

    def infer(
        self,
        q: TensorType,
        k: TensorType,
        v: TensorType,
        lse: TensorType,
        delta: TensorType,
        d_mixed: TensorType,
        mask: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        self._check(q, k, v)
        check_same_dtype(self.name, q, k, v, lse, delta, d_mixed)
        self._fit("log-sum-exps have", lse, q.shape[:3], 3)
        self._fit("sums have", delta, q.shape[:3], 4)
        self._fit("gradients of results have", d_mixed, (*q.shape[:3], v.shape[3]), 5)
        if mask is not None:
            self._check_mask(q, k, mask, 6)
        return q, k, v

    def evaluate(
        self,
        q: Array,
        k: Array,
        v: Array,
        lse: Array,
        delta: Array,
        d_mixed: Array,
        mask: Array | None = None,
    ) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            scores = self._scores(q, k, mask)
            p = np.exp(scores - lse.transpose(0, 2, 1)[..., None])
            d_rows = d_mixed.transpose(0, 2, 1, 3)
            dv = np.matmul(p.swapaxes(2, 3), d_rows)
            dp = np.matmul(d_rows, v.transpose(0, 2, 3, 1))
            ds = p * (dp - delta.transpose(0, 2, 1)[..., None]) * q.dtype.type(self.scale)
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
        """By the same formulas, written with the scores."""
        # Operands depend on one another: differentiated are values that do not.
        inner = [Value(operand.type) for operand in operands]
        found = walk(self._composed(*inner), dz, inner)
        given = [value for value in found if value is not None]
        made = iter(replace(given, dict(zip(inner, operands, strict=True))))
        return tuple(None if value is None else next(made) for value in found)

    def _composed(
        self,
        q: Value,
        k: Value,
        v: Value,
        lse: Value,
        delta: Value,
        d_mixed: Value,
        mask: Value | None = None,
    ) -> list[Value]:
        q, k, v, d_mixed = (transpose(x, (0, 2, 1, 3)) for x in (q, k, v, d_mixed))
        lse, delta = (
            reshape(turned, (*turned.shape, 1))
            for turned in (transpose(x, (0, 2, 1)) for x in (lse, delta))
        )
        scores = multiply(matmul(q, k, transpose_b=True), self.scale)
        p = exp(subtract(scores, lse))
        ds = multiply(
            multiply(p, subtract(matmul(d_mixed, v, transpose_b=True), delta)), self.scale
        )
        counts = self._counts(scores, mask)
        if counts is not None:
            p, ds = select(counts, p, 0.0), select(counts, ds, 0.0)
        found = (
            matmul(ds, k),
            matmul(ds, q, transpose_a=True),
            matmul(p, d_mixed, transpose_a=True),
        )
        return [transpose(x, (0, 2, 1, 3)) for x in found]

    def _counts(self, scores: Value, mask: Value | None) -> Value | None:
        if not self.causal:
            return mask
        rows = iota((scores.shape[2], dim(1)), 0)
        below = less_equal(iota((dim(1), scores.shape[3]), 1), rows)
        return below if mask is None else logical_and(mask, below)


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
