"""Tiles for `dnnc.kernels.run_strips`, as LLVM vector code. Imports numba: only inside
`Kernel.build`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.run_strips import Runs
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

__all__ = ["run_tile"]

#: The most steps that are written one after the other.
_UNROLLED = 8


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
        self.tile, self.rows, self.runs, self.size = tile, rows, runs, tile.bytes_each
        self.element = FLOATS[tile.dtype]
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * tile.lanes)
        self.function = internal(module, name, 9)
        suffix = f"v{tile.lanes}f{8 * self.size}"
        self.multiply_add = declare(
            module, f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3
        )
        self.masked_load, self.masked_store = masked(module, self.vector)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> ir.Function:
        b, (_, _, _, _, _, c, c_row, columns, add) = self.builder, self.function.args
        masks = self._masks(columns)
        base = b.inttoptr(c, BYTES)
        places = [
            b.bitcast(
                b.gep(base, [b.add(b.mul(c_row, I64(i)), I64(j * self.tile.lanes * self.size))]),
                self.vector.as_pointer(),
            )
            for i in range(self.rows)
            for j in range(self.tile.vectors)
        ]
        sums = self._runs()
        align = I32(self.size)
        inside = masks * self.rows
        with b.if_else(b.icmp_signed("!=", add, I64(0))) as (then, otherwise):
            with then:
                for place, total, mask in zip(places, sums, inside, strict=True):
                    old = b.call(self.masked_load, [place, align, mask, self.zero])
                    b.call(self.masked_store, [b.fadd(old, total), place, align, mask])
            with otherwise:
                for place, total, mask in zip(places, sums, inside, strict=True):
                    b.call(self.masked_store, [total, place, align, mask])
        b.ret_void()
        return self.function

    def _runs(self) -> list[ir.Value]:
        """The loop over runs of steps; the sums, row by row."""
        b, (a, table, count, first, b_step, *_) = self.builder, self.function.args
        entry = b.block
        base, offsets = b.inttoptr(a, BYTES), b.inttoptr(table, I64.as_pointer())
        start = b.inttoptr(first, BYTES)
        outer, inner, end, done = (
            b.append_basic_block(name) for name in ("run", "steps", "last", "done")
        )
        b.branch(outer)
        b.position_at_end(outer)
        run, row = b.phi(I64), b.phi(BYTES)
        sums = [b.phi(self.vector) for _ in range(self.rows * self.tile.vectors)]
        at = b.gep(base, [b.load(b.gep(offsets, [b.mul(run, I64(self.runs.steps))]))])
        b.branch(inner)
        b.position_at_end(inner)
        k, here, place = b.phi(I64), b.phi(BYTES), b.phi(BYTES)
        inside = [b.phi(self.vector) for _ in sums]
        some = self._unrolled()
        totals: list[ir.Value] = list(inside)
        for step in range(some):
            if step > 0:
                totals = self._kept(totals)
            totals = self._step(place, b.gep(here, [b.mul(b_step, I64(step))]), step, totals)
        following = b.add(k, I64(some))
        next_here = b.gep(here, [b.mul(b_step, I64(some))])
        next_place = b.gep(place, [I64(some * self.runs.step)])
        b.cbranch(b.icmp_signed("<", following, I64(self.runs.steps)), inner, end)
        b.position_at_end(end)
        next_run = b.add(run, I64(1))
        b.cbranch(b.icmp_signed("<", next_run, count), outer, done)
        b.position_at_end(done)
        for phi, before, then in (
            (run, I64(0), next_run), (row, start, next_here),
            *((s, self.zero, t) for s, t in zip(sums, totals, strict=True)),
        ):  # fmt: skip
            phi.add_incoming(before, entry)
            phi.add_incoming(then, end)
        for phi, before, then in (
            (k, I64(0), following), (here, row, next_here), (place, at, next_place),
            *zip(inside, sums, totals, strict=True),
        ):  # fmt: skip
            phi.add_incoming(before, outer)
            phi.add_incoming(then, inner)
        return totals

    def _unrolled(self) -> int:
        """How many steps are written one after the other: a part of a run in which no number is
        read twice, since LLVM would keep what is read again in registers that there are not."""
        for some in range(_UNROLLED, 1, -1):
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
        b, vectors = self.builder, self.tile.vectors
        factors = [self._load(row, j * self.tile.lanes * self.size, self.vector)
                   for j in range(vectors)]  # fmt: skip
        totals = []
        for i in range(self.rows):
            offset = i * self.runs.pitch + step * self.runs.step
            number = splat(b, self._load(place, offset, self.element), self.tile.lanes)
            totals += [
                b.call(self.multiply_add, [number, factor, sums[i * vectors + j]])
                for j, factor in enumerate(factors)
            ]
        return totals

    def _kept(self, sums: list[ir.Value]) -> list[ir.Value]:
        """The same sums behind a barrier that no instruction is moved across: LLVM would move the
        loads of all steps to the front, to registers that there are not."""
        b, count = self.builder, len(sums)
        kind = ir.FunctionType(ir.LiteralStructType([self.vector] * count), [self.vector] * count)
        register = "v" if b.module.triple.startswith("x86") else "w"
        constraints = [f"={register}"] * count + [str(i) for i in range(count)] + ["~{memory}"]
        both = b.asm(kind, "", ",".join(constraints), sums, side_effect=True)
        return [b.extract_value(both, i) for i in range(count)]

    def _load(self, base: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
        b = self.builder
        result = b.load(b.bitcast(b.gep(base, [I64(offset)]), kind.as_pointer()))
        result.align = self.size
        return result

    def _masks(self, columns: ir.Value) -> list[ir.Value]:
        b, lanes = self.builder, self.tile.lanes
        kind = ir.VectorType(I64, lanes)
        return [
            b.icmp_signed(
                "<",
                ir.Constant(kind, list(range(j * lanes, (j + 1) * lanes))),
                splat(b, columns, lanes),
            )
            for j in range(self.tile.vectors)
        ]
