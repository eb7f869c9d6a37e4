"""Slabs of input lines for convolutions with channels last, and tables of where things lie.

What a line q of the grid needs are `reach` input lines from `q * step + low` on, for all taps;
columns alike. A slab of such lines is copied with its padding to scratch memory; where nothing is
padded, the image is read where it lies. The builders return plain functions for Numba to compile
into a kernel; for slots and the grid see `dnnc.kernels.convolution.slots`.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.convolution.slots import (
    BACKWARD,
    CHANNELS,
    DH,
    DW,
    HO,
    IN,
    KH,
    KW,
    MOST_PIXELS,
    PIXELS,
    ROOM,
    SH,
    SW,
    TABLE,
    TAPS,
    TOP,
    WORDS,
    C,
    H,
    W,
)

__all__ = ["build_axis", "build_fill", "build_pixels", "build_start"]


def build_axis() -> Callable[[int, int], tuple[int, int, int, int, int]]:
    """`f(args, axis)`: the first grid coordinate and the one after the last; step, low, reach."""
    from dnnc.kernels.intrinsics import slot

    def axis_of(args: int, axis: int) -> tuple[int, int, int, int, int]:
        stride, pad, count = slot(args, SH + axis), slot(args, TOP + axis), slot(args, HO + axis)
        reach = (slot(args, KH + axis) - 1) * slot(args, DH + axis)
        if slot(args, BACKWARD):
            shift = reach // stride
            return pad // stride, (count - 1 + pad) // stride + 1, 1, -shift, shift + 1
        return 0, count, stride, -pad, reach + 1

    return axis_of


def build_start(size: int) -> Callable[[int], tuple[int, int, int]]:
    """`f(args)`: whether images are read where they lie, bytes of an input line of a slab, and grid
    lines of a slab. The table of taps is made; there is none of pixels yet."""
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import shared, subroutine

    axis, taps = shared(build_axis, returns=5), subroutine(_build_taps(size))
    put = store("i64")

    def start(args: int) -> tuple[int, int, int]:
        h, w = slot(args, H), slot(args, W)
        q0, q1, step, low, reach = axis(args, 0)
        u0, u1, step_u, low_u, reach_u = axis(args, 1)
        inside = q0 * step + low >= 0 and (q1 - 1) * step + low + reach <= h
        inside = inside and u0 * step_u + low_u >= 0 and (u1 - 1) * step_u + low_u + reach_u <= w
        line = (w if inside else (u1 - u0 - 1) * step_u + reach_u) * slot(args, C) * size
        taps(args, line)
        put(slot(args, WORDS), TABLE, -1)
        fitting = (slot(args, ROOM) // max(line, 1) - reach) // step + 1
        return inside, line, max(min(fitting, MOST_PIXELS // max(u1 - u0, 1), q1 - q0), 1)

    return start


def _build_taps(size: int) -> Callable[[int, int], None]:
    """`f(args, line)`: the table of offsets of (tap, channel) from a grid point's first element, in
    the order of the depth, for lines of so many bytes."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def taps(args: int, line: int) -> None:
        kh, kw, sh, sw = slot(args, KH), slot(args, KW), slot(args, SH), slot(args, SW)
        dh, dw, pixel = slot(args, DH), slot(args, DW), slot(args, C) * size
        backward, table, count = slot(args, BACKWARD), slot(args, TAPS), 0
        last_y, last_x = (kh - 1) * dh // sh, (kw - 1) * dw // sw
        if not backward:
            sh, sw = 1, 1
        for r in range(sh):
            for s in range(sw):
                for y in range(kh):
                    for x in range(kw):
                        at = y * dh * line + x * dw * pixel
                        if backward:
                            down, across = (kh - 1 - y) * dh, (kw - 1 - x) * dw
                            if down % sh != r or across % sw != s:
                                continue
                            at = (last_y - down // sh) * line + (last_x - across // sw) * pixel
                        for c in range(slot(args, CHANNELS)):
                            put(table, count, at + c * size)
                            count += 1

    return taps


def build_pixels() -> Callable[[int, int, int, int, int], None]:
    """`f(args, lines, columns, down, across)`: the table of offsets of grid points, whose lines and
    columns are so many bytes apart. It is left where it has these columns already."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def pixels(args: int, lines: int, columns: int, down: int, across: int) -> None:
        words, table = slot(args, WORDS), slot(args, PIXELS)
        if slot(words, TABLE) == columns:
            return
        put(words, TABLE, columns)
        for i in range(lines):
            for j in range(columns):
                put(table, i * columns + j, i * down + j * across)

    return pixels


def build_fill(size: int) -> Callable[[int, int, int, int, int, int, int], None]:
    """`f(args, to, image, y, rows, x, wide)`: lines from `y` on and columns from `x` on of an
    image, zero outside of it."""
    from dnnc.kernels.intrinsics import copy_bytes, slot, zero_bytes

    def fill(args: int, to: int, image: int, y: int, rows: int, x: int, wide: int) -> None:
        h, w, pixel = slot(args, H), slot(args, W), slot(args, C) * size
        source = slot(args, IN) + image * h * w * pixel
        left = min(max(-x, 0), wide)
        right = max(min(w - x, wide), left)
        for row in range(y, y + rows):
            if 0 <= row < h and right > left:
                zero_bytes(to, left * pixel)
                copy_bytes(
                    to + left * pixel,
                    source + (row * w + x + left) * pixel,
                    (right - left) * pixel,
                )
                zero_bytes(to + right * pixel, (wide - right) * pixel)
            else:
                zero_bytes(to, wide * pixel)
            to += wide * pixel

    return fill
