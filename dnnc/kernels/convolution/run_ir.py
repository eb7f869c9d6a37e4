"""Tiles for `dnnc.kernels.convolution.run_strips`, as LLVM vector code. Imports numba: only inside
`Kernel.build`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.convolution.run_strips import Runs
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
    rank_one_update,
    store_sums,
    zeros,
)

__all__ = ["run_tile"]

#: The most steps that are written one after the other, for tiles of one vector and of more. The
#: latter leave few registers free: of many steps LLVM would load numbers so early that it spills.
_UNROLLED = 8, 2


@cache
def run_tile(tile: Tile, rows: int, runs: Runs) -> Any:
    """The intrinsic `f(a, table, count, b, b_step, c, c_row, columns, add)`.

    A tile of `rows`, the first of which is at `a`: run k of steps, of `count`, is `table[k *
    runs.steps]` bytes from there. Rows of B are `b_step` bytes apart and read whole; C takes
    `columns`, which are added to what it holds where `add` is not 0.
    """
    key = f"{tile.dtype}_{tile.vectors}x{tile.lanes}_{rows}_{runs.pitch}_{runs.steps}_{runs.step}"
    name = f"dnnc_run_tile_{key}"

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, a, table, count, b, b_step, c, c_row, columns, add
    ):
        return calling(name, 9, lambda module: _RunWriter(module, name, tile, rows, runs).write())

    return multiply


class _RunWriter:
    def __init__(self, module: ir.Module, name: str, tile: Tile, rows: int, runs: Runs) -> None:
        self.tile, self.rows, self.runs = tile, rows, runs
        self.size = tile.lanes * tile.bytes_each
        self.vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
        self.zero = zeros(self.vector)
        self.function = internal(module, name, 9)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> ir.Function:
        b, (_, _, _, _, _, c, c_row, columns, add) = self.builder, self.function.args
        lanes, vectors = self.tile.lanes, range(self.tile.vectors)
        masks = [lane_mask(b, lanes, columns, j * lanes) for j in vectors]
        base = b.inttoptr(c, BYTES)
        rows = [b.gep(base, [b.mul(c_row, I64(i))]) for i in range(self.rows)]
        places = [(row, j * self.size, masks[j]) for row in rows for j in vectors]
        store_sums(b, self._runs(), places, b.icmp_signed("!=", add, I64(0)))
        b.ret_void()
        return self.function

    def _runs(self) -> list[ir.Value]:
        """The loop over runs of steps; the sums, row by row."""
        b, (a, table, count, first, b_step, *_) = self.builder, self.function.args
        base, offsets = b.inttoptr(a, BYTES), b.inttoptr(table, I64.as_pointer())
        sums, some = [self.zero] * (self.rows * self.tile.vectors), self._unrolled()
        carried = [b.inttoptr(first, BYTES), *sums]
        with loop(b, I64(0), count, 1, carried, at_least_once=True) as runs:
            row, *sums = runs.carried
            at = b.gep(base, [b.load(b.gep(offsets, [b.mul(runs.index, I64(self.runs.steps))]))])
            carried = [row, at, *sums]
            with loop(b, I64(0), I64(self.runs.steps), some, carried, at_least_once=True) as steps:
                row, place, *sums = steps.carried
                for step in range(some):
                    if step > 0:
                        sums = self._kept(sums)
                    sums = self._step(place, b.gep(row, [b.mul(b_step, I64(step))]), step, sums)
                row = b.gep(row, [b.mul(b_step, I64(some))])
                steps.following = [row, b.gep(place, [I64(some * self.runs.step)]), *sums]
            runs.following = [row, *sums]
        return sums

    def _unrolled(self) -> int:
        """How many steps are written one after the other: a part of a run in which no number is
        read twice, since LLVM would keep what is read again in registers that there are not."""
        for some in range(_UNROLLED[self.tile.vectors > 1], 1, -1):
            places = {
                i * self.runs.pitch + k * self.runs.step
                for i in range(self.rows)
                for k in range(some)
            }
            if self.runs.steps % some == 0 and len(places) == some * self.rows:
                return some
        return 1

    def _step(
        self, place: ir.Value, row: ir.Value, step: int, sums: Sequence[ir.Value]
    ) -> list[ir.Value]:
        b, runs = self.builder, self.runs
        vectors = [load_at(b, self.vector, row, j * self.size) for j in range(self.tile.vectors)]
        column = [(place, i * runs.pitch + step * runs.step) for i in range(self.rows)]
        return rank_one_update(b, sums, column, vectors)

    def _kept(self, sums: list[ir.Value]) -> list[ir.Value]:
        """The same sums behind a barrier that no instruction is moved across: LLVM would move the
        loads of all steps to the front, to registers that there are not."""
        b, count = self.builder, len(sums)
        kind = ir.FunctionType(ir.LiteralStructType([self.vector] * count), [self.vector] * count)
        register = "v" if b.module.triple.startswith("x86") else "w"
        constraints = [f"={register}"] * count + [str(i) for i in range(count)] + ["~{memory}"]
        both = b.asm(kind, "", ",".join(constraints), sums, side_effect=True)
        return [b.extract_value(both, i) for i in range(count)]
