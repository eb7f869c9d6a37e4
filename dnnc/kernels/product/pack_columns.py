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
    kernel = make_kernel("pack_columns", lambda: _build(dtype, op.pieces), dtype, op.pieces)
    buffers = (Buffer(packed, written=True), Buffer(w))
    layout = (Integer(packed.shape[1]), Integer.of(int(op.transpose)))
    return [Call(kernel, (*buffers, Integer(k), Integer(n), *layout))]


def _build(dtype: str, pieces: bool) -> Callable[[int, int, int], int]:
    from dnnc.kernels.intrinsics import copy_bytes, share, slot, zero_bytes
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.sizes import piece_bytes
    from dnnc.kernels.unit.split import split_columns

    bytes_of = subroutine(piece_bytes, returns=1)
    size = 4 if dtype == "f32" else 8
    transpose = shared(build_transpose, size)

    def kernel(args: int, tid: int, threads: int) -> int:
        k, n, width = slot(args, _K), slot(args, _N), slot(args, _WIDTH)
        row, apart = width * size, bytes_of(k)
        parts = slot(args, _TARGET) + (n + width - 1) // width * k * row
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
            if pieces and k > 0:
                split_columns(parts + p * apart, apart, target, row, k, width)
        return 0

    return kernel
