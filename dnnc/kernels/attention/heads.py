"""The slots with which the kernels of attention and of its gradient begin."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Buffer, Integer

__all__ = [
    "BATCH",
    "CAUSAL",
    "DEPTH",
    "FIRST",
    "HEADS",
    "KEYS",
    "MASK",
    "MASK_BATCH",
    "MASK_HEAD",
    "MASK_QUERY",
    "QUERIES",
    "SCALE",
    "VALUES",
    "K",
    "Q",
    "V",
    "build_seen",
    "head_arguments",
]

Q, K, V, MASK, BATCH, QUERIES, HEADS, KEYS, DEPTH, VALUES = range(10)
#: Bytes between the rows of the mask, then a flag, the bits of an f64, and the first free slot.
MASK_BATCH, MASK_HEAD, MASK_QUERY, CAUSAL, SCALE, FIRST = range(10, 16)


def head_arguments(
    op: Any, q: Value, k: Value, v: Value, mask: Value | None
) -> tuple[Argument, ...]:
    """Operands and sizes of the operator `op`."""
    (batch, queries, heads, depth), keys, values = q.shape, k.shape[1], v.shape[3]
    strides = [dim(0)] * 3
    if mask is not None:
        step = keys
        for axis in (2, 1, 0):
            strides[axis] = dim(0) if mask.shape[axis] == 1 else step
            step = step * mask.shape[axis]
    bits = struct.unpack("q", struct.pack("d", op.scale))[0]
    sizes: tuple[Dim | int, ...] = (batch, queries, heads, keys, depth, values, *strides)
    return (
        *(Buffer(x) for x in (q, k, v)),
        Integer.of(0) if mask is None else Buffer(mask),
        *(Integer.of(size) for size in (*sizes, int(op.causal), int(bits))),
    )


def build_seen() -> Callable[..., tuple[int, int]]:
    """`f(args, image, head, query, key, count)`: how many of `count` keys from `key` on a query may
    count, and where the mask says which of them do."""
    from dnnc.kernels.intrinsics import slot

    def seen(args: int, image: int, head: int, query: int, key: int, count: int) -> tuple[int, int]:
        flags = slot(args, MASK) + key + query * slot(args, MASK_QUERY)
        flags += image * slot(args, MASK_BATCH) + head * slot(args, MASK_HEAD)
        if slot(args, CAUSAL):
            count = max(min(count, query + 1 - key), 0)
        return count, flags

    return seen
