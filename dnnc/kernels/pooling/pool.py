"""Pooling over windows of [N, H, W, C], and its gradients. Threads share the lines of windows.

A line of windows is `dnnc.kernels.pooling.windows`. In the gradients each line of windows owns the
lines of dx from its first one to that of the next line of windows, and a thread writes those of its
own lines; where windows overlap it computes windows of its neighbour again that reach into them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.kernels.abi import Buffer, Call, Integer, examples_of, lowering, make_kernel
from dnnc.kernels.convolution.first import first_calls
from dnnc.kernels.target import host
from dnnc.ops.pool import (
    MaxPool,
    MaxPoolGradient,
    MaxPoolIndexed,
    MaxPoolIndexedGradient,
    Pooling,
    SumPool,
    SumPoolGradient,
)

__all__ = ["Kind"]

#: What is asked of windows: their largest elements, those and their indices, or their sums. The
#: gradient of the second reads indices, that of the first finds the elements anew.
Kind: TypeAlias = Literal["largest", "indexed", "sum"]

_Function: TypeAlias = Callable[[int, int, int], int]
#: Slots after those of the values.
_N, _H, _W, _C, _HO, _WO, _TOP, _LEFT, _KH, _KW, _SH, _SW = range(12)

#: Bytes of images that a cache holds: what lies in there is not fetched ahead.
_NEAR = 512 * 1024


@lowering(MaxPool, MaxPoolIndexed, SumPool)
def lower_pool(node: Node) -> list[Call]:
    op = node.op
    assert isinstance(op, Pooling)
    if not op.channels_last:
        return first_calls(node)
    x, y = node.operands[0], node.results[0]
    how, kind = _walk(x), _kind(op)
    return [_call(node, x, y, lambda: _build(*how, kind), *how)]


@lowering(MaxPoolGradient, MaxPoolIndexedGradient, SumPoolGradient)
def lower_pool_gradient(node: Node) -> list[Call]:
    op = node.op
    assert isinstance(op, Pooling)
    if not op.channels_last:
        return first_calls(node)
    dx, dy = node.results[0], node.operands[-1]
    how, kind = _walk(dx), _kind(op)
    apart = all(
        size.constant is not None and step.constant is not None and size.constant <= step.constant
        for size, step in zip(op.window, op.strides, strict=True)
    )
    build = lambda: _build_gradient(*how, apart, kind)  # noqa: E731
    return [_call(node, dx, dy, build, *how, apart)]


def _kind(op: Pooling) -> Kind:
    if isinstance(op, MaxPoolIndexed | MaxPoolIndexedGradient):
        return "indexed"
    return "largest" if isinstance(op, MaxPool | MaxPoolGradient) else "sum"


def _walk(image: Value) -> tuple[str, int]:
    """Element type of an image and the vectors of channels that are worked on at a time, 0 where
    channels are not whole vectors."""
    dtype, channels = image.type.dtype, image.shape[3].constant
    lanes = host().lanes(dtype.size)
    if not channels or channels % lanes:
        return str(dtype), 0
    return str(dtype), next(k for k in (4, 2, 1) if channels // lanes % k == 0)


def _call(
    node: Node, image: Value, windows: Value, build: Callable[[], _Function], *parameters: object
) -> Call:
    op = node.op
    assert isinstance(op, Pooling)
    movement = (*op.pads[:2], *op.window, *op.strides)
    sizes: tuple[Dim, ...] = (*image.shape, *windows.shape[1:3], *movement)
    values = (
        *(Buffer(v) for v in node.operands),
        *(Buffer(v, written=True) for v in node.results),
    )
    kernel = make_kernel(op.name, build, "channels last", *parameters)
    flops = windows.type.elements * op.window[0] * op.window[1]
    examples = examples_of(image, *op.window, *op.strides, *op.pads)
    return Call(kernel, (*values, *(Integer(size) for size in sizes)), flops, examples=examples)


def _build(dtype: str, vectors: int, kind: Kind) -> _Function:
    """Slots: x, y, indices where they are asked for, and then the sizes."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.pooling.windows import Channels, pool_line

    line_of, size = pool_line(Channels(dtype, vectors), kind), DType(dtype).size
    values = 3 if kind == "indexed" else 2

    def kernel(args: int, tid: int, threads: int) -> int:
        x, y, sizes = slot(args, 0), slot(args, 1), args + 8 * values
        h, w, c = slot(sizes, _H), slot(sizes, _W), slot(sizes, _C)
        ho, wo, kh, kw = slot(sizes, _HO), slot(sizes, _WO), slot(sizes, _KH), slot(sizes, _KW)
        sh, sw, left = slot(sizes, _SH), slot(sizes, _SW), slot(sizes, _LEFT)
        row = w * c * size
        fetch = kh - sh if slot(sizes, _N) * h * row > _NEAR else kh
        start, stop = share(slot(sizes, _N) * ho, 1, tid, threads)
        for line in range(start, stop):
            y0 = line % ho * sh - slot(sizes, _TOP)
            i0, i1, at = max(0, -y0), min(kh, h - y0), x + (line // ho * h + y0) * row
            first = line * wo * c
            # Without indices nothing is stored to theirs.
            out, indices = y + first * size, slot(args, 2) + first
            line_of(out, at, -left, w, i0, i1, kw, wo, sw, c, fetch, sh * row, indices)
        return 0

    return kernel


def _build_gradient(dtype: str, vectors: int, apart: bool, kind: Kind) -> _Function:
    """Slots: x or indices where they matter, dy, dx, and then the sizes. Windows add to dx in their
    order."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.pooling.windows import Channels, gradient_line

    line_of = gradient_line(Channels(dtype, vectors), apart, kind)
    size, values = DType(dtype).size, 2 if kind == "sum" else 3
    indexed = kind == "indexed"

    def kernel(args: int, tid: int, threads: int) -> int:
        x, dy, dx = slot(args, 0), slot(args, values - 2), slot(args, values - 1)
        sizes = args + 8 * values
        h, w, c = slot(sizes, _H), slot(sizes, _W), slot(sizes, _C)
        ho, wo, kh, kw = slot(sizes, _HO), slot(sizes, _WO), slot(sizes, _KH), slot(sizes, _KW)
        sh, sw = slot(sizes, _SH), slot(sizes, _SW)
        top, left = slot(sizes, _TOP), slot(sizes, _LEFT)
        row = w * c * size
        fetch = kh - sh if slot(sizes, _N) * h * row > _NEAR else kh
        covered = kw == sw and left >= 0 and wo * sw - left >= w
        start, stop = share(slot(sizes, _N) * ho, 1, tid, threads)
        while start < stop:
            image = start // ho
            first, last = start - image * ho, min(stop - image * ho, ho)
            start += last - first
            # Lines of dx that are this thread's in this image, and those ready to be added to.
            low = min(max(0, first * sh - top), h) if first else 0
            high = min(max(0, last * sh - top), h) if last < ho else h
            ready = low
            if not apart:
                first = max(0, (low + top - kh) // sh + 1)
            for line in range(first, last):
                y0 = line * sh - top
                e0, e1 = max(0, low - y0), min(kh, high - y0)
                reached = high if line == ho - 1 else max(ready, min(high, y0 + max(kh, sh)))
                if not (apart and covered and y0 + e0 <= ready and y0 + e1 >= reached):
                    zero_bytes(dx + (image * h + ready) * row, (reached - ready) * row)
                ready = reached
                i0, i1, at = max(0, -y0), min(kh, h - y0), (image * h + y0) * row
                window = (image * ho + line) * wo * c
                given, source = dy + window * size, x + at
                if indexed:
                    source = x + window
                parts = given, source, -left, w, i0, i1, kw, wo, sw, c, fetch, sh * row
                line_of(*parts, dx + at, e0, e1)
        return 0

    return kernel
