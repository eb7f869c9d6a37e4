"""The kernels behind `dnnc.kernels.conv`: its driver, and the gathering of weights by class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.kernels.conv_planes import BUDGET, build_fill, build_offsets
from dnnc.kernels.tiles import Tile

__all__ = ["ROWS", "build_conv", "build_gather_weights"]

#: The most rows of weights that one strip takes.
ROWS = 112
_OUT, _IN, _WEIGHTS, _N, _C, _H, _W, _O, _HO, _WO, _GROUPS, _KH, _KW = range(13)
_SH, _SW, _DH, _DW, _TOP, _LEFT, _BACKWARD = range(13, 20)
_STRIP, _PLANES, _OFFSETS, _TILE, _PACKED, _WORDS, _FLAT, _EPILOGUE, _SLOTS = range(20, 29)


def build_conv(tile: Tile) -> Callable[[int, int, int], int]:
    """The driver. Units of work are slabs of images and groups, or parts of their channels.

    Grid coordinates: by output (q, u) = (line, column) of y; by input dx[h, w] has the coordinates
    `h + top = sh * q + r` and `w + left = sw * u + s` with its class (r, s).
    """
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine

    fill, offsets = build_fill(tile), subroutine(build_offsets(tile))
    extent = _build_extent()
    multiply = subroutine(_build_multiply(tile))
    size = tile.bytes_each

    def kernel(args: int, tid: int, threads: int) -> int:
        images, groups = slot(args, _N), slot(args, _GROUPS)
        channels, outputs = slot(args, _C) // groups, slot(args, _O) // groups
        backward = slot(args, _BACKWARD)
        q0, q1, shift = extent(args, 0)
        u0, u1, shift_u = extent(args, 1)
        if images == 0 or outputs == 0 or slot(args, _HO) == 0 or slot(args, _WO) == 0:
            return 0
        wide = u1 - u0 + shift_u
        planes = 1 if backward else slot(args, _SH) * slot(args, _SW)
        line = channels * planes * wide * size
        lines = min(max(BUDGET // max(line, 1) - shift, 1), q1 - q0)
        slabs = (q1 - q0 + lines - 1) // lines
        parts = 1
        if images * groups * slabs < 4 * threads:
            parts = max(min(threads, outputs // 4), 1)
        rows = lines + shift
        offsets(args, rows, wide, shift, shift_u)
        start, stop = share(images * groups * slabs * parts, 1, tid, threads)
        filled = -1
        for unit in range(start, stop):
            place = unit // parts
            image, group = place // slabs // groups, place // slabs % groups
            q = q0 + place % slabs * lines
            if place != filled:
                fill(args, image, group, q, rows, u0, wide, shift, shift_u)
                filled = place
            first = outputs * (unit % parts) // parts
            last = outputs * (unit % parts + 1) // parts
            multiply(args, image, group, q, min(q + lines, q1), u0, wide, rows, first, last)
        return 0

    return kernel


def _build_extent() -> Any:
    """`f(args, axis)`: the first and last grid coordinate, and the largest shift of a tap."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    def extent(args: int, axis: int) -> tuple[int, int, int]:
        stride, pad = slot(args, _SH + axis), slot(args, _TOP + axis)
        count = slot(args, _HO + axis)
        shift = (slot(args, _KH + axis) - 1) * slot(args, _DH + axis) // stride
        if slot(args, _BACKWARD):
            return pad // stride, (count - 1 + pad) // stride + 1, shift
        return 0, count, shift

    return subroutine(extent, returns=3)


