"""Tiles of matrix products, written as LLVM vector code.

A micro-kernel computes a tile `C[rows, columns] (+)= A[rows, depth] B[depth, columns]` with all
sums held in registers, every one taken in the order of `depth`; so an element has the same bits
whichever tile computes it. A is read one number at a time and broadcast, B is read in whole vectors. Where
the rows of A and of B lie is given by strides or, for convolutions, by tables of byte offsets.

`tiles` derives the tile sizes from the processor. Imports numba: import it only inside
`Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from dnnc.kernels.target import host
from dnnc.kernels.tiles import Tile

__all__ = ["micro_kernel", "transpose_block", "transpose_side"]

_I64, _I32, _I8, _I1 = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1)
_BYTES = _I8.as_pointer()
_FLOATS: dict[str, ir.Type] = {"f32": ir.FloatType(), "f64": ir.DoubleType()}


@cache
def micro_kernel(tile: Tile, b_table: bool = False) -> Any:
    """The intrinsic `f(rows, depth, a, a_row, a_step, a_table, b, b_step, c, c_row, columns, add)`.

    Addresses and strides are in bytes. `rows` and `columns` (at least 1, at most the tile's)
    limit what is stored and which rows of A are read; of B, whole rows of the tile are read.
    `depth` is at least 1. Row i of A begins at `a + i * a_row`, or at `a + table[i]` where
    `a_table` is the address of a table and not 0; its elements are `a_step` apart. Row k of B
    begins at `b + k * b_step`, or at `b + table[k]` where `b_table` (`b_step` is then the table's
    address). The tile is added to C where `add` is not 0, and stored otherwise.
    """
    name = f"dnnc_tile_{tile.dtype}_{tile.rows}x{tile.vectors}x{tile.lanes}_{b_table:d}"

    @intrinsic
    def multiply_tile(  # type: ignore[no-untyped-def]
        typing_context, rows, depth, a, a_row, a_step, a_table, b, b_step, c, c_row, columns, add
    ):
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            function = builder.module.globals.get(name)
            if function is None:
                function = _TileWriter(builder.module, name, tile).write(b_table)
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 12), generate

    return multiply_tile


class _TileWriter:
    """Writes one micro-kernel as a function of its own, so that registers are allocated for it
    alone."""

    def __init__(self, module: ir.Module, name: str, tile: Tile) -> None:
        self.module, self.tile = module, tile
        self.element = _FLOATS[tile.dtype]
        self.size = tile.bytes_each
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * tile.lanes)
        self.function = _internal(module, name, 12)
        suffix = f"v{tile.lanes}f{8 * self.size}"
        self.multiply_add = _declare(
            module, f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3
        )
        pointer, mask = self.vector.as_pointer(), ir.VectorType(_I1, tile.lanes)
        self.masked_load = _declare(
            module, f"llvm.masked.load.{suffix}.p0", self.vector, [pointer, _I32, mask, self.vector]
        )
        self.masked_store = _declare(
            module,
            f"llvm.masked.store.{suffix}.p0",
            ir.VoidType(),
            [self.vector, pointer, _I32, mask],
        )

    def write(self, b_table: bool) -> ir.Function:
        rows, depth, a, a_row, a_step, a_table, *others = self.function.args
        b, b_step, c, c_row, columns, add = others
        builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        starts = self._row_starts(builder, rows, a, a_row, a_table)
        sums = self._loop(builder, depth, starts, a_step, b, b_step, b_table)
        add = builder.icmp_signed("!=", add, _I64(0))
        part = self.function.append_basic_block("part")
        full = self.function.append_basic_block("full")
        end = self.function.append_basic_block("end")
        builder.cbranch(builder.icmp_signed("<", columns, _I64(self.tile.columns)), part, full)
        self._store(full, end, sums, rows, c, c_row, add, None)
        inside = self._masks(ir.IRBuilder(part), columns)
        self._store(part, end, sums, rows, c, c_row, add, inside)
        builder.position_at_end(end)
        builder.ret_void()
        return self.function

    def _row_starts(
        self, builder: ir.IRBuilder, rows: ir.Value, a: ir.Value, a_row: ir.Value, table: ir.Value
    ) -> list[ir.Value]:
        base = builder.inttoptr(a, _BYTES)
        given = builder.icmp_unsigned("!=", table, _I64(0))
        # Without a table a word of the stack stands in for it: what it holds is not used.
        unused = builder.alloca(_I64)
        offsets = builder.select(given, builder.inttoptr(table, _I64.as_pointer()), unused)
        starts = []
        for i in range(self.tile.rows):
            # Rows beyond the last are computed from row 0, and not stored.
            row = builder.select(builder.icmp_signed("<", _I64(i), rows), _I64(i), _I64(0))
            place = builder.gep(offsets, [builder.select(given, row, _I64(0))])
            offset = builder.select(given, builder.load(place), builder.mul(a_row, row))
            starts.append(builder.gep(base, [offset]))
        return starts

    def _loop(
        self,
        builder: ir.IRBuilder,
        depth: ir.Value,
        starts: list[ir.Value],
        a_step: ir.Value,
        b: ir.Value,
        b_step: ir.Value,
        b_table: bool,
    ) -> list[list[ir.Value]]:
        entry = builder.block
        base = builder.inttoptr(b, _BYTES)
        loop = builder.append_basic_block("loop")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, offset, row = builder.phi(_I64), builder.phi(_I64), builder.phi(_BYTES)
        sums = [[builder.phi(self.vector) for _ in range(self.tile.vectors)] for _ in starts]
        start = row
        if b_table:
            offsets = builder.inttoptr(b_step, _I64.as_pointer())
            start = builder.gep(base, [builder.load(builder.gep(offsets, [k]))])
        vectors = [self._load(builder, start, j, self.vector) for j in range(self.tile.vectors)]
        totals = []
        for i, first in enumerate(starts):
            number = self._load(builder, builder.gep(first, [offset]), 0, self.element)
            wide = _splat(builder, number, self.tile.lanes)
            totals.append(
                [
                    builder.call(self.multiply_add, [wide, v, s])
                    for v, s in zip(vectors, sums[i], strict=True)
                ]
            )
        following = builder.add(k, _I64(1))
        for phi, first, then in [
            (k, _I64(0), following),
            (offset, _I64(0), builder.add(offset, a_step)),
            (row, base, row if b_table else builder.gep(row, [b_step])),
            *(
                (s, self.zero, t)
                for a, c in zip(sums, totals, strict=True)
                for s, t in zip(a, c, strict=True)
            ),
        ]:
            phi.add_incoming(first, entry)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
        builder.position_at_end(done)
        return totals

    def _load(self, builder: ir.IRBuilder, base: ir.Value, j: int, kind: ir.Type) -> ir.Value:
        place = builder.gep(base, [_I64(j * self.tile.lanes * self.size)])
        result = builder.load(builder.bitcast(place, kind.as_pointer()))
        result.align = self.size
        return result

    def _masks(self, builder: ir.IRBuilder, columns: ir.Value) -> list[ir.Value]:
        lanes = self.tile.lanes
        limit = _splat(builder, columns, lanes)
        kind = ir.VectorType(_I64, lanes)
        numbers = [
            ir.Constant(kind, list(range(j * lanes, (j + 1) * lanes)))
            for j in range(self.tile.vectors)
        ]
        return [builder.icmp_signed("<", number, limit) for number in numbers]

    def _store(
        self,
        block: ir.Block,
        end: ir.Block,
        sums: list[list[ir.Value]],
        rows: ir.Value,
        c: ir.Value,
        c_row: ir.Value,
        add: ir.Value,
        inside: list[ir.Value] | None,
    ) -> None:
        """Store row after row, until `rows`; a vector at a time, masked by `inside`."""
        builder = ir.IRBuilder(block)
        base = builder.inttoptr(c, _BYTES)
        for i, total in enumerate(sums):
            row = builder.gep(base, [builder.mul(c_row, _I64(i))])
            places = [
                builder.bitcast(
                    builder.gep(row, [_I64(j * self.tile.lanes * self.size)]),
                    self.vector.as_pointer(),
                )
                for j in range(self.tile.vectors)
            ]
            before = builder.block
            adding = builder.append_basic_block("adding")
            storing = builder.append_basic_block("storing")
            builder.cbranch(add, adding, storing)
            builder.position_at_end(adding)
            added = [
                builder.fadd(self._old(builder, place, inside, j), total[j])
                for j, place in enumerate(places)
            ]
            builder.branch(storing)
            builder.position_at_end(storing)
            for j in range(len(places)):
                value = builder.phi(self.vector)
                value.add_incoming(total[j], before)
                value.add_incoming(added[j], adding)
                added[j] = value
            for j, place in enumerate(places):
                if inside is None:
                    builder.store(added[j], place).align = self.size
                else:
                    builder.call(self.masked_store, [added[j], place, _I32(self.size), inside[j]])
            if i + 1 == len(sums):
                builder.branch(end)
                return
            following = builder.append_basic_block("row")
            builder.cbranch(builder.icmp_signed("<", _I64(i + 1), rows), following, end)
            builder.position_at_end(following)

    def _old(
        self, builder: ir.IRBuilder, place: ir.Value, inside: list[ir.Value] | None, j: int
    ) -> ir.Value:
        if inside is not None:
            return builder.call(self.masked_load, [place, _I32(self.size), inside[j], self.zero])
        result = builder.load(place)
        result.align = self.size
        return result


@cache
def transpose_block(bytes_each: int) -> Any:
    """The intrinsic `f(target, target_row, source, source_row)`: a square block, transposed.

    The block has `transpose_side(bytes_each)` rows and columns of elements of 4 or 8 bytes;
    addresses and strides of rows are in bytes.
    """
    side = transpose_side(bytes_each)
    name = f"dnnc_transpose_{bytes_each}x{side}"

    @intrinsic
    def transpose(typing_context, target, target_row, source, source_row):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            function = builder.module.globals.get(name)
            if function is None:
                function = _write_transpose(builder.module, name, bytes_each, side)
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 4), generate

    return transpose


def transpose_side(bytes_each: int) -> int:
    """Rows and columns of the block that `transpose_block` transposes."""
    return max(host().lanes(bytes_each), 4 if bytes_each == 4 else 2)


def _write_transpose(module: ir.Module, name: str, bytes_each: int, side: int) -> ir.Function:
    function = _internal(module, name, 4)
    target, target_row, source, source_row = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    # Floats shuffle on more ports than integers on some processors, and bits are only moved.
    vector = ir.VectorType(_FLOATS["f32" if bytes_each == 4 else "f64"], side)
    base = builder.inttoptr(source, _BYTES)
    rows = []
    for i in range(side):
        place = builder.gep(base, [builder.mul(source_row, _I64(i))])
        row = builder.load(builder.bitcast(place, vector.as_pointer()))
        row.align = bytes_each
        rows.append(row)
    # Exchange ever smaller off-diagonal blocks between rows `distance` apart.
    distance = side // 2
    while distance:
        low = [i for i in range(side) if not i & distance]
        upper = [i if not i & distance else side + i - distance for i in range(side)]
        lower = [i + distance if not i & distance else side + i for i in range(side)]
        for i in low:
            first, second = rows[i], rows[i + distance]
            for row, order in ((i, upper), (i + distance, lower)):
                kind = ir.Constant(ir.VectorType(_I32, side), order)
                rows[row] = builder.shuffle_vector(first, second, kind)
        distance //= 2
    base = builder.inttoptr(target, _BYTES)
    for i, row in enumerate(rows):
        place = builder.gep(base, [builder.mul(target_row, _I64(i))])
        builder.store(row, builder.bitcast(place, vector.as_pointer())).align = bytes_each
    builder.ret_void()
    return function


def _splat(builder: ir.IRBuilder, number: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def _internal(module: ir.Module, name: str, arguments: int) -> ir.Function:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


def _declare(
    module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]
) -> ir.Function:
    found = module.globals.get(name)
    if found is not None:
        return found
    return ir.Function(module, ir.FunctionType(result, arguments), name)
