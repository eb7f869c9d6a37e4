"""Lines of windows, a vector of windows at a time, as LLVM vector code.

Lanes are adjacent windows of one line of outputs. An element of each window is a masked load; what
lies outside of the line is neutral. Imports llvmlite alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from dnnc.kernels.loop_ir import Loop, loop
from dnnc.kernels.target import host
from dnnc.kernels.vector_ir import FLOATS, I32, I64, internal, masked, splat

__all__ = ["LineWriter"]


class LineWriter:
    """One function being written. Its first arguments are

    `(target, source, first, w, i0, i1, kw, wo)`: `source` is the address of the windows' first
    line, of `w` elements; lines `i0` up to `i1` of the windows lie in the image; window j begins at
    column `first + j * step` and is `kw` wide; there are `wo` windows.
    """

    def __init__(self, module: ir.Module, name: str, arguments: int, dtype: str, step: int) -> None:
        self.function = internal(module, name, arguments)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.size = 4 if dtype == "f32" else 8
        self.lanes, self.step = host().lanes(self.size), step
        self.vector = ir.VectorType(FLOATS[dtype], self.lanes)
        self.masked_load, self.masked_store = masked(module, self.vector)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        _, self.source, self.first, self.w, self.i0, self.i1, self.kw, self.wo = self.function.args[
            :8
        ]

    @property
    def lowest(self) -> ir.Constant:
        return ir.Constant(self.vector, [float("-inf")] * self.lanes)

    def element(self, j: ir.Value, i: ir.Value, kx: ir.Value, neutral: ir.Value) -> ir.Value:
        """Element (i, kx) of each window from number `j` on."""
        b, parts = self.builder, []
        for part in range(self.step):
            at = b.add(self.column(j, kx), I64(part * self.lanes))
            place = b.add(b.mul(i, self.w), at)
            parts.append(self.load(self.source, place, self.inside(at, 1), neutral))
        if self.step == 1:
            return parts[0]
        return self.shuffle(parts, list(range(0, 2 * self.lanes, 2)))

    def column(self, j: ir.Value, kx: ir.Value) -> ir.Value:
        b = self.builder
        return b.add(self.first, b.add(kx, b.mul(j, I64(self.step))))

    def inside(self, column: ir.Value, step: int) -> ir.Value:
        """Which of the columns from one on, `step` apart, lie in the line."""
        b, kind = self.builder, ir.VectorType(I32, self.lanes)
        counts = ir.Constant(kind, [step * k for k in range(self.lanes)])
        columns = b.add(splat(b, b.trunc(column, I32), self.lanes), counts)
        # Unsigned: a column before the line is as far outside as one after it.
        return b.icmp_unsigned("<", columns, splat(b, b.trunc(self.w, I32), self.lanes))

    def below(self, index: ir.Value, limit: ir.Value) -> ir.Value:
        b, kind = self.builder, ir.VectorType(I32, self.lanes)
        counts = ir.Constant(kind, list(range(self.lanes)))
        indices = b.add(splat(b, b.trunc(index, I32), self.lanes), counts)
        return b.icmp_signed("<", indices, splat(b, b.trunc(limit, I32), self.lanes))

    def load(
        self, base: ir.Value, index: ir.Value, mask: ir.Value, otherwise: ir.Value
    ) -> ir.Value:
        arguments = [self.place(base, index), I32(self.size), mask, otherwise]
        return self.builder.call(self.masked_load, arguments)

    def store(self, value: ir.Value, base: ir.Value, index: ir.Value, mask: ir.Value) -> None:
        arguments = [value, self.place(base, index), I32(self.size), mask]
        self.builder.call(self.masked_store, arguments)

    def place(self, base: ir.Value, index: ir.Value) -> ir.Value:
        b = self.builder
        return b.inttoptr(b.add(base, b.mul(index, I64(self.size))), self.vector.as_pointer())

    def shuffle(self, pair: Sequence[ir.Value], order: list[int]) -> ir.Value:
        kind = ir.VectorType(I32, self.lanes)
        return self.builder.shuffle_vector(*pair, ir.Constant(kind, order))

    @contextmanager
    def loop(
        self, start: ir.Value, stop: ir.Value, by: int, carried: Sequence[ir.Value] = ()
    ) -> Iterator[Loop]:
        with loop(self.builder, start, stop, by, carried) as found:
            yield found
