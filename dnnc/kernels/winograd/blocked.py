"""Tiles of products of matrices that dnnc has laid out itself, written as LLVM vector code.

Unlike those of `dnnc.kernels.product.microkernel`, all strides but one are known when the code is
written, so that addresses are one register and a number, whatever the rows of the tile.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.intrinsics import lookup
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.tiles import Tile, first_tiles
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I64,
    calling,
    internal,
    load_at,
    rank_one_update,
    store_sums,
    zeros,
)

__all__ = ["Strides", "build_rows", "multiply"]

#: Steps of the depth that are written out.
_UNROLLED = 4


@dataclass(frozen=True, slots=True)
class Strides:
    """Bytes between rows of A, steps of A, steps of B, and rows of C.

    `whole` tells that the depth of a block is always one of whole vectors.
    """

    a_row: int
    a_step: int
    b_step: int
    c_row: int
    whole: bool = False


@cache
def multiply(tile: Tile, strides: Strides) -> Any:
    """The intrinsic `f(a, a_block, blocks, depth, b, c, add)`: one tile `C (+)= A B`.

    The depth comes in `blocks` of `depth` steps (both at least 1), of which those of A begin
    `a_block` bytes apart and those of B follow one another. All rows and columns of the tile are
    read and written. The tile is added to C where `add` is not 0.
    """
    s = strides
    name = f"dnnc_blocked_{tile.dtype}_{tile.rows}x{tile.vectors}x{tile.lanes}"
    name += f"_{s.a_row}_{s.a_step}_{s.b_step}_{s.c_row}" + "_whole" * s.whole

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
    limit, tile_of, rows_in = len(first) - 1, lookup(first), lookup(counts)
    a_row, c_row = strides.a_row, strides.c_row

    def rows_of(
        rows: int, a: int, a_block: int, blocks: int, depth: int, b: int, c: int, add: int
    ) -> None:
        i = 0
        while i < rows:
            which = tile_of(min(rows - i, limit))
            at, to = a + i * a_row, c + i * c_row
            if which == 0:
                big(at, a_block, blocks, depth, b, to, add)
            elif which == 1:
                middle(at, a_block, blocks, depth, b, to, add)
            else:
                small(at, a_block, blocks, depth, b, to, add)
            i += rows_in(which)

    return rows_of


class _Writer:
    """Writes one tile as a function of its own."""

    def __init__(self, module: ir.Module, name: str, tile: Tile, strides: Strides) -> None:
        self.tile, self.strides = tile, strides
        self.size = tile.lanes * tile.bytes_each
        self.vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
        self.function = internal(module, name, 7)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> ir.Function:
        builder, (a, a_block, blocks, depth, b, c, add) = self.builder, self.function.args
        a, b, c = (builder.inttoptr(address, BYTES) for address in (a, b, c))
        zero = zeros(self.vector)
        sums = [zero] * (self.tile.rows * self.tile.vectors)
        written = builder.and_(depth, I64(-_UNROLLED))
        with loop(builder, I64(0), blocks, 1, [a, b, *sums]) as block:
            start, *state = block.carried
            state = self._sweep(written, _UNROLLED, [start, *state])
            # Two numbers of 64 bits in 128 are less than what is written out.
            if not self.strides.whole or self.tile.lanes % _UNROLLED:
                state = self._sweep(builder.sub(depth, written), 1, state)
            _, *state = state
            block.following = [builder.gep(start, [a_block]), *state]
        places = [(c, i * self.strides.c_row + j * self.size, None)
                  for i in range(self.tile.rows) for j in range(self.tile.vectors)]  # fmt: skip
        adding = builder.icmp_signed("!=", add, I64(0))
        store_sums(builder, block.carried[2:], places, adding)
        builder.ret_void()
        return self.function

    def _sweep(self, count: ir.Value, steps: int, state: list[ir.Value]) -> list[ir.Value]:
        """Add `count` steps of the depth, some in a round, to a place in A, one in B and sums."""
        with loop(self.builder, I64(0), count, steps, state) as sweep:
            sweep.following = self._steps(sweep.carried, steps)
        return sweep.carried

    def _steps(self, state: list[ir.Value], steps: int) -> list[ir.Value]:
        builder, (a, b, *sums), s = self.builder, state, self.strides
        for k in range(steps):
            row = [load_at(builder, self.vector, b, k * s.b_step + j * self.size)
                   for j in range(self.tile.vectors)]  # fmt: skip
            column = [(a, i * s.a_row + k * s.a_step) for i in range(self.tile.rows)]
            sums = rank_one_update(builder, sums, column, row)
        a, b = builder.gep(a, [I64(steps * s.a_step)]), builder.gep(b, [I64(steps * s.b_step)])
        return [a, b, *sums]
