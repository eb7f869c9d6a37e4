"""Move reshapes after a product behind the elementwise nodes and reductions that follow.

    %0 = matmul %x, %w;  %1 = reshape %0 {shape = [b, t, u]};  %2 = add %1, %bias
                                         →
    %0 = matmul %x, %w;  %1 = add %0, %bias;  %2 = reshape %1 {shape = [b, t, u]}

A product of a batch of sequences is one of more rows, so a reshape stands between it and what
follows. Behind them it is in nobody's way. Both shapes are cut into blocks of axes with equal
products; another operand can move along if it fills each block or has size 1 on all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild
from dnnc.ops.base import Elementwise, apply
from dnnc.ops.creation import Constant
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.blocks import Blocks, blocks, moved_sizes
from dnnc.passes.fuse.reads import ANCHORS, REDUCTIONS
from dnnc.passes.trace import fired

__all__ = ["sink_reshapes"]


def sink_reshapes(graph: Graph) -> Graph:
    after_product: set[Value] = set()

    def sink(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if isinstance(node.op, ANCHORS):
            result = _kept(node, operands)
            after_product.add(result)
            return [result]
        if isinstance(node.op, Reshape):
            return _joined(node.op, operands[0])
        if not isinstance(node.op, (Elementwise, *REDUCTIONS)):
            return None
        moved = _sunk(node, operands, after_product)
        if moved is not None:
            fired("move a reshape behind")
            after_product.add(moved)
            return [_reshaped(moved, node.results[0].shape)]
        if any(value in after_product for value in operands):
            result = _kept(node, operands)
            after_product.add(result)
            return [result]
        return None

    return rebuild(graph, sink)


def _kept(node: Node, operands: tuple[Value, ...]) -> Value:
    if operands == node.operands:
        return node.results[0]
    return apply(node.op, *operands, hint=node.results[0].hint)


def _joined(op: Reshape, x: Value) -> Sequence[Value] | None:
    if x.node is None or not isinstance(x.node.op, Reshape):
        return None
    return [_reshaped(x, op.shape)]


def _reshaped(x: Value, shape: tuple[Dim, ...]) -> Value:
    while x.node is not None and isinstance(x.node.op, Reshape):
        x = x.node.operands[0]
    return x if x.shape == shape else apply(Reshape(shape), x)


def _sunk(node: Node, operands: tuple[Value, ...], after: set[Value]) -> Value | None:
    """The node on operands from before their reshapes, in another shape; None where that fails."""
    frame = node.operands[0].shape if isinstance(node.op, REDUCTIONS) else node.results[0].shape
    for value in operands:
        if value.node is None or not isinstance(value.node.op, Reshape) or value.shape != frame:
            continue
        source = value.node.operands[0]
        if source not in after:
            continue
        pairs = blocks(frame, source.shape)
        if pairs is None:
            continue
        if isinstance(node.op, REDUCTIONS):
            return _reduced(node, source, pairs)
        moved = [_moved(v, frame, source.shape, pairs) for v in operands]
        if all(v is not None for v in moved):
            return apply(node.op, *(v for v in moved if v is not None))
    return None


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


def _moved(
    value: Value, frame: tuple[Dim, ...], shape: tuple[Dim, ...], pairs: Blocks
) -> Value | None:
    """An operand that broadcasts to `frame`, as one that broadcasts to `shape`."""
    if value.type.rank == 0 or (value.node is not None and isinstance(value.node.op, Constant)):
        one = value.type.rank == 0 or value.type.elements == 1
        return _reshaped(value, ()) if one else None
    while value.node is not None and isinstance(value.node.op, Broadcast):
        value = value.node.operands[0]
    target = moved_sizes(value.shape, frame, shape, pairs)
    return None if target is None else _reshaped(value, target)
