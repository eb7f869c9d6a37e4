"""Products of a vector with columns of a matrix, written as LLVM vector code.

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
    I64,
    calling,
    internal,
    lane_mask,
    load_at,
    prefetch_at,
    rank_one_update,
    store_at,
    zeros,
)

__all__ = ["WIDEST", "add_rows"]

#: Most vectors of columns at a time.
WIDEST = 8
#: Sums in flight, so that additions need not wait for one another.
_SUMS = 8
#: Rows that are fetched ahead, of a matrix whose rows are not adjacent.
_AHEAD = 16


@cache
def add_rows(tile: Tile, vectors: int, whole: bool = False) -> Any:
    """The intrinsic `f(out, x, a, a_row, a_vector, columns, depth)`: out[j] = sum over k of
    x[k] * a[k, j].

    `columns` is at most `vectors` registers, and with `whole` as many; rows of `a` are `a_row`
    bytes apart, and the vectors of a row `a_vector`. What lies beyond the columns is neither read
    nor written. Few vectors have several sums of each column, of rows that are as many apart, which
    are added up at the end.
    """
    name = f"dnnc_add_rows_{tile.dtype}x{tile.lanes}x{vectors}{'_whole' * whole}"

    @intrinsic
    def add(typing_context, out, x, a, a_row, a_vector, columns, depth):  # type: ignore[no-untyped-def]
        return calling(name, 7, lambda module: _Writer(module, name, tile, vectors, whole).write())

    return add


class _Writer:
    """Writes one such function."""

    def __init__(self, module: ir.Module, name: str, tile: Tile, vectors: int, whole: bool) -> None:
        self.tile, self.vectors, self.whole = tile, vectors, whole
        self.function = internal(module, name, 7)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
        self.size = tile.lanes * tile.bytes_each
        self.zero = zeros(self.vector)

    def write(self) -> ir.Function:
        out, x, a, a_row, a_vector, columns, depth = self.function.args
        b, chains = self.builder, max(_SUMS // self.vectors, 1)
        lanes = self.tile.lanes
        self.inside = [lane_mask(b, lanes, columns, j * lanes) for j in range(self.vectors)]
        self.x, self.a_row = b.inttoptr(x, BYTES), a_row
        first = b.inttoptr(a, BYTES)
        self.starts = [b.gep(first, [b.mul(a_vector, I64(j))]) for j in range(self.vectors)]
        sums = [[self.zero] * self.vectors for _ in range(chains)]
        rounds = b.sub(depth, b.srem(depth, I64(chains)))
        sums = self._sweep(I64(0), rounds, sums)
        sums[:1] = self._sweep(rounds, depth, sums[:1])
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [
                [b.fadd(first, second) for first, second in zip(*pair, strict=True)]
                for pair in zip(sums[:half], sums[half:], strict=True)
            ]
        base = b.inttoptr(out, BYTES)
        for j, value in enumerate(sums[0]):
            store_at(b, value, base, j * self.size, self.inside[j])
        b.ret_void()
        return self.function

    def _sweep(
        self, first: ir.Value, last: ir.Value, sums: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:
        """Add rows `first` to `last`, one for each of `sums` a round."""
        carried = [value for row in sums for value in row]
        with loop(self.builder, first, last, len(sums), carried) as turn:
            turn.following = []
            for i in range(len(sums)):
                row = turn.carried[i * self.vectors : (i + 1) * self.vectors]
                turn.following += self._add_row(self.builder.add(turn.index, I64(i)), row)
        return [turn.carried[i * self.vectors :][: self.vectors] for i in range(len(sums))]

    def _add_row(self, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        b, inside = self.builder, self.inside
        row = b.mul(k, self.a_row)
        if self.whole:
            ahead = b.add(row, b.mul(self.a_row, I64(_AHEAD)))
            for start in self.starts:
                prefetch_at(b, start, ahead)
        vectors = [
            load_at(b, self.vector, start, row, None if self.whole else inside[j])
            for j, start in enumerate(self.starts)
        ]
        number = b.mul(k, I64(self.tile.bytes_each))
        return rank_one_update(b, sums, [(self.x, number)], vectors)
