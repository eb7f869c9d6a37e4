"""The gradient of a convolution by weight, by Winograd's method, with channels last.

The gradient of `Y = A^T [(G w G^T) * (B^T x B)] A` by w is `G^T [(B^T x B) * (A dY A^T)] G`, summed
over tiles, channels times outputs: for each product one matrix product whose depth are the
tiles. Pictures are cut into chunks, by sizes alone, and outputs into groups where they are many or
threads more than chunks. Each chunk sums into a partial result of its own, and a second call adds
those in order and transforms them back. A sum is the same in any group, so threads share images and
outputs, and results are the same for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim, product
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch, make_kernel
from dnnc.kernels.winograd.blocks import BUDGET, Scheme, build_fetch, build_products, build_spread
from dnnc.ops.channels_last import panel_width

__all__ = ["winograd_weight_calls"]

#: Channels that are transformed back at a time: with any number of taps they are whole blocks of a
#: transpose.
_SOME = 16
_PARTIAL, _IN, _GRADIENT, _PICTURES, _H, _W, _C, _HO, _WO, _O, _TOP, _LEFT, _DY, _DX = range(14)
_ACROSS, _DOWN, _BANDS, _V_STEP, _D_STEP, _FILLED, _FILLED_DY, _ROOM, _CHUNKS, _GROUPS = range(
    14, 24
)
_WIDTH, _SLAB, _V, _D = range(24, 28)


def winograd_weight_calls(op: Any, x: Value, dy: Value, dw: Value) -> list[Call]:
    """The calls that compute dw [O, C, k, k] from x [N, H, W, C] and dy [N, Ho, Wo, O]."""
    scheme = Scheme.of(op, x, dy, panel_width(dy.shape[3]))
    size, products, bands = scheme.tile.bytes_each, scheme.count**2, _bands(scheme)
    room = scheme.room(bands, scheme.rows)
    v_step = scheme.spread(room * scheme.filled)
    d_step = scheme.spread(room * scheme.filled_outputs)
    each = products * scheme.filled * scheme.filled_outputs * size
    chunks, groups = _division(scheme, each)
    partial = Scratch(dim(chunks * each))
    slab = max(
        scheme.slab(bands, scheme.filled, scheme.taps - 1),
        scheme.slab(bands, scheme.filled_outputs, 0),
    )
    blocks = (scheme.across, scheme.down, bands, v_step, d_step)
    filled = (scheme.filled, scheme.filled_outputs, room, chunks, groups, scheme.width)
    pictures = scheme.pictures(x.shape[0])
    images = (*x.shape[1:], *dy.shape[1:], *op.pads[:2], *scheme.apart)
    sums = Call(
        make_kernel("winograd_weight", lambda: _build_sums(scheme), *scheme.code, unrolled=False),
        (
            partial,
            Buffer(x),
            Buffer(dy),
            Integer(pictures),
            *(Integer.of(s) for s in (*images, *blocks, *filled)),
            *(
                Scratch(dim(n), per_thread=True)
                for n in (slab, v_step * products, d_step * products)
            ),
        ),
        2 * dy.type.elements * product(dw.shape[1:]),
    )
    sizes = (scheme.channels, scheme.outputs, scheme.filled, chunks, scheme.width, pictures)
    join = Call(
        make_kernel(
            "winograd_weight_join", lambda: _build_join(scheme), *scheme.code, unrolled=False
        ),
        (
            Buffer(dw, written=True),
            partial,
            *(Integer.of(s) for s in sizes),
            Scratch(
                dim((products + _SOME * scheme.taps**2) * scheme.width * size), per_thread=True
            ),
        ),
    )
    return [sums, join]


def _division(scheme: Scheme, each: int) -> tuple[int, int]:
    """Most chunks of pictures and fewest groups of outputs, for partial results of `each` so many
    bytes.

    A chunk costs memory for a partial result, and a group that the image is transformed for it
    anew where another thread takes it.
    """
    if each <= 256 * 1024:
        return 8, 1
    groups = max(scheme.filled_outputs // 64, 1) if each > 1024 * 1024 else 1
    return max(4 // groups, 1), groups


def _used(chunks: int, pictures: int) -> int:
    """The number of chunks in use, none of them empty if there is a picture."""
    return min(chunks, max(pictures, 1))


def _bands(scheme: Scheme) -> int:
    """Bands in a block: as the budget allows, or as many as make up for reading and writing the
    partial result for each block."""
    inputs, outputs = scheme.filled, scheme.filled_outputs
    tiles = BUDGET // (scheme.count**2 * (inputs + outputs) * scheme.tile.bytes_each)
    tiles = max(tiles, inputs * outputs // (inputs + outputs))
    return max(min(tiles, 128) // scheme.across, 1)


def _build_sums(scheme: Scheme) -> Callable[[int, int, int], int]:
    """Partial results [chunk, product, panel, channel, output], outputs padded to whole panels."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    inputs = subroutine(build_spread(scheme, "bt"))
    gradients = subroutine(build_spread(scheme, "a"))
    multiply = subroutine(_build_multiply(scheme))
    products, size = scheme.count**2, scheme.tile.bytes_each
    vector, used = scheme.tile.lanes * size, subroutine(_used, returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        pictures, most = slot(args, _PICTURES), slot(args, _BANDS)
        chunks, width = used(slot(args, _CHUNKS), pictures), slot(args, _WIDTH)
        apart_y, apart_x = slot(args, _DY), slot(args, _DX)
        across, down, slab = slot(args, _ACROSS), slot(args, _DOWN), slot(args, _SLAB)
        panels, panel = slot(args, _FILLED_DY) // width, slot(args, _FILLED) * width * size
        # A sum is the same in a group of any size.
        groups = max(slot(args, _GROUPS), min((threads + chunks - 1) // chunks, panels))
        unit, stop = share(chunks * groups, 1, tid, threads)
        while unit < stop:
            # What a thread does of a chunk it does for the same transformed pictures.
            chunk = unit // groups
            group = unit - chunk * groups
            last_group = min(groups, group + stop - unit)
            unit += last_group - group
            p, last_p = group * panels // groups, last_group * panels // groups
            target = slot(args, _PARTIAL) + (chunk * products * panels + p) * panel
            dy = slot(args, _GRADIENT) + p * width * size
            some = min(slot(args, _O), last_p * width) - p * width
            first = pictures * chunk // chunks * down
            last = pictures * (chunk + 1) // chunks * down
            if first == last:
                for f in range(products):
                    zero_bytes(target + f * panels * panel, (last_p - p) * panel)
            for band in range(first, last, most):
                end = min(band + most, last)
                inputs(
                    slot(args, _V), slot(args, _V_STEP), slot(args, _ROOM), vector, slab,
                    slot(args, _IN), slot(args, _H), slot(args, _W),
                    slot(args, _C), slot(args, _C), slot(args, _FILLED),
                    slot(args, _TOP), slot(args, _LEFT), apart_y, apart_x, across, down, band, end,
                )  # fmt: skip
                gradients(
                    slot(args, _D), slot(args, _D_STEP), slot(args, _ROOM), width * size, slab,
                    dy, slot(args, _HO), slot(args, _WO),
                    slot(args, _O), some, (last_p - p) * width,
                    0, 0, apart_y, apart_x, across, down, band, end,
                )  # fmt: skip
                multiply(args, target, last_p - p, band, end, min(end + most, last), band > first)
        return 0

    return kernel


def _build_multiply(scheme: Scheme) -> Callable[..., None]:
    """`f(args, target, some, band, end, after, add)`: channels times outputs for every product and
    `some` panels, of the tiles of the bands from `band` to `end`; the next block goes to `after`.
    """
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    size, lanes, count = scheme.tile.bytes_each, scheme.tile.lanes, scheme.count**2
    products = subroutine(build_products(scheme, transposed=True))
    fetch = subroutine(build_fetch(scheme))

    def multiply(
        args: int, target: int, some: int, band: int, end: int, after: int, add: int
    ) -> None:
        room, filled, down = slot(args, _ROOM), slot(args, _FILLED), slot(args, _DOWN)
        width, tiles = slot(args, _WIDTH), (end - band) * slot(args, _ACROSS)
        line = slot(args, _W) * slot(args, _C) * size
        line_dy = slot(args, _WO) * slot(args, _O) * size
        dy, dx = slot(args, _DY), slot(args, _DX)
        for f in range(count):
            fetch(slot(args, _IN), slot(args, _H), line, dy, dx, down, end, after, f)
            fetch(slot(args, _GRADIENT), slot(args, _HO), line_dy, dy, dx, down, end, after, f)
            v = slot(args, _V) + f * slot(args, _V_STEP)
            d = slot(args, _D) + f * slot(args, _D_STEP)
            to = target + f * slot(args, _FILLED_DY) * filled * size
            for p in range(some):
                b = d + p * room * width * size
                for block in range(filled // lanes):
                    a = v + block * room * lanes * size
                    products(lanes, width, a, 0, 1, tiles, b, to, add)
                    to += lanes * width * size

    return multiply


def _build_join(scheme: Scheme) -> Callable[[int, int, int], int]:
    """The sum of the partial results, transformed back into dw. Threads share panels and
    channels, some at a time."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.winograd.transforms import both_sides, transposed

    tile, taps, count = scheme.tile, scheme.taps, scheme.count
    matrix = transposed(scheme.matrices.g)
    transform = both_sides(f"gt_{scheme.results}_{taps}", matrix, tile)
    add_all = subroutine(_build_add_all(scheme))
    transpose = shared(build_transpose, tile.bytes_each)
    size, products, square, lanes = tile.bytes_each, count**2, taps**2, tile.lanes
    vector, used = lanes * size, subroutine(_used, returns=1)

    def kernel(args: int, tid: int, threads: int) -> int:
        dw, partial = slot(args, 0), slot(args, 1)
        channels, outputs, filled = slot(args, 2), slot(args, 3), slot(args, 4)
        chunks, width, sums = used(slot(args, 5), slot(args, 7)), slot(args, 6), slot(args, 8)
        pixel = width * size
        back = sums + products * pixel
        panels, blocks = (outputs + width - 1) // width, (channels + _SOME - 1) // _SOME
        start, stop = share(panels * blocks, 1, tid, threads)
        for unit in range(start, stop):
            p, first = unit // blocks, unit % blocks * _SOME
            some = min(channels - first, _SOME)
            for c in range(some):
                source = partial + (p * filled + first + c) * pixel
                to, apart = back + c * square * pixel, panels * filled * pixel
                if chunks > 1:
                    add_all(sums, source, width, apart, chunks)
                    source, apart = sums, pixel
                transform(
                    to, taps * pixel, pixel, vector, source, count * apart, apart, width // lanes
                )
            to = dw + (p * width * channels + first) * square * size
            row = channels * square * size
            transpose(to, row, back, pixel, some * square, min(outputs - p * width, width))
        return 0

    return kernel


def _build_add_all(scheme: Scheme) -> Callable[..., None]:
    """`f(sums, partial, width, matrix, chunks)`: a row of every product, `matrix` bytes apart,
    summed over the chunks, of which there are several, in order."""
    from dnnc.kernels.intrinsics import load, store

    dtype, products, size = scheme.dtype, scheme.count**2, scheme.tile.bytes_each
    get, get_sum, put_sum = load(dtype, 1), load(dtype, 2), store(dtype, 2)

    def add_all(sums: int, partial: int, width: int, matrix: int, chunks: int) -> None:
        for f in range(products):
            to, source = sums + f * width * size, partial + f * matrix
            following = source + products * matrix
            for j in range(width):
                put_sum(to, j, get(source, j) + get(following, j))
            source = following
            for _ in range(2, chunks):
                source += products * matrix
                for j in range(width):
                    put_sum(to, j, get_sum(to, j) + get(source, j))

    return add_all
