"""Values with four axes in two orders: as programs write them and with channels last.

A value of the old graph has an image [N, C, H, W] in the new graph, one [N, H, W, C], or both, made
where they are asked for.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Node, Value, apply_typed
from dnnc.ir.types import TensorType
from dnnc.ops.base import Elementwise, apply
from dnnc.ops.creation import Iota
from dnnc.ops.shape import Broadcast, Reshape, Transpose
from dnnc.passes.simplify.rules import made_by, make

__all__ = ["FIRST", "LAST", "Images", "last_axis", "last_shape"]

#: The order of axes that makes an image [N, H, W, C] of one [N, C, H, W], and its inverse.
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)

_ONE = dim(1)
_SWAP = (0, 2, 1)


def last_axis(axis: int) -> int:
    """Where an axis of [N, C, H, W] lies in [N, H, W, C]."""
    return LAST.index(axis)


def last_shape(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The sizes [N, H, W, C] of those [N, C, H, W]."""
    return tuple(shape[axis] for axis in LAST)


class Images:
    """What the new graph has of the values of the old one."""

    def __init__(self) -> None:
        self._first: dict[Value, Value] = {}
        self._last: dict[Value, Value] = {}
        self._aligned: dict[Value, Value] = {}

    def keep(self, old: Value, new: Value) -> None:
        """Record the value that takes the place of `old`, in the same shape."""
        self._first[old] = new

    def keep_last(self, old: Value, new: Value) -> None:
        """Record an image with channels last."""
        self._last[old] = new

    def is_last(self, old: Value) -> bool:
        """Whether a value has channels last at no cost."""
        broadcast = made_by(old, Broadcast)
        return old in self._last or (broadcast is not None and broadcast[1][0] in self._last)

    def first(self, old: Value) -> Value:
        """The value in the shape that it has in the old graph."""
        found = self._first.get(old)
        if found is None:
            last = self._last.get(old)
            found = old if last is None else make(Transpose(FIRST), last)
            self._first[old] = found
        return found

    def last(self, old: Value) -> Value:
        """The image [N, H, W, C] of a value [N, C, H, W]."""
        found = self._last.get(old)
        if found is None:
            found = self._last[old] = self._made_again(old) or make(
                Transpose(LAST), self.first(old)
            )
        return found

    def _made_again(self, old: Value) -> Value | None:
        """An image of what is cheaper to make again than to move."""
        node = old.node
        if node is None:
            return None
        if isinstance(node.op, Broadcast):
            return make(Broadcast(last_shape(old.shape)), self.aligned(node.operands[0]))
        if isinstance(node.op, Iota):
            return apply(Iota(last_shape(old.shape), last_axis(node.op.axis), node.op.dtype))
        if isinstance(node.op, Elementwise):
            if all(v.type.rank < 4 or self._is_cheap(v) for v in node.operands):
                return self.elementwise(node)
            return None
        return self._unrolled(old)

    def elementwise(self, node: Node) -> Value:
        """The image that an elementwise node makes of images with channels last."""
        operands, old = tuple(map(self.aligned, node.operands)), node.results[0]
        type = TensorType(old.type.dtype, last_shape(old.shape))
        return apply_typed(node.op, [type], operands, old.hint)[0]

    def _is_cheap(self, old: Value) -> bool:
        if self.is_last(old):
            return True
        return old.node is not None and isinstance(old.node.op, Broadcast | Iota)

    def _unrolled(self, old: Value) -> Value | None:
        """An image whose pixels were rows: the transpose of [N, H W, C], reshaped."""
        reshape = made_by(old, Reshape)
        swap = made_by(reshape[1][0], Transpose) if reshape is not None else None
        if swap is None or swap[0].permutation != _SWAP:
            return None
        rows = swap[1][0]
        if rows.shape[0] != old.shape[0] or rows.shape[2] != old.shape[1]:
            return None
        return make(Reshape(last_shape(old.shape)), self.first(rows))

    def rows(self, node_operand: Value, permutation: tuple[int, ...]) -> Value | None:
        """The transpose [N, H W, C] of an image that was reshaped to [N, C, H W]."""
        reshape = made_by(node_operand, Reshape)
        if reshape is None or permutation != _SWAP:
            return None
        image = reshape[1][0]
        n, c, pixels = node_operand.shape
        if image.type.rank != 4 or not self.is_last(image) or image.shape[:2] != (n, c):
            return None
        return make(Reshape((n, pixels, c)), self.last(image))

    def aligned(self, old: Value) -> Value:
        """An operand of something elementwise, to fit to images with channels last."""
        if old.type.rank == 0 or (old.type.rank < 4 and old.type.elements == 1):
            return self.first(old)
        if old.type.rank == 4:
            return self.last(old)
        found = self._aligned.get(old)
        if found is None:
            whole = (_ONE,) * (4 - old.type.rank) + old.shape
            source = made_by(old, Broadcast)
            if source is not None:
                moved = self.aligned(source[1][0])
                found = make(Broadcast(last_shape(whole)), moved)
            else:
                found = make(Transpose(LAST), make(Reshape(whole), self.first(old)))
            self._aligned[old] = found
        return found
