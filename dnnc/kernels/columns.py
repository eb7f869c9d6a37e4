"""Products of a vector with columns of a matrix, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    calling,
    declare,
    internal,
    masked,
    splat,
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
    """The intrinsic `f(out, x, a, a_row, columns, depth)`: out[j] = sum over k of x[k] * a[k, j].

    `columns` is at most `vectors` registers, and with `whole` as many; rows of `a` are `a_row`
    bytes apart. What lies beyond the columns is neither read nor written. Few vectors have several
    sums of each column, of rows that are as many apart, which are added up at the end.
    """
    name = f"dnnc_add_rows_{tile.dtype}x{tile.lanes}x{vectors}{'_whole' * whole}"

    @intrinsic
    def add(typing_context, out, x, a, a_row, columns, depth):  # type: ignore[no-untyped-def]
        return calling(name, 6, lambda module: _Writer(module, name, tile, vectors, whole).write())

    return add


class _Writer:
    """Writes one such function."""

    def __init__(self, module: ir.Module, name: str, tile: Tile, vectors: int, whole: bool) -> None:
        self.tile, self.vectors, self.whole = tile, vectors, whole
        self.function = internal(module, name, 6)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.element = FLOATS[tile.dtype]
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * tile.lanes)
        suffix = f"v{tile.lanes}f{8 * tile.bytes_each}"
        self.fma = declare(module, f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3)
        self.load, self.store = masked(module, self.vector)
        kind = ir.FunctionType(ir.VoidType(), [BYTES, I32, I32, I32])
        found = module.globals.get("llvm.prefetch.p0")
        self.prefetch = found or ir.Function(module, kind, "llvm.prefetch.p0")

    def write(self) -> ir.Function:
        out, x, a, a_row, columns, depth = self.function.args
        b, chains = self.builder, max(_SUMS // self.vectors, 1)
        self.inside = [self._mask(columns, j) for j in range(self.vectors)]
        self.x = b.inttoptr(x, self.element.as_pointer())
        self.a, self.a_row = b.inttoptr(a, BYTES), a_row
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
        for j, value in enumerate(sums[0]):
            place = self._place(b.inttoptr(out, BYTES), j)
            b.call(self.store, [value, place, I32(self.tile.bytes_each), self.inside[j]])
        b.ret_void()
        return self.function

    def _sweep(
        self, first: ir.Value, last: ir.Value, sums: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:
        """Add rows `first` to `last`, one for each of `sums` a round."""
        b, before = self.builder, self.builder.block
        loop, end = b.append_basic_block("loop"), b.append_basic_block("end")
        b.cbranch(b.icmp_signed("<", first, last), loop, end)
        b.position_at_end(loop)
        k = b.phi(I64)
        phis = [[b.phi(self.vector) for _ in chain] for chain in sums]
        totals = [self._add_row(b.add(k, I64(i)), chain) for i, chain in enumerate(phis)]
        following = b.add(k, I64(len(sums)))
        b.cbranch(b.icmp_signed("<", following, last), loop, end)
        b.position_at_end(end)
        k.add_incoming(first, before)
        k.add_incoming(following, loop)
        results = []
        for chain, phi_chain, total_chain in zip(sums, phis, totals, strict=True):
            results.append([b.phi(self.vector) for _ in chain])
            for start, phi, total, result in zip(
                chain, phi_chain, total_chain, results[-1], strict=True
            ):
                for target in (phi, result):
                    target.add_incoming(start, before)
                    target.add_incoming(total, loop)
        return results

    def _add_row(self, k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        b = self.builder
        number = b.load(b.gep(self.x, [k]))
        number.align = self.tile.bytes_each
        wide = splat(b, number, self.tile.lanes)
        row = b.gep(self.a, [b.mul(k, self.a_row)])
        ahead = b.gep(row, [b.mul(self.a_row, I64(_AHEAD))])
        totals = []
        for j, total in enumerate(sums):
            if self.whole:
                place = b.bitcast(self._place(ahead, j), BYTES)
                b.call(self.prefetch, [place, I32(0), I32(3), I32(1)])
            totals.append(b.call(self.fma, [wide, self._value(row, j), total]))
        return totals

    def _value(self, row: ir.Value, j: int) -> ir.Value:
        place, size = self._place(row, j), self.tile.bytes_each
        if not self.whole:
            return self.builder.call(self.load, [place, I32(size), self.inside[j], self.zero])
        value = self.builder.load(place)
        value.align = size
        return value

    def _place(self, row: ir.Value, j: int) -> ir.Value:
        offset = I64(j * self.tile.lanes * self.tile.bytes_each)
        return self.builder.bitcast(self.builder.gep(row, [offset]), self.vector.as_pointer())

    def _mask(self, columns: ir.Value, j: int) -> ir.Value:
        lanes = self.tile.lanes
        kind = ir.VectorType(I64, lanes)
        numbers = ir.Constant(kind, list(range(j * lanes, (j + 1) * lanes)))
        return self.builder.icmp_signed("<", numbers, splat(self.builder, columns, lanes))
