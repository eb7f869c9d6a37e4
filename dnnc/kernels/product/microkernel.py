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

from collections.abc import Sequence
from functools import cache
from itertools import chain
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
    lane_mask,
    load_at,
    prefetch_at,
    rank_one_update,
    store_sums,
    zeros,
)

__all__ = ["micro_kernel", "write_micro_kernel"]

#: Rows of B that are fetched before they are read: they come from the second-level cache, and rows
#: far apart are not foreseen by the processor.
_AHEAD = 16


@cache
def micro_kernel(tile: Tile, table: str = "", apart: bool = False, fetching: bool = False) -> Any:
    """The intrinsic `f(rows, depth, a, a_row, a_step, a_table, b, b_step, b_vector, c, c_row,
    columns, add, lines, count)`.

    Addresses and strides are in bytes. `rows` and `columns` (at least 1, at most the tile's) limit
    what is stored and which rows of A are read. `depth` is at least 1. Row i of A begins at
    `a + i * a_row`; its elements are `a_step` apart. Row k of B begins at `b + k * b_step`.

    The vectors of B are `b_vector` bytes apart where they are `apart`; `columns` then may leave out
    lanes of the last vector, and nothing is read there. Otherwise they are adjacent, and whole rows
    of the tile are read; and row i of A begins at `a + a_table[i]` where `a_table` is the address
    of a table and not 0. With `table` "a" element k of a row of A is at `table[k]` from its first,
    where `a_step` is the address of a table. "each" is as "a", but element k of a row of A is a
    vector, of which every lane is multiplied by that lane of B alone; nothing is read beyond
    `columns`.

    The tile is added to C where `add` is not 0, and stored otherwise. With `fetching`, the cache
    lines at the `count` addresses of a table at `lines` are fetched meanwhile, one for each row of
    B.
    """
    kind = f"{table}{'_apart' * apart}{'_fetching' * fetching}"
    name = f"dnnc_tile_{tile.dtype}_{tile.rows}x{tile.vectors}x{tile.lanes}_{kind}"

    @intrinsic
    def multiply_tile(  # type: ignore[no-untyped-def]
        typing_context, rows, depth, a, a_row, a_step, a_table, b, b_step, b_vector, c, c_row,
        columns, add, lines, count,
    ):  # fmt: skip
        def write(module: ir.Module) -> ir.Function:
            return write_micro_kernel(module, name, tile, table, apart, fetching)

        return calling(name, 15, write)

    return multiply_tile


def write_micro_kernel(
    module: ir.Module,
    name: str,
    tile: Tile,
    table: str = "",
    apart: bool = False,
    fetching: bool = False,
) -> ir.Function:
    """Write the function that `micro_kernel` calls into a module of LLVM code."""
    return _TileWriter(module, name, tile, apart, fetching).write(table)


