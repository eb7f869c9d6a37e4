"""Products by weights that lie in memory as kernels read them.

A weight [k, n] is packed as panels of columns, one below the other: [panels * k, width], with zeros
beyond the last column. A row of a panel is a cache line, as wide as the widest vector register.
Packing is an operator of its own, so that a program that only predicts packs once. The operators
are made by `dnnc.passes.pack`, after differentiation, and have no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    FLOATS,
    Array,
    NonDifferentiable,
    TypeRuleError,
    check_dtype,
    check_rank,
    check_same_dtype,
    operator,
)

__all__ = ["PackColumns", "PackedMatMul"]

#: Bytes of a row of a panel.
_LINE = 64


@operator
@dataclass(frozen=True)
class PackColumns(NonDifferentiable):
    """A matrix [k, n], or with `transpose` [n, k], as panels of its columns."""

    name: ClassVar[str] = "pack_columns"
    transpose: bool = False

    def infer(self, w: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, FLOATS, w)
        check_rank(self.name, w, 2)
        k, n = reversed(w.shape) if self.transpose else w.shape
        width = dim(_LINE // w.dtype.size)
        return (w.with_shape((ceil_div(n, width) * k, width)),)

    def evaluate(self, w: Array) -> tuple[Array, ...]:
        matrix = w.T if self.transpose else w
        width = _LINE // w.itemsize
        padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % width)))
        panels = padded.reshape(len(matrix), padded.shape[1] // width, width)
        return (panels.swapaxes(0, 1).reshape(-1, width),)


@operator
@dataclass(frozen=True)
class PackedMatMul(NonDifferentiable):
    """The product of a matrix [m, k] and one of so many `columns`, packed by `PackColumns`."""

    name: ClassVar[str] = "packed_matmul"
    columns: Dim

    def infer(self, a: TensorType, packed: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, FLOATS, a)
        check_same_dtype(self.name, a, packed)
        check_rank(self.name, a, 2)
        check_rank(self.name, packed, 2, operand=1)
        rows, width = packed.shape
        if width != _LINE // a.dtype.size or rows != ceil_div(self.columns, width) * a.shape[1]:
            operands = f"left is {a}, right is {packed} for {self.columns} columns"
            raise TypeRuleError("sizes do not fit", operands, "E203", 1)
        return (a.with_shape((a.shape[0], self.columns)),)

    def evaluate(self, a: Array, packed: Array) -> tuple[Array, ...]:
        k, width = a.shape[1], packed.shape[1]
        panels = packed.reshape(-(-int(self.columns) // width), k, width)
        matrix = panels.swapaxes(0, 1).reshape(k, len(panels) * width)
        with np.errstate(all="ignore"):
            return (a @ matrix[:, : int(self.columns)],)
