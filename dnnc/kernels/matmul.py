"""Matrix products.

The product is cut into panels of columns, as wide as a register tile. A panel of B is packed (and
transposed where needed) into scratch memory, or read where it lies when few rows use it; rows of A
are read where they lie. Sums over long depths are taken in blocks, which are added up in the output.
Blocks depend on the sizes alone, so an element has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call, Integer, Kernel, Scratch, lowering, make_kernel
from dnnc.kernels.tiles import DEPTH, Tile, first_tiles, tiles
from dnnc.ops.linear import MatMul

__all__ = ["Product", "build_product", "matmul_call", "vectors_for"]

#: Panels packed at a time; they stay in the second-level cache while all rows use them.
GROUP = 4
#: Row strides that are multiples of this put all rows of a tile into one set of the cache.
ALIASING = 4096

_OUT, _A, _B, _BATCH, _M, _N, _K, _PACKED, _ROWS = range(9)
#: Slots that a product takes; those of an epilogue follow.
SLOTS = 9


@lowering(MatMul)
def lower_matmul(node: Node) -> list[Call]:
    a, b = node.operands
    return [matmul_call(node.op, a, b, node.results[0])]


def matmul_call(op: Any, a: Value, b: Value, out: Value) -> Call:
    """The call that computes one product of matrices."""
    *lead, m, n = out.shape
    depth = a.shape[-2] if op.transpose_a else a.shape[-1]
    batch = product(lead)
    dtype = out.type.dtype
    sizes = [Integer(batch), Integer(m), Integer(n), Integer(depth)]
    flops = 2 * batch * m * n * depth
    operands = (Buffer(out, written=True), Buffer(a), Buffer(b))
    if not dtype.is_float:
        return Call(_integer_kernel(str(dtype), op), (*operands, *sizes), flops)
    plan = Product(str(dtype), op.transpose_a, op.transpose_b, vectors_for(str(dtype), n))
    kernel = make_kernel("matmul", lambda: build_product(plan, None), plan, plan.shapes)
    return Call(kernel, (*operands, *sizes, *plan.scratch()), flops)


def vectors_for(dtype: str, columns: Dim) -> int:
    """Registers in a row of the tile: one where all columns are known to fit in it, else two."""
    known = columns.constant
    return 1 if known is not None and known <= tiles(dtype)[0].lanes else 2


@dataclass(frozen=True, slots=True)
class Product:
    """What determines the code of a product of floating-point matrices."""

    dtype: str
    transpose_a: bool
    transpose_b: bool
    vectors: int

    @property
    def shapes(self) -> tuple[Tile, ...]:
        return tiles(self.dtype, self.vectors)

    def scratch(self) -> tuple[Scratch, Scratch]:
        """Memory of a thread for packed panels of B, and for the rows of one tile of A."""
        tile = self.shapes[0]
        panels = GROUP * DEPTH * tile.columns * tile.bytes_each
        rows = tile.rows * (DEPTH * tile.bytes_each + 64)
        return Scratch(dim(panels), per_thread=True), Scratch(dim(rows), per_thread=True)


def build_product(plan: Product, epilogue: Any) -> Callable[[int, int, int], int]:
    """The kernel of a product.

    `epilogue(args, batch, row, column, rows, columns)`, compiled or None, is called for each tile of the output
    once it holds its sums.
    """
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import share, slot

    region = register_jitable(_build_region(plan, epilogue))
    grain = plan.shapes[-1].rows
    wide = plan.shapes[0].columns

    def kernel(args: int, tid: int, threads: int) -> int:
        batch, m, n = slot(args, _BATCH), slot(args, _M), slot(args, _N)
        if m == 0 or n == 0:
            return 0
        panels = (n + wide - 1) // wide
        strips = (m + grain - 1) // grain
        # Cut along columns, unless that leaves a thread with more than rows would: rows share no packing.
        largest = (batch * panels + threads - 1) // threads * strips
        if 8 * largest <= 9 * ((batch * strips + threads - 1) // threads) * panels:
            start, stop = share(batch * panels, 1, tid, threads)
            for i in range(start // panels, (stop + panels - 1) // panels):
                first, last = max(start - i * panels, 0), min(stop - i * panels, panels)
                region(args, i, 0, m, first, last)
        else:
            start, stop = share(batch * strips, 1, tid, threads)
            for i in range(start // strips, (stop + strips - 1) // strips):
                first, last = max(start - i * strips, 0), min(stop - i * strips, strips)
                region(args, i, first * grain, min(last * grain, m), 0, panels)
        return 0

    return kernel


def _build_region(plan: Product, epilogue: Any) -> Callable[..., None]:
    """The loops over one rectangle of the output: rows of one matrix by panels of columns."""
    from numba.extending import register_jitable

    from dnnc.kernels.intrinsics import slot, zero_bytes
    from dnnc.kernels.microkernel import micro_kernel
    from dnnc.kernels.packing import build_pack_panel, build_pack_rows

    big, middle, small = (micro_kernel(tile) for tile in plan.shapes)
    counts = tuple(tile.rows for tile in plan.shapes)
    first = first_tiles(counts)
    limit, most = len(first) - 1, counts[0]
    wide, size = plan.shapes[0].columns, plan.shapes[0].bytes_each
    transpose_a, transpose_b = plan.transpose_a, plan.transpose_b
    pack_panel = register_jitable(build_pack_panel(plan.dtype, wide, transpose_b))
    pack_rows = register_jitable(build_pack_rows(plan.dtype, most, transpose_a))
    group, deep, aliasing = GROUP, DEPTH, ALIASING
    panel_bytes, packed_row = deep * wide * size, size if transpose_a else deep * size + 64
    packed_step = most * size if transpose_a else size
    finish = epilogue is not None

    @register_jitable  # type: ignore[untyped-decorator]
    def tile_rows(
        args: int,
        matrix: int,
        i: int,
        rows: int,
        which: int,
        p0: int,
        p1: int,
        k0: int,
        depth: int,
        direct: bool,
    ) -> None:
        m, n, k = slot(args, _M), slot(args, _N), slot(args, _K)
        a, a_row, a_step = slot(args, _A) + (matrix * m * k + i * k + k0) * size, k * size, size
        if transpose_a or (rows > 8 and k * size % aliasing == 0):
            a = slot(args, _A) + matrix * m * k * size
            source = a + (k0 * m + i) * size if transpose_a else a + (i * k + k0) * size
            a, a_row, a_step = slot(args, _ROWS), packed_row, packed_step
            pack_rows(a, source, (m if transpose_a else k) * size, rows, depth)
        for p in range(p0, p1):
            columns = min(n - p * wide, wide)
            b, b_step = slot(args, _PACKED) + (p - p0) * panel_bytes, wide * size
            if direct and columns == wide:
                b, b_step = slot(args, _B) + ((matrix * k + k0) * n + p * wide) * size, n * size
            c, add = slot(args, _OUT) + ((matrix * m + i) * n + p * wide) * size, k0
            if depth == 0:
                for r in range(rows):
                    zero_bytes(c + r * n * size, columns * size)
            elif which == 0:
                big(rows, depth, a, a_row, a_step, b, b_step, c, n * size, columns, add)
            elif which == 1:
                middle(rows, depth, a, a_row, a_step, b, b_step, c, n * size, columns, add)
            else:
                small(rows, depth, a, a_row, a_step, b, b_step, c, n * size, columns, add)
            if finish and k0 + depth == k:
                epilogue(args, matrix, i, p * wide, rows, columns)

    def region(args: int, matrix: int, row: int, stop: int, p0: int, p1: int) -> None:
        n, k = slot(args, _N), slot(args, _K)
        blocks = max((k + deep - 1) // deep, 1)
        block = (k + blocks - 1) // blocks
        # A panel that few tiles use is read where it lies: packing would cost more than it gives.
        direct = not transpose_b and (stop - row <= 2 * most or n == wide)
        b = slot(args, _B) + matrix * k * n * size
        for g in range(p0, p1, group):
            last = min(g + group, p1)
            for q in range(blocks):
                k0 = q * block
                depth = min(block, k - k0)
                for p in range(g, last):
                    columns = min(n - p * wide, wide)
                    if not (direct and columns == wide):
                        corner = p * wide * k + k0 if transpose_b else k0 * n + p * wide
                        target = slot(args, _PACKED) + (p - g) * panel_bytes
                        stride = (k if transpose_b else n) * size
                        pack_panel(target, b + corner * size, stride, depth, columns)
                i = row
                while i < stop:
                    which = first[min(stop - i, limit)]
                    rows = min(counts[which], stop - i)
                    tile_rows(args, matrix, i, rows, which, g, last, k0, depth, direct)
                    i += rows

    return region


def _integer_kernel(dtype: str, op: Any) -> Kernel:
    def build() -> Callable[[int, int, int], int]:
        return _build_integer(dtype, op.transpose_a, op.transpose_b)

    return make_kernel("matmul_integer", build, dtype, op.transpose_a, op.transpose_b)


def _build_integer(
    dtype: str, transpose_a: bool, transpose_b: bool
) -> Callable[[int, int, int], int]:
    """A product of integer matrices, row by row; sums wrap around as in NumPy."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    number = NUMBA_TYPES[dtype]
    get_a, get_b, get, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        out, a, b = slot(args, _OUT), slot(args, _A), slot(args, _B)
        batch, m, n, k = slot(args, _BATCH), slot(args, _M), slot(args, _N), slot(args, _K)
        start, stop = share(batch * m, 1, tid, threads)
        for row in range(start, stop):
            matrix, i = row // m, row % m
            for j in range(n):
                put(out, row * n + j, number(0))
            for s in range(k):
                at = (matrix * k + s) * m + i if transpose_a else row * k + s
                factor = get_a(a, at)
                for j in range(n):
                    place = (matrix * n + j) * k + s if transpose_b else (matrix * k + s) * n + j
                    total = get(out, row * n + j) + factor * get_b(b, place)
                    put(out, row * n + j, number(total))
        return 0

    return kernel
