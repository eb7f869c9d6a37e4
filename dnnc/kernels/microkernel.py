"""Tiles of matrix products, written as LLVM vector code.

A micro-kernel computes a tile `C[rows, columns] (+)= A[rows, depth] B[depth, columns]` with all
sums held in registers, every one taken in the order of `depth`; so an element has the same bits
whichever tile computes it. A is read one number at a time and broadcast, B is read in whole
vectors. Where the numbers of A lie is given by strides or, for convolutions, by tables of byte
offsets.

`tiles` derives the tile sizes from the processor. Imports numba: import it only inside
`Kernel.build`.
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

__all__ = ["micro_kernel", "write_micro_kernel"]


@cache
def micro_kernel(tile: Tile, table: str = "") -> Any:
    """The intrinsic `f(rows, depth, a, a_row, a_step, a_table, b, b_step, c, c_row, columns, add)`.

    Addresses and strides are in bytes. `rows` and `columns` (at least 1, at most the tile's) limit
    what is stored and which rows of A are read; of B, whole rows of the tile are read. `depth` is
    at least 1. Row i of A begins at `a + i * a_row`, or at `a + a_table[i]` where `a_table` is the
    address of a table and not 0; its elements are `a_step` apart. Row k of B begins at
    `b + k * b_step`. With `table` "a" element k of a row of A is at `table[k]` from its first,
    where `a_step` is the address of a table. "each" is as "a", but element k of a row of A is a
    vector, of which every lane is multiplied by that lane of B alone; nothing is read beyond
    `columns`. The tile is added to C where `add` is not 0, and stored otherwise.
    """
    name = f"dnnc_tile_{tile.dtype}_{tile.rows}x{tile.vectors}x{tile.lanes}_{table}"

    @intrinsic
    def multiply_tile(  # type: ignore[no-untyped-def]
        typing_context, rows, depth, a, a_row, a_step, a_table, b, b_step, c, c_row, columns, add
    ):
        return calling(name, 12, lambda module: write_micro_kernel(module, name, tile, table))

    return multiply_tile


def write_micro_kernel(module: ir.Module, name: str, tile: Tile, table: str = "") -> ir.Function:
    """Write the function that `micro_kernel` calls into a module of LLVM code."""
    return _TileWriter(module, name, tile).write(table)


class _TileWriter:
    """Writes one micro-kernel as a function of its own, so that registers are allocated for it
    alone."""

    def __init__(self, module: ir.Module, name: str, tile: Tile) -> None:
        self.module, self.tile = module, tile
        self.element = FLOATS[tile.dtype]
        self.size = tile.bytes_each
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * tile.lanes)
        self.function = internal(module, name, 12)
        suffix = f"v{tile.lanes}f{8 * self.size}"
        self.multiply_add = declare(
            module, f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3
        )
        self.masked_load, self.masked_store = masked(module, self.vector)
        #: For "each": which lanes of A and B are read.
        self.read_inside: list[ir.Value] | None = None

    def write(self, table: str) -> ir.Function:
        rows, depth, a, a_row, a_step, a_table, *others = self.function.args
        b, b_step, c, c_row, columns, add = others
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        starts = self._row_starts(builder, rows, a, a_row, a_table)
        if table == "each":
            self.read_inside = self._masks(builder, columns)
        sums = self._loop(builder, depth, starts, a_step, b, b_step, table)
        add = builder.icmp_signed("!=", add, I64(0))
        part = self.function.append_basic_block("part")
        full = self.function.append_basic_block("full")
        end = self.function.append_basic_block("end")
        builder.cbranch(builder.icmp_signed("<", columns, I64(self.tile.columns)), part, full)
        self._store(full, end, sums, rows, c, c_row, add, None)
        inside = self._masks(ir.IRBuilder(part), columns)
        self._store(part, end, sums, rows, c, c_row, add, inside)
        builder.position_at_end(end)
        builder.ret_void()
        return self.function

    def _row_starts(
        self, builder: ir.IRBuilder, rows: ir.Value, a: ir.Value, a_row: ir.Value, table: ir.Value
    ) -> list[ir.Value]:
        base = builder.inttoptr(a, BYTES)
        given = builder.icmp_unsigned("!=", table, I64(0))
        # Without a table a word of the stack stands in for it: what it holds is not used.
        unused = builder.alloca(I64)
        offsets = builder.select(given, builder.inttoptr(table, I64.as_pointer()), unused)
        starts = []
        for i in range(self.tile.rows):
            # Rows beyond the last are computed from row 0, and not stored.
            row = builder.select(builder.icmp_signed("<", I64(i), rows), I64(i), I64(0))
            place = builder.gep(offsets, [builder.select(given, row, I64(0))])
            offset = builder.select(given, builder.load(place), builder.mul(a_row, row))
            starts.append(builder.gep(base, [offset]))
        return starts

    def _loop(
        self,
        builder: ir.IRBuilder,
        depth: ir.Value,
        starts: list[ir.Value],
        a_step: ir.Value,
        b: ir.Value,
        b_step: ir.Value,
        table: str,
    ) -> list[list[ir.Value]]:
        entry = builder.block
        base = builder.inttoptr(b, BYTES)
        steps = builder.inttoptr(a_step, I64.as_pointer())
        begin = builder.load(steps) if table else I64(0)
        loop = builder.append_basic_block("loop")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, offset, row = builder.phi(I64), builder.phi(I64), builder.phi(BYTES)
        sums = [[builder.phi(self.vector) for _ in range(self.tile.vectors)] for _ in starts]
        vectors = self._read(builder, row)
        totals = []
        for i, first in enumerate(starts):
            place = builder.gep(first, [offset])
            if table == "each":
                factors = self._read(builder, place)
            else:
                number = self._load(builder, place, 0, self.element)
                factors = [splat(builder, number, self.tile.lanes)] * self.tile.vectors
            totals.append(
                [
                    builder.call(self.multiply_add, [f, v, s])
                    for f, v, s in zip(factors, vectors, sums[i], strict=True)
                ]
            )
        following = builder.add(k, I64(1))
        after = builder.add(offset, a_step)
        if table:
            # The next offset is loaded a round ahead: waiting for it, the scheduler would keep more
            # rows in flight than there are registers.
            last = builder.icmp_signed("<", following, depth)
            after = builder.load(builder.gep(steps, [builder.select(last, following, k)]))
        for phi, first, then in [
            (k, I64(0), following),
            (offset, begin, after),
            (row, base, builder.gep(row, [b_step])),
            *(
                (s, self.zero, t)
                for a, c in zip(sums, totals, strict=True)
                for s, t in zip(a, c, strict=True)
            ),
        ]:
            phi.add_incoming(first, entry)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
        builder.position_at_end(done)
        return totals

    def _read(self, builder: ir.IRBuilder, place: ir.Value) -> list[ir.Value]:
        """A row of vectors."""
        count = range(self.tile.vectors)
        if self.read_inside is None:
            return [self._load(builder, place, j, self.vector) for j in count]
        first = builder.bitcast(place, self.vector.as_pointer())
        places = [builder.gep(first, [I64(j)]) for j in count]
        return [self._old(builder, at, self.read_inside, j) for j, at in enumerate(places)]

    def _load(self, builder: ir.IRBuilder, base: ir.Value, j: int, kind: ir.Type) -> ir.Value:
        place = builder.gep(base, [I64(j * self.tile.lanes * self.size)])
        result = builder.load(builder.bitcast(place, kind.as_pointer()))
        result.align = self.size
        return result

    def _masks(self, builder: ir.IRBuilder, columns: ir.Value) -> list[ir.Value]:
        lanes = self.tile.lanes
        limit = splat(builder, columns, lanes)
        kind = ir.VectorType(I64, lanes)
        numbers = [
            ir.Constant(kind, list(range(j * lanes, (j + 1) * lanes)))
            for j in range(self.tile.vectors)
        ]
        return [builder.icmp_signed("<", number, limit) for number in numbers]

    def _store(
        self,
        block: ir.Block,
        end: ir.Block,
        sums: list[list[ir.Value]],
        rows: ir.Value,
        c: ir.Value,
        c_row: ir.Value,
        add: ir.Value,
        inside: list[ir.Value] | None,
    ) -> None:
        """Store row after row, until `rows`; a vector at a time, masked by `inside`."""
        builder = ir.IRBuilder(block)
        base = builder.inttoptr(c, BYTES)
        for i, total in enumerate(sums):
            row = builder.gep(base, [builder.mul(c_row, I64(i))])
            places = [
                builder.bitcast(
                    builder.gep(row, [I64(j * self.tile.lanes * self.size)]),
                    self.vector.as_pointer(),
                )
                for j in range(self.tile.vectors)
            ]
            before = builder.block
            adding = builder.append_basic_block("adding")
            storing = builder.append_basic_block("storing")
            builder.cbranch(add, adding, storing)
            builder.position_at_end(adding)
            added = [
                builder.fadd(self._old(builder, place, inside, j), total[j])
                for j, place in enumerate(places)
            ]
            builder.branch(storing)
            builder.position_at_end(storing)
            for j in range(len(places)):
                value = builder.phi(self.vector)
                value.add_incoming(total[j], before)
                value.add_incoming(added[j], adding)
                added[j] = value
            for j, place in enumerate(places):
                if inside is None:
                    builder.store(added[j], place).align = self.size
                else:
                    builder.call(self.masked_store, [added[j], place, I32(self.size), inside[j]])
            if i + 1 == len(sums):
                builder.branch(end)
                return
            following = builder.append_basic_block("row")
            builder.cbranch(builder.icmp_signed("<", I64(i + 1), rows), following, end)
            builder.position_at_end(following)

    def _old(
        self, builder: ir.IRBuilder, place: ir.Value, inside: list[ir.Value] | None, j: int
    ) -> ir.Value:
        if inside is not None:
            return builder.call(self.masked_load, [place, I32(self.size), inside[j], self.zero])
        result = builder.load(place)
        result.align = self.size
        return result