def _build_multiply(tile: Tile) -> Callable[..., None]:
    """`f(args, image, group, q, stop, u0, wide, rows, first, last)`: outputs of grid lines from `q`
    to `stop` and channels `first` to `last` of a group, class by class."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    panels = subroutine(_build_panels(tile))
    size = tile.bytes_each

    def multiply(
        args: int,
        image: int,
        group: int,
        q: int,
        stop: int,
        u0: int,
        wide: int,
        rows: int,
        first: int,
        last: int,
    ) -> None:
        groups, backward = slot(args, _GROUPS), slot(args, _BACKWARD)
        channels, outputs = slot(args, _C) // groups, slot(args, _O) // groups
        kh, kw, sh, sw = slot(args, _KH), slot(args, _KW), slot(args, _SH), slot(args, _SW)
        dh, dw, top, left = slot(args, _DH), slot(args, _DW), slot(args, _TOP), slot(args, _LEFT)
        ho, wo = slot(args, _HO), slot(args, _WO)
        weights = slot(args, _WEIGHTS) + group * outputs * channels * kh * kw * size
        done = 0
        if not backward:
            sh, sw, top, left = 1, 1, 0, 0
        for r in range(sh):
            for s in range(sw):
                depth = channels * kh * kw
                if backward:
                    down, across = 0, 0
                    for ky in range(kh):
                        down += ky * dh % sh == r
                    for kx in range(kw):
                        across += kx * dw % sw == s
                    depth = channels * down * across
                # The grid lines and columns of this class that lie inside of the output.
                qa, qb = max(q, (top - r + sh - 1) // sh), min(stop, (ho - 1 + top - r) // sh + 1)
                ua = (left - s + sw - 1) // sw
                ub = (wo - 1 + left - s) // sw + 1
                offsets = slot(args, _OFFSETS) + done * 8
                source = slot(args, _PLANES) + ((qa - q) * wide + ua - u0) * size
                a = weights + (outputs * done + first * depth) * size
                panels(
                    args,
                    image,
                    group * outputs + first,
                    last - first,
                    a,
                    depth,
                    offsets,
                    source,
                    wide,
                    qa * sh + r - top,
                    qb - qa,
                    ua * sw + s - left,
                    ub - ua,
                    sh,
                    sw,
                )
                done += depth

    return multiply


def _build_panels(tile: Tile) -> Callable[..., None]:
    """One class: `channels` outputs from `channel` on, `lines` by `columns` of the grid, at `h`,
    `w` of the output and `sh`, `sw` apart there.

    Panels run along lines; or over the lines and the gaps between them where that takes fewer; or
    over the lines without the gaps, packed, where that takes so many fewer that it pays.
    """
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import subroutine

    pack, strip = subroutine(_build_pack(tile)), subroutine(_build_strip(tile))
    put = store("i64")
    size, most = tile.bytes_each, tile.columns

    def panels(
        args: int, image: int, channel: int, channels: int, a: int, depth: int, offsets: int,
        source: int, wide: int, h: int, lines: int, w: int, columns: int, sh: int, sw: int,
    ) -> None:  # fmt: skip
        words, step = slot(args, _WORDS), wide
        if lines <= 0 or columns <= 0:
            return
        adjacent = columns == slot(args, _WO) and sh == 1 and slot(args, _FLAT) != 0
        if adjacent and columns == wide:
            lines, columns, wide = 1, lines * columns, lines * columns
        each = (columns + most - 1) // most
        count = ((lines - 1) * wide + columns + most - 1) // most
        by_line = 16 * each * lines <= 17 * count
        count = each * lines if by_line else count
        fewer = (lines * columns + most - 1) // most
        packed = fewer * (channels + 4 + most // columns) < count * channels
        block = min(max(BUDGET // max(depth * size, 1), 16), ROWS)
        if packed:
            by_line, count, block = False, fewer, ROWS
        blocks = (channels + block - 1) // block
        taps = slot(args, _C) // slot(args, _GROUPS) * slot(args, _KH) * slot(args, _KW)
        # Where the taps of a packed panel lie.
        own = slot(args, _OFFSETS) + taps * 8
        for unit in range(blocks * count):
            # Packed panels are used by all channels at once, weights by all panels.
            p, i = unit % count, unit // count * block
            if packed:
                p, i = unit // blocks, unit % blocks * block
                if i == 0:
                    pack(args, p * most, lines, columns, step, source, offsets, depth)
            rows = min(block, channels - i)
            put(words, 0, rows)
            put(words, 1, depth)
            put(words, 2, a + i * depth * size)
            put(words, 3, depth * size)
            line, column = (p // each, p % each * most) if by_line else (0, p * most)
            put(words, 5, source + (line * wide + column) * size)
            put(words, 6, offsets)
            gap, all_lines, all_columns = wide, lines, columns
            if packed:
                put(words, 5, slot(args, _PACKED))
                put(words, 6, own)
                if adjacent:
                    all_lines, all_columns = 1, lines * columns
                gap = all_columns
            strip(
                args, image, channel + i, rows, depth, line, column, by_line,
                gap, h, all_lines, w, all_columns, sh, sw,
            )  # fmt: skip

    return panels


def _build_pack(tile: Tile) -> Callable[..., None]:
    """`f(args, place, lines, columns, wide, source, offsets, depth)`: the pixels from number
    `place` on of lines `wide` apart, for every tap, as one panel."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.moves import gather_rows

    size, most, gather = tile.bytes_each, tile.columns, gather_rows(tile)

    def pack(
        args: int, place: int, lines: int, columns: int, wide: int, source: int, offsets: int,
        depth: int,
    ) -> None:  # fmt: skip
        line, column = place // columns, place % columns
        at = 0
        while at < most and line < lines:
            count = min(columns - column, most - at)
            start = source + (line * wide + column) * size
            gather(slot(args, _PACKED) + at * size, most * size, start, offsets, depth, count)
            at += count
            line, column = line + 1, 0

    return pack


