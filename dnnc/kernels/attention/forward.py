"""Attention, block by block: no more scores exist at a time than those of a block.

A thread takes blocks of queries of one head after the other. It packs the head's keys and values,
multiplies a block of queries by a block of keys after the other, takes exponentials of scores less
the largest so far, and multiplies them by the values; sums so far are scaled down when a larger
score comes. Source: Dao et al., FlashAttention, 2022. Blocks and the order of sums depend on sizes
alone.
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
)
from dnnc.kernels.attention.heads import (
    BATCH,
    CAUSAL,
    DEPTH,
    FIRST,
    HEADS,
    KEYS,
    MASK,
    MASK_BATCH,
    MASK_HEAD,
    MASK_QUERY,
    QUERIES,
    SCALE,
    VALUES,
    K,
    Q,
    V,
    head_arguments,
)
from dnnc.ops.attention import Attention

__all__ = ["lower_attention"]

_OUT, _LSE, _PACKED_Q, _TURNED_K, _PACKED_V, _SCORES, _SUMS, _STATS = range(FIRST, FIRST + 8)


@lowering(Attention)
def lower_attention(node: Node) -> list[Call]:
    q, k, v, *rest = node.operands
    out, lse = node.results
    mask = rest[0] if rest else None
    batch, queries, heads, depth = q.shape
    keys, values = k.shape[1], v.shape[3]
    scheme = Scheme.of(str(q.type.dtype), depth, values)
    arguments = (
        *head_arguments(node.op, q, k, v, mask),
        Buffer(out, written=True),
        Buffer(lse, written=True),
        scheme.rows(QUERY_BLOCK, depth),
        scheme.turned(keys, depth),
        scheme.rows(keys, values),
        scheme.block(),
        scheme.rows(QUERY_BLOCK, values),
        Scratch(dim(4 * QUERY_BLOCK * scheme.size), per_thread=True),
    )
    flops = 2 * batch * heads * queries * keys * (depth + values)
    key = (scheme, mask is not None)
    return [Call(make_kernel("attention", lambda: _build(*key), *key), arguments, flops)]


def _build(scheme: Scheme, has_mask: bool) -> Callable[[int, int, int], int]:
    """The driver: threads share the blocks of queries."""
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import shared, subroutine

    pack, turn = shared(build_pack, scheme), shared(build_turn, scheme)
    block = subroutine(_build_block(scheme, has_mask))
    width, size = scheme.width, scheme.size

    def kernel(args: int, tid: int, threads: int) -> int:
        queries, heads, keys = slot(args, QUERIES), slot(args, HEADS), slot(args, KEYS)
        depth, values = slot(args, DEPTH), slot(args, VALUES)
        filled = (depth + width - 1) // width * width
        blocks = (queries + QUERY_BLOCK - 1) // QUERY_BLOCK
        start, stop = share(slot(args, BATCH) * heads * blocks, 1, tid, threads)
        packed = -1
        for unit in range(start, stop):
            head = unit // blocks
            if head != packed:
                packed = head
                first = head // heads * keys * heads + head % heads
                source = slot(args, K) + first * depth * size
                turn(slot(args, _TURNED_K), filled, source, heads * depth * size, keys, depth)
                source = slot(args, V) + first * values * size
                pack(slot(args, _PACKED_V), keys, source, heads * values * size, keys, values)
            block(args, head // heads, head % heads, unit % blocks * QUERY_BLOCK)
        return 0

    return kernel


def _build_block(scheme: Scheme, has_mask: bool) -> Callable[..., None]:
    """`f(args, image, head, query)`: the results of the block of queries from `query` on."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared, subroutine

    pack, products = shared(build_pack, scheme), build_products(scheme)
    score, mix = products.score, products.mix
    soften = subroutine(_build_soften(scheme, has_mask))
    finish = subroutine(_build_finish(scheme))
    width, size = scheme.width, scheme.size
    room = QUERY_BLOCK + scheme.over

    def block(args: int, image: int, head: int, query: int) -> None:
        queries, heads, keys = slot(args, QUERIES), slot(args, HEADS), slot(args, KEYS)
        depth, values = slot(args, DEPTH), slot(args, VALUES)
        filled = (depth + width - 1) // width * width
        rows = min(queries - query, QUERY_BLOCK)
        first = (image * queries + query) * heads + head
        packed = slot(args, _PACKED_Q)
        source = slot(args, Q) + first * depth * size
        pack(packed, room, source, heads * depth * size, rows, depth)
        limit = min(keys, query + rows) if slot(args, CAUSAL) else keys
        for key in range(0, limit, KEY_BLOCK):
            count = min(limit - key, KEY_BLOCK)
            scores, sums = slot(args, _SCORES), slot(args, _SUMS)
            score(
                scores, rows, count, packed, room,
                slot(args, _TURNED_K) + key * filled * size, filled,
            )  # fmt: skip
            soften(args, image, head, query, rows, key, count)
            mix(
                sums, room, rows, scores, count,
                slot(args, _PACKED_V) + key * width * size, keys, values, key,
            )  # fmt: skip
        finish(args, first, rows)

    return block


