"""Tiles for `dnnc.kernels.convolution.run_strips`, as LLVM vector code. Imports numba: only inside
`Kernel.build`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.convolution.run_strips import Runs
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.product.lines import LINE
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
    splat,
    store_sums,
    zeros,
)

__all__ = ["run_tile", "write_run_tile"]

#: The most steps that are written one after the other.
_UNROLLED = 8


@cache
def run_tile(tile: Tile, rows: int, runs: Runs) -> Any:
    """The intrinsic `f(a, table, count, b, b_step, c, c_row, columns, add, ahead, lines, ahead_too,
    lines_too)`.

    A tile of `rows` at each shift, the first of which is at `a`: run k of steps, of all taps, of
    `count`, is `table[k * runs.taps * runs.steps]` bytes from there. Rows of B are `b_step` bytes
    apart and read whole; C takes `columns`, which are added to what it holds where `add` is not 0.
    For each run of steps so many cache `lines` are fetched from `ahead` on, and `lines_too` from
    `ahead_too` on.
    """
    shape = tile.dtype, f"{tile.vectors}x{tile.lanes}", rows
    taps = runs.taps, runs.reach
    parts = *shape, runs.pitch, runs.steps, runs.step, runs.shifts, runs.rows, *taps
    name = f"dnnc_run_tile_{'_'.join(map(str, parts))}"

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, a, table, count, b, b_step, c, c_row, columns, add, ahead, lines, ahead_too,
        lines_too
    ):  # fmt: skip
        return calling(name, 13, lambda module: write_run_tile(module, name, tile, rows, runs))

    return multiply


def write_run_tile(module: ir.Module, name: str, tile: Tile, rows: int, runs: Runs) -> ir.Function:
    """Write the function that `run_tile` calls into a module of LLVM code."""
    kind = _ShiftWriter if runs.shifts > 1 else _TapWriter if runs.taps > 1 else _RunWriter
    return kind(module, name, tile, rows, runs).write()


class _RunWriter:
    def __init__(self, module: ir.Module, name: str, tile: Tile, rows: int, runs: Runs) -> None:
        self.tile, self.rows, self.runs = tile, rows, runs
        self.size = tile.lanes * tile.bytes_each
        self.vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
        self.zero = zeros(self.vector)
        self.function = internal(module, name, 13)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def write(self) -> ir.Function:
        b, (c, c_row, columns, add) = self.builder, self.function.args[5:9]
        lanes, vectors = self.tile.lanes, range(self.tile.vectors)
        masks = [lane_mask(b, lanes, columns, j * lanes) for j in vectors]
        base = b.inttoptr(c, BYTES)
        rows = [b.gep(base, [b.mul(c_row, I64(i))]) for i in self._places()]
        places = [(row, j * self.size, masks[j]) for row in rows for j in vectors]
        store_sums(b, self._runs(), places, b.icmp_signed("!=", add, I64(0)))
        b.ret_void()
        return self.function

    def _places(self) -> list[int]:
        """The rows of C, by number."""
        return list(range(self.rows))

    def _runs(self) -> list[ir.Value]:
        """The loop over runs of steps; the sums, row by row."""
        b, (a, table, count, first, b_step) = self.builder, self.function.args[:5]
        base, offsets = b.inttoptr(a, BYTES), b.inttoptr(table, I64.as_pointer())
        sums = [self.zero] * (len(self._places()) * self.tile.vectors)
        carried = [b.inttoptr(first, BYTES), *sums]
        with loop(b, I64(0), count, 1, carried, at_least_once=True) as runs:
            row, *sums = runs.carried
            self._fetch(runs.index)
            steps = self.runs.taps * self.runs.steps
            at = b.gep(base, [b.load(b.gep(offsets, [b.mul(runs.index, I64(steps))]))])
            runs.following = self._run(at, row, b_step, sums)
        return runs.carried[1:]

    def _fetch(self, run: ir.Value) -> None:
        b, (ahead, lines, ahead_too, lines_too) = self.builder, self.function.args[9:]
        for first, count in ((ahead, lines), (ahead_too, lines_too)):
            place = b.inttoptr(b.add(first, b.mul(run, b.mul(count, I64(LINE)))), BYTES)
            with loop(b, I64(0), count, 1) as each:
                prefetch_at(b, place, b.mul(each.index, I64(LINE)))

    def _run(
        self, at: ir.Value, row: ir.Value, b_step: ir.Value, sums: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """The loop over the steps of one run; where the next row of B is, and the sums."""
        b, some = self.builder, self._unrolled()
        carried = [row, at, *sums]
        with loop(b, I64(0), I64(self.runs.steps), some, carried, at_least_once=True) as steps:
            row, place, *values = steps.carried
            for step in range(some):
                if step > 0:
                    values = self._kept(values)
                values = self._step(place, b.gep(row, [b.mul(b_step, I64(step))]), step, values)
            row = b.gep(row, [b.mul(b_step, I64(some))])
            steps.following = [row, b.gep(place, [I64(some * self.runs.step)]), *values]
        row, _, *values = steps.carried
        return [row, *values]

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
        runs = self.runs
        column = [(place, i * runs.pitch + step * runs.step) for i in range(self.rows)]
        return rank_one_update(self.builder, sums, column, self._vectors(row))

    def _vectors(self, row: ir.Value) -> list[ir.Value]:
        """A row of B."""
        vectors = range(self.tile.vectors)
        return [load_at(self.builder, self.vector, row, j * self.size) for j in vectors]

    def _add(
        self,
        at: ir.Value,
        offset: int,
        uses: Sequence[tuple[int, Sequence[ir.Value]]],
        sums: list[ir.Value],
    ) -> None:
        """Add the products of one number, which is read once, with rows of B to rows of `sums`."""
        b, vectors = self.builder, self.tile.vectors
        factor = splat(b, load_at(b, self.vector.element, at, offset), self.vector.count)
        for i, row in uses:
            for j, vector in enumerate(row, i * vectors):
                sums[j] = fmuladd(b, factor, vector, sums[j])

    def _kept(self, sums: Sequence[ir.Value]) -> list[ir.Value]:
        """The same sums behind a barrier that no instruction is moved across: LLVM would move the
        loads of all steps to the front, to registers that there are not."""
        b, count = self.builder, len(sums)
        kind = ir.FunctionType(ir.LiteralStructType([self.vector] * count), [self.vector] * count)
        register = "v" if b.module.triple.startswith("x86") else "w"
        constraints = [f"={register}"] * count + [str(i) for i in range(count)] + ["~{memory}"]
        both = b.asm(kind, "", ",".join(constraints), sums, side_effect=True)
        return [b.extract_value(both, i) for i in range(count)]


class _ShiftWriter(_RunWriter):
    """Tiles of rows at several shifts: a number is multiplied by a row of B for each of them."""

    def _places(self) -> list[int]:
        return [s * self.runs.rows + i for i in range(self.rows) for s in range(self.runs.shifts)]

    def _run(
        self, at: ir.Value, row: ir.Value, b_step: ir.Value, sums: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """Number k of a row is that of step `k - s` at shift s, if there is such a step."""
        b, shifts, steps = self.builder, self.runs.shifts, self.runs.steps
        #: The last rows of B, as many as there are shifts or one less.
        window: list[list[ir.Value]] = []
        for k in range(shifts - 1):
            window.append(self._row(row, b_step, k))
            sums = self._number(at, k, window, range(k + 1), self._kept(sums))
        # As many steps as there are shifts: the window is the same registers again.
        rounds = (steps - shifts + 1) // shifts
        with loop(b, I64(0), I64(rounds), 1, [at, row, *chain(*window), *sums]) as turn:
            place, now, *others = turn.carried
            window, sums = self._split(others)
            for k in range(shifts - 1, 2 * shifts - 1):
                window = [*window[1 - shifts :], self._row(now, b_step, k)]
                sums = self._number(place, k, window, range(shifts), self._kept(sums))
            place = b.gep(place, [I64(shifts * self.runs.step)])
            now = b.gep(now, [b.mul(b_step, I64(shifts))])
            turn.following = [place, now, *chain(*window[1:]), *sums]
        window, sums = self._split(turn.carried[2:])
        for k in range(shifts - 1 + rounds * shifts, steps):
            window = [*window[1 - shifts :], self._row(row, b_step, k)]
            sums = self._number(at, k, window, range(shifts), self._kept(sums))
        for k in range(steps, steps + shifts - 1):
            window = [*window[1 - shifts :], []]
            left = range(k - steps + 1, shifts)
            sums = self._number(at, k, window, left, self._kept(sums))
        return [b.gep(row, [b.mul(b_step, I64(steps))]), *sums]

    def _row(self, row: ir.Value, b_step: ir.Value, k: int) -> list[ir.Value]:
        return self._vectors(self.builder.gep(row, [self.builder.mul(b_step, I64(k))]))

    def _split(self, values: Sequence[ir.Value]) -> tuple[list[list[ir.Value]], list[ir.Value]]:
        """The window, row by row, and the sums of values that a loop carries."""
        vectors = self.tile.vectors
        end = (self.runs.shifts - 1) * vectors
        return [list(values[i : i + vectors]) for i in range(0, end, vectors)], list(values[end:])

    def _number(
        self,
        at: ir.Value,
        k: int,
        window: Sequence[Sequence[ir.Value]],
        shifts: range,
        sums: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """Add the products of number k of each row at these shifts; the last row of B in the window
        is that of shift 0."""
        runs, results = self.runs, list(sums)
        for i in range(self.rows):
            uses = [(i * runs.shifts + s, window[-1 - s]) for s in shifts]
            self._add(at, k * runs.step + i * runs.pitch, uses, results)
        return results


class _TapWriter(_RunWriter):
    """Tiles of rows by steps of several taps: a number is multiplied by the rows of B of all taps
    at which a row has it."""

    def _run(
        self, at: ir.Value, row: ir.Value, b_step: ir.Value, sums: Sequence[ir.Value]
    ) -> list[ir.Value]:
        b, runs = self.builder, self.runs
        apart = b.mul(b_step, I64(runs.steps))
        with loop(b, I64(0), I64(runs.steps), 1, [row, at, *sums], at_least_once=True) as turn:
            now, place, *values = turn.carried
            taps = [self._vectors(b.gep(now, [b.mul(apart, I64(t))])) for t in range(runs.taps)]
            for offset, uses in runs.numbers(self.rows).items():
                self._add(place, offset, [(i, taps[t]) for i, t in uses], values)
                values = self._kept(values)
            turn.following = [b.gep(now, [b_step]), b.gep(place, [I64(runs.step)]), *values]
        row, _, *values = turn.carried
        return [b.gep(row, [b.mul(apart, I64(runs.taps - 1))]), *values]
