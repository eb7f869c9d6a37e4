"""Convolution and its gradient by input, as products of matrices without a matrix of patches.

Both are one computation: rows of weights times columns of pixels, summed over the taps (channel,
ky, kx). A thread takes an image (and group) at a time, a slab of lines, and copies it with its
padding into scratch memory, split into one plane for each residue of the stride; then the input
pixels of adjacent outputs are adjacent for every tap, and a table of offsets, one a tap, leads
the tiles to them.

By input, outputs dx[h, w] of one class (h + top) mod stride, (w + left) mod stride use the same
taps, with adjacent pixels of dy; each class is such a convolution of its own, with strides in
what it writes. Its weights are gathered first, by a call of its own.
"""

from __future__ import annotations

from typing import Any

from dnnc.ir.dims import dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import (
    Argument,
    Buffer,
    Call,
    Integer,
    Scratch,
    anchored,
    lowering,
    make_kernel,
)
from dnnc.kernels.code import Code
from dnnc.kernels.conv_driver import ROWS, build_conv, build_gather_weights
from dnnc.kernels.conv_integer import integer_conv_call
from dnnc.kernels.conv_planes import planes_and_offsets
from dnnc.kernels.conv_weight import conv_weight_calls
from dnnc.kernels.depthwise import depthwise_call, is_depthwise
from dnnc.kernels.epilogue import Epilogue, Region, calls_apart, epilogue_arguments, operands_of
from dnnc.kernels.strips import Strip, strip_kernel
from dnnc.kernels.tiles import tiles
from dnnc.ops.conv import Conv, ConvInputGradient, ConvWeightGradient

__all__ = ["conv_calls", "conv_input_calls", "conv_weight_calls"]


@lowering(Conv)
def lower_conv(node: Node) -> list[Call]:
    x, w = node.operands
    return conv_calls(node.op, x, w, node.results[0])


@lowering(ConvInputGradient)
def lower_conv_input_gradient(node: Node) -> list[Call]:
    dy, w = node.operands
    return conv_input_calls(node.op, dy, w, node.results[0])


@anchored(Conv, ConvInputGradient)
def lower_fused_conv(node: Node, anchor: Node) -> list[Call]:
    make = conv_calls if isinstance(anchor.op, Conv) else conv_input_calls
    first, second = operands_of(node, anchor)
    if not anchor.results[0].type.dtype.is_float:
        return calls_apart(node, anchor, lambda _, to: make(anchor.op, first, second, to))
    return make(anchor.op, first, second, anchor.results[0], Epilogue.of(node, anchor))


@anchored(ConvWeightGradient)
def lower_fused_conv_weight_gradient(node: Node, anchor: Node) -> list[Call]:
    def calls(operands: tuple[Value, ...], target: Value) -> list[Call]:
        x, dy = operands
        return conv_weight_calls(anchor.op, x, dy, target)

    return calls_apart(node, anchor, calls)


def conv_calls(
    op: Any, x: Value, w: Value, y: Value, epilogue: Epilogue | None = None
) -> list[Call]:
    """The calls that convolve x by w into the memory of `y`, or give the sums to an epilogue."""
    if not y.type.dtype.is_float:
        return [integer_conv_call(op, x, w, y)]
    if is_depthwise(op, x, w):
        return [depthwise_call(op, x, w, y, epilogue, backward=False)]
    return [_call(op, x, w, y, Buffer(w), epilogue, backward=False)]


def conv_input_calls(
    op: Any, dy: Value, w: Value, dx: Value, epilogue: Epilogue | None = None
) -> list[Call]:
    """The calls that compute the gradient by input from dy into the memory of `dx`."""
    if not dx.type.dtype.is_float:
        return [integer_conv_call(op, dy, w, dx)]
    if is_depthwise(op, dx, w, backward=True):
        return [depthwise_call(op, dy, w, dx, epilogue, backward=True)]
    size = w.type.dtype.size
    packed = Scratch(w.type.elements * size)
    sizes = (*w.shape, op.groups, *op.strides, *op.dilations)
    gather = Call(
        make_kernel("conv_gather_weights", lambda: build_gather_weights(size), size),
        (packed, Buffer(w), *(Integer.of(x) for x in sizes)),
    )
    return [gather, _call(op, dy, w, dx, packed, epilogue, backward=True)]


def _call(
    op: Any,
    source: Value,
    w: Value,
    target: Value,
    weights: Argument,
    epilogue: Epilogue | None,
    backward: bool,
) -> Call:
    dtype = str(target.type.dtype)
    tile = tiles(dtype)[0]
    kh, kw = w.shape[2:]
    image = target if backward else source
    outputs = source if backward else target
    sizes = (
        *source.shape,
        *target.shape[1:],
        op.groups,
        kh,
        kw,
        *op.strides,
        *op.dilations,
        *op.pads[:2],
        int(backward),
    )
    planes, offsets = planes_and_offsets(op, image, outputs, w, tile, backward)
    scratch = (
        Scratch(planes, per_thread=True),
        Scratch(2 * offsets, per_thread=True),
        Scratch(dim(ROWS * tile.columns * tile.bytes_each), per_thread=True),
        # A packed panel.
        Scratch(offsets // 8 * (tile.columns * tile.bytes_each), per_thread=True),
        Scratch(dim(8 * (Strip.WORDS + Region.WORDS)), per_thread=True),
    )
    strip = Code(strip_kernel(dtype, tile.vectors, "b"))
    flat = Integer.of(int(epilogue is None or epilogue.flat))
    arguments = (
        # An epilogue stores by itself, from the tile.
        Integer.of(0) if epilogue else Buffer(target, written=True),
        Buffer(source),
        weights,
        *(Integer.of(x) for x in sizes),
        strip,
        *scratch,
        flat,
        *epilogue_arguments(epilogue),
    )
    flops = 2 * outputs.type.elements * product(w.shape[1:])
    in_place = epilogue.in_place if epilogue else ()
    return Call(make_kernel("conv", lambda: build_conv(tile), tile), arguments, flops, in_place)
