"""Pooling of one line of windows of [N, H, W, C], a vector of channels at a time.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.loop_ir import loop
from dnnc.kernels.pooling.pool import Kind
from dnnc.kernels.target import host
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    NUMBERS,
    calling,
    internal,
    lane_mask,
    load_at,
    prefetch_at,
    splat,
    store_at,
)

__all__ = ["Channels", "gradient_line", "pool_line"]

#: A byte.
I8 = ir.IntType(8)


@dataclass(frozen=True, slots=True)
class Channels:
    """How the channels of a pixel, of type `dtype`, are walked.

    `vectors` are worked on at a time; 0 says that channels may not be whole vectors, and that one
    is worked on at a time, under a mask.
    """

    dtype: str
    vectors: int

    def __str__(self) -> str:
        return f"{self.dtype}x{self.vectors}"


@cache
def pool_line(channels: Channels, kind: Kind) -> Any:
    """The intrinsic `f(y, source, first, w, i0, i1, kw, wo, sw, c, fetch, ahead, indices)`: one
    line.

    `source` is the address of the windows' first line of `w` pixels of `c` channels; lines `i0` up
    to `i1` of the windows lie in the image. Window j begins at column `first + j * sw` and is `kw`
    wide; `y` takes `wo` pixels, the largest elements or the sums, and `indices` the bytes that tell
    where the first largest ones are. A NaN wins. For lines of the windows from `fetch` on, what
    lies `ahead` bytes after them is fetched into the cache.
    """
    name = f"dnnc_pool_{channels}_{kind}"

    @intrinsic
    def pool(  # type: ignore[no-untyped-def]
        typing_context, y, source, first, w, i0, i1, kw, wo, sw, c, fetch, ahead, indices
    ):
        return calling(name, 13, lambda module: _Pool(module, name, 13, channels).write(kind))

    return pool


@cache
def gradient_line(channels: Channels, apart: bool, kind: Kind) -> Any:
    """The intrinsic `f(dy, source, first, w, i0, i1, kw, wo, sw, c, fetch, ahead, dx, e0, e1)`:
    what a line of dy gives to dx: to the first largest element of each window, or to all.

    `source` is that of `pool_line`, or its `indices` where there are any; sums need none.

    Only lines `e0` up to `e1` of the windows are written. `dx` is the address of the windows' first
    line; for the other arguments see `pool_line`. With `apart` windows share no element, and dx is
    only stored to; else it is added to.
    """
    name = f"dnnc_pool_gradient_{channels}_{apart:d}_{kind}"

    @intrinsic
    def gradient(  # type: ignore[no-untyped-def]
        typing_context, dy, source, first, w, i0, i1, kw, wo, sw, c, fetch, ahead, dx, e0, e1
    ):
        def write(module: ir.Module) -> ir.Function:
            return _Gradient(module, name, 15, channels).write(apart, kind)

        return calling(name, 15, write)

    return gradient


@dataclass(frozen=True, slots=True)
class _Place:
    """Some channels of a window: the first of them, those inside, and the window's columns.

    `column` is that of the window's first pixel; columns `j0` up to `j1` of it lie in the image.
    """

    window: ir.Value
    column: ir.Value
    j0: ir.Value
    j1: ir.Value
    channel: ir.Value
    mask: ir.Value | None


class _Windows:
    """One function being written. Its first arguments are those of `pool_line`."""

    def __init__(self, module: ir.Module, name: str, arguments: int, channels: Channels) -> None:
        self.function = internal(module, name, arguments)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.dtype = channels.dtype
        element = NUMBERS[self.dtype]
        self.size = (32 if self.dtype == "f32" else getattr(element, "width", 64)) // 8
        self.lanes, self.vectors = host().lanes(self.size), max(1, channels.vectors)
        self.whole = channels.vectors > 0
        self.vector = ir.VectorType(element, self.lanes)
        self.zero = ir.Constant(self.vector, [element(0).constant] * self.lanes)
        #: Counts elements of a window.
        self.counter = I32 if self.size <= 4 else I64
        self.y, self.source, self.first, self.w, self.i0, self.i1, self.kw, *rest = (
            self.function.args
        )
        self.wo, self.sw, self.c, self.first_fetch, self.ahead = rest[:5]

    @contextmanager
    def places(self) -> Iterator[_Place]:
        """A loop over windows and their channels."""
        b = self.builder
        with loop(b, I64(0), self.wo, 1) as windows:
            column = b.add(self.first, b.mul(windows.index, self.sw))
            j0 = self.limit(">", I64(0), b.neg(column))
            j1 = self.limit("<", self.kw, b.sub(self.w, column))
            with loop(b, I64(0), self.c, self.vectors * self.lanes) as blocks:
                left = b.sub(self.c, blocks.index)
                mask = None if self.whole else lane_mask(b, self.lanes, left)
                yield _Place(windows.index, column, j0, j1, blocks.index, mask)

    def limit(self, sign: str, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.icmp_signed(sign, x, y), x, y)

    def lowest(self) -> ir.Constant:
        if self.dtype in FLOATS:
            return ir.Constant(self.vector, [float("-inf")] * self.lanes)
        width = 8 * self.size
        return ir.Constant(
            self.vector, [0 if self.dtype == "u8" else -(2 ** (width - 1))] * self.lanes
        )

    def reduce(
        self, at: _Place, largest: bool, places: bool = False
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """The largest elements or the sums of a window, and where `places` the number of the first
        largest element in it."""
        b = self.builder
        carried = [self.lowest() if largest else self.zero] * self.vectors
        if places:
            first = b.add(b.mul(self.i0, self.kw), at.j0)
            carried = [*carried, *[self.number(first)] * self.vectors]
        with loop(b, self.i0, self.i1, 1, carried) as lines:
            with loop(b, at.j0, at.j1, 1, lines.carried) as across:
                totals = across.carried[: self.vectors]
                found = across.carried[self.vectors :]
                address = self.pixel(self.source, at, lines.index, across.index)
                self.fetch(address, lines.index)
                values = self.load(address, at.mask)
                if largest:
                    above = [self.above(*pair) for pair in zip(values, totals, strict=True)]
                    choices = list(zip(above, values, totals, strict=True))
                    if places:
                        here = self.number(b.add(b.mul(lines.index, self.kw), across.index))
                        choices += [(o, here, f) for o, f in zip(above, found, strict=True)]
                    across.following = [b.select(*choice) for choice in choices]
                else:
                    across.following = [
                        self.add(*pair) for pair in zip(totals, values, strict=True)
                    ]
            lines.following = across.carried
        return lines.carried[: self.vectors], lines.carried[self.vectors :]

    def number(self, count: ir.Value) -> ir.Value:
        b = self.builder
        narrow = count if self.counter == I64 else b.trunc(count, I32)
        return splat(b, narrow, self.lanes)

    def above(self, value: ir.Value, total: ir.Value) -> ir.Value:
        """Where a value takes the place of the largest so far: also the first NaN does."""
        b = self.builder
        if self.dtype in FLOATS:
            higher = b.fcmp_unordered(">", value, total)
            return b.and_(higher, b.fcmp_ordered("ord", total, total))
        compare = b.icmp_unsigned if self.dtype == "u8" else b.icmp_signed
        return compare(">", value, total)

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.builder.fadd(x, y) if self.dtype in FLOATS else self.builder.add(x, y)

    def pixel(self, base: ir.Value, at: _Place, i: ir.Value, j: ir.Value) -> ir.Value:
        """The address of the channels of a pixel of a window in an image."""
        b = self.builder
        pixel = b.add(b.mul(i, self.w), b.add(at.column, j))
        return self.address(base, b.add(b.mul(pixel, self.c), at.channel))

    def result(self, at: _Place) -> ir.Value:
        """The address of the channels of a window in the line of windows."""
        b = self.builder
        return self.address(self.y, b.add(b.mul(at.window, self.c), at.channel))

    def index(self, base: ir.Value, at: _Place, k: int) -> ir.Value:
        """The pointer to vector k of the indices of a window's channels, a byte each, in a line."""
        b = self.builder
        first = b.add(b.mul(at.window, self.c), b.add(at.channel, I64(k * self.lanes)))
        return b.inttoptr(b.add(base, first), BYTES)

    def address(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.builder.add(base, self.builder.mul(index, I64(self.size)))

    def pointers(self, address: ir.Value) -> list[ir.Value]:
        """Pointers to each vector of the channels at an address."""
        b, wide = self.builder, self.lanes * self.size
        return [b.inttoptr(b.add(address, I64(k * wide)), BYTES) for k in range(self.vectors)]

    def fetch(self, address: ir.Value, line: ir.Value, written: bool = False) -> None:
        """Fetch what will be read, or written, where a pixel in this line of a window asks for
        it."""
        b = self.builder
        with b.if_then(b.icmp_signed(">=", line, self.first_fetch)):
            for place in self.pointers(b.add(address, self.ahead)):
                prefetch_at(b, place, written=written)

    def load(self, address: ir.Value, mask: ir.Value | None) -> list[ir.Value]:
        places = self.pointers(address)
        return [load_at(self.builder, self.vector, place, mask=mask) for place in places]

    def store(self, values: list[ir.Value], address: ir.Value, mask: ir.Value | None) -> None:
        for value, place in zip(values, self.pointers(address), strict=True):
            store_at(self.builder, value, place, mask=mask)


class _Pool(_Windows):
    def write(self, kind: Kind) -> ir.Function:
        with self.places() as at:
            totals, found = self.reduce(at, kind != "sum", places=kind == "indexed")
            self.store(totals, self.result(at), at.mask)
            self.store_indices(found, at)
        self.builder.ret_void()
        return self.function

    def store_indices(self, found: list[ir.Value], at: _Place) -> None:
        b, bytes_each = self.builder, ir.VectorType(I8, self.lanes)
        for k, places in enumerate(found):
            to = self.index(self.function.args[12], at, k)
            store_at(b, b.trunc(places, bytes_each), to, mask=at.mask)


class _Gradient(_Windows):
    def write(self, apart: bool, kind: Kind) -> ir.Function:
        b = self.builder
        dx, e0, e1 = self.function.args[12:]
        with self.places() as at:
            found = self.indices(at) if kind == "indexed" else []
            if kind == "largest":
                found = self.reduce(at, True, places=True)[1]
            given = self.load(self.result(at), at.mask)
            with loop(b, e0, e1, 1) as lines, loop(b, at.j0, at.j1, 1) as across:
                parts = given
                if found:
                    here = self.number(b.add(b.mul(lines.index, self.kw), across.index))
                    hits = [b.icmp_signed("==", place, here) for place in found]
                    parts = [b.select(h, g, self.zero) for h, g in zip(hits, given, strict=True)]
                address = self.pixel(dx, at, lines.index, across.index)
                self.fetch(address, lines.index, written=True)
                if not apart:
                    old = self.load(address, at.mask)
                    parts = [self.add(*pair) for pair in zip(old, parts, strict=True)]
                self.store(parts, address, at.mask)
        b.ret_void()
        return self.function

    def indices(self, at: _Place) -> list[ir.Value]:
        """The numbers of the first largest elements, as they were stored."""
        b, kind = self.builder, ir.VectorType(I8, self.lanes)
        wide = ir.VectorType(self.counter, self.lanes)
        places = [self.index(self.source, at, k) for k in range(self.vectors)]
        return [b.zext(load_at(b, kind, place, mask=at.mask), wide) for place in places]
