"""Move reshapes after a product behind the elementwise nodes and reductions that follow.

    %0 = matmul %x, %w;  %1 = reshape %0 {shape = [b, t, u]};  %2 = add %1, %bias
                                         →
    %0 = matmul %x, %w;  %1 = add %0, %bias;  %2 = reshape %1 {shape = [b, t, u]}

A product of a batch of sequences is one of more rows, so a reshape stands between it and what
follows. Behind them it is in nobody's way. Both shapes are cut into blocks of axes with equal
products; another operand can move along if it fills each block or has size 1 on all of it, and is
computed in the new shape itself where that is cheap or nobody else needs it.

Also a transpose of a product that nothing else needs: it becomes the product of the operands in the
other order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, Node, Value, apply_typed, origin
from dnnc.ir.rewrite import rebuild
from dnnc.ops.base import Elementwise, apply
from dnnc.ops.creation import Constant
from dnnc.ops.linear import MatMul
from dnnc.ops.shape import Broadcast, Reshape, Transpose
from dnnc.passes.blocks import Blocks, blocks, moved_sizes
from dnnc.passes.fuse.reads import ANCHORS, REDUCTIONS, is_expensive, strip_reshapes
from dnnc.passes.trace import fired

__all__ = ["sink_reshapes"]


def sink_reshapes(graph: Graph) -> Graph:
    return rebuild(graph, _Sinking(graph).sink)


class _Sinking:
    """One walk over a graph."""

    def __init__(self, graph: Graph) -> None:
        # Products, and what is computed from them in the shape of the product.
        self.after: set[Value] = set()
        self.users = Counter(value for node in graph.nodes for value in node.operands)
        self.users.update(output.value for output in graph.outputs)
        self.raised: dict[tuple[Value, tuple[Dim, ...]], Value] = {}

    def sink(self, node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if isinstance(node.op, ANCHORS):
            return [self._noted(_kept(node, operands))]
        if isinstance(node.op, Reshape):
            inner = operands[0].node is not None and isinstance(operands[0].node.op, Reshape)
            return [_reshaped(operands[0], node.op.shape)] if inner else None
        if isinstance(node.op, Transpose):
            return self._transposed(node, operands[0])
        if not isinstance(node.op, (Elementwise, *REDUCTIONS)):
            return None
        moved = self._sunk(node, operands)
        if moved is not None:
            fired("move a reshape behind")
            return [_reshaped(self._noted(moved), node.results[0].shape)]
        if any(value in self.after for value in operands):
            return [self._noted(_kept(node, operands))]
        return None

    def _noted(self, value: Value) -> Value:
        self.after.add(value)
        return value

    def _transposed(self, node: Node, x: Value) -> Sequence[Value] | None:
        """A transpose that swaps the axes of a product as the product of the transposes.

        Other axes may move as well, in a transpose of what is then contiguous rows.
        """
        assert isinstance(node.op, Transpose)
        rows, columns = x.type.rank - 2, x.type.rank - 1
        if x.node is None or not isinstance(x.node.op, MatMul):
            return None
        if node.op.permutation[-1] != rows or self.users[node.operands[0]] != 1:
            return None
        fired("transpose the operands of a product")
        a, b = x.node.operands
        op = MatMul(not x.node.op.transpose_b, not x.node.op.transpose_a)
        product = self._noted(apply(op, b, a))
        swap = {rows: columns, columns: rows}
        order = tuple(swap.get(axis, axis) for axis in node.op.permutation)
        return [product if order == tuple(range(columns + 1)) else apply(Transpose(order), product)]

    def _sunk(self, node: Node, operands: tuple[Value, ...]) -> Value | None:
        """The node on operands from before their reshapes; None where that fails."""
        reduces = isinstance(node.op, REDUCTIONS)
        frame = node.operands[0].shape if reduces else node.results[0].shape
        for value in operands:
            if value.node is None or not isinstance(value.node.op, Reshape) or value.shape != frame:
                continue
            source = value.node.operands[0]
            pairs = blocks(frame, source.shape) if source in self.after else None
            if pairs is None:
                continue
            if reduces:
                return _reduced(node, source, pairs)
            moved = [self._moved(v, frame, source.shape, pairs) for v in operands]
            if all(v is not None for v in moved):
                return apply(node.op, *(v for v in moved if v is not None))
        return None

    def _moved(
        self, value: Value, frame: tuple[Dim, ...], shape: tuple[Dim, ...], pairs: Blocks
    ) -> Value | None:
        """An operand that broadcasts to `frame`, as one that broadcasts to `shape`."""
        value = _without_broadcast(value)
        if value.type.rank == 0:
            return value
        target = moved_sizes(value.shape, frame, shape, pairs)
        return None if target is None else self._raise(value, target)

    def _raise(self, value: Value, shape: tuple[Dim, ...]) -> Value:
        """A value in another shape, its operands reshaped rather than itself where that is
        better."""
        source = strip_reshapes(value)
        if source.shape == shape:
            return source
        key = source, shape
        if key not in self.raised:
            self.raised[key] = self._raised(source, shape) or _reshaped(source, shape)
        return self.raised[key]

    def _raised(self, value: Value, shape: tuple[Dim, ...]) -> Value | None:
        node = value.node
        if node is None or value in self.after:
            return None
        alone = self.users[value] == 1
        if isinstance(node.op, REDUCTIONS) and alone:
            return self._raised_reduction(node, shape)
        if not isinstance(node.op, Elementwise) or not (alone or not is_expensive(node)):
            return None
        pairs = blocks(value.shape, shape)
        if pairs is None:
            return None
        targets: list[tuple[Value, tuple[Dim, ...]]] = []
        for operand in map(_without_broadcast, node.operands):
            target = moved_sizes(operand.shape, value.shape, shape, pairs)
            if target is None:
                return None
            targets.append((operand, target))
        with origin(node.origin):
            operands = [v if v.type.rank == 0 else self._raise(v, t) for v, t in targets]
            result = apply(node.op, *operands)
        return result if result.shape == shape else None

    def _raised_reduction(self, node: Node, shape: tuple[Dim, ...]) -> Value | None:
        """A reduction along the last axes, in the shape that makes its result the one wanted."""
        assert isinstance(node.op, REDUCTIONS)
        x = node.operands[0]
        first = x.type.rank - len(node.op.axes)
        if node.op.axes != tuple(range(first, x.type.rank)):
            return None
        lead = list(shape)
        while lead and lead[-1] == 1:
            lead.pop()
        if blocks(x.shape[:first], tuple(lead)) is None:
            return None
        with origin(node.origin):
            source = self._raise(x, (*lead, *x.shape[first:]))
            axes = tuple(range(len(lead), source.type.rank))
            return _reshaped(apply(type(node.op)(axes, True), source), shape)


def _kept(node: Node, operands: tuple[Value, ...]) -> Value:
    if operands == node.operands:
        return node.results[0]
    result = node.results[0]
    return apply_typed(node.op, [result.type], operands, result.hint)[0]


def _without_broadcast(value: Value) -> Value:
    while value.node is not None and isinstance(value.node.op, Broadcast):
        value = value.node.operands[0]
    if value.node is not None and isinstance(value.node.op, Constant):
        return _reshaped(value, ()) if value.type.elements == 1 else value
    return value


def _reshaped(x: Value, shape: tuple[Dim, ...]) -> Value:
    x = strip_reshapes(x)
    return x if x.shape == shape else apply(Reshape(shape), x)


def _reduced(node: Node, source: Value, pairs: Blocks) -> Value | None:
    assert isinstance(node.op, REDUCTIONS)
    axes: list[int] = []
    for (start, stop), (new_start, new_stop) in pairs:
        chosen = [axis in node.op.axes for axis in range(start, stop)]
        if any(chosen) and not all(chosen):
            return None
        if any(chosen):
            axes.extend(range(new_start, new_stop))
    return apply(type(node.op)(tuple(axes), True), source) if axes else None
