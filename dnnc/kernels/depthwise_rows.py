"""Lines of depthwise convolutions by whole vectors. Imports numba: only inside `Kernel.build`."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.line_ir import LineWriter
from dnnc.kernels.vector_ir import I64, calling, declare, splat

__all__ = ["dot_lines", "weighted_line"]


@cache
def weighted_line(dtype: str, step: int, kw: int) -> Any:
    """The intrinsic `f(out, source, first, w, i0, i1, kw, wo, weights, weight_step, dh, dw)`.

    Its argument `kw` is the one given here, for which the code is made.

    Each output is the sum of the elements of its window times weights. Elements are `dh` lines and
    `dw` columns apart; that of number `i * kw + j` has its weight at as many `weight_step` bytes
    from `weights`. For the other arguments see `dnnc.kernels.line_ir.LineWriter`.
    """
    name = f"dnnc_weighted_line_{dtype}_{step}_{kw}"

    @intrinsic
    def weighted(  # type: ignore[no-untyped-def]
        typing_context, out, source, first, w, i0, i1, wide, wo, weights, weight_step, dh, dw
    ):
        return calling(name, 12, lambda module: _Writer(module, name, 12, dtype, step).weighted(kw))

    return weighted


@cache
def dot_lines(dtype: str, step: int) -> Any:
    """The intrinsic `f(sums, source, first, w, i0, i1, kw, wo, dy, down)`: adds to a vector of
    sums.

    What is added are the products of dy, lines `i0` up to `i1` of `wo` elements, with the elements
    of `source` that are `down` lines and `step` columns apart, from column `first` on. `kw` is 1.
    """
    name = f"dnnc_dot_lines_{dtype}_{step}"

    @intrinsic
    def dot(  # type: ignore[no-untyped-def]
        typing_context, sums, source, first, w, i0, i1, kw, wo, dy, down
    ):
        return calling(name, 10, lambda module: _Writer(module, name, 10, dtype, step).dot())

    return dot


class _Writer(LineWriter):
    def weighted(self, kw: int) -> ir.Function:
        b, out = self.builder, self.function.args[0]
        weights, weight_step, dh, dw = self.function.args[8:]
        number = self.vector.element
        with self.loop(I64(0), self.wo, self.lanes) as windows:
            with self.loop(self.i0, self.i1, 1, [self.zero]) as line:
                total, row = line.carried[0], b.mul(line.index, dh)
                for kx in range(kw):
                    tap = b.add(b.mul(line.index, I64(kw)), I64(kx))
                    place = b.add(weights, b.mul(tap, weight_step))
                    weight = b.load(b.inttoptr(place, number.as_pointer()))
                    value = self.element(windows.index, row, b.mul(I64(kx), dw), self.zero)
                    total = self.multiply_add(splat(b, weight, self.lanes), value, total)
                line.following = [total]
            inside = self.below(windows.index, self.wo)
            self.store(line.carried[0], out, windows.index, inside)
        b.ret_void()
        return self.function

    def dot(self) -> ir.Function:
        b, sums = self.builder, self.function.args[0]
        dy, down = self.function.args[8:]
        whole = ir.Constant(ir.VectorType(ir.IntType(1), self.lanes), [1] * self.lanes)
        before = self.load(sums, I64(0), whole, self.zero)
        with self.loop(self.i0, self.i1, 1, [before]) as line:
            with self.loop(I64(0), self.wo, self.lanes, line.carried) as windows:
                inside = self.below(windows.index, self.wo)
                at = b.add(b.mul(line.index, self.wo), windows.index)
                given = self.load(dy, at, inside, self.zero)
                row = b.mul(line.index, down)
                value = self.element(windows.index, row, I64(0), self.zero)
                windows.following = [self.multiply_add(given, value, windows.carried[0])]
            line.following = windows.carried
        self.store(line.carried[0], sums, I64(0), whole)
        b.ret_void()
        return self.function

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        function = declare(self.function.module, name, self.vector, [self.vector] * 3)
        return self.builder.call(function, [x, y, z])
