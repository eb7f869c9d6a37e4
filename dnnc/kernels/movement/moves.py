"""Moves of rows and blocks by whole vectors, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.loop_ir import loop
from dnnc.kernels.target import host
from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    calling,
    internal,
    lane_mask,
    load_at,
    store_at,
)

__all__ = ["copy_rows", "transpose_block", "transpose_part", "transpose_side"]

#: Bytes of the pieces within which all processors shuffle elements fast.
_PIECE = 16


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
        return calling(name, 4, lambda module: _write_transpose(module, name, bytes_each))

    return transpose


@cache
def transpose_part(bytes_each: int) -> Any:
    """The intrinsic `f(target, target_row, source, source_row, rows, columns)`: as
    `transpose_block`, of so many `rows` and `columns` of the source, from 1 to a block's."""
    name = f"dnnc_transpose_part_{bytes_each}x{transpose_side(bytes_each)}"

    @intrinsic
    def transpose(  # type: ignore[no-untyped-def]
        typing_context, target, target_row, source, source_row, rows, columns
    ):
        return calling(name, 6, lambda module: _write_transpose(module, name, bytes_each, True))

    return transpose


def transpose_side(bytes_each: int) -> int:
    """Rows and columns of the block that `transpose_block` transposes."""
    return max(host().lanes(bytes_each), 4 if bytes_each == 4 else 2)


def _write_transpose(
    module: ir.Module, name: str, bytes_each: int, part: bool = False
) -> ir.Function:
    function = internal(module, name, 6 if part else 4)
    target, target_row, source, source_row, *extent = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    side = transpose_side(bytes_each)
    # Floats shuffle on more ports than integers on some processors, and bits are only moved.
    vector = ir.VectorType(FLOATS["f32" if bytes_each == 4 else "f64"], side)
    base = b.inttoptr(source, BYTES)
    if part:
        rows, distance = _whole_rows(b, vector, base, source_row, *extent), side
    else:
        rows, distance = _pieces(b, vector, base, source_row, bytes_each), _PIECE // bytes_each
    # Exchange ever smaller off-diagonal blocks between rows `distance` apart.
    while distance > 1:
        distance //= 2
        low = [i for i in range(side) if not i & distance]
        upper = [i if not i & distance else side + i - distance for i in range(side)]
        lower = [i + distance if not i & distance else side + i for i in range(side)]
        for i in low:
            first, second = rows[i], rows[i + distance]
            for row, order in ((i, upper), (i + distance, lower)):
                kind = ir.Constant(ir.VectorType(I32, side), order)
                rows[row] = b.shuffle_vector(first, second, kind)
    base, mask = b.inttoptr(target, BYTES), lane_mask(b, side, extent[0]) if part else None
    for i, row in enumerate(rows):
        if part and i:
            following, end = b.append_basic_block("row"), b.append_basic_block("end")
            b.cbranch(b.icmp_signed("<", I64(i), extent[1]), following, end)
            b.position_at_end(end)
            b.ret_void()
            b.position_at_end(following)
        store_at(b, row, b.gep(base, [b.mul(target_row, I64(i))]), mask=mask)
    b.ret_void()
    return function


def _whole_rows(
    b: ir.IRBuilder,
    vector: ir.VectorType,
    base: ir.Value,
    stride: ir.Value,
    rows: ir.Value,
    columns: ir.Value,
) -> list[ir.Value]:
    """The rows of a block that has so many rows and columns. Those beyond the last are the first
    again: even masks without lanes are slow where memory is not there."""
    mask, found = lane_mask(b, vector.count, columns), []
    for i in range(vector.count):
        row = b.select(b.icmp_signed("<", I64(i), rows), b.mul(stride, I64(i)), I64(0))
        found.append(load_at(b, vector, b.gep(base, [row]), mask=mask))
    return found


def _pieces(
    b: ir.IRBuilder, vector: ir.VectorType, base: ir.Value, stride: ir.Value, bytes_each: int
) -> list[ir.Value]:
    """The rows of a block with its pieces of 16 bytes exchanged already.

    Pieces are read one by one into their places, which takes no shuffles across a vector: those all
    wait for one port.
    """
    side, each = vector.count, _PIECE // bytes_each
    small = ir.VectorType(vector.element, each)
    kind = ir.VectorType(I32, side)
    widen = ir.Constant(kind, [min(i, each) for i in range(side)])
    found = []
    for column in range(0, side, each):
        for row in range(each):
            whole = ir.Constant(vector, ir.Undefined)
            for first in range(0, side, each):
                line = b.gep(base, [b.mul(stride, I64(first + row))])
                piece = load_at(b, small, line, column * bytes_each)
                wide = b.shuffle_vector(piece, ir.Constant(small, ir.Undefined), widen)
                order = [side + i - first if 0 <= i - first < each else i for i in range(side)]
                whole = b.shuffle_vector(whole, wide, ir.Constant(kind, order))
            found.append(whole)
    return found


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
    b = ir.IRBuilder(function.append_basic_block("entry"))
    starts = range(0, tile.columns, tile.lanes)
    masks = [lane_mask(b, tile.lanes, count, j) for j in starts]
    places = [b.inttoptr(address, BYTES) for address in (target, source)]
    with loop(b, I64(0), rows, 1, places) as turn:
        to, at = turn.carried
        for j, mask in zip(starts, masks, strict=True):
            value = load_at(b, vector, at, j * tile.bytes_each, mask)
            store_at(b, value, to, j * tile.bytes_each, mask)
        turn.following = [b.gep(to, [target_row]), b.gep(at, [source_row])]
    b.ret_void()
    return function
