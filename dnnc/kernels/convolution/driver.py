"""The driver of convolutions with channels last: rows are pixels, columns outputs."""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.convolution.slab import (
    build_axis,
    build_fill,
    build_pixels,
    build_start,
)
from dnnc.kernels.convolution.slots import (
    BACKWARD,
    CHANNELS,
    CODE,
    COLUMNS,
    DH,
    DW,
    EACH,
    GROUPS,
    HO,
    IN,
    KH,
    KW,
    LEFT,
    NARROW,
    OTHER,
    OUT,
    OWN,
    PIXELS,
    REGION,
    SH,
    SLAB,
    STRIP,
    SW,
    TAPS,
    TOP,
    WIDE,
    WO,
    WORDS,
    C,
    H,
    N,
    O,
    W,
)
from dnnc.kernels.epilogue import build_finish
from dnnc.kernels.product.strips import Strip
from dnnc.kernels.tiles import Tile

__all__ = ["build_conv", "most_rows"]

#: WIDTH is that of a panel of packed weights; TALL the rows of a tile. FEW and FEW_NARROW stand for
#: STRIP and NARROW in classes that have a tap of a line less than the first one.
_WIDTH, _DEPTH, _BLOCK, _TALL, _FEW, _FEW_NARROW, _TILE, _FLAT, _EPILOGUE, _SLOTS = range(
    OWN, OWN + 10
)


