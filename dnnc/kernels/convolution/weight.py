"""The gradient of a convolution with channels last by weight.

The transpose of dw is a product: rows are taps (ky, kx, channel), columns outputs, and the sum runs
over pixels. A tap's pixels are those of a slab (`dnnc.kernels.convolution.slab`) from its offset
on; a table of steps leads along the pixels of the grid. A row of dy, the outputs of a pixel, is
read where it lies.

The lines of all images are cut into chunks, whose number depends on sizes alone; each chunk sums
into a partial result of its own, and a second call adds those in order. So threads share pixels,
or the columns of few chunks, and the sums are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import ceil_div, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch, anchored, lowering, make_kernel
from dnnc.kernels.convolution.run_strips import Runs
from dnnc.kernels.convolution.slab import build_axis, build_fill, build_start
from dnnc.kernels.convolution.slots import (
    BUDGET,
    CHANNELS,
    COLUMNS,
    EACH,
    GROUPS,
    HO,
    IN,
    KH,
    KW,
    MOST_PIXELS,
    NARROW,
    OTHER,
    OUT,
    OWN,
    PIXELS,
    ROOM,
    SLAB,
    STRIP,
    TABLE,
    TAPS,
    WIDE,
    WO,
    WORDS,
    C,
    Form,
    H,
    N,
    O,
    W,
    common_slots,
    runs_of,
)
from dnnc.kernels.epilogue import calls_apart
from dnnc.kernels.product.strips import Strip
from dnnc.kernels.tiles import Tile, most_vectors, tiles
from dnnc.ops.channels_last import ConvLastWeightGradient

__all__ = ["conv_last_weight_calls"]

_CHUNKS, _LEAST, _COPY = range(OWN, OWN + 3)
#: The most rows of dw's transpose that are joined at a time.
_JOINED = 48
#: Bytes of a partial result that stays in the second-level cache, and pixels to add at a time to
#: one that does not.
_KEPT, _DEEP = 512 * 1024, 256
#: Fewest pixels of a chunk: each writes and joins a partial result. There are more chunks than one
#: in any case where threads have nothing else to share.
_FEWEST = 96
#: Most taps of a line that are shifts.
_MOST_SHIFTS = 7
#: Fewest taps and pixels of a run, by vectors of a tile, for which strips are worth compiling:
#: shorter ones gain little.
_SHORTEST = {1: (8, 1), 2: (48, 7), 3: (64, 12)}


@lowering(ConvLastWeightGradient)
def lower_conv_last_weight_gradient(node: Node) -> list[Call]:
    x, dy = node.operands
    return conv_last_weight_calls(node.op, x, dy, node.results[0])


@anchored(ConvLastWeightGradient)
def lower_fused_conv_last_weight_gradient(node: Node, anchor: Node) -> list[Call]:
    def calls(operands: tuple[Value, ...], target: Value) -> list[Call]:
        x, dy = operands
        return conv_last_weight_calls(anchor.op, x, dy, target)

    return calls_apart(node, anchor, calls)


def conv_last_weight_calls(op: Any, x: Value, dy: Value, dw: Value) -> list[Call]:
    """The calls that compute the gradient by weight from x and dy into the memory of `dw`."""
    if op.tile:
        from dnnc.kernels.winograd.weight import winograd_weight_calls

        return winograd_weight_calls(op, x, dy, dw)
    dtype = str(dw.type.dtype)
    form = Form.of(op, dtype, dw.shape)
    shifted = _runs(op, form, x, dy, dw, form.tile)
    # Where taps share what they read, it is read seldom as it is.
    if shifted is None or shifted.shifts == 1:
        form = form.evened()
    tile, widest, chunks = form.tile, tiles(dtype, most_vectors())[0], _chunks(dw)
    wide, narrow = (_runs(op, form, x, dy, dw, each) for each in (tile, form.narrow or tile))
    strips = form.strips(wide, narrow)
    size, groups = tile.bytes_each, 1 if form.each else op.groups
    channels, taps = dw.shape[1], product(dw.shape[2:])
    padded = ceil_div(form.columns, tile.columns) * tile.columns
    least = 1 if (padded * groups).constant != tile.columns else 2
    partial = Scratch(padded * channels * taps * (chunks * groups * size))
    pixels = dy.shape[2] + MOST_PIXELS
    sums = Call(
        make_kernel("conv_last_weight", lambda: _build_sums(widest), widest, unrolled=False),
        (
            partial,
            Buffer(x),
            Buffer(dy),
            *common_slots(op, form, x, dy, dw.shape, False, strips, _room(dw)),
            Integer.of(chunks),
            Integer.of(least),
            Scratch(pixels * (tile.columns * size), per_thread=True),
        ),
        2 * dy.type.elements * taps * channels,
    )
    sizes = (chunks, least, groups, channels, taps, form.columns, padded, product(dy.shape[:3]))
    join = Call(
        make_kernel("conv_last_weight_join", lambda: _build_join(dtype), dtype, unrolled=False),
        (
            Buffer(dw, written=True),
            partial,
            *map(Integer, map(dim, sizes)),
            Scratch(padded * (_JOINED * size), per_thread=True),
        ),
        dw.type.elements * chunks,
    )
    return [sums, join]


def _runs(op: Any, form: Form, x: Value, dy: Value, dw: Value, tile: Tile) -> Runs | None:
    """The runs of taps, which are rows here, and of pixels, for strips as wide as a tile."""
    runs = runs_of(op, form, x, dy, dw.shape)
    if runs is None:
        return None
    wide, channels, pixels = dw.shape[3].constant or 0, dw.shape[1].constant or 0, runs.rows
    # What one tap reads the next one has read a pixel before.
    near = op.strides[1] == op.dilations[1] == 1 and 1 < wide <= min(_MOST_SHIFTS, pixels // 2)
    if near and wide * channels >= _SHORTEST[1][0]:
        shifts = Runs(channels, runs.step, pixels, runs.pitch, wide)
        if shifts.fit(tile):
            return shifts
    taps, some = _SHORTEST[tile.vectors]
    if runs.steps < taps or pixels < some:
        return None
    return Runs(runs.steps, runs.step, pixels, runs.pitch)


def _room(dw: Value) -> int:
    """Bytes of a slab: more where a partial result, which every slab adds to, leaves the cache."""
    elements, size = dw.type.elements.constant, dw.type.dtype.size
    if elements is None or elements * size <= _KEPT:
        return BUDGET
    channels = dw.shape[1].constant or 0
    return max(BUDGET, _DEEP * channels * size)


def _chunks(dw: Value) -> int:
    """Parts of the lines: many for small weights, where each thread should find some."""
    elements = dw.type.elements.constant
    if elements is None or elements > 1 << 20:
        return 2
    return 4 if elements > 1 << 14 else 8


def _used(most: int, least: int, pixels: int) -> int:
    """The number of chunks in use, of at most as many as there is room for."""
    return min(most, max(pixels // _FEWEST, least))


def _build_sums(widest: Tile) -> Callable[[int, int, int], int]:
    """Partial results [chunk, group, (tap, channel), output], outputs padded to whole strips.

    The code serves all tiles with the elements of `widest` and no more columns."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.subroutine import shared, subroutine

    size, slab = widest.bytes_each, subroutine(_build_slab(widest))
    axis, begin = shared(build_axis, returns=5), shared(build_start, size, returns=3)
    used = subroutine(_used, returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        wo = slot(args, WO)
        _, ho, step, _, reach = axis(args, 0)
        inside, line, lines = begin(args)
        # Small images go several at a time.
        together = 1
        if lines >= ho:
            together = slot(args, ROOM) // max(((ho - 1) * step + reach) * line, 1)
            together = max(min(together, MOST_PIXELS // max(ho * wo, 1)), 1)
        depth = slot(args, CHANNELS) * slot(args, KH) * slot(args, KW)
        most = slot(args, WIDE)
        padded = (slot(args, COLUMNS) + most - 1) // most * most
        partial, total = slot(args, GROUPS) * depth * padded * size, slot(args, N) * ho
        chunks = used(slot(args, _CHUNKS), slot(args, _LEAST), total * wo)
        strips = slot(args, GROUPS) * (padded // most)
        first, last = share(chunks, 1, tid, threads)
        left_strip, right_strip = 0, strips
        if chunks < threads and strips > chunks:
            first, last = 0, chunks
            left_strip, right_strip = share(strips, 1, tid, threads)
        for chunk in range(first, last):
            start, stop = total * chunk // chunks, total * (chunk + 1) // chunks
            target, add = slot(args, OUT) + chunk * partial, 0
            if start == stop or wo == 0:
                zero_bytes(target, partial)
                continue
            while start < stop:
                image, q, left = start // ho, start % ho, stop - start
                whole = min(left // ho, together)
                if q == 0 and whole > 1:
                    slab(
                        args, image, whole, 0, ho, line, inside, target, add, left_strip,
                        right_strip,
                    )  # fmt: skip
                    start += whole * ho
                else:
                    left = min(left, ho - q)
                    parts = (left + lines - 1) // lines
                    count = (left + parts - 1) // parts
                    slab(
                        args, image, 1, q, count, line, inside, target, add, left_strip,
                        right_strip,
                    )  # fmt: skip
                    start += count
                add = 1
        return 0

    return kernel


def _build_slab(widest: Tile) -> Callable[..., None]:
    """`f(args, image, images, q, lines, line, inside, target, add, first, last)`: what grid lines
    from `q` on, of some images, add to the strips `first` to `last` of a partial result."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.movement.moves import copy_rows
    from dnnc.kernels.subroutine import shared, subroutine

    axis, fill = shared(build_axis, returns=5), shared(build_fill, widest.bytes_each)
    steps, copy = subroutine(_build_steps(widest.bytes_each)), copy_rows(widest)
    put, size, lanes = store("i64"), widest.bytes_each, widest.lanes

    def slab(
        args: int, image: int, images: int, q: int, lines: int, line: int, inside: int, target: int,
        add: int, first: int, last: int,
    ) -> None:  # fmt: skip
        words, pixel, wo, outputs = (
            slot(args, WORDS), slot(args, C) * size, slot(args, WO), slot(args, O)
        )  # fmt: skip
        _, _, step, low, reach = axis(args, 0)
        _, _, _, x, _ = axis(args, 1)
        y, rows, base = q * step + low, (lines - 1) * step + reach, slot(args, SLAB)
        apart = rows * line
        if inside:
            apart = slot(args, H) * line
            base = slot(args, IN) + image * apart + y * line + x * pixel
        else:
            for k in range(images):
                fill(args, base + k * apart, image + k, y, rows, x, line // pixel)
        steps(args, images, apart, lines, step * line)
        pixels = images * lines * wo
        depth = slot(args, CHANNELS) * slot(args, KH) * slot(args, KW)
        each, wide = slot(args, COLUMNS), slot(args, WIDE)
        strips = (each + wide - 1) // wide
        dy = slot(args, OTHER) + (image * slot(args, HO) + q) * wo * outputs * size
        put(words, Strip.ROWS, depth)
        put(words, Strip.DEPTH, pixels)
        put(words, Strip.A_STEP, slot(args, PIXELS))
        put(words, Strip.C_ROW, strips * wide * size)
        put(words, Strip.ADD, add)
        put(words, Strip.A_TABLE, slot(args, TAPS))
        # What follows in both images is fetched meanwhile, a part with each strip.
        height, line_dy = slot(args, HO), wo * outputs * size
        following, line_x = image * height + q + images * lines, slot(args, W) * pixel
        left = min(slot(args, N) * height - following, images * lines)
        part_x = left * step * line_x // max(last - first, 1)
        part_dy = left * line_dy // max(last - first, 1)
        put(words, Strip.AHEAD_BYTES, part_x)
        put(words, Strip.AHEAD_TOO_BYTES, part_dy)
        ahead = slot(args, IN) + ((image + images - 1) * slot(args, H) + y + rows) * line_x
        ahead_dy = slot(args, OTHER) + following * line_dy
        for strip in range(first, last):
            put(words, Strip.AHEAD, ahead + (strip - first) * part_x)
            put(words, Strip.AHEAD_TOO, ahead_dy + (strip - first) * part_dy)
            group, column = strip // strips, strip % strips * wide
            channel = column if slot(args, EACH) else group * slot(args, CHANNELS)
            rest = min(wide, each - column)
            count = rest
            b, b_step = dy + (group * each + column) * size, outputs * size
            if count < wide and count != wide - lanes and not slot(args, EACH):
                # Tiles read whole rows of vectors, which must not reach beyond dy.
                copy(slot(args, _COPY), wide * size, b, b_step, pixels, count)
                b, b_step, count = slot(args, _COPY), wide * size, wide
            put(words, Strip.A, base + channel * size)
            put(words, Strip.B, b)
            put(words, Strip.B_STEP, b_step)
            put(words, Strip.C, target + (group * depth * strips * wide + column) * size)
            put(words, Strip.COLUMNS, count)
            call_kernel(slot(args, NARROW if rest <= wide - lanes else STRIP), words, 0, 0)

    return slab


def _build_steps(size: int) -> Callable[[int, int, int, int, int], None]:
    """`f(args, images, apart, lines, down)`: the table of offsets of the pixels of images that are
    `apart` bytes apart; it is left where it is that already."""
    from dnnc.kernels.intrinsics import slot, store
    from dnnc.kernels.subroutine import shared

    axis, put = shared(build_axis, returns=5), store("i64")

    def steps(args: int, images: int, apart: int, lines: int, down: int) -> None:
        words, table, count, made = slot(args, WORDS), slot(args, PIXELS), 0, lines * 65536 + images
        if slot(words, TABLE) == made:
            return
        put(words, TABLE, made)
        _, wo, step, _, _ = axis(args, 1)
        across = step * slot(args, C) * size
        for k in range(images):
            for i in range(lines):
                for j in range(wo):
                    put(table, count, k * apart + i * down + j * across)
                    count += 1

    return steps


def _build_join(dtype: str) -> Callable[[int, int, int], int]:
    """The sum of the partial results, turned into dw [(group, output), channel, tap]. Threads share
    channels with their taps."""
    from dnnc.kernels.intrinsics import copy_bytes, load, share, slot, store
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine

    size = 4 if dtype == "f32" else 8
    transpose = shared(build_transpose, size)
    get, put, get_part = load(dtype, 0), store(dtype, 0), load(dtype, 1)
    used = subroutine(_used, returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        dw, partial, joined = slot(args, 0), slot(args, 1), slot(args, 10)
        groups, channels, taps = slot(args, 4), slot(args, 5), slot(args, 6)
        outputs, padded = slot(args, 7), slot(args, 8)
        chunks = used(slot(args, 2), slot(args, 3), slot(args, 9))
        depth = channels * taps
        blocks = (depth + _JOINED - 1) // _JOINED
        start, stop = share(groups * blocks, 1, tid, threads)
        for unit in range(start, stop):
            group, block = unit // blocks, unit % blocks
            first, last = depth * block // blocks, depth * (block + 1) // blocks
            for k in range(first, last):
                row = group * depth + k % taps * channels + k // taps
                to, source = joined + (k - first) * padded * size, partial + row * padded * size
                copy_bytes(to, source, outputs * size)
                for chunk in range(1, chunks):
                    part = source + chunk * groups * depth * padded * size
                    for i in range(outputs):
                        put(to, i, get(to, i) + get_part(part, i))
            to = dw + (group * outputs * depth + first) * size
            transpose(to, depth * size, joined, padded * size, last - first, outputs)
        return 0

    return kernel
