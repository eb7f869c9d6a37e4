"""Weights in the form that convolutions by Winograd's method multiply by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Scratch, make_kernel
from dnnc.kernels.tiles import Tile, tiles
from dnnc.ops.winograd import winograd

__all__ = ["winograd_pack_calls"]

#: Channels whose taps are gathered at a time; they divide a block of channels.
_SOME = 4
_PACKED, _W, _INPUTS, _OUTPUTS, _BACKWARD, _FILLED, _WIDTH, _TAPS = range(8)


def winograd_pack_calls(op: Any, w: Value, packed: Value) -> list[Call]:
    """The call that transforms w [O, C, k, k] into panels [products, panels, channels, width]."""
    taps, width = int(w.shape[2]), int(packed.shape[3])
    outputs, inputs = w.shape[:2]
    if op.backward:
        inputs, outputs = outputs, inputs
    tile = tiles(str(w.type.dtype))[0]
    arguments: tuple[Argument, ...] = (
        Buffer(packed, written=True),
        Buffer(w),
        Integer.of(inputs),
        Integer.of(outputs),
        Integer.of(int(op.backward)),
        *(Integer.of(size) for size in packed.shape[2:]),
        Scratch(dim(_SOME * taps * taps * width * tile.bytes_each), per_thread=True),
    )
    key = (op.tile, taps, tile)
    return [
        Call(make_kernel("winograd_pack", lambda: _build(*key), *key, unrolled=False), arguments)
    ]


def _build(results: int, taps: int, tile: Tile) -> Callable[[int, int, int], int]:
    """Threads share panels and channels, some at a time, whose taps are gathered with outputs
    adjacent."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.winograd.transforms import both_sides

    gather = subroutine(_build_gather(taps, tile))
    transform = both_sides(f"g_{results}_{taps}", winograd(results, taps).g, tile)
    lanes, square, count = tile.lanes, taps * taps, results + taps - 1
    size, vector = tile.bytes_each, lanes * tile.bytes_each

    def kernel(args: int, tid: int, threads: int) -> int:
        inputs, outputs = slot(args, _INPUTS), slot(args, _OUTPUTS)
        filled, width, gathered = slot(args, _FILLED), slot(args, _WIDTH), slot(args, _TAPS)
        pixel = width * size
        panels, blocks = (outputs + width - 1) // width, filled // _SOME
        matrix = panels * filled * pixel
        start, stop = share(panels * blocks, 1, tid, threads)
        for unit in range(start, stop):
            p, channel = unit // blocks, unit % blocks * _SOME
            some = min(outputs - p * width, width)
            channels = max(min(inputs - channel, _SOME), 0)
            if some < width or channels < _SOME:
                zero_bytes(gathered, _SOME * square * pixel)
            gather(args, p * width, some, channel, channels)
            for c in range(_SOME):
                to = slot(args, _PACKED) + (p * filled + channel + c) * pixel
                source = gathered + c * square * pixel
                transform(
                    to, count * matrix, matrix, vector, source, taps * pixel, pixel, width // lanes
                )
        return 0

    return kernel


def _build_gather(taps: int, tile: Tile) -> Callable[..., None]:
    """`f(args, output, some, channel, channels)`: taps of so many channels by so many outputs, as
    [channel, tap, width]."""
    from dnnc.kernels.intrinsics import load, slot, store
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose = shared(build_transpose, tile.bytes_each)
    get, put = load(tile.dtype, 1), store(tile.dtype, 0)
    size, square = tile.bytes_each, taps * taps

    def gather(args: int, output: int, some: int, channel: int, channels: int) -> None:
        inputs, outputs = slot(args, _INPUTS), slot(args, _OUTPUTS)
        w, width, gathered = slot(args, _W), slot(args, _WIDTH), slot(args, _TAPS)
        if not slot(args, _BACKWARD):
            source = w + (output * inputs + channel) * square * size
            row = inputs * square * size
            transpose(gathered, width * size, source, row, some, channels * square)
            return
        for c in range(channels):
            # The gradient by input sees the kernel turned around.
            last = ((channel + c) * outputs + output) * square + square - 1
            for k in range(square):
                to = (c * square + k) * width
                for o in range(some):
                    put(gathered, to + o, get(w, last - k + o * square))

    return gather