def most_rows(tile: Tile, run: int) -> int:
    """Rows of sums that go to an epilogue at a time: whole runs."""
    return max(64 // run, 1) * run if run > 1 else 64 // tile.rows * tile.rows


def build_conv(widest: Tile) -> Callable[[int, int, int], int]:
    """Threads share the lines of the grid of all images, or else the strips of columns.

    The code serves all tiles with the elements of `widest` and no more columns."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import shared, subroutine

    axis, begin = shared(build_axis, returns=5), shared(build_start, widest.bytes_each, returns=3)
    slab = subroutine(_build_slab(widest))

    def kernel(args: int, tid: int, threads: int) -> int:
        q0, q1, _, _, _ = axis(args, 0)
        high, images, most = q1 - q0, slot(args, N), slot(args, WIDE)
        strips = slot(args, GROUPS) * ((slot(args, COLUMNS) + most - 1) // most)
        if images * strips == 0 or slot(args, HO) == 0 or slot(args, WO) == 0:
            return 0
        inside, line, lines = begin(args)
        # Along lines, unless that is less even, or weights are more than what one thread reads.
        total = images * high
        by_lines = (total + threads - 1) // threads * strips
        by_strips = (strips + threads - 1) // threads * total
        pixels = images * slot(args, H) * slot(args, W)
        heavy = slot(args, _DEPTH) * strips * most > pixels * slot(args, C)
        first, last = 0, strips
        start, stop = share(total, 1, tid, threads)
        if by_strips < by_lines or (by_strips == by_lines and heavy):
            start, stop = 0, total
            first, last = share(strips, 1, tid, threads)
        while start < stop and first < last:
            image, q = start // high, q0 + start % high
            left = min(q1 - q, stop - start)
            parts = (left + lines - 1) // lines
            count = (left + parts - 1) // parts
            slab(args, image, q, count, line, inside, lines, first, last)
            start += count
        return 0

    return kernel


def _build_slab(widest: Tile) -> Callable[..., None]:
    """`f(args, image, q, count, line, inside, lines, first, last)`: grid lines from `q` on, class
    by class, for strips of columns `first` to `last`."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared, subroutine

    axis, fill = shared(build_axis, returns=5), shared(build_fill, widest.bytes_each)
    pixels, strips = shared(build_pixels), subroutine(_build_strips(widest))
    depth_of = subroutine(_build_depth(), returns=1)
    size = widest.bytes_each

    def slab(
        args: int, image: int, q: int, count: int, line: int, inside: int, lines: int, first: int,
        last: int,
    ) -> None:  # fmt: skip
        ho, wo, pixel = slot(args, HO), slot(args, WO), slot(args, C) * size
        _, _, step, low, reach = axis(args, 0)
        u0, u1, step_u, low_u, _ = axis(args, 1)
        y, x, stop = q * step + low, u0 * step_u + low_u, q + count
        base = slot(args, SLAB)
        if inside:
            base = slot(args, IN) + ((image * slot(args, H) + y) * slot(args, W) + x) * pixel
        else:
            fill(args, base, image, y, (count - 1) * step + reach, x, line // pixel)
        down, across = step * line, step_u * pixel
        if not slot(args, BACKWARD):
            pixels(args, lines, u1, down, across)
            depth = slot(args, _DEPTH)
            strips(args, image, base, 0, depth, q, count, 0, u1, 1, 1, first, last, 0)
            return
        sh, sw, top, left = slot(args, SH), slot(args, SW), slot(args, TOP), slot(args, LEFT)
        done, kw = 0, slot(args, KW)
        for r in range(sh):
            for s in range(sw):
                depth = depth_of(args, r, s)
                # The grid lines and columns of this class that lie inside of the output.
                qa, qb = max(q, (top - r + sh - 1) // sh), min(stop, (ho - 1 + top - r) // sh + 1)
                ua, ub = (left - s + sw - 1) // sw, (wo - 1 + left - s) // sw + 1
                few = (kw - s + sw - 1) // sw < (kw + sw - 1) // sw
                if qa < qb and ua < ub:
                    pixels(args, lines, ub - ua, down, across)
                    strips(
                        args, image, base + (qa - q) * line + (ua - u0) * pixel, done, depth,
                        qa * sh + r - top, qb - qa, ua * sw + s - left, ub - ua, sh, sw, first,
                        last, few,
                    )  # fmt: skip
                done += depth

    return slab


def _build_depth() -> Callable[[int, int, int], int]:
    """`f(args, r, s)`: the depth of a class."""
    from dnnc.kernels.intrinsics import slot

    def depth_of(args: int, r: int, s: int) -> int:
        down, across = 0, 0
        for ky in range(slot(args, KH)):
            down += ky * slot(args, DH) % slot(args, SH) == r
        for kx in range(slot(args, KW)):
            across += kx * slot(args, DW) % slot(args, SW) == s
        return int(down * across * slot(args, CHANNELS))

    return depth_of


def _build_strips(widest: Tile) -> Callable[..., None]:
    """`f(args, image, a, done, depth, y, lines, x, columns, sh, sw, first, last, few)`: one class.

    `a` is the address of the input, `done` the depth of classes before; outputs are at `y`, `x`,
    and `sh`, `sw` apart. Lines have a tap less than those of the first class where there are `few`.
    """
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import subroutine

    block = subroutine(_build_block(widest))
    put, size, lanes = store("i64"), widest.bytes_each, widest.lanes

    def strips(
        args: int, image: int, a: int, done: int, depth: int, y: int, lines: int, x: int,
        columns: int, sh: int, sw: int, first: int, last: int, few: int,
    ) -> None:  # fmt: skip
        words, each, width = slot(args, WORDS), slot(args, COLUMNS), slot(args, _WIDTH)
        wide = slot(args, WIDE)
        per_group, panels = (each + wide - 1) // wide, (each + width - 1) // width
        rows, at_once = lines * columns, slot(args, _BLOCK)
        # Stored where they belong: all rows, or, of a class among several, a line, where blocks are
        # whole lines that fill tiles.
        direct = slot(args, _EPILOGUE) == 0 and depth > 0
        if sh * sw > 1:
            direct = direct and at_once % columns == 0 and columns >= slot(args, _TALL)
            at_once = columns if direct else at_once
        elif direct:
            at_once = rows
        put(words, Strip.DEPTH, depth)
        put(words, Strip.A_STEP, slot(args, TAPS) + done * 8)
        put(words, Strip.B_STEP, width * size)
        put(words, Strip.ADD, 0)
        put(words, Strip.AHEAD_BYTES, 0)
        put(words, Strip.AHEAD_TOO_BYTES, 0)
        for strip in range(first, last):
            group, column = strip // per_group, strip % per_group * wide
            panel = group * panels + column // width
            b = (panel * slot(args, _DEPTH) + done) * width + column % width
            channel = column if slot(args, EACH) else group * slot(args, CHANNELS)
            put(words, Strip.A, a + channel * size)
            put(words, Strip.B, slot(args, OTHER) + b * size)
            put(words, Strip.COLUMNS, min(wide, each - column))
            code = _FEW if few else STRIP
            if each - column <= lanes:
                code = _FEW_NARROW if few else NARROW
            put(words, CODE, slot(args, code))
            for i in range(0, rows, at_once):
                put(words, Strip.ROWS, min(at_once, rows - i))
                put(words, Strip.A_TABLE, slot(args, PIXELS) + 8 * i)
                block(
                    args, image, group * each + column, i, y, x, columns, sh, sw, direct
                )  # fmt: skip

    return strips


def _build_block(widest: Tile) -> Callable[..., None]:
    """Some rows of one strip, whose operands are set: computed and taken to where they belong."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    deliver = subroutine(_build_deliver(widest))
    put, size = store("i64"), widest.bytes_each

    def block(
        args: int, image: int, channel: int, i: int, y: int, x: int, columns: int, sh: int,
        sw: int, direct: int,
    ) -> None:  # fmt: skip
        words, wide = slot(args, WORDS), slot(args, WIDE)
        rows, ho, wo = slot(words, Strip.ROWS), slot(args, HO), slot(args, WO)
        put(words, Strip.C, slot(args, _TILE))
        put(words, Strip.C_ROW, wide * size)
        if direct:
            pixel = (image * ho + y + i // columns * sh) * wo + x + i % columns * sw
            put(words, Strip.C, slot(args, OUT) + (pixel * slot(args, O) + channel) * size)
            put(words, Strip.C_ROW, sw * slot(args, O) * size)
        if slot(words, Strip.DEPTH) > 0:
            call_kernel(slot(words, CODE), words, 0, 0)
        else:
            zero_bytes(slot(args, _TILE), rows * wide * size)
        if direct:
            return
        if slot(args, _FLAT) and sh * sw == 1:
            deliver(args, image * ho, y * wo + i, channel, 0, rows, 1)
            return
        done = 0
        while done < rows:
            line, column = (i + done) // columns, (i + done) % columns
            count = min(columns - column, rows - done)
            at = image * ho + y + line * sh
            deliver(args, at, x + column * sw, channel, done, count, sw)
            done += count

    return block


def _build_deliver(widest: Tile) -> Callable[..., None]:
    """`f(args, line, pixel, channel, row, rows, step)`: rows of the tile, copied or given to the
    epilogue; they are pixels `step` apart of line `line` of all images."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.moves import copy_rows
    from dnnc.kernels.subroutine import shared

    finish, size, copy = shared(build_finish), widest.bytes_each, copy_rows(widest)

    def deliver(
        args: int, line: int, pixel: int, channel: int, row: int, rows: int, step: int
    ) -> None:
        words, wide = slot(args, WORDS), slot(args, WIDE)
        source = slot(args, _TILE) + row * wide * size
        columns, outputs = slot(words, Strip.COLUMNS), slot(args, O)
        if slot(args, _EPILOGUE) == 0:
            to = slot(args, OUT)
            to += ((line * slot(args, WO) + pixel) * outputs + channel) * size
            copy(to, step * outputs * size, source, wide * size, rows, columns)
            return
        finish(
            slot(args, _EPILOGUE), args + 8 * _SLOTS, words + REGION, source, wide * size, rows,
            columns, line, pixel, channel, step,
        )  # fmt: skip

    return deliver
