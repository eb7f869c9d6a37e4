"""Weights as panels of columns, for products that read them so."""

from __future__ import annotations

from collections.abc import Callable

from dnnc.ir.graph import Node
from dnnc.kernels.abi import Buffer, Call, Integer, lowering, make_kernel
from dnnc.ops.packed import PackColumns

__all__: list[str] = []

_TARGET, _SOURCE, _K, _N, _WIDTH, _FLIP = range(6)


@lowering(PackColumns)
def lower_pack(node: Node) -> list[Call]:
    op, w, packed = node.op, node.operands[0], node.results[0]
    assert isinstance(op, PackColumns)
    dtype = str(w.type.dtype)
    k, n = reversed(w.shape) if op.transpose else w.shape
    kernel = make_kernel("pack_columns", lambda: _build(dtype), dtype)
    buffers = (Buffer(packed, written=True), Buffer(w))
    layout = (Integer(packed.shape[1]), Integer.of(int(op.transpose)))
    return [Call(kernel, (*buffers, Integer(k), Integer(n), *layout))]


def _build(dtype: str) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import copy_bytes, share, slot, zero_bytes
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    size = 4 if dtype == "f32" else 8
    transpose = shared(build_transpose, size)

    def kernel(args: int, tid: int, threads: int) -> int:
        k, n, width = slot(args, _K), slot(args, _N), slot(args, _WIDTH)
        row = width * size
        start, stop = share((n + width - 1) // width, 1, tid, threads)
        for p in range(start, stop):
            target = slot(args, _TARGET) + p * k * row
            columns = min(width, n - p * width)
            if columns < width:
                zero_bytes(target, k * row)
            if slot(args, _FLIP):
                source = slot(args, _SOURCE) + p * width * k * size
                transpose(target, row, source, k * size, columns, k)
            else:
                source = slot(args, _SOURCE) + p * width * size
                for i in range(k):
                    copy_bytes(target + i * row, source + i * n * size, columns * size)
        return 0

    return kernel
