"""Rows of scores, a vector at a time: softmax and its gradient, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.elementary import Arithmetic, Number, exp, log
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import I32, I64, calling, internal, masked, splat

__all__ = ["finish_rows", "scale_row", "softmax_gradient_row", "softmax_row"]


@cache
def softmax_row(tile: Tile, has_mask: bool) -> Any:
    """The intrinsic `f(row, count, width, mask, scale, most, total, factor)`: one row of products
    becomes exponentials of scores.

    Of `width` products the first `count` count, and of those the ones that the bytes at `mask` say;
    the others become zero, up to whole vectors. `scale` holds the bits of an f64. At `most` and
    `total` are the largest score so far and the sum of the exponentials of scores less that; both
    are brought up to date, and `factor` gets what sums so far are to be multiplied by.
    """
    name = f"dnnc_softmax_row_{tile.dtype}x{tile.lanes}_{int(has_mask)}"

    @intrinsic
    def softmax(typing_context, row, count, width, mask, scale, most, total, factor):  # type: ignore[no-untyped-def]
        return calling(name, 8, lambda module: _write_softmax(module, name, tile, has_mask))

    return softmax


@cache
def softmax_gradient_row(tile: Tile, has_mask: bool) -> Any:
    """The intrinsic `f(row, d_row, count, width, mask, scale, lse, delta)`: one row of products
    becomes probabilities, and one of their gradients becomes gradients of products.

    `lse` and `delta` are addresses of numbers; the others are as in `softmax_row`.
    """
    name = f"dnnc_softmax_gradient_row_{tile.dtype}x{tile.lanes}_{int(has_mask)}"

    @intrinsic
    def gradient(typing_context, row, d_row, count, width, mask, scale, lse, delta):  # type: ignore[no-untyped-def]
        return calling(name, 8, lambda module: _write_gradient(module, name, tile, has_mask))

    return gradient


@cache
def scale_row(tile: Tile) -> Any:
    """The intrinsic `f(target, source, count, factor)`: `count` elements times the number at the
    address `factor`."""
    name = f"dnnc_scale_row_{tile.dtype}x{tile.lanes}"

    @intrinsic
    def scale(typing_context, target, source, count, factor):  # type: ignore[no-untyped-def]
        return calling(name, 4, lambda module: _write_scale(module, name, tile))

    return scale


@cache
def finish_rows(tile: Tile) -> Any:
    """The intrinsic `f(most, total, lse, count)`: log-sum-exps of `count` rows from their largest
    scores and their sums, which become their reciprocals. Whole vectors are read and written."""
    name = f"dnnc_finish_rows_{tile.dtype}x{tile.lanes}"

    @intrinsic
    def finish(typing_context, most, total, lse, count):  # type: ignore[no-untyped-def]
        return calling(name, 4, lambda module: _write_finish(module, name, tile))

    return finish


class _Vectors(Arithmetic):
    """Arithmetic on vectors of `lanes` numbers."""

    def __init__(self, builder: ir.IRBuilder, tile: Tile) -> None:
        super().__init__(builder, tile.dtype)
        self.lanes, self.bytes_each = tile.lanes, tile.bytes_each
        self.element = self.type
        self.type = ir.VectorType(self.type, tile.lanes)
        self.bits = ir.VectorType(self.bits, tile.lanes)

    def constant(self, value: float) -> Number:
        if not self.wide:
            value = struct.unpack("f", struct.pack("f", value))[0]
        return ir.Constant(self.type, [value] * self.lanes)

    def integer(self, value: int) -> Number:
        return ir.Constant(self.bits, [value] * self.lanes)

    def call(self, name: str, *operands: Number, flags: tuple[str, ...] = ()) -> Number:
        kind = ir.FunctionType(self.type, [self.type] * len(operands))
        suffix = f"v{self.lanes}{self.dtype}"
        return self.external(f"{name}.{suffix}", kind, *operands, flags=flags)

    def all(self, number: Number) -> Number:
        """A number in every lane."""
        return splat(self.builder, number, self.lanes)

    def across(self, value: Number, join: Callable[[Number, Number], Number]) -> Number:
        """All lanes joined, halves first, in every lane."""
        width = self.lanes
        while width > 1:
            width //= 2
            order = [(k + width) % self.lanes for k in range(self.lanes)]
            kind = ir.Constant(ir.VectorType(I32, self.lanes), order)
            value = join(value, self.builder.shuffle_vector(value, value, kind))
        return value

    def larger(self, a: Number, b: Number) -> Number:
        """The larger of two; `b` where `a` is NaN."""
        return self.select(self.compare(">", a, b), a, b)


class _Row:
    """A function over a row, which it reads and writes by whole vectors."""

    def __init__(self, module: ir.Module, name: str, tile: Tile, arguments: int) -> None:
        self.function = internal(module, name, arguments)
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.tile, self.m = tile, _Vectors(self.b, tile)
        kind = ir.VectorType(I32, tile.lanes)
        self.places = ir.Constant(kind, list(range(tile.lanes)))

    def at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """Where the vector of elements from `index` on lies."""
        place = self.b.add(base, self.b.mul(index, I64(self.tile.bytes_each)))
        return self.b.inttoptr(place, self.m.type.as_pointer())

    def load(self, base: ir.Value, index: ir.Value) -> ir.Value:
        result = self.b.load(self.at(base, index))
        result.align = self.tile.bytes_each
        return result

    def store(self, value: ir.Value, base: ir.Value, index: ir.Value) -> None:
        self.b.store(value, self.at(base, index)).align = self.tile.bytes_each

    def number(self, base: ir.Value) -> ir.Value:
        """The number at an address, in every lane."""
        return self.m.all(self.b.load(self.b.inttoptr(base, self.m.element.as_pointer())))

    def put(self, value: ir.Value, base: ir.Value) -> None:
        """Store the first lane at an address."""
        place = self.b.inttoptr(base, self.m.element.as_pointer())
        self.b.store(self.b.extract_element(value, I32(0)), place)

    def from_bits(self, bits: ir.Value) -> ir.Value:
        """The f64 with these bits, in every lane."""
        number = self.b.bitcast(bits, ir.DoubleType())
        return self.m.all(number if self.m.wide else self.b.fptrunc(number, self.m.element))

    def below(self, index: ir.Value, limit: ir.Value) -> ir.Value:
        """Which lanes of the vector from `index` on come before `limit`."""
        left = self.b.trunc(self.b.sub(limit, index), I32)
        return self.b.icmp_signed("<", self.places, self.m.all(left))

    def counted(self, index: ir.Value, count: ir.Value, mask: ir.Value | None) -> ir.Value:
        """Which lanes count."""
        inside = self.below(index, count)
        if mask is None:
            return inside
        kind = ir.VectorType(ir.IntType(8), self.tile.lanes)
        zeros = ir.Constant(kind, [0] * self.tile.lanes)
        load, _ = masked(self.b.module, kind)
        place = self.b.inttoptr(self.b.add(mask, index), kind.as_pointer())
        flags = self.b.call(load, [place, I32(1), inside, zeros])
        return self.b.icmp_unsigned("!=", flags, zeros)

    def scores(
        self, row: ir.Value, index: ir.Value, scale: ir.Value, counted: ir.Value
    ) -> ir.Value:
        """Scaled products; minus infinity where they do not count."""
        return self.m.select(counted, self.m.mul(self.load(row, index), scale), float("-inf"))

    def end(self) -> ir.Function:
        self.b.ret_void()
        return self.function


def _write_softmax(module: ir.Module, name: str, tile: Tile, has_mask: bool) -> ir.Function:
    r = _Row(module, name, tile, 8)
    b, m = r.b, r.m
    row, count, width, flags, scale, most, total, factor = r.function.args
    mask = flags if has_mask else None
    scale = r.from_bits(scale)
    before = r.number(most)
    with loop(b, I64(0), count, tile.lanes, [before]) as found:
        value = r.scores(row, found.index, scale, r.counted(found.index, count, mask))
        found.following = [m.larger(value, found.carried[0])]
    largest = m.across(found.carried[0], m.larger)
    r.put(largest, most)
    # Where nothing counts so far, there is no largest score to subtract.
    shift = m.select(m.compare("==", largest, float("-inf")), 0.0, largest)
    ratio = exp(m, m.sub(before, shift))
    r.put(ratio, factor)
    with loop(b, I64(0), width, tile.lanes, [m.constant(0.0)]) as found:
        value = r.scores(row, found.index, scale, r.counted(found.index, count, mask))
        value = exp(m, m.sub(value, shift))
        r.store(value, row, found.index)
        found.following = [m.add(found.carried[0], value)]
    added = m.across(found.carried[0], m.add)
    r.put(m.fma(r.number(total), ratio, added), total)
    return r.end()


def _write_gradient(module: ir.Module, name: str, tile: Tile, has_mask: bool) -> ir.Function:
    r = _Row(module, name, tile, 8)
    b, m = r.b, r.m
    row, d_row, count, width, flags, scale, lse, delta = r.function.args
    mask = flags if has_mask else None
    scale, shift, loss = r.from_bits(scale), r.number(lse), r.number(delta)
    with loop(b, I64(0), width, tile.lanes) as found:
        counted = r.counted(found.index, count, mask)
        p = exp(m, m.sub(r.scores(row, found.index, scale, counted), shift))
        slope = m.mul(m.mul(p, m.sub(r.load(d_row, found.index), loss)), scale)
        r.store(p, row, found.index)
        r.store(m.select(counted, slope, 0.0), d_row, found.index)
    return r.end()


def _write_scale(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    r = _Row(module, name, tile, 4)
    b, m = r.b, r.m
    target, source, count, factor = r.function.args
    number = r.number(factor)
    load, store = masked(module, m.type)
    align = I32(tile.bytes_each)
    with loop(b, I64(0), count, tile.lanes) as found:
        inside = r.below(found.index, count)
        value = b.call(load, [r.at(source, found.index), align, inside, m.constant(0.0)])
        b.call(store, [m.mul(value, number), r.at(target, found.index), align, inside])
    return r.end()


def _write_finish(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    r = _Row(module, name, tile, 4)
    b, m = r.b, r.m
    most, total, lse, count = r.function.args
    with loop(b, I64(0), count, tile.lanes) as found:
        sums = r.load(total, found.index)
        r.store(m.add(r.load(most, found.index), log(m, sums)), lse, found.index)
        r.store(m.div(1.0, sums), total, found.index)
    return r.end()
