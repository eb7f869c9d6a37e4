"""Moves of rows and blocks by whole vectors, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.target import host
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import BYTES, FLOATS, I32, I64, calling, internal, masked, splat

__all__ = ["copy_rows", "transpose_block", "transpose_side"]


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
        return calling(name, 4, lambda module: _write_transpose(module, name, bytes_each, side))

    return transpose


def transpose_side(bytes_each: int) -> int:
    """Rows and columns of the block that `transpose_block` transposes."""
    return max(host().lanes(bytes_each), 4 if bytes_each == 4 else 2)


def _write_transpose(module: ir.Module, name: str, bytes_each: int, side: int) -> ir.Function:
    function = internal(module, name, 4)
    target, target_row, source, source_row = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    # Floats shuffle on more ports than integers on some processors, and bits are only moved.
    vector = ir.VectorType(FLOATS["f32" if bytes_each == 4 else "f64"], side)
    base = builder.inttoptr(source, BYTES)
    rows = []
    for i in range(side):
        place = builder.gep(base, [builder.mul(source_row, I64(i))])
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
                kind = ir.Constant(ir.VectorType(I32, side), order)
                rows[row] = builder.shuffle_vector(first, second, kind)
        distance //= 2
    base = builder.inttoptr(target, BYTES)
    for i, row in enumerate(rows):
        place = builder.gep(base, [builder.mul(target_row, I64(i))])
        builder.store(row, builder.bitcast(place, vector.as_pointer())).align = bytes_each
    builder.ret_void()
    return function


@cache
def copy_rows(tile: Tile) -> Any:
    """The intrinsic `f(target, target_row, source, source_row, rows, count)`: `rows` of `count`
    elements, at most the tile's columns; strides in bytes."""
    name = f"dnnc_copy_rows_{tile.dtype}_{tile.vectors}x{tile.lanes}"

    @intrinsic
    def copy(  # type: ignore[no-untyped-def]
        typing_context, target, target_row, source, source_row, rows, count
    ):
        return calling(name, 6, lambda module: _write_copy_rows(module, name, tile))

    return copy


def _write_copy_rows(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    function = internal(module, name, 6)
    target, target_row, source, source_row, rows, count = function.args
    vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
    load, store = masked(module, vector)
    zero = ir.Constant(vector, [0.0] * tile.lanes)
    size, align = tile.bytes_each, I32(tile.bytes_each)
    entry = function.append_basic_block("entry")
    builder = ir.IRBuilder(entry)
    limit = splat(builder, builder.trunc(count, I32), tile.lanes)
    kind = ir.VectorType(I32, tile.lanes)
    starts = range(0, tile.columns, tile.lanes)
    masks = [
        builder.icmp_signed("<", ir.Constant(kind, list(range(j, j + tile.lanes))), limit)
        for j in starts
    ]
    loop, end = function.append_basic_block("loop"), function.append_basic_block("end")
    builder.cbranch(builder.icmp_signed(">", rows, I64(0)), loop, end)
    builder.position_at_end(loop)
    i, to, at = builder.phi(I64), builder.phi(I64), builder.phi(I64)
    for j, mask in zip(starts, masks, strict=True):
        places = [
            builder.inttoptr(builder.add(base, I64(j * size)), vector.as_pointer())
            for base in (at, to)
        ]
        value = builder.call(load, [places[0], align, mask, zero])
        builder.call(store, [value, places[1], align, mask])
    following = builder.add(i, I64(1))
    for phi, first, then in (
        (i, I64(0), following),
        (to, target, builder.add(to, target_row)),
        (at, source, builder.add(at, source_row)),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, rows), loop, end)
    builder.position_at_end(end)
    builder.ret_void()
    return function