class _TileWriter:
    """Writes one micro-kernel as a function of its own, so that registers are allocated for it
    alone."""

    def __init__(
        self, module: ir.Module, name: str, tile: Tile, apart: bool, fetching: bool
    ) -> None:
        self.module, self.tile = module, tile
        self.apart, self.fetching = apart, fetching
        self.element = FLOATS[tile.dtype]
        self.size = tile.bytes_each
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.zero = zeros(self.vector)
        self.function = internal(module, name, 15)
        #: Which lanes of B are read, and for "each" of A: all, unless there are masks.
        self.read_inside: list[ir.Value | None] = [None] * tile.vectors

    def write(self, table: str) -> ir.Function:
        rows, depth, a, a_row, a_step, a_table, *others = self.function.args
        b, b_step, b_vector, c, c_row, columns, add, lines, count = others
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        starts = self._row_starts(builder, rows, a, a_row, a_table)
        if table == "each":
            self.read_inside = self._masks(builder, columns)
        elif self.apart:
            self.read_inside[-1] = self._masks(builder, columns)[-1]
        size = self.tile.lanes * self.size
        self.places = [
            builder.mul(b_vector, I64(j)) if self.apart else I64(j * size)
            for j in range(self.tile.vectors)
        ]
        if self.apart:
            self._fetch(builder, c, c_row)
        sums = self._sum(builder, depth, starts, a_step, b, b_step, table, lines, count)
        add, whole = builder.icmp_signed("!=", add, I64(0)), [None] * self.tile.vectors
        part = self.function.append_basic_block("part")
        full = self.function.append_basic_block("full")
        end = self.function.append_basic_block("end")
        builder.cbranch(builder.icmp_signed("<", columns, I64(self.tile.columns)), part, full)
        self._store(full, end, sums, rows, c, c_row, add, whole)
        inside = self._masks(ir.IRBuilder(part), columns)
        self._store(part, end, sums, rows, c, c_row, add, inside)
        builder.position_at_end(end)
        builder.ret_void()
        return self.function

    def _fetch(self, builder: ir.IRBuilder, c: ir.Value, c_row: ir.Value) -> None:
        """Fetch the lines of C while the sums are computed, where vectors lie across two of them:
        stores of short sums would wait for them."""
        base, step = builder.inttoptr(c, BYTES), self.tile.lanes * self.size
        with builder.if_then(builder.icmp_signed("!=", builder.and_(c_row, I64(63)), I64(0))):
            for i in range(self.tile.rows):
                row = builder.gep(base, [builder.mul(c_row, I64(i))])
                for j in range(self.tile.vectors):
                    prefetch_at(builder, row, (j + 1) * step - self.size, written=True)

    def _row_starts(
        self, builder: ir.IRBuilder, rows: ir.Value, a: ir.Value, a_row: ir.Value, table: ir.Value
    ) -> list[ir.Value]:
        base = builder.inttoptr(a, BYTES)
        # Rows beyond the last are computed from row 0, and not stored.
        inside = [builder.icmp_signed("<", I64(i), rows) for i in range(self.tile.rows)]
        counted = [builder.select(bit, I64(i), I64(0)) for i, bit in enumerate(inside)]
        offsets = [builder.mul(a_row, row) for row in counted]
        if not self.apart:
            given = builder.icmp_unsigned("!=", table, I64(0))
            # Without a table a word of the stack stands in for it: what it holds is not used.
            unused = builder.alloca(I64)
            listed = builder.select(given, builder.inttoptr(table, I64.as_pointer()), unused)
            for i, row in enumerate(counted):
                place = builder.gep(listed, [builder.select(given, row, I64(0))])
                offsets[i] = builder.select(given, builder.load(place), offsets[i])
        return [builder.gep(base, [offset]) for offset in offsets]

    def _sum(
        self,
        builder: ir.IRBuilder,
        depth: ir.Value,
        starts: list[ir.Value],
        a_step: ir.Value,
        b: ir.Value,
        b_step: ir.Value,
        table: str,
        lines: ir.Value,
        count: ir.Value,
    ) -> list[ir.Value]:
        steps, lines_there = (
            builder.inttoptr(value, I64.as_pointer()) for value in (a_step, lines)
        )
        ahead = builder.mul(b_step, I64(_AHEAD))
        begin = builder.load(steps) if table else I64(0)
        sums = [self.zero] * (self.tile.rows * self.tile.vectors)
        carried = [begin, builder.inttoptr(b, BYTES), *sums]
        with loop(builder, I64(0), depth, 1, carried, at_least_once=True) as turn:
            offset, row, *sums = turn.carried
            if self.fetching:
                with builder.if_then(builder.icmp_signed("<", turn.index, count)):
                    line = builder.load(builder.gep(lines_there, [turn.index]))
                    prefetch_at(builder, builder.inttoptr(line, BYTES))
            vectors = self._read(builder, row)
            for place in self.places:
                prefetch_at(builder, builder.gep(row, [ahead]), place)
            if table == "each":
                factors = [self._read(builder, builder.gep(first, [offset])) for first in starts]
                products = zip(chain(*factors), vectors * len(starts), sums, strict=True)
                sums = [fmuladd(builder, *operands) for operands in products]
            else:
                column = [(first, offset) for first in starts]
                sums = rank_one_update(builder, sums, column, vectors)
            after = builder.add(offset, a_step)
            if table:
                # The next offset is loaded a round ahead: waiting for it, the scheduler would keep
                # more rows in flight than there are registers.
                following = builder.add(turn.index, I64(1))
                last = builder.icmp_signed("<", following, depth)
                next_step = builder.select(last, following, turn.index)
                after = builder.load(builder.gep(steps, [next_step]))
            turn.following = [after, builder.gep(row, [b_step]), *sums]
        return turn.carried[2:]

    def _read(self, builder: ir.IRBuilder, place: ir.Value) -> list[ir.Value]:
        """A row of vectors."""
        return [
            load_at(builder, self.vector, place, offset, mask)
            for offset, mask in zip(self.places, self.read_inside, strict=True)
        ]

    def _masks(self, builder: ir.IRBuilder, columns: ir.Value) -> list[ir.Value | None]:
        lanes = self.tile.lanes
        return [lane_mask(builder, lanes, columns, j * lanes) for j in range(self.tile.vectors)]

    def _store(
        self,
        block: ir.Block,
        end: ir.Block,
        sums: list[ir.Value],
        rows: ir.Value,
        c: ir.Value,
        c_row: ir.Value,
        add: ir.Value,
        inside: Sequence[ir.Value | None],
    ) -> None:
        """Store row after row, until `rows`; a vector at a time, masked by `inside`."""
        builder = ir.IRBuilder(block)
        base, width = builder.inttoptr(c, BYTES), self.tile.vectors
        for i in range(self.tile.rows):
            row = builder.gep(base, [builder.mul(c_row, I64(i))])
            step = self.tile.lanes * self.size
            places = [(row, j * step, mask) for j, mask in enumerate(inside)]
            store_sums(builder, sums[i * width : (i + 1) * width], places, add)
            if i + 1 == self.tile.rows:
                builder.branch(end)
                return
            following = builder.append_basic_block("row")
            builder.cbranch(builder.icmp_signed("<", I64(i + 1), rows), following, end)
            builder.position_at_end(following)
