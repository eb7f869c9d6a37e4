"""Matrix products.

The product is cut into panels of columns, as wide as a register tile. A panel of B is packed (and
transposed where needed) into scratch memory, or read where it lies when few rows use it or the
program has packed it before (`dnnc.ops.packed`); rows of A
are read where they lie, unless they are columns in memory or would evict one another. Sums over
long depths are taken in blocks, which are added up in the output. Blocks depend on the sizes
alone, so an element has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import Dim, dim, product
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
from dnnc.kernels.epilogue import Epilogue, Region, calls_apart, epilogue_arguments, operands_of
from dnnc.kernels.matvec import PIECE, vector_kernel
from dnnc.kernels.strips import Strip, strip_kernel
from dnnc.kernels.tiles import Tile, tiles
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import PackedMatMul

__all__ = ["matmul_call"]

#: The longest sum that a strip takes: a packed panel of f32 is then 64 KB.
DEPTH = 512
#: Panels packed at a time; they stay in the second-level cache while all rows use them.
GROUP = 8
#: Bytes between the rows of a packed block of A.
ROW = DEPTH * 8 + 64

#: WIDTH is that of the panels of B where it is packed, and 0 otherwise. WIDE is the number of
#: columns of a tile, BLOCK the number of rows of A that one strip takes.
_OUT, _A, _B, _BATCH, _M, _N, _K, _FLIP_A, _FLIP_B, _WIDTH = range(10)
_WIDE, _BLOCK, _STRIP, _NARROW, _VECTOR, _PANELS, _ROWS = range(10, 17)
_WORDS, _TILE, _EPILOGUE, _SLOTS = range(17, 21)


@lowering(MatMul, PackedMatMul)
def lower_matmul(node: Node) -> list[Call]:
    a, b = node.operands
    return [matmul_call(node.op, a, b, node.results[0])]


@anchored(MatMul, PackedMatMul)
def lower_fused_matmul(node: Node, anchor: Node) -> list[Call]:
    out = anchor.results[0]
    a, b = operands_of(node, anchor)
    if not out.type.dtype.is_float:
        return calls_apart(node, anchor, lambda _, to: [matmul_call(anchor.op, a, b, to)])
    return [matmul_call(anchor.op, a, b, Value(out.type), Epilogue.of(node, anchor))]


def matmul_call(op: Any, a: Value, b: Value, out: Value, epilogue: Epilogue | None = None) -> Call:
    """The call that computes one product of matrices.

    Without an epilogue, the product goes to the memory of `out`. With one, its blocks do where the
    depth takes more than one; otherwise sums go to the epilogue without being stored.
    """
    *lead, m, n = out.shape
    packed = isinstance(op, PackedMatMul)
    flip_a, flip_b = (False, False) if packed else (op.transpose_a, op.transpose_b)
    depth = a.shape[-2] if flip_a else a.shape[-1]
    batch = product(lead)
    dtype = str(out.type.dtype)
    flops = 2 * batch * m * n * depth
    stored: Argument = Buffer(out, written=True)
    if epilogue and depth.constant is not None and depth.constant <= DEPTH:
        stored = Integer.of(0)
    values = (stored, Buffer(a), Buffer(b))
    layout = (int(flip_a), int(flip_b), int(b.shape[-1]) if packed else 0)
    sizes = (*map(Integer, (batch, m, n, depth)), *map(Integer.of, layout))
    if not out.type.dtype.is_float:
        kernel = make_kernel("matmul_integer", lambda: _build_integer(dtype), dtype)
        return Call(kernel, (*values, *sizes), flops)
    tile = tiles(dtype, _vectors(dtype, n, layout[2]))[0]
    panels = GROUP * DEPTH * tile.columns * tile.bytes_each
    rows = _row_block(tile)
    sums = max(rows * tile.columns, PIECE) * tile.bytes_each
    scratch = (
        Scratch(dim(size), per_thread=True)
        for size in (panels, rows * ROW, 8 * (Strip.WORDS + Region.WORDS), sums)
    )
    strips = (Code(strip_kernel(dtype, vectors)) for vectors in (tile.vectors, 1))
    code = (*strips, Code(vector_kernel(tile)))
    widest = tiles(dtype)[0]
    kernel = make_kernel("matmul", lambda: _build_product(widest), widest, unrolled=False)
    shape = (Integer.of(tile.columns), Integer.of(rows))
    arguments = (*values, *sizes, *shape, *code, *scratch, *epilogue_arguments(epilogue))
    return Call(kernel, arguments, flops, epilogue.in_place if epilogue else ())


def _vectors(dtype: str, n: Dim, width: int) -> int:
    """Registers of columns in a tile: one where that holds a row of the result, or all of a panel
    of B."""
    one, two = (tiles(dtype, count)[0].columns for count in (1, 2))
    narrow = n.constant is not None and n.constant <= one
    return 1 if narrow or width % two else 2


def _row_block(tile: Tile) -> int:
    """Rows of A that one strip takes, so that they stay in cache for all panels of a group."""
    return 4 * tile.rows


def _build_product(widest: Tile) -> Callable[[int, int, int], int]:
    """The driver: each thread's part of the output is cut along columns, or else along rows.

    The code serves all tiles with the elements and vectors of `widest`."""
    from dnnc.kernels.intrinsics import call_kernel, share, slot
    from dnnc.kernels.subroutine import subroutine

    region = subroutine(_build_region(widest))
    grain = 4

    def kernel(args: int, tid: int, threads: int) -> int:
        batch, m, n = slot(args, _BATCH), slot(args, _M), slot(args, _N)
        if m == 0 or n == 0:
            return 0
        if m == 1 or (n == 1 and not slot(args, _WIDTH)):
            call_kernel(slot(args, _VECTOR), args, tid, threads)
            return 0
        wide = slot(args, _WIDE)
        panels, strips = (n + wide - 1) // wide, (m + grain - 1) // grain
        # Along columns, unless that is less even: threads that share columns pack them more than
        # once.
        most_panels = (batch * panels + threads - 1) // threads
        most_strips = (batch * strips + threads - 1) // threads
        columns = 8 * most_panels * strips <= 9 * most_strips * panels
        each = panels if columns else strips
        start, stop = share(batch * each, 1, tid, threads)
        while start < stop:
            matrix = start // each
            first = start - matrix * each
            last = min(stop - matrix * each, each)
            if columns:
                region(args, matrix, 0, m, first, last)
            else:
                region(args, matrix, first * grain, min(last * grain, m), 0, panels)
            start = matrix * each + last
        return 0

    return kernel


def _build_region(widest: Tile) -> Callable[..., None]:
    """The loops over one rectangle of the output: rows of one matrix by panels of columns."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    pack = subroutine(_build_pack(widest))
    multiply = subroutine(_build_multiply(widest))
    size = widest.bytes_each

    def region(args: int, matrix: int, row: int, stop: int, p0: int, p1: int) -> None:
        n, k, wide, block_rows = (
            slot(args, _N),
            slot(args, _K),
            slot(args, _WIDE),
            slot(args, _BLOCK),
        )
        blocks = max((k + DEPTH - 1) // DEPTH, 1)
        block = (k + blocks - 1) // blocks
        # A panel that few tiles use is read where it lies: packing would cost more than it gives.
        # Rows of a power of two share sets of the cache, and are packed earlier.
        few = block_rows if n * size % 4096 == 0 else 256
        direct = not slot(args, _FLIP_B) and (stop - row <= few or n == wide)
        there = p1 if slot(args, _WIDTH) else n // wide if direct else 0
        b = slot(args, _B) + matrix * k * n * size
        for g in range(p0, p1, GROUP):
            last = min(g + GROUP, p1)
            for q in range(blocks):
                k0 = q * block
                depth = min(block, k - k0)
                for p in range(max(g, there), last):
                    pack(args, b, p, p - g, k0, depth)
                for i in range(row, stop, block_rows):
                    rows = min(block_rows, stop - i)
                    multiply(args, matrix, i, rows, g, last, k0, depth, there)

    return region


def _build_pack(widest: Tile) -> Callable[..., None]:
    """`f(args, b, p, place, k0, depth)`: panel `p` of the matrix at `b`, from row `k0` on."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.packing import build_pack, build_transpose
    from dnnc.kernels.subroutine import shared

    copy = shared(build_pack, widest.dtype, widest.lanes)
    transpose = shared(build_transpose, widest.bytes_each)
    size = widest.bytes_each

    def pack(args: int, b: int, p: int, place: int, k0: int, depth: int) -> None:
        n, k, wide = slot(args, _N), slot(args, _K), slot(args, _WIDE)
        target = slot(args, _PANELS) + place * DEPTH * wide * size
        columns = min(n - p * wide, wide)
        if slot(args, _FLIP_B):
            source = b + (p * wide * k + k0) * size
            transpose(target, wide * size, source, k * size, columns, depth)
        else:
            copy(target, b + (k0 * n + p * wide) * size, n * size, depth, columns, wide)

    return pack


def _build_multiply(widest: Tile) -> Callable[..., None]:
    """One block of rows by the panels of a group; those before `there` are read where B lies."""
    from dnnc.kernels.intrinsics import call_kernel, slot, store, zero_bytes
    from dnnc.kernels.subroutine import subroutine

    rows_of = subroutine(_build_rows(widest.bytes_each), returns=3)
    put = store("i64")
    lanes, size = widest.lanes, widest.bytes_each

    def multiply(
        args: int,
        matrix: int,
        i: int,
        rows: int,
        g: int,
        last: int,
        k0: int,
        depth: int,
        there: int,
    ) -> None:
        m, n, k = slot(args, _M), slot(args, _N), slot(args, _K)
        width, wide = slot(args, _WIDTH), slot(args, _WIDE)
        words = slot(args, _WORDS)
        a, a_row, a_step = rows_of(args, matrix, i, rows, k0, depth)
        put(words, 0, rows)
        put(words, 1, depth)
        put(words, 2, a)
        put(words, 3, a_row)
        put(words, 4, a_step)
        put(words, 10, k0)
        put(words, 11, 0)
        for p in range(g, last):
            c, c_row = slot(args, _TILE), wide * size
            if slot(args, _OUT):
                c, c_row = slot(args, _OUT) + ((matrix * m + i) * n + p * wide) * size, n * size
            columns = min(n - p * wide, wide)
            b, b_step = slot(args, _PANELS) + (p - g) * DEPTH * wide * size, wide * size
            if width:
                inside = 0 if width == wide else p * wide % width
                b = slot(args, _B) + ((p * wide - inside) * k + k0 * width + inside) * size
                b_step = width * size
            elif p < there:
                b, b_step = slot(args, _B) + ((matrix * k + k0) * n + p * wide) * size, n * size
            put(words, 5, b)
            put(words, 6, b_step)
            put(words, 7, c)
            put(words, 8, c_row)
            put(words, 9, columns)
            if depth > 0:
                narrow = columns <= lanes
                call_kernel(slot(args, _NARROW if narrow else _STRIP), words, 0, 0)
            else:
                for r in range(rows):
                    zero_bytes(c + r * c_row, columns * size)
            if k0 + depth == k and slot(args, _EPILOGUE):
                region = words + 8 * 12
                put(region, 0, c)
                put(region, 1, c_row)
                put(region, 2, rows)
                put(region, 3, columns)
                put(region, 4, matrix)
                put(region, 5, i)
                put(region, 6, p * wide)
                put(region, 8, 1)
                call_kernel(slot(args, _EPILOGUE), args + 8 * _SLOTS, region, 0)

    return multiply


def _build_rows(size: int) -> Callable[..., tuple[int, int, int]]:
    """Where a block of rows of A begins, how far apart rows are, and elements of a row.

    The block is copied where that is better.
    """
    from dnnc.kernels.intrinsics import copy_bytes, slot
    from dnnc.kernels.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose = shared(build_transpose, size)

    def rows_of(
        args: int, matrix: int, i: int, rows: int, k0: int, depth: int
    ) -> tuple[int, int, int]:
        m, k, packed = slot(args, _M), slot(args, _K), slot(args, _ROWS)
        a = slot(args, _A) + matrix * m * k * size
        if slot(args, _FLIP_A):
            a += (k0 * m + i) * size
            if depth <= 256 and m * size % 1024 != 0:
                return a, size, m * size
            transpose(packed, ROW, a, m * size, depth, rows)
            return packed, ROW, size
        a += (i * k + k0) * size
        if rows > 8 and k * size % 4096 == 0:
            # The rows of a tile would share the sets of the cache.
            for r in range(rows):
                copy_bytes(packed + r * ROW, a + r * k * size, depth * size)
            return packed, ROW, size
        return a, k * size, size

    return rows_of


def _build_integer(dtype: str) -> Callable[[int, int, int], int]:
    """A product of integer matrices, row by row; sums wrap around as in NumPy."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    number = NUMBA_TYPES[dtype]
    get_a, get_b, get, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        out, a, b = slot(args, _OUT), slot(args, _A), slot(args, _B)
        batch, m, n, k = slot(args, _BATCH), slot(args, _M), slot(args, _N), slot(args, _K)
        flip_a, flip_b = slot(args, _FLIP_A), slot(args, _FLIP_B)
        start, stop = share(batch * m, 1, tid, threads)
        b_row, b_step = (1, k) if flip_b else (n, 1)
        for row in range(start, stop):
            matrix, i = row // m, row % m
            for j in range(n):
                put(out, row * n + j, number(0))
            for s in range(k):
                factor = get_a(a, (matrix * k + s) * m + i if flip_a else row * k + s)
                first = matrix * n * k + s * b_row
                for j in range(n):
                    total = get(out, row * n + j) + factor * get_b(b, first + j * b_step)
                    put(out, row * n + j, number(total))
        return 0

    return kernel
