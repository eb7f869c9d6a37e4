"""Convolutions of integers, in plain loops along lines; sums wrap around as in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Buffer, Call, Integer, make_kernel
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution

__all__ = ["integer_conv_call"]

_TO, _FIRST, _SECOND, _N, _C, _H, _W, _O, _HO, _WO, _GROUPS, _KH, _KW = range(13)
_SH, _SW, _DH, _DW, _TOP, _LEFT = range(13, 19)


def integer_conv_call(op: Convolution, first: Value, second: Value, result: Value) -> Call:
    """The call of any of the three convolutions, from its operands."""
    dtype, build = str(result.type.dtype), _build_by_weight
    x, w, y = first, result, second
    if isinstance(op, Conv):
        x, w, y, build = first, second, result, _build_forward
    elif isinstance(op, ConvInputGradient):
        x, w, y, build = result, second, first, _build_by_input
    sizes: tuple[Dim | int, ...] = (
        *x.shape,
        *y.shape[1:],
        op.groups,
        *w.shape[2:],
        *op.strides,
        *op.dilations,
    )
    values = (Buffer(result, written=True), Buffer(first), Buffer(second))
    kernel = make_kernel(f"{op.name}_integer", lambda: build(dtype), dtype)
    flops = 2 * y.type.elements * w.shape[1] * w.shape[2] * w.shape[3]
    return Call(kernel, (*values, *(Integer.of(s) for s in (*sizes, *op.pads[:2]))), flops)


def _build_range() -> Any:
    """`f(args, kx)`: the columns of y for which tap kx lies in the image."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    def columns(args: int, kx: int) -> tuple[int, int]:
        shift, step = kx * slot(args, _DW) - slot(args, _LEFT), slot(args, _SW)
        start = max((step - 1 - shift) // step, 0)
        return start, min((slot(args, _W) - 1 - shift) // step + 1, slot(args, _WO))

    return subroutine(columns, returns=2)


def _build_forward(dtype: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    columns, number = _build_range(), NUMBA_TYPES[dtype]
    get_x, get_w, get, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        y, x, weights = slot(args, _TO), slot(args, _FIRST), slot(args, _SECOND)
        h, w, ho, wo = slot(args, _H), slot(args, _W), slot(args, _HO), slot(args, _WO)
        outputs, groups = slot(args, _O), slot(args, _GROUPS)
        channels, kh, kw = slot(args, _C) // groups, slot(args, _KH), slot(args, _KW)
        start, stop = share(slot(args, _N) * outputs * ho, 1, tid, threads)
        for line in range(start, stop):
            image, o, q = line // ho // outputs, line // ho % outputs, line % ho
            plane = (image * groups + o // (outputs // groups)) * channels
            for u in range(wo):
                put(y, line * wo + u, number(0))
            for tap in range(channels * kh * kw):
                c, ky, kx = tap // kw // kh, tap // kw % kh, tap % kw
                row = q * slot(args, _SH) + ky * slot(args, _DH) - slot(args, _TOP)
                first, last = columns(args, kx)
                factor = get_w(weights, o * channels * kh * kw + tap)
                at = ((plane + c) * h + row) * w + kx * slot(args, _DW) - slot(args, _LEFT)
                for u in range(first, last if 0 <= row < h else first):
                    value = get(y, line * wo + u) + factor * get_x(x, at + u * slot(args, _SW))
                    put(y, line * wo + u, number(value))
        return 0

    return kernel


def _build_by_input(dtype: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    columns, number = _build_range(), NUMBA_TYPES[dtype]
    get_dy, get_w, get, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        dx, dy, weights = slot(args, _TO), slot(args, _FIRST), slot(args, _SECOND)
        h, w, ho, wo = slot(args, _H), slot(args, _W), slot(args, _HO), slot(args, _WO)
        groups, kh, kw, sh = slot(args, _GROUPS), slot(args, _KH), slot(args, _KW), slot(args, _SH)
        channels, outputs = slot(args, _C) // groups, slot(args, _O) // groups
        start, stop = share(slot(args, _N) * groups * channels * h, 1, tid, threads)
        for line in range(start, stop):
            plane, c = line // h // channels, line // h % channels
            for j in range(w):
                put(dx, line * w + j, number(0))
            for tap in range(outputs * kh * kw):
                o, ky, kx = tap // kw // kh, tap // kw % kh, tap % kw
                row = line % h + slot(args, _TOP) - ky * slot(args, _DH)
                first, last = columns(args, kx)
                inside = row % sh == 0 and 0 <= row // sh < ho
                at = (plane % groups * outputs + o) * channels + c
                factor = get_w(weights, (at * kh + ky) * kw + kx)
                source = ((plane * outputs + o) * ho + row // sh) * wo
                to = line * w + kx * slot(args, _DW) - slot(args, _LEFT)
                for u in range(first, last if inside else first):
                    place = to + u * slot(args, _SW)
                    put(dx, place, number(get(dx, place) + factor * get_dy(dy, source + u)))
        return 0

    return kernel


def _build_by_weight(dtype: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    columns, number = _build_range(), NUMBA_TYPES[dtype]
    get_x, get_dy, put = load(dtype, 1), load(dtype, 2), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        dw, x, dy = slot(args, _TO), slot(args, _FIRST), slot(args, _SECOND)
        h, w, ho, wo = slot(args, _H), slot(args, _W), slot(args, _HO), slot(args, _WO)
        outputs, groups = slot(args, _O), slot(args, _GROUPS)
        channels, kh, kw = slot(args, _C) // groups, slot(args, _KH), slot(args, _KW)
        start, stop = share(outputs * channels * kh * kw, 1, tid, threads)
        for place in range(start, stop):
            o, tap = place // (channels * kh * kw), place % (channels * kh * kw)
            c, ky, kx = tap // kw // kh, tap // kw % kh, tap % kw
            first, last = columns(args, kx)
            total = number(0)
            for line in range(slot(args, _N) * ho):
                image, q = line // ho, line % ho
                row = q * slot(args, _SH) + ky * slot(args, _DH) - slot(args, _TOP)
                plane = (image * groups + o // (outputs // groups)) * channels + c
                at = (plane * h + row) * w + kx * slot(args, _DW) - slot(args, _LEFT)
                source = ((image * outputs + o) * ho + q) * wo
                for u in range(first, last if 0 <= row < h else first):
                    product = get_x(x, at + u * slot(args, _SW)) * get_dy(dy, source + u)
                    total = number(total + product)
            put(dw, place, total)
        return 0

    return kernel
