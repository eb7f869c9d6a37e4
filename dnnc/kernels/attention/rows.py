"""Rows of scores, a vector at a time: softmax and its gradient, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.elementary import Arithmetic, Number, exp_negative, log
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    I32,
    I64,
    calling,
    internal,
    lane_mask,
    load_at,
    splat,
    store_at,
    zeros,
)

__all__ = ["ROWS", "dot_pairs", "finish_rows", "scale_row", "softmax_gradient_row", "softmax_rows"]

#: Rows at a time, so that what joins the lanes of one does not wait for itself.
ROWS = 4


@cache
def softmax_rows(tile: Tile, line: int, first: bool, has_mask: bool) -> Any:
    """The intrinsic `f(row, rows, count, step, width, mask, mask_row, scale, most, total, factor)`:
    `ROWS` rows of products, `line` bytes apart, become exponentials of scores.

    Of `width` products of row i the first `count + i * step` count, and of those the ones that the
    bytes at `mask + i * mask_row` say; the others become zero, up to whole vectors. Only `rows`
    rows have a mask; what becomes of the others is of no use. `scale` holds the bits of an f64. At
    `most` and `total` are the rows' largest scores so far and sums of the exponentials of scores
    less those; both are brought up to date, and `factor` gets what sums so far are to be multiplied
    by. With `first` there are none so far, and `factor` is not set.
    """
    name = f"dnnc_softmax_rows_{tile.dtype}x{tile.lanes}_{line}_{int(first)}_{int(has_mask)}"

    @intrinsic
    def softmax(  # type: ignore[no-untyped-def]
        typing_context, row, rows, count, step, width, mask, mask_row, scale, most, total, factor
    ):
        write = partial(_write_softmax, name=name, tile=tile, line=line, first=first)
        return calling(name, 11, partial(write, has_mask=has_mask))

    return softmax


@cache
def softmax_gradient_row(tile: Tile, has_mask: bool) -> Any:
    """The intrinsic `f(row, d_row, count, width, mask, scale, lse, delta)`: one row of products
    becomes probabilities, and one of their gradients becomes gradients of products.

    Of `width` products the first `count` count, and of those the ones that the bytes at `mask` say.
    `lse` and `delta` are addresses of numbers, `scale` holds the bits of an f64.
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
def dot_pairs(tile: Tile) -> Any:
    """The intrinsic `f(target, a, b, row, rows, count)`: number i of the target is the product of
    rows i of `a` and `b`, of `count` elements; rows are `row` bytes apart."""
    name = f"dnnc_dot_pairs_{tile.dtype}x{tile.lanes}"

    @intrinsic
    def dot(typing_context, target, a, b, row, rows, count):  # type: ignore[no-untyped-def]
        return calling(name, 6, lambda module: _write_dot(module, name, tile))

    return dot


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

    def at(self, base: ir.Value, index: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where the vector of elements from `index` on lies: the base, and bytes from there."""
        return self.b.inttoptr(base, BYTES), self.b.mul(index, I64(self.tile.bytes_each))

    def load(self, base: ir.Value, index: ir.Value, inside: ir.Value | None = None) -> ir.Value:
        """Zero in lanes that are not inside, of which nothing is read."""
        return load_at(self.b, self.m.type, *self.at(base, index), inside)

    def store(
        self, value: ir.Value, base: ir.Value, index: ir.Value, inside: ir.Value | None = None
    ) -> None:
        store_at(self.b, value, *self.at(base, index), inside)

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
        return lane_mask(self.b, self.tile.lanes, self.b.sub(limit, index))

    def counted(self, index: ir.Value, count: ir.Value, mask: ir.Value | None) -> ir.Value:
        """Which lanes count."""
        inside = self.below(index, count)
        if mask is None:
            return inside
        kind = ir.VectorType(ir.IntType(8), self.tile.lanes)
        flags = load_at(self.b, kind, self.b.inttoptr(mask, BYTES), index, inside)
        return self.b.icmp_unsigned("!=", flags, zeros(kind))

    def score(
        self, row: ir.Value, index: ir.Value, scale: ir.Value, counted: ir.Value | None
    ) -> ir.Value:
        """Scaled products; minus infinity where they do not count."""
        value = self.m.mul(self.load(row, index), scale)
        return value if counted is None else self.m.select(counted, value, float("-inf"))

    def whole(self, count: ir.Value, has_mask: bool) -> ir.Value:
        """Elements in vectors of which all lanes count."""
        return I64(0) if has_mask else self.b.and_(count, I64(-self.tile.lanes))

    def end(self) -> ir.Function:
        self.b.ret_void()
        return self.function


class _Softmax:
    """Writes the softmax of several rows."""

    def __init__(self, r: _Row, line: int, has_mask: bool) -> None:
        b = r.b
        row, rows, count, step, width, mask, mask_row, scale, *_ = r.function.args
        self.r, self.width, self.scale = r, width, r.from_bits(scale)
        self.rows, self.counts, self.masks = [], [], []
        for i in range(ROWS):
            self.rows.append(b.add(row, I64(i * line)))
            limit = b.add(count, b.mul(step, I64(i)))
            limit = b.select(b.icmp_signed("<", limit, width), limit, width)
            self.counts.append(b.select(b.icmp_signed(">", limit, I64(0)), limit, I64(0)))
            given = b.select(b.icmp_signed("<", I64(i), rows), I64(i), I64(0))
            self.masks.append(b.add(mask, b.mul(mask_row, given)) if has_mask else None)
        # Counts do not fall from row to row.
        self.whole = r.whole(self.counts[0], has_mask)

    def largest(self, values: list[ir.Value]) -> list[ir.Value]:
        """The largest scores of the rows, lane by lane, and of `values`."""
        for counted, start, stop in self._parts(self.counts[-1]):
            with loop(self.r.b, start, stop, self.r.tile.lanes, values) as found:
                scores = [self._score(i, found.index, counted) for i in range(ROWS)]
                pairs = zip(scores, found.carried, strict=True)
                found.following = [self.r.m.larger(score, most) for score, most in pairs]
            values = found.carried
        return values

    def exponentials(self, shifts: list[ir.Value]) -> list[ir.Value]:
        """Exponentials of scores less `shifts`, stored; their sums, lane by lane."""
        m, sums = self.r.m, [self.r.m.constant(0.0)] * ROWS
        for counted, start, stop in self._parts(self.width):
            with loop(self.r.b, start, stop, self.r.tile.lanes, sums) as found:
                found.following = []
                for i, shift in enumerate(shifts):
                    value = exp_negative(m, m.sub(self._score(i, found.index, counted), shift))
                    self.r.store(value, self.rows[i], found.index)
                    found.following.append(m.add(found.carried[i], value))
            sums = found.carried
        return sums

    def _parts(self, end: ir.Value) -> list[tuple[bool, ir.Value, ir.Value]]:
        """Vectors that count whole, and others."""
        return [(False, I64(0), self.whole), (True, self.whole, end)]

    def _score(self, i: int, index: ir.Value, some: bool) -> ir.Value:
        counted = self.r.counted(index, self.counts[i], self.masks[i]) if some else None
        return self.r.score(self.rows[i], index, self.scale, counted)


def _write_softmax(
    module: ir.Module, *, name: str, tile: Tile, line: int, first: bool, has_mask: bool
) -> ir.Function:
    r = _Row(module, name, tile, 11)
    m, softmax = r.m, _Softmax(r, line, has_mask)
    places = [
        [r.b.add(base, I64(i * tile.bytes_each)) for base in r.function.args[-3:]]
        for i in range(ROWS)
    ]
    lowest = m.constant(float("-inf"))
    before = [lowest if first else r.number(most) for most, _, _ in places]
    largest = [m.across(value, m.larger) for value in softmax.largest(before)]
    # Where nothing counts so far, there is no largest score to subtract.
    shifts = [m.select(m.compare("==", value, lowest), 0.0, value) for value in largest]
    sums = [m.across(value, m.add) for value in softmax.exponentials(shifts)]
    for i, (most, total, factor) in enumerate(places):
        r.put(largest[i], most)
        if first:
            r.put(sums[i], total)
            continue
        ratio = exp_negative(m, m.sub(before[i], shifts[i]))
        r.put(ratio, factor)
        r.put(m.fma(r.number(total), ratio, sums[i]), total)
    return r.end()


def _write_gradient(module: ir.Module, name: str, tile: Tile, has_mask: bool) -> ir.Function:
    r = _Row(module, name, tile, 8)
    b, m = r.b, r.m
    row, d_row, count, width, flags, scale, lse, delta = r.function.args
    mask = flags if has_mask else None
    scale, shift, loss = r.from_bits(scale), r.number(lse), r.number(delta)
    whole = r.whole(count, has_mask)
    for some, start, stop in ((False, I64(0), whole), (True, whole, width)):
        with loop(b, start, stop, tile.lanes) as found:
            counted = r.counted(found.index, count, mask) if some else None
            p = exp_negative(m, m.sub(r.score(row, found.index, scale, counted), shift))
            slope = m.mul(m.mul(p, m.sub(r.load(d_row, found.index), loss)), scale)
            r.store(p, row, found.index)
            slope = slope if counted is None else m.select(counted, slope, 0.0)
            r.store(slope, d_row, found.index)
    return r.end()


def _write_scale(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    r = _Row(module, name, tile, 4)
    b, m = r.b, r.m
    target, source, count, factor = r.function.args
    number = r.number(factor)
    with loop(b, I64(0), count, tile.lanes) as found:
        inside = r.below(found.index, count)
        value = m.mul(r.load(source, found.index, inside), number)
        r.store(value, target, found.index, inside)
    return r.end()


def _write_dot(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    r = _Row(module, name, tile, 6)
    b, m = r.b, r.m
    target, left, right, row, rows, count = r.function.args
    with loop(b, I64(0), rows, 1) as line:
        offset = b.mul(line.index, row)
        starts = [b.add(base, offset) for base in (left, right)]
        with loop(b, I64(0), count, tile.lanes, [m.constant(0.0)]) as found:
            inside = r.below(found.index, count)
            x, y = (r.load(base, found.index, inside) for base in starts)
            found.following = [m.fma(x, y, found.carried[0])]
        place = b.add(target, b.mul(line.index, I64(tile.bytes_each)))
        r.put(m.across(found.carried[0], m.add), place)
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
