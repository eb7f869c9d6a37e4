"""The product of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.ir.graph import Value
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    NUMBERS,
    Array,
    Gradients,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply,
    check_dtype,
    check_rank,
    check_same_dtype,
    operator,
)

__all__ = ["MatMul", "matmul"]


@operator
@dataclass(frozen=True)
class MatMul(Operator):
    """Products of matrices [..., m, k] and [..., k, n], of equal rank and leading axes.

    `transpose_a` and `transpose_b` mean that the last two axes are stored the other way round.
    """

    name: ClassVar[str] = "matmul"
    onnx: ClassVar[OnnxOp] = OnnxOp("MatMul", since=13)
    transpose_a: bool = False
    transpose_b: bool = False

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, NUMBERS, a)
        check_same_dtype(self.name, a, b)
        if a.rank < 2:
            check_rank(self.name, a, 2)
        check_rank(self.name, b, a.rank, operand=1)
        operands = f"left is {a}, right is {b}"
        if a.shape[:-2] != b.shape[:-2]:
            raise TypeRuleError("leading sizes differ", operands, "E203", 1)
        m, k = reversed(a.shape[-2:]) if self.transpose_a else a.shape[-2:]
        inner, n = reversed(b.shape[-2:]) if self.transpose_b else b.shape[-2:]
        if k != inner:
            raise TypeRuleError(f"inner sizes differ: {k} and {inner}", operands, "E203", 1)
        return (TensorType(a.dtype, (*a.shape[:-2], m, n)),)

    def evaluate(self, a: Array, b: Array) -> tuple[Array, ...]:
        left = a.swapaxes(-1, -2) if self.transpose_a else a
        right = b.swapaxes(-1, -2) if self.transpose_b else b
        with np.errstate(all="ignore"):
            return (np.matmul(left, right),)

    def gradient(self, dz: Value, z: Value, a: Value, b: Value) -> Gradients:
        if self.transpose_a:
            da = matmul(b, dz, transpose_a=self.transpose_b, transpose_b=True)
        else:
            da = matmul(dz, b, transpose_b=not self.transpose_b)
        if self.transpose_b:
            db = matmul(dz, a, transpose_a=True, transpose_b=self.transpose_a)
        else:
            db = matmul(a, dz, transpose_a=not self.transpose_a)
        return da, db


def matmul(a: Value, b: Value, transpose_a: bool = False, transpose_b: bool = False) -> Value:
    """Products of matrices; see `MatMul`."""
    return apply(MatMul(transpose_a, transpose_b), a, b)
