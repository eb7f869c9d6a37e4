"""Outputs of a line of a depthwise convolution, written as LLVM vector code.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dnnc.kernels.convolution.depthwise import Taps
from dnnc.kernels.loop_ir import loop
from dnnc.kernels.target import Target
from dnnc.kernels.vector_ir import (
    BYTES,
    FLOATS,
    I64,
    calling,
    fmuladd,
    internal,
    lane_mask,
    load_at,
    store_at,
    zeros,
)

__all__ = ["outputs_of_line", "write_outputs"]


@cache
def outputs_of_line(taps: Taps, guarded: bool, masked: bool) -> Any:
    """The intrinsic `f(rows, there, channel, pixel, to, step, first, wide, count, columns)`.

    As many outputs as `taps.outputs()`, `step` bytes apart from `to` on. A table at `rows` holds,
    for each of so many rows that are `there`, where its pixels and the weights of its taps begin:
    both are `pixel` bytes apart, and read from byte `channel` on. The first tap of the first output
    is that of pixel `first`. If `guarded`, pixels before 0 and from `wide` on count as zero, and
    `count` outputs are stored; if `masked`, `columns` lanes are read and stored.
    """
    how = f"{'_guarded' * guarded}{'_masked' * masked}"
    shape = taps.dtype, taps.lanes, taps.wide, taps.apart, taps.stride
    name = f"dnnc_depthwise_{'_'.join(map(str, shape))}{how}"

    @intrinsic
    def outputs(  # type: ignore[no-untyped-def]
        typing_context, rows, there, channel, pixel, to, step, first, wide, count, columns
    ):
        def write(module: ir.Module) -> ir.Function:
            return write_outputs(module, name, taps, guarded, masked)

        return calling(name, 10, write)

    return outputs


def write_outputs(
    module: ir.Module,
    name: str,
    taps: Taps,
    guarded: bool,
    masked: bool,
    target: Target | None = None,
) -> ir.Function:
    """Write the function that `outputs_of_line` calls into a module of LLVM code."""
    function = internal(module, name, 10)
    rows, there, channel, pixel, to, step, first, wide, count, columns = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    vector, some = ir.VectorType(FLOATS[taps.dtype], taps.lanes), taps.outputs(target)
    mask = lane_mask(b, taps.lanes, columns) if masked else None
    table = b.inttoptr(rows, I64.as_pointer())
    places = sorted(
        {j * taps.stride + k * taps.apart for j in range(some) for k in range(taps.wide)}
    )
    offsets, inside = {}, {}
    for place in places:
        at = b.add(first, I64(place))
        if guarded:
            # Compared without a sign, what is before the first is beyond the last.
            inside[place] = b.icmp_unsigned("<", at, wide)
            at = b.select(inside[place], at, I64(0))
        offsets[place] = b.mul(at, pixel)
    weights = [b.mul(pixel, I64(k)) for k in range(taps.wide)]
    zero = zeros(vector)
    with loop(b, I64(0), there, 1, [zero] * some) as turn:
        sums, pair = list(turn.carried), b.shl(turn.index, I64(1))
        source, factors = (
            b.inttoptr(b.add(b.load(b.gep(table, [b.add(pair, I64(i))])), channel), BYTES)
            for i in range(2)
        )
        pixels = {}
        for place in places:
            value = load_at(b, vector, source, offsets[place], mask)
            pixels[place] = b.select(inside[place], value, zero) if guarded else value
        for k in range(taps.wide):
            factor = load_at(b, vector, factors, weights[k], mask)
            for j in range(some):
                pixel_of = pixels[j * taps.stride + k * taps.apart]
                sums[j] = fmuladd(b, pixel_of, factor, sums[j])
        turn.following = sums
    end, base = b.append_basic_block("end"), b.inttoptr(to, BYTES)
    for j, value in enumerate(turn.carried):
        store_at(b, value, base, b.mul(step, I64(j)), mask)
        if guarded and j + 1 < some:
            following = b.append_basic_block("following")
            b.cbranch(b.icmp_signed("<", I64(j + 1), count), following, end)
            b.position_at_end(following)
    b.branch(end)
    b.position_at_end(end)
    b.ret_void()
    return function
