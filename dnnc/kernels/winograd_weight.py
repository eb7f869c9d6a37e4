"""The gradient of a convolution by weight, by Winograd's method, with channels last.

The gradient of `Y = A^T [(G w G^T) * (B^T x B)] A` by w is `G^T [(B^T x B) * (A dY A^T)] G`, summed
over tiles, channels times outputs: for each product one matrix product whose depth are the
tiles. Images are cut into chunks, whose number depends on sizes alone; each chunk sums into a
partial result of its own, and a second call adds those in order and transforms them back. So
threads share images, and the sums are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim, product
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch, make_kernel
from dnnc.kernels.winograd_blocks import BUDGET, Scheme, build_fetch, build_spread
from dnnc.ops.channels_last import panel_width

__all__ = ["winograd_weight_calls"]

_PARTIAL, _IN, _DY, _N, _H, _W, _C, _HO, _WO, _O, _TOP, _LEFT = range(12)
_ACROSS, _DOWN, _BANDS, _V_STEP, _D_STEP, _FILLED, _FILLED_DY, _ROOM, _CHUNKS = range(12, 21)
_SLAB, _V, _D = range(21, 24)


def winograd_weight_calls(op: Any, x: Value, dy: Value, dw: Value) -> list[Call]:
    """The calls that compute dw [O, C, k, k] from x [N, H, W, C] and dy [N, Ho, Wo, O]."""
    scheme = Scheme.of(op, x, dy, panel_width(dy.shape[3]))
    size, products, bands = scheme.tile.bytes_each, scheme.count**2, _bands(scheme)
    room = scheme.room(bands)
    v_step = scheme.spread(room * scheme.filled)
    d_step = scheme.spread(room * scheme.filled_outputs)
    each = products * scheme.filled * scheme.filled_outputs * size
    chunks = 8 if each <= 256 * 1024 else 4
    partial = Scratch(dim(chunks * each))
    slab = max(
        scheme.slab(bands, scheme.filled, scheme.taps - 1),
        scheme.slab(bands, scheme.filled_outputs, 0),
    )
    blocks = (scheme.across, scheme.down, bands, v_step, d_step)
    filled = (scheme.filled, scheme.filled_outputs, room, chunks)
    key = (scheme.dtype, scheme.results, scheme.taps, scheme.width, scheme.row_tiles)
    sums = Call(
        make_kernel("winograd_weight", lambda: _build_sums(scheme), *key),
        (
            partial,
            Buffer(x),
            Buffer(dy),
            *(Integer.of(s) for s in (*x.shape, *dy.shape[1:], *op.pads[:2], *blocks, *filled)),
            *(
                Scratch(dim(n), per_thread=True)
                for n in (slab, v_step * products, d_step * products)
            ),
        ),
        2 * dy.type.elements * product(dw.shape[1:]),
    )
    sizes = (scheme.channels, scheme.outputs, scheme.filled, chunks)
    join = Call(
        make_kernel("winograd_weight_join", lambda: _build_join(scheme), *key),
        (
            Buffer(dw, written=True),
            partial,
            *(Integer.of(s) for s in sizes),
            Scratch(dim((products + scheme.taps**2) * scheme.width * size), per_thread=True),
        ),
    )
    return [sums, join]


def _bands(scheme: Scheme) -> int:
    """Bands in a block, as the budget allows."""
    each = (scheme.filled + scheme.filled_outputs) * scheme.tile.bytes_each
    tiles = BUDGET // (scheme.count**2 * each)
    return max(min(tiles, 128) // scheme.across, 1)


def _build_sums(scheme: Scheme) -> Callable[[int, int, int], int]:
    """Partial results [chunk, product, panel, channel, output], outputs padded to whole panels."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    inputs = subroutine(build_spread(scheme, "bt"))
    gradients = subroutine(build_spread(scheme, "a"))
    multiply = subroutine(_build_multiply(scheme))
    products, size = scheme.count**2, scheme.tile.bytes_each

    def kernel(args: int, tid: int, threads: int) -> int:
        images, chunks, most = slot(args, _N), slot(args, _CHUNKS), slot(args, _BANDS)
        across, down, slab = slot(args, _ACROSS), slot(args, _DOWN), slot(args, _SLAB)
        each = products * slot(args, _FILLED) * slot(args, _FILLED_DY) * size
        start, stop = share(chunks, 1, tid, threads)
        for chunk in range(start, stop):
            target = slot(args, _PARTIAL) + chunk * each
            first = images * chunk // chunks * down
            last = images * (chunk + 1) // chunks * down
            if first == last:
                zero_bytes(target, each)
            for band in range(first, last, most):
                end = min(band + most, last)
                inputs(
                    slot(args, _V), slot(args, _V_STEP), slot(args, _ROOM), slab, slot(args, _IN),
                    slot(args, _H), slot(args, _W), slot(args, _C), slot(args, _FILLED),
                    slot(args, _TOP), slot(args, _LEFT), across, down, band, end,
                )  # fmt: skip
                gradients(
                    slot(args, _D), slot(args, _D_STEP), slot(args, _ROOM), slab, slot(args, _DY),
                    slot(args, _HO), slot(args, _WO), slot(args, _O), slot(args, _FILLED_DY),
                    0, 0, across, down, band, end,
                )  # fmt: skip
                multiply(args, target, band, end, min(end + most, last), band > first)
        return 0

    return kernel


