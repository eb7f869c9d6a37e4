"""The gradient of a convolution by weight.

The transpose of dw is a product: rows are taps (channel, ky, kx), columns are outputs, and the
sum runs over pixels and images. A tap's pixels are those of the padded planes
(`dnnc.kernels.conv`) from its offset on; a table of steps leads along the lines of the output.
The pixels of dy are transposed to stand in rows of outputs.

Images are cut into chunks, whose number depends on sizes alone; each chunk sums into a
partial result of its own, and a second call adds those in order. So threads share images, and the
sums are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import Dim, ceil_div, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch, lowering, make_kernel
from dnnc.kernels.code import Code
from dnnc.kernels.conv_integer import integer_conv_call
from dnnc.kernels.conv_planes import BUDGET, build_fill, build_offsets, planes_and_offsets
from dnnc.kernels.depthwise import depthwise_weight_call, is_depthwise
from dnnc.kernels.strips import Strip, strip_kernel
from dnnc.kernels.tiles import Tile, tiles
from dnnc.ops.conv import ConvWeightGradient

__all__ = ["conv_weight_calls"]

_PARTIAL, _IN, _DY, _N, _C, _H, _W, _O, _HO, _WO, _GROUPS, _KH, _KW = range(13)
_SH, _SW, _DH, _DW, _TOP, _LEFT, _BACKWARD = range(13, 20)
_STRIP, _PLANES, _OFFSETS, _STEPS, _PACKED, _WORDS, _CHUNKS = range(20, 27)


@lowering(ConvWeightGradient)
def lower_conv_weight_gradient(node: Node) -> list[Call]:
    x, dy = node.operands
    return conv_weight_calls(node.op, x, dy, node.results[0])


def conv_weight_calls(op: Any, x: Value, dy: Value, dw: Value) -> list[Call]:
    """The calls that compute the gradient by weight from x and dy into the memory of `dw`."""
    if not dw.type.dtype.is_float:
        return [integer_conv_call(op, x, dy, dw)]
    if is_depthwise(op, x, dw):
        return [depthwise_weight_call(op, x, dy, dw)]
    dtype, groups = str(dw.type.dtype), op.groups
    outputs, depth = dw.shape[0] // groups, product(dw.shape[1:])
    tile = tiles(dtype, _vectors(dtype, outputs))[0]
    size, chunks = tile.bytes_each, _chunks(dw)
    padded = ceil_div(outputs, tile.columns) * tile.columns
    partial = Scratch(depth * padded * (chunks * groups * size))
    planes, offsets = planes_and_offsets(op, x, dy, dw, tile, backward=False)
    steps = BUDGET // (tile.columns * size) + dy.shape[3]
    scratch = (
        Scratch(planes, per_thread=True),
        Scratch(2 * offsets, per_thread=True),
        Scratch(steps * 8, per_thread=True),
        Scratch(steps * (tile.columns * size), per_thread=True),
        Scratch(dim(8 * Strip.WORDS), per_thread=True),
    )
    movement = (groups, *dw.shape[2:], *op.strides, *op.dilations, *op.pads[:2], 0)
    sums = Call(
        make_kernel("conv_weight", lambda: _build_sums(tile), tile),
        (
            partial,
            Buffer(x),
            Buffer(dy),
            *(Integer.of(s) for s in (*x.shape, *dy.shape[1:], *movement)),
            Code(strip_kernel(dtype, tile.vectors, "a")),
            *scratch,
            Integer.of(chunks),
        ),
        2 * dy.type.elements * depth,
    )
    join = Call(
        make_kernel("conv_weight_join", lambda: _build_join(tile), tile),
        (
            Buffer(dw, written=True),
            partial,
            *(Integer.of(s) for s in (chunks, groups, depth, outputs)),
        ),
        dw.type.elements * chunks,
    )
    return [sums, join]


def _vectors(dtype: str, outputs: Dim) -> int:
    """Registers in a row of the tile: one where all outputs of a group fit in it, else two."""
    known = outputs.constant
    return 1 if known is not None and known <= tiles(dtype)[0].lanes else 2


def _chunks(dw: Value) -> int:
    """Parts of the images: many for small weights, where each thread should find some."""
    elements = dw.type.elements.constant
    if elements is None or elements > 1 << 20:
        return 2
    return 4 if elements > 1 << 17 else 8


def _build_sums(tile: Tile) -> Callable[[int, int, int], int]:
    """Partial results [chunk, group, tap, output], outputs padded to whole panels."""
    from dnnc.kernels.intrinsics import share, slot, store, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    offsets = subroutine(build_offsets(tile))
    image_sums = subroutine(_build_image(tile))
    put, size, most = store("i64"), tile.bytes_each, tile.columns

    def kernel(args: int, tid: int, threads: int) -> int:
        images, groups, chunks = slot(args, _N), slot(args, _GROUPS), slot(args, _CHUNKS)
        channels, outputs = slot(args, _C) // groups, slot(args, _O) // groups
        ho, wo = slot(args, _HO), slot(args, _WO)
        taps = channels * slot(args, _KH) * slot(args, _KW)
        partial = taps * ((outputs + most - 1) // most * most) * size
        shift = (slot(args, _KH) - 1) * slot(args, _DH) // slot(args, _SH)
        wide = wo + (slot(args, _KW) - 1) * slot(args, _DW) // slot(args, _SW)
        line = channels * slot(args, _SH) * slot(args, _SW) * wide * size
        lines = BUDGET // max(line, 1) - shift
        lines = max(min(lines, BUDGET // (most * size) // max(wo, 1), ho), 1)
        offsets(args, lines + shift, wide, shift, 0)
        for i in range(lines):
            for j in range(wo):
                put(slot(args, _STEPS), i * wo + j, (i * wide + j) * size)
        start, stop = share(chunks * groups, 1, tid, threads)
        for unit in range(start, stop):
            chunk, group = unit // groups, unit % groups
            target = slot(args, _PARTIAL) + unit * partial
            first, last = images * chunk // chunks, images * (chunk + 1) // chunks
            if first == last or ho * wo == 0:
                zero_bytes(target, partial)
                continue
            for image in range(first, last):
                for q in range(0, ho, lines):
                    add = image > first or q > 0
                    count = min(lines, ho - q)
                    image_sums(args, image, group, q, count, lines + shift, wide, target, add)
        return 0

    return kernel


def _build_image(tile: Tile) -> Callable[..., None]:
    """`f(args, image, group, q, count, rows, wide, target, add)`: what `count` lines from `q` on
    add to a partial result."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store
    from dnnc.kernels.packing import build_transpose
    from dnnc.kernels.subroutine import subroutine

    fill = build_fill(tile)
    transpose = subroutine(build_transpose(tile.bytes_each))
    put, size, most = store("i64"), tile.bytes_each, tile.columns

    def image_sums(
        args: int, image: int, group: int, q: int, count: int, rows: int, wide: int, target: int,
        add: int,
    ) -> None:  # fmt: skip
        groups, words = slot(args, _GROUPS), slot(args, _WORDS)
        channels, outputs = slot(args, _C) // groups, slot(args, _O) // groups
        ho, wo, packed = slot(args, _HO), slot(args, _WO), slot(args, _PACKED)
        fill(args, image, group, q, rows, 0, wide, 0, 0)
        put(words, 0, channels * slot(args, _KH) * slot(args, _KW))
        put(words, 1, count * wo)
        put(words, 2, slot(args, _PLANES))
        put(words, 4, slot(args, _STEPS))
        put(words, 5, packed)
        put(words, 6, most * size)
        put(words, 8, (outputs + most - 1) // most * most * size)
        put(words, 9, most)
        put(words, 10, add)
        put(words, 11, slot(args, _OFFSETS))
        dy = slot(args, _DY) + ((image * groups + group) * outputs * ho + q) * wo * size
        for o in range(0, outputs, most):
            source = dy + o * ho * wo * size
            some = min(most, outputs - o)
            transpose(packed, most * size, source, ho * wo * size, some, count * wo)
            put(words, 7, target + o * size)
            call_kernel(slot(args, _STRIP), words, 0, 0)

    return image_sums


def _build_join(tile: Tile) -> Callable[[int, int, int], int]:
    """The sum of the partial results, transposed into dw. Threads share the taps."""
    from dnnc.kernels.intrinsics import load, share, slot, store
    from dnnc.kernels.packing import build_transpose
    from dnnc.kernels.subroutine import subroutine

    transpose = subroutine(build_transpose(tile.bytes_each))
    get, put, get_part = load(tile.dtype, 0), store(tile.dtype, 0), load(tile.dtype, 1)
    size, most, block = tile.bytes_each, tile.columns, 16

    def kernel(args: int, tid: int, threads: int) -> int:
        dw, partial = slot(args, 0), slot(args, 1)
        chunks, groups, taps, outputs = slot(args, 2), slot(args, 3), slot(args, 4), slot(args, 5)
        padded = (outputs + most - 1) // most * most
        blocks = (taps + block - 1) // block
        start, stop = share(groups * blocks, 1, tid, threads)
        for unit in range(start, stop):
            group, k = unit // blocks, unit % blocks * block
            some = min(block, taps - k)
            first = partial + (group * taps + k) * padded * size
            for chunk in range(1, chunks):
                part = first + chunk * groups * taps * padded * size
                for i in range(some * padded):
                    put(first, i, get(first, i) + get_part(part, i))
            to = dw + (group * outputs * taps + k) * size
            transpose(to, taps * size, first, padded * size, some, outputs)
        return 0

    return kernel
