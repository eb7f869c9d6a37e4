"""Pooling over windows, and its gradients. Threads share the lines, or the planes (image, channel).

Floats whose windows are one or two columns apart go a vector of windows at a time
(`dnnc.kernels.pool_rows`), all others one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.kernels.abi import Buffer, Call, Integer, lowering, make_kernel
from dnnc.kernels.pool_last import pool_calls, pool_gradient_calls
from dnnc.ops.pool import MaxPool, MaxPoolGradient, Pooling, SumPool, SumPoolGradient

__all__: list[str] = []

_Function: TypeAlias = Callable[[int, int, int], int]
#: Slots after those of the values: planes, H, W, Ho, Wo, top, left, kh, kw, sh, sw.
_PLANES, _H, _W, _HO, _WO, _TOP, _LEFT, _KH, _KW, _SH, _SW = range(11)


@lowering(MaxPool, SumPool)
def lower_pool(node: Node) -> list[Call]:
    if _is_last(node):
        return pool_calls(node)
    largest = isinstance(node.op, MaxPool)
    x, y = node.operands[0], node.results[0]
    dtype, step = str(x.type.dtype), _vector_step(node)
    if step:
        build = lambda: _build_lines(dtype, step, largest)  # noqa: E731
    else:
        build = lambda: _build_pool(dtype, largest)  # noqa: E731
    return [_call(node, x, y, build, dtype, step)]


@lowering(MaxPoolGradient)
def lower_max_pool_gradient(node: Node) -> list[Call]:
    if _is_last(node):
        return pool_gradient_calls(node)
    x, dy = node.operands
    dtype, step, apart = str(x.type.dtype), _vector_step(node), _apart(node)
    if step:
        build = lambda: _build_gradient_lines(dtype, step, apart, True)  # noqa: E731
    else:
        build = lambda: _build_max_gradient(dtype)  # noqa: E731
    return [_call(node, x, dy, build, dtype, step, apart)]


@lowering(SumPoolGradient)
def lower_sum_pool_gradient(node: Node) -> list[Call]:
    if _is_last(node):
        return pool_gradient_calls(node)
    dy, dx = node.operands[0], node.results[0]
    dtype, step, apart = str(dx.type.dtype), _vector_step(node), _apart(node)
    if step:
        build = lambda: _build_gradient_lines(dtype, step, apart, False)  # noqa: E731
    else:
        build = lambda: _build_sum_gradient(dtype)  # noqa: E731
    return [_call(node, dx, dy, build, dtype, step, apart)]


def _is_last(node: Node) -> bool:
    return isinstance(node.op, Pooling) and node.op.channels_last


def _vector_step(node: Node) -> int:
    """Columns between windows that go by whole vectors; 0 where they do not."""
    op = node.op
    assert isinstance(op, Pooling)
    step = op.strides[1].constant
    return step if step in (1, 2) and node.results[0].type.dtype.is_float else 0


def _apart(node: Node) -> bool:
    """Whether windows are two wide and two apart, and no two share an element."""
    op = node.op
    assert isinstance(op, Pooling)
    high, down = op.window[0].constant, op.strides[0].constant
    flat = op.window[1] == 2 and op.strides[1] == 2
    return flat and high is not None and down is not None and high <= down


def _call(
    node: Node, x: Value, y: Value, build: Callable[[], _Function], *parameters: object
) -> Call:
    """The call of a pooling kernel; x has the size of the image and y that of the windows."""
    op = node.op
    assert isinstance(op, Pooling)
    planes = x.shape[0] * x.shape[1]
    movement = (*op.pads[:2], *op.window, *op.strides)
    sizes: tuple[Dim, ...] = (planes, *x.shape[2:], *y.shape[2:], *movement)
    values = (*(Buffer(v) for v in node.operands), Buffer(node.results[0], written=True))
    kernel = make_kernel(op.name, build, *parameters)
    flops = y.type.elements * op.window[0] * op.window[1]
    return Call(kernel, (*values, *(Integer(size) for size in sizes)), flops)


def _lowest(dtype: str) -> float | int:
    kind = DType(dtype)
    return float("-inf") if kind.is_float else int(np.iinfo(str(kind.numpy)).min)


def _build_lines(dtype: str, step: int, largest: bool) -> _Function:
    """Slots: x, y, and from 2 on the sizes."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.pool_rows import pool_line

    line_of, size = pool_line(dtype, step, largest), DType(dtype).size

    def kernel(args: int, tid: int, threads: int) -> int:
        x, y, sizes = slot(args, 0), slot(args, 1), args + 16
        h, w, ho, wo = slot(sizes, _H), slot(sizes, _W), slot(sizes, _HO), slot(sizes, _WO)
        kh, kw, left = slot(sizes, _KH), slot(sizes, _KW), slot(sizes, _LEFT)
        start, stop = share(slot(sizes, _PLANES) * ho, 1, tid, threads)
        for line in range(start, stop):
            y0 = line % ho * slot(sizes, _SH) - slot(sizes, _TOP)
            source = x + (line // ho * h + y0) * w * size
            i0, i1 = max(0, -y0), min(kh, h - y0)
            line_of(y + line * wo * size, source, -left, w, i0, i1, kw, wo)
        return 0

    return kernel


def _build_gradient_lines(dtype: str, step: int, apart: bool, largest: bool) -> _Function:
    """Slots: x where it matters, dy, dx, and then the sizes. Windows add to dx in their order."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.pool_rows import gradient_line

    line_of = gradient_line(dtype, step, apart, largest)
    size, values = DType(dtype).size, 3 if largest else 2

    def kernel(args: int, tid: int, threads: int) -> int:
        x, dy, dx = slot(args, 0), slot(args, values - 2), slot(args, values - 1)
        sizes = args + 8 * values
        h, w, ho, wo = slot(sizes, _H), slot(sizes, _W), slot(sizes, _HO), slot(sizes, _WO)
        kh, kw, left = slot(sizes, _KH), slot(sizes, _KW), slot(sizes, _LEFT)
        start, stop = share(slot(sizes, _PLANES), 1, tid, threads)
        for line in range(start * ho, stop * ho):
            if line % ho == 0:
                zero_bytes(dx + line // ho * h * w * size, h * w * size)
            y0 = line % ho * slot(sizes, _SH) - slot(sizes, _TOP)
            at = (line // ho * h + y0) * w * size
            i0, i1 = max(0, -y0), min(kh, h - y0)
            line_of(dx + at, x + at, -left, w, i0, i1, kw, wo, dy + line * wo * size)
        return 0

    return kernel


def _build_pool(dtype: str, largest: bool) -> _Function:
    """Slots: x, y, and from 2 on the sizes. A NaN in a window wins."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    get, put, number = load(dtype, 1), store(dtype, 0), NUMBA_TYPES[dtype]
    neutral, bounds = _lowest(dtype) if largest else 0, _build_bounds()

    def kernel(args: int, tid: int, threads: int) -> int:
        x, y, sizes = slot(args, 0), slot(args, 1), args + 16
        w = slot(sizes, _W)
        windows = slot(sizes, _HO) * slot(sizes, _WO)
        start, stop = share(slot(sizes, _PLANES) * windows, 16, tid, threads)
        for k in range(start, stop):
            first, i0, i1, j0, j1 = bounds(sizes, k // windows, k % windows)
            total = number(neutral)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    value = get(x, first + i * w + j)
                    if largest:
                        total = value if (value > total or value != value) else total
                    else:
                        total = number(total + value)
            put(y, k, total)
        return 0

    return kernel


def _build_max_gradient(dtype: str) -> _Function:
    """Slots: x, dy, dx, and from 3 on the sizes. Windows add to dx in their order."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store, zero_bytes

    get, get_dy, get_dx, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)
    number, size, bounds = NUMBA_TYPES[dtype], DType(dtype).size, _build_bounds()
    lowest = _lowest(dtype)

    def kernel(args: int, tid: int, threads: int) -> int:
        x, dy, dx, sizes = slot(args, 0), slot(args, 1), slot(args, 2), args + 24
        w = slot(sizes, _W)
        plane, windows = slot(sizes, _H) * w * size, slot(sizes, _HO) * slot(sizes, _WO)
        start, stop = share(slot(sizes, _PLANES), 1, tid, threads)
        zero_bytes(dx + start * plane, (stop - start) * plane)
        for k in range(start * windows, stop * windows):
            first, i0, i1, j0, j1 = bounds(sizes, k // windows, k % windows)
            best, place = number(lowest), -1
            for i in range(i0, i1):
                for j in range(j0, j1):
                    value = get(x, first + i * w + j)
                    if place < 0 or value > best or (value != value and best == best):
                        best, place = value, first + i * w + j
            if place >= 0:
                put(dx, place, number(get_dx(dx, place) + get_dy(dy, k)))
        return 0

    return kernel


def _build_sum_gradient(dtype: str) -> _Function:
    """Slots: dy, dx, and from 2 on the sizes. Windows add to dx in their order."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store, zero_bytes

    get_dy, get, put = load(dtype, 1), load(dtype, 0), store(dtype, 0)
    number, size, bounds = NUMBA_TYPES[dtype], DType(dtype).size, _build_bounds()

    def kernel(args: int, tid: int, threads: int) -> int:
        dy, dx, sizes = slot(args, 0), slot(args, 1), args + 16
        w = slot(sizes, _W)
        plane, windows = slot(sizes, _H) * w * size, slot(sizes, _HO) * slot(sizes, _WO)
        start, stop = share(slot(sizes, _PLANES), 1, tid, threads)
        zero_bytes(dx + start * plane, (stop - start) * plane)
        for k in range(start * windows, stop * windows):
            first, i0, i1, j0, j1 = bounds(sizes, k // windows, k % windows)
            value = get_dy(dy, k)
            for i in range(i0, i1):
                for j in range(j0, j1):
                    at = first + i * w + j
                    put(dx, at, number(get(dx, at) + value))
        return 0

    return kernel


def _build_bounds() -> Any:
    """`f(sizes, plane, k)`: index of the first element of window k of a plane, which may lie
    outside, and the lines and columns of the window that lie in the image."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    def bounds(sizes: int, plane: int, k: int) -> tuple[int, int, int, int, int]:
        h, w, wo = slot(sizes, _H), slot(sizes, _W), slot(sizes, _WO)
        y0 = k // wo * slot(sizes, _SH) - slot(sizes, _TOP)
        x0 = k % wo * slot(sizes, _SW) - slot(sizes, _LEFT)
        i1, j1 = min(slot(sizes, _KH), h - y0), min(slot(sizes, _KW), w - x0)
        return (plane * h + y0) * w + x0, max(0, -y0), i1, max(0, -x0), j1

    return subroutine(bounds, returns=5)
