"""Tiles of products of matrices that dnnc has laid out itself, written as LLVM vector code.

Unlike those of `dnnc.kernels.microkernel`, all strides but one are known when the code is written,
so that addresses are one register and a number, whatever the rows of the tile.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.tiles import Tile, first_tiles
from dnnc.kernels.vector_ir import BYTES, FLOATS, I64, calling, declare, internal, splat

__all__ = ["Strides", "build_rows", "multiply"]

#: Steps of the depth that are written out.
_UNROLLED = 4


@dataclass(frozen=True, slots=True)
class Strides:
    """Bytes between rows of A, steps of A, steps of B, and rows of C."""

    a_row: int
    a_step: int
    b_step: int
    c_row: int


@cache
def multiply(tile: Tile, strides: Strides) -> Any:
    """The intrinsic `f(a, a_block, blocks, depth, b, c, add)`: one tile `C (+)= A B`.

    The depth comes in `blocks` of `depth` steps (both at least 1), of which those of A begin
    `a_block` bytes apart and those of B follow one another. All rows and columns of the tile are
    read and written. The tile is added to C where `add` is not 0.
    """
    s = strides
    name = f"dnnc_blocked_{tile.dtype}_{tile.rows}x{tile.vectors}x{tile.lanes}"
    name += f"_{s.a_row}_{s.a_step}_{s.b_step}_{s.c_row}"

    @intrinsic
    def multiply_tile(typing_context, a, a_block, blocks, depth, b, c, add):  # type: ignore[no-untyped-def]
        return calling(name, 7, lambda module: _Writer(module, name, tile, s).write())

    return multiply_tile


def build_rows(tiles: tuple[Tile, ...], strides: Strides) -> Callable[..., None]:
    """`f(rows, a, a_block, blocks, depth, b, c, add)`: any number of rows, tile by tile; rows up to
    those of whole tiles are read and written."""
    big, middle, small = (multiply(tile, strides) for tile in tiles)
    counts = tuple(tile.rows for tile in tiles)
    first = first_tiles(counts)
    limit = len(first) - 1
    a_row, c_row = strides.a_row, strides.c_row

    def rows_of(
        rows: int, a: int, a_block: int, blocks: int, depth: int, b: int, c: int, add: int
    ) -> None:
        i = 0
        while i < rows:
            which = first[min(rows - i, limit)]
            at, to = a + i * a_row, c + i * c_row
            if which == 0:
                big(at, a_block, blocks, depth, b, to, add)
            elif which == 1:
                middle(at, a_block, blocks, depth, b, to, add)
            else:
                small(at, a_block, blocks, depth, b, to, add)
            i += counts[which]

    return rows_of


class _Writer:
    """Writes one tile as a function of its own."""

    def __init__(self, module: ir.Module, name: str, tile: Tile, strides: Strides) -> None:
        self.tile, self.strides = tile, strides
        self.element = FLOATS[tile.dtype]
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.function = internal(module, name, 7)
        suffix = f"v{tile.lanes}f{8 * tile.bytes_each}"
        self.multiply_add = declare(
            module, f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3
        )

    def write(self) -> ir.Function:
        a, a_block, blocks, depth, b, c, add = self.function.args
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        a, b, c = (builder.inttoptr(address, BYTES) for address in (a, b, c))
        zero = ir.Constant(self.vector, [0.0] * self.tile.lanes)
        sums = [zero] * (self.tile.rows * self.tile.vectors)
        written = builder.and_(depth, I64(-_UNROLLED))

        def block(state: list[ir.Value]) -> list[ir.Value]:
            start, place, *sums = state

            def some(steps: int) -> Callable[[list[ir.Value]], list[ir.Value]]:
                return lambda inner: self._steps(builder, inner, steps)

            inner = [start, place, *sums]
            inner = self._loop(builder, written, _UNROLLED, inner, some(_UNROLLED))
            rest = builder.sub(depth, written)
            _, place, *sums = self._loop(builder, rest, 1, inner, some(1))
            return [builder.gep(start, [a_block]), place, *sums]

        _, _, *sums = self._loop(builder, blocks, 1, [a, b, *sums], block)
        self._store(builder, c, sums, add)
        builder.ret_void()
        return self.function

    def _loop(
        self,
        builder: ir.IRBuilder,
        count: ir.Value,
        step: int,
        state: list[ir.Value],
        body: Callable[[list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """Runs `body` on the state until `count` is used up in steps; the state afterwards."""
        before = builder.block
        loop, end = builder.append_basic_block("loop"), builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed(">", count, I64(0)), loop, end)
        builder.position_at_end(loop)
        index = builder.phi(I64)
        phis = [builder.phi(value.type) for value in state]
        results = body(list(phis))
        following = builder.add(index, I64(step))
        index.add_incoming(I64(0), before)
        index.add_incoming(following, builder.block)
        for phi, first, then in zip(phis, state, results, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(then, builder.block)
        after = builder.block
        builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
        builder.position_at_end(end)
        finals = []
        for first, then in zip(state, results, strict=True):
            final = builder.phi(first.type)
            final.add_incoming(first, before)
            final.add_incoming(then, after)
            finals.append(final)
        return finals

    def _steps(self, builder: ir.IRBuilder, state: list[ir.Value], steps: int) -> list[ir.Value]:
        a, b, *sums = state
        s, vectors = self.strides, self.tile.vectors
        size = self.tile.bytes_each * self.tile.lanes
        for k in range(steps):
            row = [
                self._load(builder, b, k * s.b_step + j * size, self.vector) for j in range(vectors)
            ]
            for i in range(self.tile.rows):
                number = self._load(builder, a, i * s.a_row + k * s.a_step, self.element)
                wide = splat(builder, number, self.tile.lanes)
                for j, value in enumerate(row):
                    place = i * vectors + j
                    sums[place] = builder.call(self.multiply_add, [wide, value, sums[place]])
        return [
            builder.gep(a, [I64(steps * s.a_step)]),
            builder.gep(b, [I64(steps * s.b_step)]),
            *sums,
        ]

    def _store(
        self, builder: ir.IRBuilder, c: ir.Value, sums: list[ir.Value], add: ir.Value
    ) -> None:
        size = self.tile.bytes_each * self.tile.lanes
        offsets = [
            i * self.strides.c_row + j * size
            for i in range(self.tile.rows)
            for j in range(self.tile.vectors)
        ]
        adding, storing = (builder.append_basic_block(name) for name in ("adding", "storing"))
        before = builder.block
        builder.cbranch(builder.icmp_signed("!=", add, I64(0)), adding, storing)
        builder.position_at_end(adding)
        added = [
            builder.fadd(self._load(builder, c, offset, self.vector), value)
            for offset, value in zip(offsets, sums, strict=True)
        ]
        builder.branch(storing)
        builder.position_at_end(storing)
        phis = [builder.phi(self.vector) for _ in sums]
        for phi, plain, total, offset in zip(phis, sums, added, offsets, strict=True):
            phi.add_incoming(plain, before)
            phi.add_incoming(total, adding)
            place = builder.gep(c, [I64(offset)])
            store = builder.store(phi, builder.bitcast(place, self.vector.as_pointer()))
            store.align = self.tile.bytes_each

    def _load(self, builder: ir.IRBuilder, base: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
        place = builder.gep(base, [I64(offset)])
        result = builder.load(builder.bitcast(place, kind.as_pointer()))
        result.align = self.tile.bytes_each
        return result