def _build_multiply(scheme: Scheme) -> Callable[..., None]:
    """`f(args, target, band, end, after, add)`: channels times outputs for every product and panel,
    of the tiles of the bands from `band` to `end`; the next block goes to `after`."""
    from dnnc.kernels.blocked import Strides, build_rows
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    tile, products, width = scheme.tile, scheme.count**2, scheme.width
    size, most, lanes = tile.bytes_each, tile.columns, tile.lanes
    strides = Strides(size, lanes * size, width * size, width * size)
    rows_of = subroutine(build_rows(scheme.row_tiles, strides))
    fetch = subroutine(build_fetch(scheme))

    def multiply(args: int, target: int, band: int, end: int, after: int, add: int) -> None:
        room, filled, down = slot(args, _ROOM), slot(args, _FILLED), slot(args, _DOWN)
        tiles = (end - band) * slot(args, _ACROSS)
        line = slot(args, _W) * slot(args, _C) * size
        line_dy = slot(args, _WO) * slot(args, _O) * size
        panels = slot(args, _FILLED_DY) // width
        for f in range(products):
            fetch(slot(args, _IN), slot(args, _H), line, down, end, after, f)
            fetch(slot(args, _DY), slot(args, _HO), line_dy, down, end, after, f)
            v = slot(args, _V) + f * slot(args, _V_STEP)
            d = slot(args, _D) + f * slot(args, _D_STEP)
            for p in range(panels):
                for block in range(filled // lanes):
                    a = v + block * room * lanes * size
                    for j in range(0, width, most):
                        b = d + (p * room * width + j) * size
                        rows_of(lanes, a, 0, 1, tiles, b, target + j * size, add)
                    target += lanes * width * size

    return multiply


def _build_join(scheme: Scheme) -> Callable[[int, int, int], int]:
    """The sum of the partial results, transformed back into dw. Threads share panels and
    channels."""
    from dnnc.kernels.intrinsics import load, share, slot, store
    from dnnc.kernels.winograd_ir import both_sides, transposed

    tile, taps, count, width = scheme.tile, scheme.taps, scheme.count, scheme.width
    matrix = transposed(scheme.matrices.g)
    transform = both_sides(f"gt_{scheme.results}_{taps}", matrix, tile)
    get, get_sum, put_sum = load(tile.dtype, 1), load(tile.dtype, 2), store(tile.dtype, 2)
    put = store(tile.dtype, 0)
    size, products, square, lanes = tile.bytes_each, count**2, taps**2, tile.lanes
    pixel = width * size

    def kernel(args: int, tid: int, threads: int) -> int:
        dw, partial = slot(args, 0), slot(args, 1)
        channels, outputs, filled = slot(args, 2), slot(args, 3), slot(args, 4)
        chunks, sums = slot(args, 5), slot(args, 6)
        panels = (outputs + width - 1) // width
        start, stop = share(panels * channels, 1, tid, threads)
        for unit in range(start, stop):
            p, c = unit // channels, unit % channels
            for chunk in range(chunks):
                for f in range(products):
                    place = ((chunk * products + f) * panels + p) * filled + c
                    source, to = partial + place * pixel, sums + f * pixel
                    if chunk == 0:
                        for j in range(width):
                            put_sum(to, j, get(source, j))
                    else:
                        for j in range(width):
                            put_sum(to, j, get_sum(to, j) + get(source, j))
            back = sums + products * pixel
            vector = lanes * size
            transform(back, taps * pixel, pixel, vector, sums, count * pixel, pixel, width // lanes)
            for o in range(min(outputs - p * width, width)):
                to = dw + ((p * width + o) * channels + c) * square * size
                for k in range(square):
                    put(to, k, get_sum(back, k * width + o))
        return 0

    return kernel
