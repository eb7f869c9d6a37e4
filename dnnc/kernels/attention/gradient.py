"""The gradient of attention, block by block, from the log-sum-exps of the scores.

A thread takes whole heads. It packs keys and values, and for each block of queries and of keys
computes the scores again: with P = exp(scores - lse), delta = sum(dO * O) over a row and
dS = P * (dO V^T - delta) * scale,

    dQ = dS K        dK = dS^T Q        dV = P^T dO

Sums over queries and keys are taken in the order of the blocks, which depend on sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.ir.dims import dim
from dnnc.ir.graph import Node
from dnnc.kernels.abi import Buffer, Call, Scratch, lowering, make_kernel
from dnnc.kernels.attention.blocks import (
    KEY_BLOCK,
    QUERY_BLOCK,
    Scheme,
    build_pack,
    build_products,
    build_turn,
    build_unpack,
)
from dnnc.kernels.attention.heads import (
    BATCH,
    CAUSAL,
    DEPTH,
    FIRST,
    HEADS,
    KEYS,
    QUERIES,
    SCALE,
    VALUES,
    K,
    Q,
    V,
    build_seen,
    head_arguments,
)
from dnnc.ops.attention import AttentionGradient

__all__ = ["lower_attention_gradient"]

_OUT, _LSE, _D_OUT, _D_Q, _D_K, _D_V = range(FIRST, FIRST + 6)
#: Packed operands, scores of a block and their gradients, and sums of results.
_ROWS_Q, _ROWS_D_OUT, _ROWS_K, _TURNED_K, _TURNED_V = range(FIRST + 6, FIRST + 11)
_SCORES, _SLOPES, _DELTA, _SUMS_Q, _SUMS_K, _SUMS_V = range(FIRST + 11, FIRST + 17)


@lowering(AttentionGradient)
def lower_attention_gradient(node: Node) -> list[Call]:
    q, k, v, out, lse, d_out, *rest = node.operands
    mask = rest[0] if rest else None
    batch, queries, heads, depth = q.shape
    keys, values = k.shape[1], v.shape[3]
    scheme = Scheme.of(str(q.type.dtype), depth, values)
    arguments = (
        *head_arguments(node.op, q, k, v, mask),
        *(Buffer(x) for x in (out, lse, d_out)),
        *(Buffer(x, written=True) for x in node.results),
        scheme.rows(QUERY_BLOCK, depth),
        scheme.rows(QUERY_BLOCK, values),
        scheme.rows(keys, depth),
        scheme.turned(keys, depth),
        scheme.turned(keys, values),
        scheme.block(),
        scheme.block(),
        Scratch(dim(QUERY_BLOCK * scheme.size), per_thread=True),
        scheme.rows(QUERY_BLOCK, depth),
        scheme.rows(keys, depth),
        scheme.rows(keys, values),
    )
    flops = 2 * batch * heads * queries * keys * (3 * depth + 2 * values)
    key = (scheme, mask is not None)
    kernel = make_kernel("attention_gradient", lambda: _build(*key), *key)
    return [Call(kernel, arguments, flops)]


def _build(scheme: Scheme, has_mask: bool) -> Callable[[int, int, int], int]:
    """The driver: threads share the heads."""
    from dnnc.kernels.intrinsics import share, slot, zero_bytes
    from dnnc.kernels.subroutine import shared, subroutine

    pack, turn = shared(build_pack, scheme), shared(build_turn, scheme)
    unpack = shared(build_unpack, scheme)
    block = subroutine(_build_block(scheme, has_mask))
    width, size, over = scheme.width, scheme.size, scheme.over

    def kernel(args: int, tid: int, threads: int) -> int:
        queries, heads, keys = slot(args, QUERIES), slot(args, HEADS), slot(args, KEYS)
        depth, values = slot(args, DEPTH), slot(args, VALUES)
        filled = (depth + width - 1) // width * width
        filled_v = (values + width - 1) // width * width
        row, row_v, room = heads * depth * size, heads * values * size, keys + over
        start, stop = share(slot(args, BATCH) * heads, 1, tid, threads)
        for unit in range(start, stop):
            image, head = unit // heads, unit % heads
            first = image * keys * heads + head
            at, at_v = first * depth * size, first * values * size
            pack(slot(args, _ROWS_K), room, slot(args, K) + at, row, keys, depth)
            turn(slot(args, _TURNED_K), filled, slot(args, K) + at, row, keys, depth)
            turn(slot(args, _TURNED_V), filled_v, slot(args, V) + at_v, row_v, keys, values)
            zero_bytes(slot(args, _SUMS_K), room * filled * size)
            zero_bytes(slot(args, _SUMS_V), room * filled_v * size)
            for query in range(0, queries, QUERY_BLOCK):
                block(args, image, head, query)
            unpack(slot(args, _D_K) + at, row, slot(args, _SUMS_K), room, keys, depth)
            unpack(slot(args, _D_V) + at_v, row_v, slot(args, _SUMS_V), room, keys, values)
        return 0

    return kernel


def _build_block(scheme: Scheme, has_mask: bool) -> Callable[..., None]:
    """`f(args, image, head, query)`: what the block of queries from `query` on adds."""
    from dnnc.kernels.attention.rows import dot_pairs
    from dnnc.kernels.intrinsics import slot, zero_bytes
    from dnnc.kernels.subroutine import shared, subroutine

    dot = dot_pairs(scheme.tile)
    pack, unpack = shared(build_pack, scheme), shared(build_unpack, scheme)
    products = build_products(scheme)
    score, mix, gather = products.score, products.mix, products.gather
    soften = subroutine(_build_soften(scheme, has_mask))
    width, size, over = scheme.width, scheme.size, scheme.over
    some = QUERY_BLOCK + over

    def block(args: int, image: int, head: int, query: int) -> None:
        queries, heads, keys = slot(args, QUERIES), slot(args, HEADS), slot(args, KEYS)
        depth, values = slot(args, DEPTH), slot(args, VALUES)
        filled = (depth + width - 1) // width * width
        filled_v = (values + width - 1) // width * width
        row, row_v, room = heads * depth * size, heads * values * size, keys + over
        rows = min(queries - query, QUERY_BLOCK)
        first = (image * queries + query) * heads + head
        q, d_out, sums = slot(args, _ROWS_Q), slot(args, _ROWS_D_OUT), slot(args, _SUMS_Q)
        scores, slopes = slot(args, _SCORES), slot(args, _SLOPES)
        pack(q, some, slot(args, Q) + first * depth * size, row, rows, depth)
        at_v = first * values * size
        pack(d_out, some, slot(args, _D_OUT) + at_v, row_v, rows, values)
        dot(
            slot(args, _DELTA),
            slot(args, _OUT) + at_v,
            slot(args, _D_OUT) + at_v,
            row_v,
            rows,
            values,
        )
        limit = min(keys, query + rows) if slot(args, CAUSAL) else keys
        if limit == 0:
            zero_bytes(sums, some * filled * size)
        for key in range(0, limit, KEY_BLOCK):
            count = min(limit - key, KEY_BLOCK)
            at = key * width * size
            turned, turned_v = key * filled * size, key * filled_v * size
            score(scores, rows, count, q, some, slot(args, _TURNED_K) + turned, filled)
            score(slopes, rows, count, d_out, some, slot(args, _TURNED_V) + turned_v, filled_v)
            soften(args, image, head, query, rows, key, count)
            mix(sums, some, rows, slopes, count, slot(args, _ROWS_K) + at, room, depth, key)
            gather(slot(args, _SUMS_K) + at, room, count, slopes, rows, q, some, depth)
            gather(slot(args, _SUMS_V) + at, room, count, scores, rows, d_out, some, values)
        unpack(slot(args, _D_Q) + first * depth * size, row, sums, some, rows, depth)

    return block


def _build_soften(scheme: Scheme, has_mask: bool) -> Callable[..., None]:
    """`f(args, image, head, query, rows, key, count)`: products of a block become probabilities,
    and their gradients those of the products."""
    from dnnc.kernels.attention.rows import softmax_gradient_row
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    seen_of = subroutine(build_seen(), returns=2)
    gradient = softmax_gradient_row(scheme.tile, has_mask)
    size, line = scheme.size, scheme.line

    def soften(
        args: int, image: int, head: int, query: int, rows: int, key: int, count: int
    ) -> None:
        scores, slopes = slot(args, _SCORES), slot(args, _SLOPES)
        first = (image * slot(args, QUERIES) + query) * slot(args, HEADS) + head
        # Register tiles reach over the last key, to what is added to other sums.
        wide = (count + 15) // 16 * 16
        for r in range(rows):
            seen, flags = seen_of(args, image, head, query + r, key, count)
            place = (first + r * slot(args, HEADS)) * size
            gradient(
                scores + r * line, slopes + r * line, seen, wide, flags, slot(args, SCALE),
                slot(args, _LSE) + place, slot(args, _DELTA) + r * size,
            )  # fmt: skip

    return soften
