"""Matrix products.

The product is cut into columns of register tiles, which multiply a block of rows of A by a panel of
B. B is packed (and transposed where needed) into scratch memory, as panels one vector wide of which
a tile reads two or three side by side; or it is read where it lies, when few rows use it or the
program has packed it before (`dnnc.ops.packed`). Rows of A are read where they lie, unless they are
columns in memory. Sums over long depths are taken in blocks, which are added up in the output.
Blocks depend on sizes and caches, so an element has the same bits for any number of threads.

Products with one row or column, with few columns, or with long sums of few results, have kernels of
their own: `matvec`, `turned_products` and `dot_products`. So have those of few rows by a matrix
that is stored transposed, `few_rows`, and those for the matrix unit: `dnnc.kernels.unit.product`.
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
from dnnc.kernels.product.dot_products import RESULTS, dot_kernel, turned_bytes
from dnnc.kernels.product.driver import build_product
from dnnc.kernels.product.lines import list_bytes
from dnnc.kernels.product.matvec import PIECE, last_column_kernel, vector_kernel
from dnnc.kernels.product.operands import row_bytes
from dnnc.kernels.product.orders import build_dots_pay, build_turned_pays
from dnnc.kernels.product.strips import Strip, strip_kernel
from dnnc.kernels.product.turned_products import turned_kernel
from dnnc.kernels.target import second_cache, unit_usable
from dnnc.kernels.tiles import Tile, most_vectors, tiles
from dnnc.kernels.unit.product import may_favour_unit, unit_kernel
from dnnc.kernels.unit.sizes import DELIVERED, fixed_room, longest_sum, ring_room, sums_room
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import PackedMatMul

__all__ = ["matmul_call"]

#: Rows of A that pass by all panels of a group: so many that they stay in the cache.
BLOCK = 64
#: Stands for a size that is not known before the product runs.
_MANY = 1 << 20


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
    pieces = packed and op.pieces
    # A packed matrix has no pieces where they would not pay.
    unit = dtype == "f32" and unit_usable() and (pieces or not packed)
    unit = unit and _may_favour_unit(m, n, depth, (flip_a, flip_b, pieces))
    stored: Argument = Buffer(out, written=True)
    # Sizes that are not known may be small.
    longest = longest_sum(m.constant or 0, n.constant or 0, _group(), pieces)
    longest = longest if unit else slots.DEPTH
    if epilogue and depth.constant is not None and depth.constant <= longest:
        stored = Integer.of(0)
    values = (stored, Buffer(a), Buffer(b))
    layout = (int(flip_a), int(flip_b), int(b.shape[-1]) if packed else 0, int(pieces))
    sizes = (*map(Integer, (batch, m, n, depth)), *map(Integer.of, layout))
    if not out.type.dtype.is_float:
        kernel = make_kernel("matmul_integer", lambda: _build_integer(dtype), dtype)
        return Call(kernel, (*values, *sizes), flops)
    widest = tiles(dtype, most_vectors())[0]
    other, room = _order(widest, m, n, depth, *layout[:3])
    kernel = make_kernel("matmul", lambda: build_product(widest), widest, unrolled=False)
    code = *_strips(widest), _last_column(widest, n), Code(vector_kernel(widest)), other
    shape = (Integer.of(BLOCK), Integer.of(_group()))
    # Of rows by pieces of a packed matrix, few are fixed at a time.
    fixed = max(m.constant, n.constant) if m.constant and n.constant else None
    if unit:
        room = max(room, fixed_room(_group(), DELIVERED if pieces else fixed, _longest(depth)))
    scratch = _scratch(widest, n, depth, flip_a, room, unit)
    code = (*code, Code(unit_kernel()) if unit else Integer.of(0))
    arguments = (*values, *sizes, *shape, *code, *scratch, *epilogue_arguments(epilogue))
    return Call(kernel, arguments, flops, epilogue.in_place if epilogue else ())


def _strips(widest: Tile) -> Iterator[Argument]:
    """The code of strips, the narrowest first; 0 for tiles that are not used."""
    for vectors in (1, 2, 3):
        apart = most_vectors() == 3
        used = vectors <= widest.vectors
        yield Code(strip_kernel(widest.dtype, vectors, "", apart)) if used else Integer.of(0)


def _last_column(widest: Tile, n: Dim) -> Argument:
    """The code of a single column beyond whole vectors; 0 where there is none."""
    there = n.constant is None or n.constant % widest.lanes == 1
    return Code(last_column_kernel(widest)) if there else Integer.of(0)


def _group() -> int:
    """Bytes of panels that are multiplied by at a time, which stay in the second-level cache."""
    return second_cache() // 2


def _order(
    widest: Tile, m: Dim, n: Dim, depth: Dim, flip_a: int, flip_b: int, width: int
) -> tuple[Argument, int]:
    """The kernel of another order of loops, which sizes may favour where they are known or would be
    large, or 0; and the bytes in the place of panels of B that it needs."""
    two, none, columns = tiles(widest.dtype)[0], Integer.of(0), n.constant
    rows, deep = (_MANY if size.constant is None else size.constant for size in (m, depth))
    if width:
        return none, 0
    if flip_a:
        if flip_b or not columns or not 1 < columns <= slots.TURNED_COLUMNS:
            return none, 0
        pays = build_turned_pays(widest)(rows, columns, deep)
        return Code(turned_kernel(two, columns)) if pays else none, 0
    if flip_b:
        return Code(dot_kernel(two)) if deep >= slots.DOTS_DEPTH else none, 0
    if columns is None or columns > slots.DOTS_WIDEST or depth.constant is None:
        return none, 0
    if not build_dots_pay(widest)(rows, columns, deep, flip_b):
        return none, 0
    return Code(dot_kernel(two)), turned_bytes(columns, deep, two.bytes_each)


def _may_favour_unit(m: Dim, n: Dim, depth: Dim, layout: tuple[bool, ...]) -> bool:
    """Whether a product is one for the matrix unit, if what is open of its sizes is large."""
    sizes = [_MANY if size.constant is None else size.constant for size in (m, n, depth)]
    return may_favour_unit(*sizes, *layout)


def _longest(depth: Dim) -> int:
    """The longest sum of a product of that depth."""
    return slots.DEPTH if depth.constant is None else min(depth.constant, slots.DEPTH)


def _scratch(
    widest: Tile, n: Dim, depth: Dim, flip_a: bool, room: int, unit: bool
) -> Iterator[Scratch]:
    """Memory for panels of B, `room` bytes at least, and all that follows them in the slots."""
    size = widest.bytes_each
    longest = _longest(depth)
    vector, group = widest.lanes * longest * size, _group()
    # Pairs of vectors: so many hold A, too, where `few_rows` puts it there.
    panels = group if n.constant is None else -(-n.constant // (2 * widest.lanes)) * 2 * vector
    rows, sums = 1, max(2 * BLOCK * widest.columns, PIECE, RESULTS) * size
    if unit:
        rows, sums = ring_room(), max(sums, sums_room())
    if flip_a:
        rows = max(rows, BLOCK * row_bytes(longest, size))
    for count in (
        max(min(panels, group), widest.vectors * vector, room, 1),
        rows,
        8 * (Strip.WORDS + Region.WORDS),
        sums,
        list_bytes(),
    ):
        yield Scratch(dim(count), per_thread=True)


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
