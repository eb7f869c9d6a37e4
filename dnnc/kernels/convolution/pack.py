"""Packing of the weights of convolutions: see `dnnc.ops.channels_last` for the order.

Threads share the panels and, within one, the input channels, or the outputs by input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Scratch, lowering, make_kernel
from dnnc.ops.channels_last import PackWeights, is_depthwise

__all__ = ["pack_calls"]

_TO, _FROM, _GROUPS, _CHANNELS, _OUTPUTS, _KH, _KW, _SH, _SW, _DH, _DW = range(11)
_BACKWARD, _BY_INPUT, _PANELS, _DEPTH, _WIDTH, _PLACES, _TURNED = range(11, 18)
#: Elements of a weight that are turned at a time, for each column of a panel.
_BLOCK = 64


@lowering(PackWeights)
def lower_pack_weights(node: Node) -> list[Call]:
    return pack_calls(node.op, node.operands[0], node.results[0])


def pack_calls(op: Any, w: Value, packed: Value) -> list[Call]:
    """The calls that pack `w` into the memory of `packed`."""
    if op.tile:
        from dnnc.kernels.winograd.pack import winograd_pack_calls

        return winograd_pack_calls(op, w, packed)
    size, (outputs, channels, kh, kw) = w.type.dtype.size, w.shape
    each = is_depthwise(w.shape, op.groups)
    groups = 1 if each else op.groups
    by_input = op.backward and not each
    _, panels, depth, width = packed.shape
    sizes = (
        groups,
        channels,
        outputs // groups,
        kh,
        kw,
        *(op.strides if op.backward else (dim(1), dim(1))),
        *op.dilations,
        int(op.backward),
        int(by_input),
        panels,
        depth,
        width,
    )
    arguments: tuple[Argument, ...] = (
        Buffer(packed, written=True),
        Buffer(w),
        *(Integer.of(number) for number in sizes),
        Scratch(kh * kw * 8, per_thread=True),
        Scratch((kh * kw + _BLOCK) * width * size, per_thread=True),
    )
    kernel = make_kernel("pack_weights", lambda: _build_pack(size), size, unrolled=False)
    return [Call(kernel, arguments, w.type.elements)]


def _build_pack(size: int) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import subroutine

    places, turn = subroutine(_build_places()), subroutine(_build_turn(size))

    def kernel(args: int, tid: int, threads: int) -> int:
        channels, outputs = slot(args, _CHANNELS), slot(args, _OUTPUTS)
        kh, kw, width, panels = (
            slot(args, _KH), slot(args, _KW), slot(args, _WIDTH), slot(args, _PANELS)
        )  # fmt: skip
        by_input, taps = slot(args, _BY_INPUT), kh * kw
        if channels * outputs * taps == 0:
            return 0
        places(args)
        columns, rows, block = outputs, channels, max(_BLOCK // taps, 1)
        if by_input:
            columns, rows, block = channels, outputs, 1
        blocks = (rows + block - 1) // block
        start, stop = share(slot(args, _GROUPS) * panels * blocks, 1, tid, threads)
        for unit in range(start, stop):
            panel, row = unit // blocks, unit % blocks * block
            column = panel % panels * width
            turn(
                args, panel // panels, panel, row, min(block, rows - row), column,
                min(width, columns - column),
            )  # fmt: skip
        return 0

    return kernel


def _build_places() -> Callable[[int], None]:
    """The place of each tap (ky, kx) in the order of the depth."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def places(args: int) -> None:
        kh, kw, sh, sw = slot(args, _KH), slot(args, _KW), slot(args, _SH), slot(args, _SW)
        table, count, last = slot(args, _PLACES), 0, kh * kw - 1
        if not slot(args, _BACKWARD):
            for tap in range(kh * kw):
                put(table, tap, tap)
            return
        for r in range(sh):
            for s in range(sw):
                for tap in range(last, -1, -1):
                    y, x = tap // kw * slot(args, _DH), tap % kw * slot(args, _DW)
                    if y % sh == r and x % sw == s:
                        put(table, tap, count)
                        count += 1

    return places


def _build_turn(size: int) -> Callable[..., None]:
    """`f(args, group, panel, row, rows, column, columns)`: some rows of one panel, which are input
    channels for all taps, or by input one output for all taps."""
    from dnnc.kernels.intrinsics import copy_bytes, slot, zero_bytes
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose = shared(build_transpose, size)

    def turn(
        args: int, group: int, panel: int, row: int, rows: int, column: int, columns: int
    ) -> None:
        channels, outputs, width = slot(args, _CHANNELS), slot(args, _OUTPUTS), slot(args, _WIDTH)
        taps, turned, by_input = (
            slot(args, _KH) * slot(args, _KW), slot(args, _TURNED), slot(args, _BY_INPUT)
        )  # fmt: skip
        source, count = slot(args, _FROM) + group * outputs * channels * taps * size, rows * taps
        if by_input:
            source += (row * channels + column) * taps * size
            apart, each = taps, outputs
        else:
            source += (column * channels + row) * taps * size
            apart, each = channels * taps, channels
        if columns < width:
            zero_bytes(turned, count * width * size)
        transpose(turned, width * size, source, apart * size, columns, count)
        to = slot(args, _TO) + panel * slot(args, _DEPTH) * width * size
        for k in range(count):
            place = slot(slot(args, _PLACES), k % taps) * each + row + k // taps
            copy_bytes(to + place * width * size, turned + k * width * size, width * size)

    return turn
