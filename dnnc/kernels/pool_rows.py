"""Pooling of one line of outputs by whole vectors. Imports numba: only inside `Kernel.build`."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from dnnc.kernels.line_ir import LineWriter
from dnnc.kernels.loop_ir import Loop
from dnnc.kernels.vector_ir import I64, calling

__all__ = ["gradient_line", "pool_line"]


@cache
def pool_line(dtype: str, step: int, largest: bool) -> Any:
    """The intrinsic `f(out, source, first, w, i0, i1, kw, wo)`: windows of one line of outputs.

    `source` is the address of the windows' first line, of `w` elements; lines `i0` up to `i1` of
    the windows lie in the image. Window j begins at column `first + j * step` (`step` 1 or 2) and
    is `kw` wide; `out` takes `wo` results, the largest elements or the sums. A NaN wins.
    """
    name = f"dnnc_pool_{dtype}_{step}_{largest:d}"

    @intrinsic
    def pool(typing_context, out, source, first, w, i0, i1, kw, wo):  # type: ignore[no-untyped-def]
        return calling(
            name, 8, lambda module: _PoolWriter(module, name, 8, dtype, step).pool(largest)
        )

    return pool


@cache
def gradient_line(dtype: str, step: int, apart: bool, largest: bool) -> Any:
    """The intrinsic `f(dx, source, first, w, i0, i1, kw, wo, dy)`: what a line of dy adds to dx:
    to the first largest element of each window, or to all (then `source` is not read); for the
    other arguments see `pool_line`.

    With `apart`, windows share no element, and `step` and `kw` are 2: dx is only stored to.
    """
    name = f"dnnc_pool_gradient_{dtype}_{step}_{apart:d}{largest:d}"

    @intrinsic
    def gradient(  # type: ignore[no-untyped-def]
        typing_context, dx, source, first, w, i0, i1, kw, wo, dy
    ):
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            function = builder.module.globals.get(name)
            if function is None:
                function = _PoolWriter(builder.module, name, 9, dtype, step).gradient(
                    apart, largest
                )
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 9), generate

    return gradient


class _PoolWriter(LineWriter):
    def pool(self, largest: bool) -> ir.Function:
        neutral = self.lowest if largest else self.zero
        with self.loop(I64(0), self.wo, self.lanes) as windows:
            total = self.over_windows(windows.index, neutral, largest)
            inside = self.below(windows.index, self.wo)
            self.store(total, self.function.args[0], windows.index, inside)
        self.builder.ret_void()
        return self.function

    def gradient(self, apart: bool, largest: bool) -> ir.Function:
        dx, dy = self.function.args[0], self.function.args[8]
        with self.loop(I64(0), self.wo, self.lanes) as windows:
            best = self.over_windows(windows.index, self.lowest, True) if largest else None
            alive = self.below(windows.index, self.wo)
            given = self.load(dy, windows.index, alive, self.zero)
            with self.loop(self.i0, self.i1, 1, [alive]) as line:
                if apart:
                    self.both(windows.index, line, best, given, dx)
                else:
                    self.each(windows.index, line, best, given, dx)
        self.builder.ret_void()
        return self.function

    def both(
        self, j: ir.Value, line: Loop, best: ir.Value | None, given: ir.Value, dx: ir.Value
    ) -> None:
        """The two elements of each window in this line, stored together."""
        alive, parts = line.carried[0], []
        for kx in range(2):
            part, alive = self.hits(j, line.index, I64(kx), best, given, alive)
            parts.append(part)
        line.following = [alive]
        column = self.column(j, I64(0))
        for half in range(2):
            order = [
                half * self.lanes // 2 + k // 2 + k % 2 * self.lanes for k in range(self.lanes)
            ]
            value = self.shuffle(parts, order)
            at = self.builder.add(column, I64(half * self.lanes))
            place = self.builder.add(self.builder.mul(line.index, self.w), at)
            self.store(value, dx, place, self.inside(at, 1))

    def each(
        self, j: ir.Value, line: Loop, best: ir.Value | None, given: ir.Value, dx: ir.Value
    ) -> None:
        """The elements of each window in this line, added one after the other."""
        with self.loop(I64(0), self.kw, 1, line.carried) as across:
            part, alive = self.hits(j, line.index, across.index, best, given, across.carried[0])
            across.following = [alive]
            column = self.column(j, across.index)
            for half in range(self.step):
                if self.step == 2:
                    order = [
                        self.lanes if k % 2 else half * self.lanes // 2 + k // 2
                        for k in range(self.lanes)
                    ]
                    value = self.shuffle((part, self.zero), order)
                else:
                    value = part
                at = self.builder.add(column, I64(half * self.lanes))
                place = self.builder.add(self.builder.mul(line.index, self.w), at)
                inside = self.inside(at, 1)
                old = self.load(dx, place, inside, self.zero)
                self.store(self.builder.fadd(old, value), dx, place, inside)
        line.following = across.carried

    def hits(
        self,
        j: ir.Value,
        i: ir.Value,
        kx: ir.Value,
        best: ir.Value | None,
        given: ir.Value,
        alive: ir.Value,
    ) -> tuple[ir.Value, ir.Value]:
        """What one element of each window takes, and which windows are still to be served."""
        b = self.builder
        if best is None:
            return given, alive
        value = self.element(j, i, kx, self.lowest)
        equal = b.or_(b.fcmp_ordered("==", value, best), b.fcmp_unordered("uno", value, value))
        inside = self.inside(self.column(j, kx), self.step)
        hit = b.and_(b.and_(equal, inside), alive)
        return b.select(hit, given, self.zero), b.and_(alive, b.not_(hit))

    def over_windows(self, j: ir.Value, neutral: ir.Value, largest: bool) -> ir.Value:
        """The largest element or the sum of each window from number `j` on."""
        b = self.builder
        with self.loop(self.i0, self.i1, 1, [neutral]) as line:
            with self.loop(I64(0), self.kw, 1, line.carried) as across:
                total = across.carried[0]
                value = self.element(j, line.index, across.index, neutral)
                if largest:
                    above = b.fcmp_ordered(">", value, total)
                    above = b.or_(above, b.fcmp_unordered("uno", value, value))
                    across.following = [b.select(above, value, total)]
                else:
                    across.following = [b.fadd(total, value)]
            line.following = across.carried
        return line.carried[0]
