"""Convolutions that keep channels apart: each group has one input and one output channel.

There is no matrix in them to make use of registers; they go along lines, a vector of windows at a
time, and read their operands where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Scratch, make_kernel
from dnnc.kernels.epilogue import Epilogue, Region, epilogue_arguments
from dnnc.kernels.tiles import tiles
from dnnc.ops.conv import Convolution

__all__ = ["depthwise_call", "depthwise_weight_call", "is_depthwise"]

_TO, _FROM, _OTHER, _N, _C, _H, _W, _HO, _WO, _KH, _KW, _SH, _DH, _DW, _TOP, _LEFT = range(16)
_BACKWARD, _TILE, _WORDS, _EPILOGUE, _SLOTS = range(16, 21)


def is_depthwise(op: Convolution, x: Value, w: Value, backward: bool = False) -> bool:
    """Whether the kernels here compute this convolution; by input they need strides of 1."""
    steps = [stride.constant for stride in op.strides]
    known = steps == [1, 1] if backward else steps[1] in (1, 2)
    known = known and w.shape[3].constant is not None and int(w.shape[3]) <= 16
    return known and w.shape[1] == 1 and w.shape[0] == op.groups and x.shape[1] == op.groups


def depthwise_call(
    op: Convolution,
    source: Value,
    w: Value,
    target: Value,
    epilogue: Epilogue | None,
    backward: bool,
) -> Call:
    """The call of a convolution, or with `backward` of its gradient by input."""
    dtype, size = str(target.type.dtype), target.type.dtype.size
    step, kw = int(op.strides[1]), int(w.shape[3])
    scratch = (
        Scratch(target.shape[3] * size, per_thread=True),
        Scratch(dim(8 * Region.WORDS), per_thread=True),
    )
    arguments: tuple[Argument, ...] = (
        # An epilogue stores by itself, from a line of sums.
        Integer.of(0) if epilogue else Buffer(target, written=True),
        Buffer(source),
        Buffer(w),
        *_sizes(op, source, w, target),
        Integer.of(int(backward)),
        *scratch,
        *epilogue_arguments(epilogue),
    )
    flops = 2 * target.type.elements * w.shape[2] * w.shape[3]
    kernel = make_kernel("depthwise", lambda: _build_lines(dtype, step, kw), dtype, step, kw)
    return Call(kernel, arguments, flops, epilogue.in_place if epilogue else ())


def depthwise_weight_call(op: Convolution, x: Value, dy: Value, dw: Value) -> Call:
    """The call of the gradient by weight."""
    dtype, size = str(dw.type.dtype), dw.type.dtype.size
    step, lanes = int(op.strides[1]), tiles(dtype)[0].lanes
    arguments: tuple[Argument, ...] = (
        Buffer(dw, written=True),
        Buffer(x),
        Buffer(dy),
        *_sizes(op, x, dw, dy),
        Scratch(dim(lanes * size), per_thread=True),
    )
    flops = 2 * dy.type.elements * dw.shape[2] * dw.shape[3]
    kernel = make_kernel("depthwise_weight", lambda: _build_weight(dtype, step), dtype, step)
    return Call(kernel, arguments, flops)


def _sizes(op: Convolution, source: Value, w: Value, target: Value) -> tuple[Integer, ...]:
    image, movement = (*source.shape, *target.shape[2:]), (op.strides[0], *op.dilations)
    return tuple(Integer(s) for s in (*image, *w.shape[2:], *movement, *op.pads[:2]))


def _build_lines(dtype: str, step: int, kw: int) -> Callable[[int, int, int], int]:
    """Threads share the lines of the result."""
    from dnnc.kernels.depthwise_rows import weighted_line
    from dnnc.kernels.intrinsics import share, slot

    line_of, finish = weighted_line(dtype, step, kw), _build_finish()
    size = 4 if dtype == "f32" else 8

    def kernel(args: int, tid: int, threads: int) -> int:
        h, w, ho, wo = slot(args, _H), slot(args, _W), slot(args, _HO), slot(args, _WO)
        kh, dh, dw = slot(args, _KH), slot(args, _DH), slot(args, _DW)
        top, left, taps = slot(args, _TOP), slot(args, _LEFT), kh * kw
        ahead, weight_step = 0, size
        if slot(args, _BACKWARD):
            # By input: the same with the taps in the opposite order.
            top, left = (kh - 1) * dh - top, (kw - 1) * dw - left
            ahead, weight_step = (taps - 1) * size, -size
        channels = slot(args, _C)
        start, stop = share(slot(args, _N) * channels * ho, 1, tid, threads)
        for line in range(start, stop):
            plane, y0 = line // ho, line % ho * slot(args, _SH) - top
            i0, i1 = max(0, (dh - 1 - y0) // dh), min(kh, (h - 1 - y0) // dh + 1)
            source = slot(args, _FROM) + (plane * h + y0) * w * size
            weights = slot(args, _OTHER) + plane % channels * taps * size + ahead
            to = slot(args, _TO) + line * wo * size
            if slot(args, _EPILOGUE):
                to = slot(args, _TILE)
            line_of(to, source, -left, w, i0, i1, kw, wo, weights, weight_step, dh, dw)
            if slot(args, _EPILOGUE):
                finish(args, plane // channels, plane % channels, line % ho, to, wo)
        return 0

    return kernel


def _build_finish() -> Any:
    """`f(args, image, channel, line, source, count)`: the epilogue of one line."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.subroutine import subroutine

    put = store("i64")

    def finish(args: int, image: int, channel: int, line: int, source: int, count: int) -> None:
        region = slot(args, _WORDS)
        put(region, 0, source)
        put(region, 1, 0)
        put(region, 2, 1)
        put(region, 3, count)
        put(region, 4, image)
        put(region, 5, channel)
        put(region, 6, line)
        put(region, 7, 0)
        put(region, 8, 1)
        call_kernel(slot(args, _EPILOGUE), args + 8 * _SLOTS, region, 0)

    return subroutine(finish)


