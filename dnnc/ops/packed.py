"""Products by weights that lie in memory as kernels read them.

A weight [k, n] is packed as panels of columns, one below the other: [panels * k, width], with zeros
beyond the last column. A row of a panel is a cache line, as wide as the widest vector register.
For a matrix unit the `pieces` of the panels follow, [panels * chunks * 48, width]: of each 32 rows
(with zeros beyond the last) three times 16 lines, for the first, second and third piece in bfloat16
of their numbers, two rows side by side in a line. The sum of its pieces is the number.
Packing is an operator of its own, so that a program that only predicts packs once. The operators
are made by `dnnc.passes.pack`, after differentiation, and have no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.types import DType, TensorType
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

__all__ = ["CHUNK", "FEWEST_ROWS", "PackColumns", "PackedMatMul"]

_F32 = frozenset({DType.F32})
#: Bytes of a row of a panel.
_LINE = 64
#: Fewer rows are multiplied by the panels: pieces are half as much memory again, and so few rows
#: use each of them once.
FEWEST_ROWS = 17
#: Rows of a panel whose pieces are together, and lines of them.
CHUNK, _PIECES = 32, 48


def _lines(rows: Dim, columns: Dim, width: Dim, pieces: bool) -> Dim:
    """Lines of a packed matrix."""
    return ceil_div(columns, width) * (rows + pieces * _PIECES * ceil_div(rows, dim(CHUNK)))


@operator
@dataclass(frozen=True)
class PackColumns(NonDifferentiable):
    """A matrix [k, n], or with `transpose` [n, k], as panels of its columns, and as `pieces`."""

    name: ClassVar[str] = "pack_columns"
    transpose: bool = False
    pieces: bool = False

    def infer(self, w: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, _F32 if self.pieces else FLOATS, w)
        check_rank(self.name, w, 2)
        k, n = reversed(w.shape) if self.transpose else w.shape
        width = dim(_LINE // w.dtype.size)
        return (w.with_shape((_lines(k, n, width, self.pieces), width)),)

    def evaluate(self, w: Array) -> tuple[Array, ...]:
        matrix = w.T if self.transpose else w
        width = _LINE // w.itemsize
        padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % width)))
        panels = padded.reshape(len(matrix), padded.shape[1] // width, width)
        panels = panels.swapaxes(0, 1)
        lines = panels.reshape(-1, width)
        return (np.concatenate([lines, _split(panels)]) if self.pieces else lines,)


def _split(panels: Array) -> Array:
    """The pieces of panels [panels, k, width] of float32, as lines of that type."""
    count, k, width = panels.shape
    rest, halves = np.pad(panels, ((0, 0), (0, -k % CHUNK), (0, 0))), []
    for piece in range(3):
        # The second one is rounded, so that the third one holds what remains.
        words = rest.view(np.uint32) + np.uint32(0x8000 if piece == 1 else 0)
        halves.append((words >> 16).astype(np.uint16))
        rest = rest - (words & np.uint32(0xFFFF0000)).view(np.float32)
    pairs = np.stack(halves).reshape(3, count, -1, CHUNK // 2, 2, width)
    return pairs.transpose(1, 2, 0, 3, 5, 4).copy().view(np.float32).reshape(-1, width)


@operator
@dataclass(frozen=True)
class PackedMatMul(NonDifferentiable):
    """The product of a matrix [m, k] and one of so many `columns`, packed by `PackColumns`, with or
    without `pieces`."""

    name: ClassVar[str] = "packed_matmul"
    columns: Dim
    pieces: bool = False

    def infer(self, a: TensorType, packed: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, _F32 if self.pieces else FLOATS, a)
        check_same_dtype(self.name, a, packed)
        check_rank(self.name, a, 2)
        check_rank(self.name, packed, 2, operand=1)
        rows, width = packed.shape
        lines = _lines(a.shape[1], self.columns, width, self.pieces)
        if width != _LINE // a.dtype.size or rows != lines:
            operands = f"left is {a}, right is {packed} for {self.columns} columns"
            raise TypeRuleError("sizes do not fit", operands, "E203", 1)
        return (a.with_shape((a.shape[0], self.columns)),)

    def evaluate(self, a: Array, packed: Array) -> tuple[Array, ...]:
        k, width = a.shape[1], packed.shape[1]
        count = -(-int(self.columns) // width)
        panels = packed[: count * k].reshape(count, k, width)
        matrix = panels.swapaxes(0, 1).reshape(k, len(panels) * width)
        with np.errstate(all="ignore"):
            return (a @ matrix[:, : int(self.columns)],)
