"""Products of vectors with rows of a matrix, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.tiles import Tile
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I32,
    I64,
    calling,
    declare,
    internal,
    masked,
    splat,
)

__all__ = ["ROWS", "dot_rows"]

#: Rows at a time: each element of the vector is loaded once for all.
ROWS = 4
#: Sums of each row, so that additions need not wait for one another.
_SUMS = 2


@cache
def dot_rows(tile: Tile) -> Any:
    """The intrinsic `f(out, x, a, a_row, rows, depth)`: out[i] = sum over k of x[k] * a[i, k].

    `rows` is 1 to `ROWS`; rows of `a` are `a_row` bytes apart. Each sum is taken in the same order
    for any `rows`.
    """
    name = f"dnnc_dot_{tile.dtype}x{tile.lanes}"

    @intrinsic
    def dot(typing_context, out, x, a, a_row, rows, depth):  # type: ignore[no-untyped-def]
        return calling(name, 6, lambda module: _write(module, name, tile))

    return dot


def _write(module: ir.Module, name: str, tile: Tile) -> ir.Function:
    function = internal(module, name, 6)
    out, x, a, a_row, rows, depth = function.args
    vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    starts = [builder.inttoptr(x, BYTES)]
    for i in range(ROWS):
        # Rows beyond the last are the first again, and not stored.
        row = builder.select(builder.icmp_signed("<", I64(i), rows), I64(i), I64(0))
        starts.append(builder.inttoptr(builder.add(a, builder.mul(a_row, row)), BYTES))
    zero = ir.Constant(vector, [0.0] * tile.lanes)
    whole = builder.sub(depth, builder.srem(depth, I64(_SUMS * tile.lanes)))
    sums = [[zero] * _SUMS for _ in range(ROWS)]
    sums = _sweep(builder, tile, starts, I64(0), whole, None, sums)
    sums = _sweep(builder, tile, starts, whole, depth, depth, sums)
    to = builder.inttoptr(out, FLOATS[tile.dtype].as_pointer())
    for i in range(ROWS):
        total = sums[i][0]
        for other in sums[i][1:]:
            total = builder.fadd(total, other)
        value = _across(builder, tile, total)
        keep, skip = builder.append_basic_block("keep"), builder.append_basic_block("skip")
        builder.cbranch(builder.icmp_signed("<", I64(i), rows), keep, skip)
        builder.position_at_end(keep)
        builder.store(value, builder.gep(to, [I64(i)])).align = tile.bytes_each
        builder.branch(skip)
        builder.position_at_end(skip)
    builder.ret_void()
    return function


def _sweep(
    builder: ir.IRBuilder,
    tile: Tile,
    starts: list[ir.Value],
    first: ir.Value,
    last: ir.Value,
    limit: ir.Value | None,
    sums: list[list[ir.Value]],
) -> list[list[ir.Value]]:
    """Add elements `first` to `last`, a vector for each sum a round; masked where there is a
    `limit`."""
    vector = ir.VectorType(FLOATS[tile.dtype], tile.lanes)
    load, _ = masked(builder.module, vector)
    suffix = f"v{tile.lanes}f{8 * tile.bytes_each}"
    fma = declare(builder.module, f"llvm.fmuladd.{suffix}", vector, [vector] * 3)
    zero = ir.Constant(vector, [0.0] * tile.lanes)
    before = builder.block
    loop, end = builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed("<", first, last), loop, end)
    builder.position_at_end(loop)
    k = builder.phi(I64)
    phis = [[builder.phi(vector) for _ in row] for row in sums]
    totals = [list(row) for row in phis]
    for part in range(_SUMS):
        at = builder.add(k, I64(part * tile.lanes))
        places = [
            builder.bitcast(
                builder.gep(start, [builder.mul(at, I64(tile.bytes_each))]), vector.as_pointer()
            )
            for start in starts
        ]
        loaded = []
        for place in places:
            if limit is None:
                value = builder.load(place)
                value.align = tile.bytes_each
            else:
                inside = _below(builder, tile, at, limit)
                value = builder.call(load, [place, I32(tile.bytes_each), inside, zero])
            loaded.append(value)
        for i, value in enumerate(loaded[1:]):
            totals[i][part] = builder.call(fma, [loaded[0], value, phis[i][part]])
    following = builder.add(k, I64(_SUMS * tile.lanes))
    builder.cbranch(builder.icmp_signed("<", following, last), loop, end)
    builder.position_at_end(end)
    k.add_incoming(first, before)
    k.add_incoming(following, loop)
    results = []
    for phi_row, sum_row, total_row in zip(phis, sums, totals, strict=True):
        results.append([builder.phi(vector) for _ in phi_row])
        for phi, result, start, total in zip(phi_row, results[-1], sum_row, total_row, strict=True):
            for target in (phi, result):
                target.add_incoming(start, before)
                target.add_incoming(total, loop)
    return results


def _below(builder: ir.IRBuilder, tile: Tile, index: ir.Value, limit: ir.Value) -> ir.Value:
    kind = ir.VectorType(I32, tile.lanes)
    left = builder.trunc(builder.sub(limit, index), I32)
    counts = ir.Constant(kind, list(range(tile.lanes)))
    return builder.icmp_signed("<", counts, splat(builder, left, tile.lanes))


def _across(builder: ir.IRBuilder, tile: Tile, value: ir.Value) -> ir.Value:
    """The sum of the lanes, halves first."""
    width = tile.lanes
    while width > 1:
        width //= 2
        order = [(k + width) % tile.lanes for k in range(tile.lanes)]
        kind = ir.Constant(ir.VectorType(I32, tile.lanes), order)
        value = builder.fadd(value, builder.shuffle_vector(value, value, kind))
    return builder.extract_element(value, I32(0))
