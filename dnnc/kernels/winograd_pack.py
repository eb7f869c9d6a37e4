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

_PACKED, _W, _INPUTS, _OUTPUTS, _BACKWARD, _FILLED, _TAPS = range(7)


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
        *(Integer.of(size) for size in (inputs, outputs, int(op.backward), packed.shape[2])),
        Scratch(dim(taps * taps * width * tile.bytes_each), per_thread=True),
    )
    key = (op.tile, taps, width, tile)
    return [Call(make_kernel("winograd_pack", lambda: _build(*key), *key), arguments)]


def _build(results: int, taps: int, width: int, tile: Tile) -> Callable[[int, int, int], int]:
    """Threads share panels and channels. The taps of a channel are gathered, outputs adjacent."""
    from dnnc.kernels.intrinsics import load, share, slot, store, zero_bytes
    from dnnc.kernels.winograd_ir import both_sides

    transform = both_sides(f"g_{results}_{taps}", winograd(results, taps).g, tile)
    get, put = load(tile.dtype, 1), store(tile.dtype, 0)
    size, lanes, square, count = tile.bytes_each, tile.lanes, taps * taps, results + taps - 1
    pixel = width * size

    def kernel(args: int, tid: int, threads: int) -> int:
        inputs, outputs, backward = slot(args, _INPUTS), slot(args, _OUTPUTS), slot(args, _BACKWARD)
        filled, gathered = slot(args, _FILLED), slot(args, _TAPS)
        panels = (outputs + width - 1) // width
        # Elements from one channel to the next, and from one output to the next.
        apart, step = (outputs * square, square) if backward else (square, inputs * square)
        start, stop = share(panels * filled, 1, tid, threads)
        for unit in range(start, stop):
            p, channel = unit // filled, unit % filled
            some = min(outputs - p * width, width) if channel < inputs else 0
            if some < width:
                zero_bytes(gathered, square * pixel)
            first = channel * apart + p * width * step
            for o in range(some):
                for k in range(square):
                    # The gradient by input sees the kernel turned around.
                    tap = square - 1 - k if backward else k
                    put(gathered, k * width + o, get(slot(args, _W), first + o * step + tap))
            to = slot(args, _PACKED) + unit * pixel
            matrix = panels * filled * pixel
            transform(
                to, count * matrix, matrix, lanes * size, gathered, taps * pixel, pixel,
                width // lanes,
            )  # fmt: skip
        return 0

    return kernel
