"""Pooling with channels last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dnnc.ir.dims import product
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import apply, apply_all
from dnnc.ops.pool import (
    MaxPool,
    MaxPoolGradient,
    MaxPoolIndexed,
    MaxPoolIndexedGradient,
    Pooling,
    SumPoolGradient,
)
from dnnc.passes.layout.images import last_shape
from dnnc.passes.trace import fired

__all__ = ["Pools"]

#: Elements of a window that a byte can tell apart.
_MOST = 256


class Pools:
    """Pooling in one graph.

    Where the gradient of largest elements is asked for, too, these are pooled with their indices:
    it reads those, and the image need not be kept for it. Where something else keeps the image,
    that costs a byte for each window.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        forward: set[tuple[Value, MaxPool]] = set()
        backward: set[tuple[Value, MaxPool]] = set()
        for node in nodes:
            if isinstance(node.op, MaxPool | MaxPoolGradient):
                found = forward if isinstance(node.op, MaxPool) else backward
                found.add(_pooling(node))
        self._both = forward & backward
        self._indexed: dict[tuple[Value, MaxPool], tuple[Value, ...]] = {}

    def last(self, node: Node, *operands: Value) -> Value:
        """The result [N, H, W, C] of pooling, or of its gradient, of images [N, H, W, C]."""
        op = node.op
        assert isinstance(op, Pooling)
        if isinstance(op, MaxPool | MaxPoolGradient) and _pooling(node) in self._both:
            size = product(op.window).constant
            if size is not None and size <= _MOST:
                return self._with_indices(node, operands)
        if isinstance(op, SumPoolGradient):
            op = replace(op, shape=last_shape(op.shape))
        return apply(replace(op, channels_last=True), *operands)

    def _with_indices(self, node: Node, operands: tuple[Value, ...]) -> Value:
        key, (x, *given) = _pooling(node), operands
        movement = key[1].movement
        movement["channels_last"] = True
        if key not in self._indexed:
            fired("pool with indices")
            self._indexed[key] = apply_all(MaxPoolIndexed(**movement), x)
        y, indices = self._indexed[key]
        if not given:
            return y
        return apply(MaxPoolIndexedGradient(**movement, shape=x.shape), indices, *given)


def _pooling(node: Node) -> tuple[Value, MaxPool]:
    """What is pooled, and how, also of a gradient."""
    assert isinstance(node.op, Pooling)
    return node.operands[0], MaxPool(**node.op.movement)