def _build_soften(scheme: Scheme, has_mask: bool) -> Callable[..., None]:
    """`f(args, image, head, query, rows, key, count)`: scores of a block become exponentials, and
    sums so far are scaled down to them."""
    from dnnc.kernels.attention.rows import ROWS, scale_row, softmax_rows
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, slot

    begin = softmax_rows(scheme.tile, scheme.line, True, has_mask)
    go_on = softmax_rows(scheme.tile, scheme.line, False, has_mask)
    scale, get = scale_row(scheme.tile), load(scheme.tile.dtype)
    number = NUMBA_TYPES[scheme.tile.dtype]
    width, size, line = scheme.width, scheme.size, scheme.line
    room = QUERY_BLOCK + scheme.over

    def soften(
        args: int, image: int, head: int, query: int, rows: int, key: int, count: int
    ) -> None:
        values, causal, stats = slot(args, VALUES), slot(args, CAUSAL), slot(args, _STATS)
        flags, step, bits = slot(args, MASK) + key, slot(args, MASK_QUERY), slot(args, SCALE)
        flags += image * slot(args, MASK_BATCH) + head * slot(args, MASK_HEAD) + query * step
        for r in range(0, rows, ROWS):
            row, seen, mask = slot(args, _SCORES) + r * line, count, flags + r * step
            if causal:
                seen = query + r + 1 - key
            most = stats + r * size
            total, factor = most + QUERY_BLOCK * size, most + 3 * QUERY_BLOCK * size
            if key == 0:
                begin(row, rows - r, seen, causal, count, mask, step, bits, most, total, factor)
            else:
                go_on(row, rows - r, seen, causal, count, mask, step, bits, most, total, factor)
        for r in range(rows if key > 0 else 0):
            factor = stats + (3 * QUERY_BLOCK + r) * size
            if get(factor, 0) != number(1):
                for panel in range((values + width - 1) // width):
                    sums = slot(args, _SUMS) + (panel * room + r) * width * size
                    scale(sums, sums, width, factor)

    return soften


def _build_finish(scheme: Scheme) -> Callable[..., None]:
    """`f(args, first, rows)`: sums divided by those of the exponentials, to the rows of the result
    from number `first` on, and their log-sum-exps."""
    from dnnc.kernels.attention.rows import finish_rows, scale_row
    from dnnc.kernels.intrinsics import NUMBA_TYPES, load, slot, store, zero_bytes

    close, scale = finish_rows(scheme.tile), scale_row(scheme.tile)
    get, put = load(scheme.tile.dtype), store(scheme.tile.dtype)
    number = NUMBA_TYPES[scheme.tile.dtype]
    lowest = float("-inf")
    width, size = scheme.width, scheme.size
    room = QUERY_BLOCK + scheme.over

    def finish(args: int, first: int, rows: int) -> None:
        heads, values, stats = slot(args, HEADS), slot(args, VALUES), slot(args, _STATS)
        total, lse = stats + QUERY_BLOCK * size, stats + 2 * QUERY_BLOCK * size
        if slot(args, KEYS) > 0:
            close(stats, total, lse, rows)
        for r in range(rows):
            place = first + r * heads
            to = slot(args, _OUT) + place * values * size
            if slot(args, KEYS) == 0:
                put(slot(args, _LSE), place, number(lowest))
                zero_bytes(to, values * size)
                continue
            put(slot(args, _LSE), place, get(lse, r))
            for column in range(0, values, width):
                sums = slot(args, _SUMS) + (column * room + r * width) * size
                scale(to + column * size, sums, min(values - column, width), total + r * size)

    return finish
