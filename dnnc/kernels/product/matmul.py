"""Matrix products.

The product is cut into panels of columns, as wide as a register tile. A panel of B is packed (and
transposed where needed) into scratch memory, or read where it lies when few rows use it or the
program has packed it before (`dnnc.ops.packed`); rows of A are read
where they lie, unless they are columns in memory or would evict one another. Sums over long depths
are taken in blocks, which are added up in the output. Blocks depend on the sizes alone, so an
element has the same bits for any number of threads.

Products with one row or column, with few columns, or with long sums of few results, have kernels of
their own: `matvec`, `turned_products` and `dot_products`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from dnnc.kernels.product import slots
from dnnc.kernels.product.dot_products import dot_kernel, turned_bytes
from dnnc.kernels.product.matvec import PIECE, vector_kernel
from dnnc.kernels.product.strips import Strip, strip_kernel
from dnnc.kernels.product.turned_products import turned_kernel
from dnnc.kernels.tiles import Tile, tiles
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import PackedMatMul

__all__ = ["matmul_call"]

#: The longest sum that a strip takes: a packed panel of f32 is then 128 KB, and is read from the
#: second-level cache. Shorter ones would read and write results once more.
DEPTH = 1024
#: Most panels packed at a time: rows of A that have to be copied are copied for each group anew.
GROUP = 16
#: Least depth, and most rows or columns, of a product whose lanes are added up at the end.
DOTS_DEPTH, DOTS_ROWS, DOTS_COLUMNS = 128, 24, 16


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
    tile, other, room = _order(dtype, n, depth, *layout)
    strips = (Code(strip_kernel(dtype, vectors)) for vectors in (tile.vectors, 1))
    code = (*strips, Code(vector_kernel(tile)), other)
    widest, rows = tiles(dtype)[0], _row_block(tile)
    kernel = make_kernel("matmul", lambda: _build_product(widest), widest, unrolled=False)
    shape = (Integer.of(tile.columns), Integer.of(rows))
    scratch = _scratch(tile, rows, n, depth, room)
    arguments = (*values, *sizes, *shape, *code, *scratch, *epilogue_arguments(epilogue))
    return Call(kernel, arguments, flops, epilogue.in_place if epilogue else ())


def _order(
    dtype: str, n: Dim, depth: Dim, flip_a: int, flip_b: int, width: int
) -> tuple[Tile, Argument, int]:
    """The tile; the kernel of another order of loops, which some number of rows may favour, or 0;
    and the bytes in the place of panels of B that it needs."""
    one, two = (tiles(dtype, vectors)[0] for vectors in (1, 2))
    none, columns = Integer.of(0), n.constant
    few = columns is not None and columns <= one.columns
    # One register of columns where that holds a row of the result, or all of a panel of B.
    tile = one if few or width % two.columns else two
    if width:
        return tile, none, 0
    if flip_a:
        if flip_b or not few or not columns or columns == 1:
            return tile, none, 0
        return two, Code(turned_kernel(two, columns)), 0
    if flip_b:
        deep = depth.constant is None or depth.constant >= DOTS_DEPTH
        return tile, Code(dot_kernel(tile)) if deep else none, 0
    if columns is None or columns > DOTS_COLUMNS or depth.constant is None:
        return tile, none, 0
    if not DOTS_DEPTH <= depth.constant <= DOTS_COLUMNS * DEPTH:
        return tile, none, 0
    return tile, Code(dot_kernel(tile)), turned_bytes(columns, depth.constant, tile.bytes_each)


def _scratch(tile: Tile, rows: int, n: Dim, depth: Dim, room: int) -> Iterator[Scratch]:
    """Memory for panels of B, `room` bytes at least, and all that follows them in the slots."""
    panels = GROUP if n.constant is None else min(GROUP, -(-n.constant // tile.columns))
    longest = DEPTH if depth.constant is None else min(depth.constant, DEPTH)
    size = tile.bytes_each
    for count in (
        max(panels * longest * tile.columns * size, room, 1),
        rows * _row_bytes(size),
        8 * (Strip.WORDS + Region.WORDS),
        max(rows * tile.columns, PIECE) * size,
    ):
        yield Scratch(dim(count), per_thread=True)


def _row_block(tile: Tile) -> int:
    """Rows of A that one strip takes, so that they stay in cache for all panels of a group."""
    return 4 * tile.rows


def _row_bytes(size: int) -> int:
    """Bytes between the rows of a packed block of A, which do not share sets of the cache."""
    return DEPTH * size + 64


def _build_product(widest: Tile) -> Callable[[int, int, int], int]:
    """The driver: each thread's part of the output is cut along columns, or else along rows.

    The code serves all tiles with the elements and vectors of `widest`."""
    from dnnc.kernels.intrinsics import call_kernel, share, slot
    from dnnc.kernels.subroutine import subroutine

    region, suits = subroutine(_build_region(widest)), subroutine(_build_suits(), returns=1)
    grain = 4

    def kernel(args: int, tid: int, threads: int) -> int:
        batch, m, n = slot(args, slots.BATCH), slot(args, slots.M), slot(args, slots.N)
        if m == 0 or n == 0:
            return 0
        if m == 1 or (n == 1 and not slot(args, slots.WIDTH)):
            call_kernel(slot(args, slots.VECTOR), args, tid, threads)
            return 0
        if slot(args, slots.OTHER) and suits(args):
            call_kernel(slot(args, slots.OTHER), args, tid, threads)
            return 0
        wide = slot(args, slots.WIDE)
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


def _build_suits() -> Callable[[int], int]:
    """`f(args)`: whether the sizes of this call favour the other order of loops."""
    from dnnc.kernels.intrinsics import slot

    def suits(args: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        if slot(args, slots.FLIP_A):
            return 1 if m >= slot(args, slots.WIDE) and k > 0 else 0
        if k < DOTS_DEPTH:
            return 0
        if slot(args, slots.FLIP_B):
            return 1 if m <= DOTS_ROWS or n <= DOTS_COLUMNS else 0
        return 1 if m >= DOTS_COLUMNS else 0

    return suits


def _build_region(widest: Tile) -> Callable[..., None]:
    """The loops over one rectangle of the output: rows of one matrix by panels of columns."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    pack = subroutine(_build_pack(widest))
    multiply = subroutine(_build_multiply(widest))
    size = widest.bytes_each

    def region(args: int, matrix: int, row: int, stop: int, p0: int, p1: int) -> None:
        n, k = slot(args, slots.N), slot(args, slots.K)
        wide, block_rows = slot(args, slots.WIDE), slot(args, slots.BLOCK)
        blocks = max((k + DEPTH - 1) // DEPTH, 1)
        block = (k + blocks - 1) // blocks
        # A panel that few tiles use is read where it lies: packing would cost more than it gives.
        # Rows of a power of two share sets of the cache, and are packed earlier.
        few = block_rows if n * size % 4096 == 0 else 256
        direct = not slot(args, slots.FLIP_B) and (stop - row <= few or n == wide)
        there = p1 if slot(args, slots.WIDTH) else n // wide if direct else 0
        b = slot(args, slots.B) + matrix * k * n * size
        for g in range(p0, p1, GROUP):
            last = min(g + GROUP, p1)
            for q in range(blocks):
                k0 = q * block
                depth = min(block, k - k0)
                for p in range(max(g, there), last):
                    pack(args, b, p, (p - g) * block, k0, depth)
                for i in range(row, stop, block_rows):
                    rows = min(block_rows, stop - i)
                    multiply(args, matrix, i, rows, g, last, k0, depth, block, there)

    return region


def _build_pack(widest: Tile) -> Callable[..., None]:
    """`f(args, b, p, row, k0, depth)`: panel `p` of the matrix at `b`, from row `k0` on, to the
    memory for panels from that `row` on."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.movement.packing import build_pack, build_transpose
    from dnnc.kernels.subroutine import shared

    copy = shared(build_pack, widest.dtype, widest.lanes)
    transpose = shared(build_transpose, widest.bytes_each)
    size = widest.bytes_each

    def pack(args: int, b: int, p: int, row: int, k0: int, depth: int) -> None:
        n, k, wide = slot(args, slots.N), slot(args, slots.K), slot(args, slots.WIDE)
        target = slot(args, slots.PANELS) + row * wide * size
        columns = min(n - p * wide, wide)
        if slot(args, slots.FLIP_B):
            source = b + (p * wide * k + k0) * size
            transpose(target, wide * size, source, k * size, columns, depth)
        else:
            copy(target, b + (k0 * n + p * wide) * size, n * size, depth, columns, wide)

    return pack


def _build_multiply(widest: Tile) -> Callable[..., None]:
    """One block of rows by the panels of a group; those before `there` are read where B lies."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import call_kernel, slot, store, zero_bytes
    from dnnc.kernels.subroutine import shared, subroutine

    finish = shared(build_finish)
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
        block: int,
        there: int,
    ) -> None:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        width, wide = slot(args, slots.WIDTH), slot(args, slots.WIDE)
        words = slot(args, slots.WORDS)
        a, a_row, a_step = rows_of(args, matrix, i, rows, k0, depth)
        put(words, Strip.ROWS, rows)
        put(words, Strip.DEPTH, depth)
        put(words, Strip.A, a)
        put(words, Strip.A_ROW, a_row)
        put(words, Strip.A_STEP, a_step)
        put(words, Strip.ADD, k0)
        put(words, Strip.A_TABLE, 0)
        for p in range(g, last):
            c, c_row = slot(args, slots.TILE), wide * size
            if slot(args, slots.OUT):
                c_row = n * size
                c = slot(args, slots.OUT) + (matrix * m + i) * c_row + p * wide * size
            columns = min(n - p * wide, wide)
            b, b_step = slot(args, slots.PANELS) + (p - g) * block * wide * size, wide * size
            if width:
                inside = 0 if width == wide else p * wide % width
                b = slot(args, slots.B) + ((p * wide - inside) * k + k0 * width + inside) * size
                b_step = width * size
            elif p < there:
                b_step = n * size
                b = slot(args, slots.B) + (matrix * k + k0) * b_step + p * wide * size
            put(words, Strip.B, b)
            put(words, Strip.B_STEP, b_step)
            put(words, Strip.C, c)
            put(words, Strip.C_ROW, c_row)
            put(words, Strip.COLUMNS, columns)
            if depth > 0:
                narrow = columns <= lanes
                call_kernel(slot(args, slots.NARROW if narrow else slots.STRIP), words, 0, 0)
            else:
                for r in range(rows):
                    zero_bytes(c + r * c_row, columns * size)
            if k0 + depth == k and slot(args, slots.EPILOGUE):
                code, own = slot(args, slots.EPILOGUE), args + 8 * slots.SLOTS
                region = words + 8 * Strip.WORDS
                finish(code, own, region, c, c_row, rows, columns, matrix, i, p * wide, 1)

    return multiply