def _build_weight(dtype: str, step: int) -> Callable[[int, int, int], int]:
    """Threads share the channels; a tap sums over lines and images in their order."""
    from dnnc.kernels.depthwise_rows import dot_lines
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store, zero_bytes

    dot, get, put = dot_lines(dtype, step), load(dtype, 1), store(dtype, 0)
    number, size, lanes = NUMBA_TYPES[dtype], 4 if dtype == "f32" else 8, tiles(dtype)[0].lanes

    def kernel(args: int, tid: int, threads: int) -> int:
        h, w, ho, wo = slot(args, _H), slot(args, _W), slot(args, _HO), slot(args, _WO)
        kw, sh, dh, sums = slot(args, _KW), slot(args, _SH), slot(args, _DH), slot(args, 16)
        channels, taps = slot(args, _C), slot(args, _KH) * kw
        start, stop = share(channels * taps, taps, tid, threads)
        for unit in range(start, stop):
            c, ky, kx = unit // taps, unit % taps // kw, unit % taps % kw
            shift = ky * dh - slot(args, _TOP)
            i0, i1 = max(0, (sh - 1 - shift) // sh), min(ho, (h - 1 - shift) // sh + 1)
            first = kx * slot(args, _DW) - slot(args, _LEFT)
            zero_bytes(sums, lanes * size)
            for image in range(slot(args, _N)):
                plane = image * channels + c
                source = slot(args, _FROM) + (plane * h + shift) * w * size
                dy = slot(args, _OTHER) + plane * ho * wo * size
                dot(sums, source, first, w, i0, i1, 1, wo, dy, sh)
            total = number(0)
            for lane in range(lanes):
                total = number(total + get(sums, lane))
            put(slot(args, _TO), unit, total)
        return 0

    return kernel