def _build_strip(tile: Tile) -> Callable[..., None]:
    """Computes one panel, whose operands are set, and takes it to where it belongs."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.subroutine import subroutine

    finish = subroutine(_build_finish(tile))
    put = store("i64")
    size, most = tile.bytes_each, tile.columns

    def strip(
        args: int, image: int, channel: int, rows: int, depth: int, line: int, column: int,
        by_line: bool, wide: int, h: int, lines: int, w: int, columns: int, sh: int, sw: int,
    ) -> None:  # fmt: skip
        wo, words = slot(args, _WO), slot(args, _WORDS)
        plane = slot(args, _HO) * wo * size
        if not by_line and column >= wide:
            line, column = column // wide, column % wide
        count = min(most, columns - column)
        # Written at once where it is one piece of one line.
        one = by_line or count == most or line == lines - 1
        whole = one and sw == 1 and count > 0 and slot(args, _EPILOGUE) == 0
        out = slot(args, _OUT) + (image * slot(args, _O) + channel) * plane
        out += ((h + line * sh) * wo + w + column) * size
        put(words, 4, size)
        put(words, 7, out if whole else slot(args, _TILE))
        put(words, 8, plane if whole else most * size)
        put(words, 9, count if whole else most)
        put(words, 10, 0)
        put(words, 11, 0)
        if depth > 0:
            call_kernel(slot(args, _STRIP), words, 0, 0)
        finish(
            args, image, channel, rows, depth, whole, line, column,
            wide, h, lines, w, columns, sh, sw,
        )  # fmt: skip

    return strip


def _build_finish(tile: Tile) -> Callable[..., None]:
    """Takes one computed panel to where it belongs, piece of a line by piece."""
    from dnnc.kernels.intrinsics import slot, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    deliver = subroutine(_build_deliver(tile))
    size, most = tile.bytes_each, tile.columns

    def finish(
        args: int, image: int, channel: int, rows: int, depth: int, whole: bool, line: int,
        column: int, wide: int, h: int, lines: int, w: int, columns: int, sh: int, sw: int,
    ) -> None:  # fmt: skip
        plane = slot(args, _HO) * slot(args, _WO) * size
        out = slot(args, _OUT) + (image * slot(args, _O) + channel) * plane
        at = 0
        while at < most and line < lines and not (whole and depth > 0):
            count = min(columns - column, most - at)
            if count > 0:
                y, x = h + line * sh, w + column * sw
                to = out + (y * slot(args, _WO) + x) * size
                source, stride = slot(args, _TILE) + at * size, most * size
                if whole:
                    source, stride = to, plane
                if depth == 0:
                    for i in range(rows):
                        zero_bytes(source + i * stride, count * size)
                if not whole:
                    deliver(args, image, channel, y, x, to, source, rows, count, sw)
            at = most if whole else at + wide - column
            line, column = line + 1, 0

    return finish


def _build_deliver(tile: Tile) -> Callable[..., None]:
    """`f(args, image, channel, y, x, to, source, rows, count, step)`: one piece of the tile, copied
    or given to the epilogue."""
    from dnnc.kernels.intrinsics import call_kernel, load, slot, store
    from dnnc.kernels.moves import copy_rows

    put, get, put_one = store("i64"), load(tile.dtype, 1), store(tile.dtype, 0)
    size, most, copy = tile.bytes_each, tile.columns, copy_rows(tile)

    def deliver(
        args: int, image: int, channel: int, y: int, x: int, to: int, source: int, rows: int,
        count: int, step: int,
    ) -> None:  # fmt: skip
        region, stride = slot(args, _WORDS) + 12 * 8, most * size
        plane = slot(args, _HO) * slot(args, _WO) * size
        if slot(args, _EPILOGUE):
            put(region, 0, source)
            put(region, 1, stride)
            put(region, 2, rows)
            put(region, 3, count)
            put(region, 4, image)
            put(region, 5, channel)
            put(region, 6, y)
            put(region, 7, x)
            put(region, 8, step)
            call_kernel(slot(args, _EPILOGUE), args + 8 * _SLOTS, region, 0)
        elif step == 1:
            copy(to, plane, source, stride, rows, count)
        else:
            for i in range(rows):
                for j in range(count):
                    put_one(to + i * plane, j * step, get(source + i * stride, j))

    return deliver


def build_gather_weights(size: int) -> Callable[[int, int, int], int]:
    """Weights [O, C / groups, kh, kw] as [group, class, channel, (output of the group, tap)]."""
    from dnnc.kernels.intrinsics import share, slot

    taps, gather = _build_taps(), _build_class(size)

    def kernel(args: int, tid: int, threads: int) -> int:
        groups, channels = slot(args, 6), slot(args, 3)
        outputs = slot(args, 2) // groups
        start, stop = share(groups * channels, 1, tid, threads)
        for unit in range(start, stop):
            group, c = unit // channels, unit % channels
            to = slot(args, 0) + group * outputs * channels * slot(args, 4) * slot(args, 5) * size
            for r in range(slot(args, 7)):
                for s in range(slot(args, 8)):
                    each = outputs * taps(args, r, s) * size
                    gather(args, to + c * each, group, c, r, s)
                    to += channels * each
        return 0

    return kernel


def _build_taps() -> Any:
    """`f(args, r, s)`: how many taps a class has."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    def taps(args: int, r: int, s: int) -> int:
        down, across = 0, 0
        for ky in range(slot(args, 4)):
            down += ky * slot(args, 9) % slot(args, 7) == r
        for kx in range(slot(args, 5)):
            across += kx * slot(args, 10) % slot(args, 8) == s
        return down * across

    return subroutine(taps, returns=1)


def _build_class(size: int) -> Any:
    """`f(args, to, group, c, r, s)`: the weights of one class and channel."""
    from dnnc.kernels.intrinsics import load, slot, store
    from dnnc.kernels.subroutine import subroutine

    word = "i32" if size == 4 else "i64"
    get, put = load(word, 1), store(word, 0)

    def gather(args: int, to: int, group: int, c: int, r: int, s: int) -> None:
        kh, kw, sh, sw = slot(args, 4), slot(args, 5), slot(args, 7), slot(args, 8)
        outputs = slot(args, 2) // slot(args, 6)
        for o in range(group * outputs, (group + 1) * outputs):
            w = slot(args, 1) + (o * slot(args, 3) + c) * kh * kw * size
            if sh == 1 and sw == 1:
                for k in range(kh * kw):
                    put(to, k, get(w, k))
                to += kh * kw * size
                continue
            for ky in range(kh):
                for kx in range(kw):
                    if ky * slot(args, 9) % sh == r and kx * slot(args, 10) % sw == s:
                        put(to, 0, get(w, ky * kw + kx))
                        to += size

    return subroutine(gather)
