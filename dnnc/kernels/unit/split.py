"""Numbers in three pieces, in the order in which tiles hold them, written as LLVM vector code.

A piece takes the leading 8 bits of a significand: the first piece of a number is the number cut
off, the second is what remains, rounded, and the third what then remains, which fits.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial

from llvmlite import ir

from dnnc.kernels.intrinsics import intrinsic
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.unit.sizes import CHUNK, CHUNK_BYTES, LINE, PIECES, SIDE, TILE_BYTES
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
    zeros,
)

__all__ = ["Split", "split_chunk", "split_columns", "split_rows"]

_LANES = SIDE
_FLOATS = ir.VectorType(FLOATS["f32"], _LANES)
_WORDS = ir.VectorType(I32, _LANES)
_HALVES = ir.VectorType(ir.IntType(16), 2 * _LANES)
#: Which halves of two vectors make a row of a tile: upper halves of one, then of the other, or of
#: both in turn.
_FOLLOWING = [2 * k + 1 for k in range(2 * _LANES)]
_IN_TURN = [2 * (k // 2) + 1 + k % 2 * 2 * _LANES for k in range(2 * _LANES)]


@intrinsic
def split_rows(typing_context, to, source, source_row, source_part, rows, chunks, first, stop):  # type: ignore[no-untyped-def]
    """`split_rows(to, source, source_row, source_part, rows, chunks, first, stop)`: at most 16 rows
    of `chunks` (at least 1) times 32 numbers, `source_row` bytes apart, as tiles of the left
    operand. Each 16 numbers of a row are adjacent, and `source_part` bytes from those before. In
    the place of those of a chunk before the `first` one and from `stop` on stand zeros."""
    name = "dnnc_split_rows"
    return calling(name, 8, lambda module: _write_rows(module, name))


@intrinsic
def split_columns(typing_context, to, apart, source, source_row, depth, columns):  # type: ignore[no-untyped-def]
    """`split_columns(to, apart, source, source_row, depth, columns)`: rows of `columns` numbers,
    `source_row` bytes apart, as tiles of the right operand, those of each 16 columns `apart` bytes
    from those before; zeros elsewhere in the tiles."""
    name = "dnnc_split_columns"
    return calling(name, 6, lambda module: _write_columns(module, name))


def _write_rows(module: ir.Module, name: str) -> ir.Function:
    function = internal(module, name, 8)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, source, source_row, source_part, rows, chunks, first, stop = function.args
    masks = [
        b.and_(lane_mask(b, _LANES, stop, lane), b.not_(lane_mask(b, _LANES, first, lane)))
        for lane in (0, _LANES)
    ]
    two_parts = b.shl(source_part, I64(1))
    with loop(b, I64(0), chunks, 1, [to, source], at_least_once=True) as turn:
        with loop(b, I64(0), rows, 1, turn.carried, at_least_once=True) as inner:
            target, at = inner.carried
            parts = zip((at, b.add(at, source_part)), masks, strict=True)
            pair = [load_at(b, _FLOATS, b.inttoptr(part, BYTES), 0, mask) for part, mask in parts]
            _store_pieces(b, pair, _FOLLOWING, target)
            inner.following = [b.add(target, I64(LINE)), b.add(at, source_row)]
        target, at = turn.carried
        turn.following = [b.add(target, I64(CHUNK_BYTES)), b.add(at, two_parts)]
    b.ret_void()
    return function


def _write_columns(module: ir.Module, name: str) -> ir.Function:
    function = internal(module, name, 6)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, apart, source, source_row, depth, columns = function.args
    zero = zeros(_FLOATS)

    def pairs(to: ir.Value, at: ir.Value, count: ir.Value, inside: ir.Value, there: int) -> None:
        """Rows of a tile, from pairs of which so many rows are there."""
        with loop(b, I64(0), count, 1, [to, at]) as turn:
            target, source = turn.carried
            places = [source, b.add(source, source_row)][:there]
            rows = [load_at(b, _FLOATS, b.inttoptr(place, BYTES), 0, inside) for place in places]
            _store_pieces(b, [*rows, zero, zero][:2], _IN_TURN, target)
            turn.following = [b.add(target, I64(LINE)), b.add(source, two_rows)]

    two_rows = b.shl(source_row, I64(1))
    with loop(b, I64(0), depth, CHUNK, [to, source], at_least_once=True) as down:
        left = b.sub(depth, down.index)
        left = b.select(b.icmp_signed("<", left, I64(CHUNK)), left, I64(CHUNK))
        with loop(b, I64(0), columns, _LANES, list(down.carried), at_least_once=True) as across:
            inside = lane_mask(b, _LANES, b.sub(columns, across.index))
            to_now, at_now = across.carried
            whole, odd = b.lshr(left, I64(1)), b.and_(left, I64(1))
            pairs(to_now, at_now, whole, inside, 2)
            place = b.add(to_now, b.mul(whole, I64(LINE)))
            pairs(place, b.add(at_now, b.mul(whole, two_rows)), odd, inside, 1)
            place = b.add(place, b.mul(odd, I64(LINE)))
            pairs(place, at_now, b.sub(I64(_LANES), b.add(whole, odd)), inside, 0)
            across.following = [b.add(to_now, apart), b.add(at_now, I64(LINE))]
        further = (I64(CHUNK_BYTES), b.mul(source_row, I64(CHUNK)))
        down.following = [b.add(at, step) for at, step in zip(down.carried, further, strict=True)]
    b.ret_void()
    return function


class Split(Enum):
    """Which operand is split while it is multiplied by.

    Of COLUMNS, the right operand, a tile is 32 rows of 16 numbers; where less than a chunk is left
    it is the last 32 rows, some of which were there before: the left operand has zeros for them. Of
    ROWS, the left operand, it is 16 rows of 32 numbers, of which those that are left are read.
    """

    ROWS = "rows"
    COLUMNS = "columns"

    @property
    def side(self) -> str:
        """The name of the operand among those of a product of tiles."""
        return "a" if self is Split.ROWS else "b"


def split_chunk(
    b: ir.IRBuilder,
    splits: Split,
    target: ir.Value,
    apart: ir.Value,
    index: ir.Value,
    last: ir.Value,
    arguments: Sequence[ir.Value],
) -> list[Callable[[], None]]:
    """Steps that write code to split one chunk of two tiles, which go to `target`, `apart` bytes
    from each other: the one with that `index` from the source on, or if `last` what is after.

    The arguments are those that `multiply_splitting` has more than `multiply_pieces`.
    """
    source, row, tile, left, after, after_left = arguments
    done = b.shl(index, I64(5))
    if splits is Split.COLUMNS:
        most = b.sub(left, I64(CHUNK))
        rows = b.select(b.icmp_signed("<", done, most), done, most)
        at = b.select(last, after, b.add(source, b.mul(rows, row)))
        masks: list[ir.Value | None] = [None, None]
    else:
        at = b.select(last, after, b.add(source, b.shl(done, I64(2))))
        some = b.select(last, after_left, b.sub(left, done))
        some = b.select(b.icmp_signed("<", some, I64(CHUNK)), some, I64(CHUNK))
        masks = [lane_mask(b, _LANES, some, first) for first in (0, _LANES)]

    place = b.inttoptr(at, BYTES)
    ends = [place, b.gep(place, [tile])]
    targets = [target, b.add(target, apart)]

    def part(j: int, u: int) -> None:
        """One row of the three tiles of pieces of tile `j`, of rows that follow those before."""
        if splits is Split.COLUMNS:
            first, second = ends[j], b.gep(ends[j], [row])
            places, ends[j] = [(first, 0), (second, 0)], b.gep(second, [row])
        else:
            places, ends[j] = [(ends[j], 0), (ends[j], LINE)], b.gep(ends[j], [row])
        pair = [
            load_at(b, _FLOATS, *place, mask) for place, mask in zip(places, masks, strict=True)
        ]
        order = _IN_TURN if splits is Split.COLUMNS else _FOLLOWING
        _store_pieces(b, pair, order, b.add(targets[j], I64(u * LINE)))

    return [partial(part, j, u) for j in range(2) for u in range(SIDE)]


def _store_pieces(b: ir.IRBuilder, pair: list[ir.Value], order: list[int], to: ir.Value) -> None:
    """Store the pieces of two vectors as rows of three tiles, which lie one behind the other."""
    upper, half = (ir.Constant(_WORDS, [number] * _LANES) for number in (0xFFFF0000, 0x8000))
    shuffle = ir.Constant(ir.VectorType(I32, 2 * _LANES), order)
    rest = pair
    for piece in range(PIECES):
        words = [b.bitcast(vector, _WORDS) for vector in rest]
        if piece == 1:
            words = [b.add(vector, half) for vector in words]
        row = b.shuffle_vector(*(b.bitcast(vector, _HALVES) for vector in words), shuffle)
        store_at(b, b.bitcast(row, _WORDS), b.inttoptr(to, BYTES), piece * TILE_BYTES)
        if piece + 1 < PIECES:
            cut = [b.bitcast(b.and_(vector, upper), _FLOATS) for vector in words]
            rest = [b.fsub(x, y) for x, y in zip(rest, cut, strict=True)]
