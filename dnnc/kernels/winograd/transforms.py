"""The transforms of Winograd's method, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.loop_ir import loop
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I64,
    calling,
    fmuladd,
    internal,
    load_at,
    store_at,
    zeros,
)

__all__ = ["both_sides", "transposed"]

Matrix = tuple[tuple[Fraction, ...], ...]


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


@cache
def both_sides(name: str, matrix: Matrix, tile: Tile) -> Any:
    """The intrinsic `f(target, target_row, target_column, target_vector, source, source_row,
    source_column, count)`: `M X M^T` for a matrix M [p, q] and tensors X [q, q].

    An element of X is `count` vectors of the tile's lanes, adjacent in memory; those of the result
    [p, p] are `target_vector` apart. Strides are in bytes. `name` tells matrices apart.
    """
    name = f"dnnc_both_sides_{name}_{tile.dtype}x{tile.lanes}"

    @intrinsic
    def transform(  # type: ignore[no-untyped-def]
        typing_context,
        target,
        target_row,
        target_column,
        target_vector,
        source,
        source_row,
        source_column,
        count,
    ):
        return calling(name, 8, lambda module: _write(module, name, matrix, tile))

    return transform


def _write(module: ir.Module, name: str, matrix: Matrix, tile: Tile) -> ir.Function:
    function = internal(module, name, 8)
    target, target_row, target_column, target_vector, *others = function.args
    source, source_row, source_column, count = others
    vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
    results, terms = len(matrix), len(matrix[0])
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, at = b.inttoptr(target, BYTES), b.inttoptr(source, BYTES)
    linear = _Linear(b, matrix, vector)

    def offset(i: int, row: ir.Value, j: int, column: ir.Value) -> ir.Value:
        return b.add(b.mul(row, I64(i)), b.mul(column, I64(j)))

    with loop(b, I64(0), count, 1) as each:
        at = b.gep(at, [b.mul(each.index, I64(tile.lanes * tile.bytes_each))])
        to = b.gep(to, [b.mul(each.index, target_vector)])
        columns = [
            linear([
                load_at(b, vector, at, offset(i, source_row, j, source_column))
                for i in range(terms)
            ])
            for j in range(terms)
        ]  # fmt: skip
        for i in range(results):
            for j, value in enumerate(linear([column[i] for column in columns])):
                store_at(b, value, to, offset(i, target_row, j, target_column))
    b.ret_void()
    return function


class _Linear:
    """Multiplies the matrix by a column of vectors.

    Rows, or else columns, that differ in the sign of every other number belong to points that are
    each other's negative: such a pair shares its sum of even and its sum of odd terms.
    """

    def __init__(self, builder: ir.IRBuilder, matrix: Matrix, vector: ir.VectorType) -> None:
        self.builder, self.matrix, self.vector = builder, matrix, vector

    def __call__(self, values: Sequence[ir.Value]) -> list[ir.Value]:
        by_rows = _pairs(self.matrix)
        by_columns = _pairs(transposed(self.matrix))
        if by_rows or not by_columns:
            return self._by_rows(values, by_rows)
        return self._by_columns(values, by_columns)

    def _by_rows(self, values: Sequence[ir.Value], pairs: list[tuple[int, int]]) -> list[ir.Value]:
        results = {}
        for i, other in pairs:
            terms = list(zip(self.matrix[i], values, strict=True))
            even = self._sum(terms[::2])
            factor = next(number for number, _ in terms[1::2] if number != 0)
            odd = self._sum([(number / factor, value) for number, value in terms[1::2]])
            results[i] = self._add(even, factor, odd)
            results[other] = self._add(even, -factor, odd)
        for i, row in enumerate(self.matrix):
            if i not in results:
                results[i] = self._sum(list(zip(row, values, strict=True)))
        return [results[i] for i in range(len(self.matrix))]

    def _by_columns(
        self, values: Sequence[ir.Value], pairs: list[tuple[int, int]]
    ) -> list[ir.Value]:
        terms: list[list[tuple[Fraction, ir.Value]]] = [[] for _ in self.matrix]
        for j, other in pairs:
            total = self.builder.fadd(values[j], values[other])
            difference = self.builder.fsub(values[j], values[other])
            for row, factors in zip(terms, self.matrix, strict=True):
                same = factors[j] == factors[other]
                row.append((factors[j], total if same else difference))
        paired = {j for pair in pairs for j in pair}
        for j, value in enumerate(values):
            if j not in paired:
                for row, factors in zip(terms, self.matrix, strict=True):
                    row.append((factors[j], value))
        return [self._sum(row) for row in terms]

    def _sum(self, terms: list[tuple[Fraction, ir.Value]]) -> ir.Value:
        """The sum of products; those with 1 or -1 come first and take no multiplication."""
        ordered = sorted((t for t in terms if t[0] != 0), key=lambda t: abs(t[0]) != 1)
        if not ordered:
            return zeros(self.vector)
        (factor, value), *others = ordered
        total = value if factor == 1 else self.builder.fmul(self._number(factor), value)
        for factor, value in others:
            total = self._add(total, factor, value)
        return total

    def _add(self, total: ir.Value, factor: Fraction, value: ir.Value) -> ir.Value:
        """`total + factor * value`."""
        if abs(factor) == 1:
            join = self.builder.fadd if factor == 1 else self.builder.fsub
            return join(total, value)
        return fmuladd(self.builder, self._number(factor), value, total)

    def _number(self, value: Fraction) -> ir.Constant:
        return ir.Constant(self.vector, [float(value)] * self.vector.count)


def _pairs(rows: Matrix) -> list[tuple[int, int]]:
    """Pairs of rows that are equal at even places and opposite at odd ones, and not zero there."""
    found = []
    for i, row in enumerate(rows):
        mirrored = tuple(-number if k % 2 else number for k, number in enumerate(row))
        if mirrored in rows[i + 1 :] and mirrored != row:
            found.append((i, rows.index(mirrored, i + 1)))
    return found
