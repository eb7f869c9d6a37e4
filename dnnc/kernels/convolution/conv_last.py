"""Convolution with channels last, and its gradient by input, as products by packed weights.

Rows are pixels, columns outputs, and the sum runs over the taps (ky, kx, channel). A thread takes
some lines of an image at a time and copies what they need with its padding into scratch memory, or
reads it where it lies. One table of offsets, of the taps, leads the tiles along their rows, another
one leads to the rows; so tiles run over the ends of lines. A panel of weights meets all rows before
the next one is taken.

By input, outputs dx[h, w] of one class (h + top) mod stride, (w + left) mod stride use the same
taps, with adjacent pixels of dy; each class is such a convolution of its own, with strides in
what it writes. In a depthwise convolution, a panel is a vector of channels, each of which is
multiplied by its own weights; without strides by input, and forward, it has a kernel of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch, anchored, lowering, make_kernel
from dnnc.kernels.code import Code
from dnnc.kernels.convolution.depthwise import Taps, depthwise_kernel
from dnnc.kernels.convolution.driver import build_conv, most_rows
from dnnc.kernels.convolution.run_strips import Runs
from dnnc.kernels.convolution.slots import Form, common_slots, runs_of
from dnnc.kernels.epilogue import (
    Epilogue,
    convolution_examples,
    epilogue_arguments,
    operands_of,
)
from dnnc.kernels.tiles import tiles
from dnnc.ops.channels_last import ConvLast, ConvLastInputGradient

__all__ = ["conv_last_calls"]

#: Pixels of a line that make a tile with enough sums, and that a tile of sums has room for.
_SHORTEST_RUN, _LONGEST_RUN = 8, 512
#: The depth up to which the start and the end of a tile take a good part of its time.
_SHORT_SUM = 32


@lowering(ConvLast, ConvLastInputGradient)
def lower_conv_last(node: Node) -> list[Call]:
    x, packed = node.operands
    return conv_last_calls(node.op, x, packed, node.results[0])


@anchored(ConvLast, ConvLastInputGradient)
def lower_fused_conv_last(node: Node, anchor: Node) -> list[Call]:
    x, packed = operands_of(node, anchor)
    return conv_last_calls(anchor.op, x, packed, anchor.results[0], Epilogue.of(node, anchor))


def conv_last_calls(
    op: Any, x: Value, packed: Value, y: Value, epilogue: Epilogue | None = None
) -> list[Call]:
    """The calls of a `ConvLast` or `ConvLastInputGradient` of x into the memory of `y`, or with its
    sums given to an epilogue."""
    backward = isinstance(op, ConvLastInputGradient)
    if op.tile:
        from dnnc.kernels.winograd.convolve import winograd_calls

        return winograd_calls(op, x, packed, y, epilogue)
    groups, dtype = op.groups, str(y.type.dtype)
    weight: tuple[Dim, ...] = (y.shape[3], x.shape[3] // groups, *op.kernel)
    if backward:
        weight = (x.shape[3], y.shape[3] // groups, *op.kernel)
    form = Form.of(op, dtype, weight, backward)
    examples = convolution_examples(op, y, epilogue)
    in_place = epilogue.in_place if epilogue else ()
    pixels = (x if backward else y).type.elements
    flops = 2 * pixels * product(weight[1:])
    taps = Taps.of(op, dtype, op.kernel) if form.each and not backward else None
    if taps:
        kernel, arguments = depthwise_kernel(op, taps, x, packed, y, epilogue)
        return [Call(kernel, arguments, flops, in_place, examples)]
    tile = form.tile
    many, few = (
        [_runs(op, form, x, y, weight, one, less) for one in (False, True)]
        for less in (False, True)
    )
    # All that there are have as many rows.
    runs = next(filter(None, many + few), None)
    block = most_rows(tile, runs.rows if runs else 1)
    arguments = (
        # An epilogue stores by itself, from a tile of sums.
        Integer.of(0) if epilogue else Buffer(y, written=True),
        Buffer(x),
        Buffer(packed),
        *common_slots(op, form, x, y, weight, backward, form.strips(*many)),
        Integer(form.width),
        Integer(packed.shape[2]),
        Integer.of(block),
        Integer.of(tile.rows),
        *map(Code, form.strips(*few)),
        Scratch(dim(block * tile.columns * tile.bytes_each), per_thread=True),
        Integer.of(int(epilogue is None or epilogue.flat)),
        *epilogue_arguments(epilogue),
    )
    widest = tiles(dtype)[0]
    kernel = make_kernel("conv_last", lambda: build_conv(widest), widest, unrolled=False)
    return [Call(kernel, arguments, flops, in_place, examples)]


def _runs(
    op: Any, form: Form, x: Value, y: Value, weight: tuple[Dim, ...], narrow: bool, few: bool
) -> Runs | None:
    """The runs of pixels where strips gain enough by knowing them to be compiled for them: where
    taps share what they read, and else those one vector wide, and all where sums are short.

    By input with strides, lines of some classes have a tap less than those of the first: `few`.
    """
    runs = runs_of(op, form, x, y, weight, isinstance(op, ConvLastInputGradient))
    if runs is None or runs.rows < _SHORTEST_RUN:
        return None
    # Parts of longer lines are runs as well.
    parts = (n for n in range(1, runs.rows + 1) if runs.rows % n == 0)
    runs = replace(runs, rows=runs.rows // next(n for n in parts if runs.rows <= n * _LONGEST_RUN))
    tile = form.narrow if narrow else form.tile
    if tile is None or runs.rows < _SHORTEST_RUN:
        return None
    shared = _shared(op, runs, x, weight, few)
    if shared and shared.fit(tile):
        return shared
    depth = (product(weight[2:]) * (x.shape[3] // op.groups)).constant
    short = depth is not None and depth <= _SHORT_SUM
    return runs if tile.vectors == 1 or short else None


def _shared(op: Any, runs: Runs, x: Value, weight: tuple[Dim, ...], few: bool) -> Runs | None:
    """The same runs with the taps of a line at once, if they share what they read."""
    channels = x.shape[3]
    sizes = (weight[3], op.strides[1], op.dilations[1], channels, channels // op.groups)
    taps, stride, dilation, pixel, steps = (size.constant for size in sizes)
    if taps is None or stride is None or dilation is None or pixel is None or steps is None:
        return None
    if isinstance(op, ConvLastInputGradient) and stride > 1:
        # A class has one tap out of so many, for adjacent pixels.
        if dilation > 1:
            return None
        taps = taps // stride if few else -(-taps // stride)
    reach = dilation * pixel * runs.step
    shared = replace(runs, steps=steps, taps=taps, reach=reach)
    return shared if taps > 1 and len(shared.numbers(runs.rows)) < runs.rows * taps else None
