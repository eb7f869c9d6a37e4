"""Tiles of products of pieces, written as LLVM code for the matrix unit.

The unit has eight registers of 16 rows of 64 bytes. A tile of the left operand is 16 rows of 32
bfloat16, one of the right operand 16 pairs of rows of 16 columns, the numbers of a pair next to
each other; a tile of sums is 16 by 16 float32. In memory a tile is 1 KiB, and the three pieces of a
tile follow one another.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import types

from dnnc.kernels.intrinsics import intrinsic
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.unit.sizes import (
    CHUNK_BYTES,
    FETCHED,
    LINE,
    SETTINGS,
    SIDE,
    TILE_BYTES,
)
from dnnc.kernels.unit.split import Split, split_chunk
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I1,
    I64,
    calling,
    declare,
    internal,
    lane_mask,
    load_at,
    prefetch_at,
    store_sums,
)

__all__ = [
    "add_rows",
    "build_multiply_tiles",
    "configure",
    "multiply_pieces",
    "multiply_splitting",
    "release",
    "write_multiply_pieces",
]

_I8 = BYTES.pointee
#: Integers that products of tiles take, and those more that split as they go.
_ARGUMENTS, _MORE_ARGUMENTS = 12, 6
#: Which piece of the left operand is multiplied by which of the right one: the smallest products
#: first. From one to the next one side changes.
_STEPS: tuple[tuple[int, int], ...] = ((2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0))
#: A side of a product: its register, "a" or "b", the number of the tile, and the piece.
_Side: TypeAlias = tuple[int, str, int, int]


@intrinsic
def configure(typing_context):  # type: ignore[no-untyped-def]
    """Make the tile registers of this thread whole ones. They are to be released afterwards."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.ArrayType(_I8, len(SETTINGS))
        with builder.goto_entry_block():
            table = builder.alloca(kind)
        builder.store(ir.Constant(kind, list(SETTINGS)), table)
        _call(builder, "ldtilecfg", builder.bitcast(table, BYTES))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def release(typing_context):  # type: ignore[no-untyped-def]
    """Free the tile registers: switching threads then need not save them."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@cache
def multiply_pieces(rows: int, columns: int) -> Any:
    """The intrinsic `f(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines,
    count)`: a product of `rows` by `columns` tiles, at most two each, stored at `c`, whose rows are
    `c_row` bytes apart; added to what is there where `add` is not 0.

    The depth is `chunks` (at least 1) times 32. The tiles of the left operand with the same 16 rows
    are chunk after chunk from `a` on, the next rows `a_apart` bytes further on; so it is with the
    columns of the right operand and `b`. An operand may lie in a ring: behind the chunk that ends
    at `ring_end` follows the one `ring` bytes before. The order of a sum depends on nothing but the
    chunks. The cache lines at the `count` addresses of a table at `lines` are fetched meanwhile,
    `FETCHED` for each chunk; as many entries more are read.
    """
    name = f"dnnc_pieces_{rows}x{columns}"

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count
    ):
        def write(module: ir.Module) -> ir.Function:
            return write_multiply_pieces(module, name, rows, columns)

        return calling(name, _ARGUMENTS, write)

    return multiply


@cache
def multiply_splitting(splits: Split) -> Any:
    """The intrinsic `f(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count,
    source, row, tile, left, after, after_left)`: as `multiply_pieces(2, 2)`, by an operand in a
    ring of which only the first chunk is split before.

    While a chunk is multiplied, the one that follows it in the ring is split; the last time what
    is `after`. Others are from `source` on, where `left` steps of the depth are left; from
    `after` on `after_left` are. Rows are `row` bytes apart, and tiles `tile`. The `Split` tells
    which operand it is, and what happens where less than a chunk is left.
    """
    name = f"dnnc_splitting_{splits.value}"

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count,
        source, row, tile, left, after, after_left
    ):  # fmt: skip
        def write(module: ir.Module) -> ir.Function:
            return write_multiply_pieces(module, name, 2, 2, splits)

        return calling(name, _ARGUMENTS + _MORE_ARGUMENTS, write)

    return multiply


def build_multiply_tiles() -> Callable[..., None]:
    """`f(chunks, a, a_apart, rows, b, b_apart, columns, ring_end, ring, c, c_row, add, lines,
    count)`: the first 32 rows of A, or all if they are fewer, by at most two panels of B; see
    `multiply_pieces`."""
    square, high = multiply_pieces(2, 2), multiply_pieces(2, 1)
    wide, single = multiply_pieces(1, 2), multiply_pieces(1, 1)

    def multiply_tiles(
        chunks: int, a: int, a_apart: int, rows: int, b: int, b_apart: int, columns: int,
        ring_end: int, ring: int, c: int, c_row: int, add: int, lines: int, count: int,
    ) -> None:  # fmt: skip
        if rows > SIDE:
            if columns > SIDE:
                square(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count)
            else:
                high(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count)
        elif columns > SIDE:
            wide(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count)
        else:
            single(chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count)

    return multiply_tiles


def write_multiply_pieces(
    module: ir.Module, name: str, rows: int, columns: int, splits: Split | None = None
) -> ir.Function:
    """Write the function that `multiply_pieces`, or `multiply_splitting`, calls into a module of
    LLVM code."""
    function = internal(module, name, _ARGUMENTS + (_MORE_ARGUMENTS if splits else 0))
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    arguments = function.args[:_ARGUMENTS]
    chunks, a, a_apart, b, b_apart, ring_end, ring, c, c_row, add, lines, count = arguments
    apart = {"a": a_apart, "b": b_apart}
    line = builder.alloca(ir.ArrayType(_I8, LINE))
    line.align = LINE
    line = builder.bitcast(line, BYTES)
    products = _products(rows, columns)
    sums = [
        (
            i * columns + j,
            builder.add(c, builder.add(builder.mul(c_row, I64(i * SIDE)), I64(j * LINE))),
        )
        for i, j in product(range(rows), range(columns))
    ]
    with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (adding, starting):
        with adding:
            for tile, place in sums:
                _call(builder, "tileloadd64", _I8(tile), builder.inttoptr(place, BYTES), c_row)
        with starting:
            for tile, _ in sums:
                _call(builder, "tilezero", _I8(tile))
    with loop(builder, I64(0), chunks, 1, [a, b], at_least_once=True) as turn:
        now = dict(zip("ab", turn.carried, strict=True))
        following = {side: _next(builder, place, ring_end, ring) for side, place in now.items()}
        _fetch(builder, lines, count, turn.index)
        work: list[Callable[[], None]] = []
        if splits:
            last = builder.icmp_signed("==", turn.index, builder.sub(chunks, I64(1)))
            target = following[splits.side], apart[splits.side]
            work = split_chunk(
                builder, splits, *target, turn.index, last, function.args[_ARGUMENTS:]
            )
        held: dict[int, tuple[str, int, int]] = {}
        for k, (tile, *sides) in enumerate(products):
            for register, side, number, piece in sides:
                # A tile is loaded just before its first product.
                if held.get(register) != (side, number, piece):
                    _load(builder, register, now[side], apart[side], number, piece)
                    held[register] = side, number, piece
            _call(builder, "tdpbf16ps", *map(_I8, (tile, *(side[0] for side in sides))))
            for step in work[k * len(work) // len(products) : (k + 1) * len(work) // len(products)]:
                step()
        # Where no tile was stored for long, the next one to be stored holds everything up, as if
        # the unit had to wake up. So one is stored now and then, to a line of the stack.
        with builder.if_then(builder.trunc(turn.index, I1)):
            _call(builder, "tilestored64", _I8(rows * columns), line, I64(0))
        turn.following = list(following.values())
    for tile, place in sums:
        _call(builder, "tilestored64", _I8(tile), builder.inttoptr(place, BYTES), c_row)
    builder.ret_void()
    return function


def _next(b: ir.IRBuilder, place: ir.Value, ring_end: ir.Value, ring: ir.Value) -> ir.Value:
    """The place of the chunk behind another one."""
    following = b.add(place, I64(CHUNK_BYTES))
    return b.select(b.icmp_signed("==", following, ring_end), b.sub(following, ring), following)


def _products(rows: int, columns: int) -> list[tuple[int, _Side, _Side]]:
    """The products of a round: the tile that they are added to, and both of their sides.

    Products and loads that are under way take places in the register file, as does each register
    that holds something. While the other thread of a core is at work places are so few that with
    all eight registers in use a product waits for the one before: that halves the rate. So there is
    one register for each side, and from one product to the next one tile changes; where a side is a
    single tile, those of the other one are kept instead.
    """
    first = rows * columns
    second = first + (rows if columns == 1 else 1)
    found: list[tuple[int, _Side, _Side]] = []
    for k, (piece, other) in enumerate(_STEPS):
        tiles = [(i, columns - 1 - j if i % 2 else j) for i in range(rows) for j in range(columns)]
        for i, j in reversed(tiles) if k % 2 else tiles:
            a = first + (i if columns == 1 else 0)
            b = second + (j if rows == 1 else 0)
            found.append((i * columns + j, (a, "a", i, piece), (b, "b", j, other)))
    return found


@intrinsic
def add_rows(typing_context, to, to_row, sums, sums_row, rows, columns, add):  # type: ignore[no-untyped-def]
    """`add_rows(to, to_row, sums, sums_row, rows, columns, add)`: move rows of at most 32 float32,
    added to what is there where `add` is not 0. Rows are so many bytes apart. Of sums 32 are read
    in each row."""
    name = "dnnc_add_rows"
    return calling(name, 7, lambda module: _write_add_rows(module, name))


def _write_add_rows(module: ir.Module, name: str) -> ir.Function:
    function = internal(module, name, 7)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    to, to_row, sums, sums_row, rows, columns, add = function.args
    kind = ir.VectorType(FLOATS["f32"], SIDE)
    masks = [lane_mask(b, SIDE, columns, first) for first in (0, SIDE)]
    adding = b.icmp_signed("!=", add, I64(0))
    with loop(b, I64(0), rows, 1, [to, sums], at_least_once=True) as turn:
        target, source = (b.inttoptr(place, BYTES) for place in turn.carried)
        # All lanes: a load with a mask would wait until what was stored last is in the cache.
        values = [load_at(b, kind, source, offset) for offset in (0, LINE)]
        places = [(target, k * LINE, mask) for k, mask in enumerate(masks)]
        store_sums(b, values, places, adding)
        steps = zip(turn.carried, (to_row, sums_row), strict=True)
        turn.following = [b.add(place, step) for place, step in steps]
    b.ret_void()
    return function


def _fetch(b: ir.IRBuilder, lines: ir.Value, count: ir.Value, chunk: ir.Value) -> None:
    """Fetch the cache lines whose turn it is."""
    first = b.mul(chunk, I64(FETCHED))
    with b.if_then(b.icmp_signed("<", first, count)):
        table = b.inttoptr(lines, I64.as_pointer())
        for k in range(FETCHED):
            line = b.load(b.gep(table, [b.add(first, I64(k))]))
            prefetch_at(b, b.inttoptr(line, BYTES))


def _load(
    b: ir.IRBuilder, register: int, base: ir.Value, apart: ir.Value, number: int, piece: int
) -> None:
    """Load one piece of the tile of that number into a register."""
    at = b.add(base, b.mul(apart, I64(number)))
    place = b.inttoptr(b.add(at, I64(piece * TILE_BYTES)), BYTES)
    _call(b, "tileloadd64", _I8(register), place, I64(LINE))


def _call(b: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    kinds = [value.type for value in arguments]
    b.call(declare(b.module, f"llvm.x86.{name}", ir.VoidType(), kinds), list(arguments))
