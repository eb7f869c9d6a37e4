"""Pooling over windows, and its gradients. Threads share the planes (image, channel).

Windows and strides known when compiling are constants of the code, so that loops over a window
unroll and rows vectorize.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.kernels.abi import Buffer, Call, Integer, lowering, make_kernel
from dnnc.ops.pool import MaxPool, MaxPoolGradient, Pooling, SumPool, SumPoolGradient

__all__: list[str] = []

#: Sizes before those of the window: planes, H, W, Ho, Wo, top, left.
_SIZES = 7


@dataclass(frozen=True, slots=True)
class _Window:
    """What the code depends on; sizes that are not known are -1 and read from slots."""

    dtype: str
    kh: int
    kw: int
    sh: int
    sw: int

    @property
    def apart(self) -> bool:
        """Whether windows do not overlap."""
        return 0 < self.kh <= self.sh and 0 < self.kw <= self.sw


@lowering(MaxPool)
def lower_max_pool(node: Node) -> list[Call]:
    return [_call("max_pool", _build_max_pool, node, node.operands[0], node.results[0])]


@lowering(SumPool)
def lower_sum_pool(node: Node) -> list[Call]:
    return [_call("sum_pool", _build_sum_pool, node, node.operands[0], node.results[0])]


@lowering(MaxPoolGradient)
def lower_max_pool_gradient(node: Node) -> list[Call]:
    return [_call("max_pool_gradient", _build_max_gradient, node, *node.operands)]


@lowering(SumPoolGradient)
def lower_sum_pool_gradient(node: Node) -> list[Call]:
    dy, dx = node.operands[0], node.results[0]
    return [_call("sum_pool_gradient", _build_sum_gradient, node, dx, dy)]


def _call(
    name: str,
    build: Callable[[_Window], Callable[[int, int, int], int]],
    node: Node,
    x: Value,
    y: Value,
) -> Call:
    """The call of a pooling kernel; x has the size of the image and y that of the windows."""
    op = node.op
    assert isinstance(op, Pooling)
    movement = (*op.window, *op.strides)
    known = [-1 if size.constant is None else size.constant for size in movement]
    window = _Window(str(x.type.dtype), *known)
    planes = x.shape[0] * x.shape[1]
    sizes: tuple[Dim, ...] = (planes, *x.shape[2:], *y.shape[2:], *op.pads[:2], *movement)
    values = (*(Buffer(v) for v in node.operands), Buffer(node.results[0], written=True))
    kernel = make_kernel(name, lambda: build(window), window)
    flops = y.type.elements * op.window[0] * op.window[1]
    return Call(kernel, (*values, *(Integer(size) for size in sizes)), flops)


def _lowest(dtype: str) -> float | int:
    kind = DType(dtype)
    return float("-inf") if kind.is_float else int(np.iinfo(str(kind.numpy)).min)


def _build_max_pool(window: _Window) -> Callable[[int, int, int], int]:
    return _build_pool(window, largest=True)


def _build_sum_pool(window: _Window) -> Callable[[int, int, int], int]:
    return _build_pool(window, largest=False)


def _build_pool(window: _Window, largest: bool) -> Callable[[int, int, int], int]:
    """Slots: x, y, and from 2 on the sizes. A NaN in a window wins."""
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    get, put = load(window.dtype, 1), store(window.dtype, 0)
    number = NUMBA_TYPES[window.dtype]
    neutral = _lowest(window.dtype) if largest else 0
    sizes, columns = _build_sizes(window, 2), _build_columns()

    @register_jitable
    def part(x: int, at: int, w: int, i0: int, i1: int, j0: int, j1: int) -> Any:
        total = number(neutral)
        for i in range(i0, i1):
            for j in range(j0, j1):
                value = get(x, at + i * w + j)
                if largest:
                    total = value if (value > total or value != value) else total
                else:
                    total = number(total + value)
        return total

    def kernel(args: int, tid: int, threads: int) -> int:
        x, y = slot(args, 0), slot(args, 1)
        h, w, ho, wo = slot(args, 3), slot(args, 4), slot(args, 5), slot(args, 6)
        top, left = slot(args, 7), slot(args, 8)
        kh, kw, sh, sw = sizes(args)
        inner, outer = columns(w, wo, left, kw, sw)
        start, stop = share(slot(args, 2) * ho, 1, tid, threads)
        for line in range(start, stop):
            y0 = line % ho * sh - top
            first = (line // ho * h + y0) * w - left
            i0, i1 = max(0, -y0), min(kh, h - y0)
            a, b = (inner, outer) if i0 == 0 and i1 == kh else (wo, wo)
            for o in range(a):
                x0 = o * sw - left
                ends = max(0, -x0), min(kw, w - x0)
                put(y, line * wo + o, part(x, first + o * sw, w, i0, i1, ends[0], ends[1]))
            for o in range(a, b):
                put(y, line * wo + o, part(x, first + o * sw, w, 0, kh, 0, kw))
            for o in range(b, wo):
                x0 = o * sw - left
                ends = max(0, -x0), min(kw, w - x0)
                put(y, line * wo + o, part(x, first + o * sw, w, i0, i1, ends[0], ends[1]))
        return 0

    return kernel


def _build_max_gradient(window: _Window) -> Callable[[int, int, int], int]:
    """Slots: x, dy, dx, and from 3 on the sizes. Windows add to dx in their order."""
    from dnnc.kernels.intrinsics import load, share, slot, zero_bytes

    dtype, apart = window.dtype, window.apart
    get_dy, size = load(dtype, 2), DType(dtype).size
    sizes, columns = _build_sizes(window, 3), _build_columns()

    spread, whole = _build_cut(dtype), _build_whole(dtype)

    def kernel(args: int, tid: int, threads: int) -> int:
        x, dy, dx = slot(args, 0), slot(args, 1), slot(args, 2)
        h, w, ho, wo = slot(args, 4), slot(args, 5), slot(args, 6), slot(args, 7)
        top, left = slot(args, 8), slot(args, 9)
        kh, kw, sh, sw = sizes(args)
        inner, outer = columns(w, wo, left, kw, sw)
        start, stop = share(slot(args, 3), 1, tid, threads)
        zero_bytes(dx + start * h * w * size, (stop - start) * h * w * size)
        for line in range(start * ho, stop * ho):
            y0 = line % ho * sh - top
            first = (line // ho * h + y0) * w - left
            i0, i1 = max(0, -y0), min(kh, h - y0)
            a, b = (inner, outer) if apart and i0 == 0 and i1 == kh else (wo, wo)
            for o in range(a, b):
                whole(x, dx, first + o * sw, w, kh, kw, get_dy(dy, line * wo + o))
            for k in range(a + wo - b):
                o = k if k < a else k + b - a
                x0 = o * sw - left
                ends = max(0, -x0), min(kw, w - x0)
                at = first + o * sw
                spread(x, dx, at, w, i0, i1, ends[0], ends[1], get_dy(dy, line * wo + o))
        return 0

    return kernel


def _build_cut(dtype: str) -> Any:
    """`f(x, dx, at, w, i0, i1, j0, j1, dy)`: the gradient of max pooling in one window, of which
    lines and columns from i0, j0 up to i1, j1 lie in the image."""
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, store

    get, get_dx, put = load(dtype, 1), load(dtype, 0), store(dtype, 0)
    number, lowest = NUMBA_TYPES[dtype], _lowest(dtype)

    @register_jitable
    def spread(
        x: int, dx: int, at: int, w: int, i0: int, i1: int, j0: int, j1: int, dy: Any
    ) -> None:
        best, place = number(lowest), -1
        for i in range(i0, i1):
            for j in range(j0, j1):
                value = get(x, at + i * w + j)
                if place < 0 or value > best or (value != value and best == best):
                    best, place = value, at + i * w + j
        if place >= 0:
            put(dx, place, number(get_dx(dx, place) + dy))

    return spread


def _build_whole(dtype: str) -> Any:
    """`f(x, dx, at, w, kh, kw, dy)`: the gradient of max pooling in one whole window that shares no
    element with others; without a branch."""
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, store

    get, put = load(dtype, 1), store(dtype, 0)
    number, lowest = NUMBA_TYPES[dtype], _lowest(dtype)

    @register_jitable
    def whole(x: int, dx: int, at: int, w: int, kh: int, kw: int, dy: Any) -> None:
        best = number(lowest)
        for i in range(kh):
            for j in range(kw):
                value = get(x, at + i * w + j)
                best = value if (value > best or value != value) else best
        left = dy
        for i in range(kh):
            for j in range(kw):
                value = get(x, at + i * w + j)
                hit = value == best or value != value
                put(dx, at + i * w + j, left if hit else number(0))
                left = number(0) if hit else left

    return whole


def _build_sum_gradient(window: _Window) -> Callable[[int, int, int], int]:
    """Slots: dy, dx, and from 2 on the sizes. Windows add to dx in their order."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store, zero_bytes

    dtype, apart = window.dtype, window.apart
    get_dy, get, put = load(dtype, 1), load(dtype, 0), store(dtype, 0)
    number, size = NUMBA_TYPES[dtype], DType(dtype).size
    sizes, columns = _build_sizes(window, 2), _build_columns()

    def kernel(args: int, tid: int, threads: int) -> int:
        dy, dx = slot(args, 0), slot(args, 1)
        h, w, ho, wo = slot(args, 3), slot(args, 4), slot(args, 5), slot(args, 6)
        top, left = slot(args, 7), slot(args, 8)
        kh, kw, sh, sw = sizes(args)
        inner, outer = columns(w, wo, left, kw, sw)
        start, stop = share(slot(args, 2), 1, tid, threads)
        zero_bytes(dx + start * h * w * size, (stop - start) * h * w * size)
        for line in range(start * ho, stop * ho):
            y0 = line % ho * sh - top
            first = (line // ho * h + y0) * w - left
            i0, i1 = max(0, -y0), min(kh, h - y0)
            a, b = (inner, outer) if apart and i0 == 0 and i1 == kh else (wo, wo)
            for o in range(a, b):
                value = get_dy(dy, line * wo + o)
                for i in range(kh):
                    for j in range(kw):
                        put(dx, first + o * sw + i * w + j, value)
            for k in range(a + wo - b):
                o = k if k < a else k + b - a
                x0 = o * sw - left
                value = get_dy(dy, line * wo + o)
                for i in range(i0, i1):
                    for j in range(max(0, -x0), min(kw, w - x0)):
                        at = first + o * sw + i * w + j
                        put(dx, at, number(get(dx, at) + value))
        return 0

    return kernel


def _build_sizes(window: _Window, first: int) -> Any:
    """`f(args)`: window and strides, constants where known; `first` is the slot of the first
    size."""
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import slot

    kh, kw, sh, sw = window.kh, window.kw, window.sh, window.sw
    place = first + _SIZES

    @register_jitable
    def sizes(args: int) -> tuple[int, int, int, int]:
        return (
            kh if kh > 0 else slot(args, place),
            kw if kw > 0 else slot(args, place + 1),
            sh if sh > 0 else slot(args, place + 2),
            sw if sw > 0 else slot(args, place + 3),
        )

    return sizes


def _build_columns() -> Any:
    """`f(w, wo, left, kw, sw)`: the range of columns of the output whose windows lie inside a
    row."""
    from numba.extending import register_jitable

    @register_jitable
    def columns(w: int, wo: int, left: int, kw: int, sw: int) -> tuple[int, int]:
        inner = min(max((left + sw - 1) // sw, 0), wo)
        return inner, max(min((w + left - kw) // sw + 1, wo), inner)

    return columns
