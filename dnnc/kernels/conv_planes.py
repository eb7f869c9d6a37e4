"""The padded planes of an image, which every form of convolution reads.

A slab of lines of one image and group is copied with its padding, split into one plane for each
residue of the stride (by input there is one plane); then the pixels that a tap reads for adjacent
outputs are adjacent. Drivers of convolutions have the slots below in common.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Value
from dnnc.kernels.tiles import Tile

__all__ = ["BUDGET", "build_fill", "build_offsets", "planes_and_offsets"]

#: Bytes of the planes of a slab, which stay in the second-level cache.
BUDGET = 256 * 1024
_IN, _C, _H, _W, _GROUPS, _KH, _KW = 1, 4, 5, 6, 10, 11, 12
_SH, _SW, _DH, _DW, _TOP, _LEFT, _BACKWARD = range(13, 20)
_PLANES, _OFFSETS = 21, 22


def planes_and_offsets(
    op: Any, x: Value, y: Value, w: Value, tile: Tile, backward: bool
) -> tuple[Dim, Dim]:
    """Bytes for the planes of a slab, and for the offsets of the taps.

    A slab of one line may take more than the budget for slabs: then the planes hold just that.
    """
    kh, kw = w.shape[2:]
    channels = (y if backward else x).shape[1] // op.groups
    # An upper bound on the width of a line, whatever the padding.
    width = x.shape[3] + y.shape[3] + kw * op.dilations[1] + 2
    line = (kh * op.dilations[0] + 1) * width * channels
    if not backward:
        line = line * op.strides[0] * op.strides[1]
    return (line + 4 * tile.columns) * tile.bytes_each + BUDGET, channels * kh * kw * 8


def build_offsets(tile: Tile) -> Callable[..., None]:
    """`f(args, rows, wide, shift, shift_u)`: the offset of each tap, classes one after the
    other."""
    from dnnc.kernels.intrinsics import slot, store

    put, size, most = store("i64"), tile.bytes_each, tile.columns

    def offsets(args: int, rows: int, wide: int, shift: int, shift_u: int) -> None:
        channels = slot(args, _C) // slot(args, _GROUPS)
        kh, kw, sh, sw = slot(args, _KH), slot(args, _KW), slot(args, _SH), slot(args, _SW)
        dh, dw, table = slot(args, _DH), slot(args, _DW), slot(args, _OFFSETS)
        backward = slot(args, _BACKWARD)
        count = 0
        for r in range(sh if backward else 1):
            for s in range(sw if backward else 1):
                for c in range(channels):
                    for ky in range(kh):
                        for kx in range(kw):
                            y, x = ky * dh // sh, kx * dw // sw
                            a, b = ky * dh % sh, kx * dw % sw
                            if not backward:
                                plane = (c * sh + a) * sw + b
                                put(table, count, ((plane * rows + y) * wide + x) * size)
                                count += 1
                            elif a == r and b == s:
                                at = (c * rows + shift - y) * wide + shift_u - x
                                put(table, count, at * size)
                                count += 1
        # Those of a packed panel follow.
        for k in range(count):
            put(table, count + k, k * most * size)

    return offsets


def build_fill(tile: Tile) -> Any:
    """`f(args, image, group, q, rows, u0, wide, shift, shift_u)`: the planes of one slab, zero
    outside of the image."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.moves import pad_row
    from dnnc.kernels.subroutine import subroutine

    size = tile.bytes_each
    pad, pad_even, spread = pad_row(tile), pad_row(tile, 2), _build_spread(tile)
    used = _build_used()

    def fill(
        args: int,
        image: int,
        group: int,
        q: int,
        rows: int,
        u0: int,
        wide: int,
        shift: int,
        shift_u: int,
    ) -> None:
        groups, h, w = slot(args, _GROUPS), slot(args, _H), slot(args, _W)
        channels = slot(args, _C) // groups
        ph, pw, top, left = slot(args, _SH), slot(args, _SW), slot(args, _TOP), slot(args, _LEFT)
        if slot(args, _BACKWARD):
            ph, pw, top, left = 1, 1, shift, shift_u
        x = slot(args, _IN) + (image * groups + group) * channels * h * w * size
        to = slot(args, _PLANES)
        for c in range(channels):
            for a in range(ph):
                for b in range(pw):
                    if not (used(args, 0, a) and used(args, 1, b)):
                        to += rows * wide * size
                        continue
                    for row in range(rows):
                        y = (q + row) * ph + a - top
                        at = x + (c * h + y) * w * size
                        count = w if 0 <= y < h else 0
                        if pw == 1:
                            pad(to, at, u0 - left, count, wide)
                        elif pw == 2:
                            pad_even(to, at, 2 * u0 + b - left, count, wide)
                        else:
                            spread(to, at, count, u0 * pw + b - left, pw, wide)
                        to += wide * size

    return subroutine(fill)


def _build_spread(tile: Tile) -> Any:
    """`f(to, at, w, first, step, wide)`: every `step`th element from index `first` on, which may
    lie outside of the row."""
    from dnnc.kernels.intrinsics import load, store, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    size = tile.bytes_each
    get, put = load(tile.dtype, 1), store(tile.dtype, 0)

    def spread(to: int, at: int, w: int, first: int, step: int, wide: int) -> None:
        start = min(max((step - 1 - first) // step, 0), wide)
        stop = min(max((w - first + step - 1) // step, start), wide)
        zero_bytes(to, start * size)
        for j in range(start, stop):
            put(to, j, get(at, first + step * j))
        zero_bytes(to + stop * size, (wide - stop) * size)

    return subroutine(spread)


def _build_used() -> Any:
    """`f(args, axis, phase)`: whether a tap reads planes of this residue of the stride."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    def used(args: int, axis: int, phase: int) -> bool:
        stride = slot(args, _SH + axis)
        for k in range(slot(args, _KH + axis)):
            if k * slot(args, _DH + axis) % stride == phase:
                return True
        return bool(slot(args, _BACKWARD) != 0)

    return subroutine(used, returns=1)