def _build_rows(size: int) -> Callable[..., tuple[int, int, int]]:
    """Where a block of rows of A begins, how far apart rows are, and elements of a row.

    The block is copied where that is better.
    """
    from dnnc.kernels.intrinsics import copy_bytes, slot
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose, apart = shared(build_transpose, size), _row_bytes(size)

    def rows_of(
        args: int, matrix: int, i: int, rows: int, k0: int, depth: int
    ) -> tuple[int, int, int]:
        m, k, packed = slot(args, slots.M), slot(args, slots.K), slot(args, slots.ROWS)
        a = slot(args, slots.A) + matrix * m * k * size
        if slot(args, slots.FLIP_A):
            a += (k0 * m + i) * size
            if depth <= 256 and m * size % 1024 != 0:
                return a, size, m * size
            transpose(packed, apart, a, m * size, depth, rows)
            return packed, apart, size
        a += (i * k + k0) * size
        if rows > 8 and k * size % 2048 == 0:
            # The rows of a tile would share the sets of the cache.
            for r in range(rows):
                copy_bytes(packed + r * apart, a + r * k * size, depth * size)
            return packed, apart, size
        return a, k * size, size

    return rows_of


def _build_integer(dtype: str) -> Callable[[int, int, int], int]:
    """A product of integer matrices, row by row; sums wrap around as in NumPy."""
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, share, slot, store

    number = NUMBA_TYPES[dtype]
    get_a, get_b, get, put = load(dtype, 1), load(dtype, 2), load(dtype, 0), store(dtype, 0)

    def kernel(args: int, tid: int, threads: int) -> int:
        out, a, b = slot(args, slots.OUT), slot(args, slots.A), slot(args, slots.B)
        batch, m, n, k = (
            slot(args, slots.BATCH),
            slot(args, slots.M),
            slot(args, slots.N),
            slot(args, slots.K),
        )
        flip_a, flip_b = slot(args, slots.FLIP_A), slot(args, slots.FLIP_B)
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
