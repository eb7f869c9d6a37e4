"""Products of the rows of one matrix with the rows of another, written as LLVM vector code.

Both are read along their rows, so that neither has to be packed or transposed: a sum is held in one
vector for each lane by itself, and lanes are added up at the end.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.loop_ir import loop
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    calling,
    fmuladd,
    internal,
    lane_mask,
    load_at,
    store_sums,
    zeros,
)

__all__ = ["dot_tile", "write_dot_tile"]


@cache
def dot_tile(tile: Tile, rows: int, columns: int, chains: int = 1) -> Any:
    """The intrinsic `f(c, c_row, a, a_row, b, b_row, rows, columns, depth, add)`:
    c[i, j] = sum over k of a[i, k] * b[j, k], plus what was there where `add` is not 0.

    The call's `rows` and `columns` are at least 1 and at most those given here; strides are in
    bytes. Of `tile` the element type and the vectors' lanes count. Several `chains` of additions
    for each sum need not wait for one another; their number decides the order of a sum, and nothing
    else does.
    """
    name = f"dnnc_dots_{tile.dtype}x{tile.lanes}_{rows}x{columns}x{chains}"

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, c, c_row, a, a_row, b, b_row, some_rows, some_columns, depth, add
    ):
        def write(module: ir.Module) -> ir.Function:
            return write_dot_tile(module, name, tile, rows, columns, chains)

        return calling(name, 10, write)

    return multiply


def write_dot_tile(
    module: ir.Module, name: str, tile: Tile, rows: int, columns: int, chains: int = 1
) -> ir.Function:
    """Write the function that `dot_tile` calls into a module of LLVM code."""
    return _Writer(module, name, tile, rows, columns, chains).write()


class _Writer:
    """Writes one such function."""

    def __init__(
        self, module: ir.Module, name: str, tile: Tile, rows: int, columns: int, chains: int
    ) -> None:
        self.tile, self.rows, self.columns, self.chains = tile, rows, columns, chains
        self.vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
        self.function = internal(module, name, 10)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> ir.Function:
        c, c_row, a, a_row, b_start, b_row, rows, columns, depth, add = self.function.args
        b = self.b
        self.a = self._starts(a, a_row, rows, self.rows)
        self.b_rows = self._starts(b_start, b_row, columns, self.columns)
        zero = zeros(self.vector)
        sums = [zero] * (self.rows * self.columns * self.chains)
        whole = b.sub(depth, b.srem(depth, I64(self.chains * self.tile.lanes)))
        sums = self._sweep(I64(0), whole, None, sums)
        sums = self._sweep(whole, depth, depth, sums)
        lanes, results, places = self.tile.lanes, [], []
        for i, to in enumerate(self._starts(c, c_row, rows, self.rows)):
            row, count = self._totals(sums, i), self._count(i, rows, columns)
            for first in range(0, self.columns, lanes):
                results.append(self._across(row[first : first + lanes]))
                mask = lane_mask(b, lanes, count, first)
                places.append((to, first * self.tile.bytes_each, mask))
        store_sums(b, results, places, b.icmp_signed("!=", add, I64(0)))
        b.ret_void()
        return self.function

    def _starts(
        self, base: ir.Value, stride: ir.Value, count: ir.Value, most: int
    ) -> list[ir.Value]:
        """Where rows begin; those beyond the last are the first again, and not stored."""
        b, starts = self.b, []
        for i in range(most):
            row = b.select(b.icmp_signed("<", I64(i), count), I64(i), I64(0))
            starts.append(b.inttoptr(b.add(base, b.mul(stride, row)), BYTES))
        return starts

    def _sweep(
        self, first: ir.Value, last: ir.Value, limit: ir.Value | None, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """Add products from `first` to `last`, a vector to each sum a round; only those below
        `limit` where there is one."""
        b, lanes = self.b, self.tile.lanes
        with loop(b, first, last, self.chains * lanes, sums) as turn:
            totals = list(turn.carried)
            for part in range(self.chains):
                at = b.add(turn.index, I64(part * lanes))
                offset = b.mul(at, I64(self.tile.bytes_each))
                inside = None if limit is None else lane_mask(b, lanes, b.sub(limit, at))
                # Rows are few: with theirs in registers, sums find room as well.
                values = [load_at(b, self.vector, row, offset, inside) for row in self.a]
                for j, row in enumerate(self.b_rows):
                    factor = load_at(b, self.vector, row, offset, inside)
                    for i, value in enumerate(values):
                        k = (part * self.rows + i) * self.columns + j
                        totals[k] = fmuladd(b, value, factor, totals[k])
            turn.following = totals
        return turn.carried

    def _totals(self, sums: list[ir.Value], i: int) -> list[ir.Value]:
        """The sums of row i, still one for each lane."""
        each = self.rows * self.columns
        row = sums[i * self.columns : (i + 1) * self.columns]
        for part in range(1, self.chains):
            start = part * each + i * self.columns
            row = [self.b.fadd(x, y) for x, y in zip(row, sums[start:], strict=False)]
        return row

    def _count(self, i: int, rows: ir.Value, columns: ir.Value) -> ir.Value:
        """How many results of row i are stored."""
        return self.b.select(self.b.icmp_signed("<", I64(i), rows), columns, I64(0))

    def _across(self, vectors: list[ir.Value]) -> ir.Value:
        """The sum of each vector's lanes, halves first, as the first lanes of one vector.

        Two vectors become one with the sums of their halves, which is then half as long for each of
        them, and so on: a sum is taken in the same order however many there are.
        """
        width = self.tile.lanes
        undefined = ir.Constant(self.vector, ir.Undefined)
        while len(vectors) > 1:
            vectors = [*vectors, undefined] if len(vectors) % 2 else vectors
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors, width = [self._halves(x, y, width) for x, y in pairs], width // 2
        while width > 1:
            vectors, width = [self._halves(vectors[0], undefined, width)], width // 2
        return vectors[0]

    def _halves(self, x: ir.Value, y: ir.Value, width: int) -> ir.Value:
        """The first half of each `width` lanes of two vectors plus the second."""
        starts = range(0, 2 * self.tile.lanes, width)
        first, second = (
            [start + half * width // 2 + k for start in starts for k in range(width // 2)]
            for half in (0, 1)
        )
        kind = ir.VectorType(I32, self.tile.lanes)
        return self.b.fadd(
            *(self.b.shuffle_vector(x, y, ir.Constant(kind, o)) for o in (first, second))
        )
