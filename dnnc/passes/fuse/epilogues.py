"""What may follow a product within its kernel.

    conv → add(bias) → maximum(0)     matmul → select(mask, ..., 0)     conv → add(residual)

The epilogue of a product is every elementwise node of the same shape between it and one last node,
which alone is used by others: each tile is finished while it is in the cache, and nothing in
between is stored.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Elementwise
from dnnc.passes.fuse.reads import strip_reshapes

__all__ = ["epilogue"]

#: Most nodes between two points where everything flows through one value, and most in all.
_WIDTH, _LENGTH = 24, 40
#: Most operands that the epilogue reads besides those of the product.
_OPERANDS = 8


def epilogue(
    anchor: Node,
    users: Mapping[Value, list[Node]],
    outputs: set[Value],
    index: Mapping[Node, int],
    taken: set[Node],
) -> list[Node]:
    """The nodes after `anchor` that join it, in order; `outputs` are results of the graph."""
    nodes: list[Node] = []
    last = anchor
    while True:
        step = _next(last, anchor, users, outputs, index, taken)
        if step is None or len(nodes) + len(step) > _LENGTH:
            return nodes
        if len(_side_operands([*nodes, *step], anchor)) > _OPERANDS:
            return nodes
        nodes.extend(step)
        last = step[-1]


def _next(
    last: Node,
    anchor: Node,
    users: Mapping[Value, list[Node]],
    outputs: set[Value],
    index: Mapping[Node, int],
    taken: set[Node],
) -> list[Node] | None:
    """Nodes up to the next one through which everything flows that depends on `last`."""
    found: list[Node] = []
    seen: set[Node] = set()
    waiting: list[tuple[int, Node]] = []
    current = last
    while True:
        value = current.results[0]
        if value in outputs or len(found) > _WIDTH:
            return None
        for user in users.get(value, ()):
            if user not in seen:
                seen.add(user)
                heapq.heappush(waiting, (index[user], user))
        if not waiting:
            return None
        current = heapq.heappop(waiting)[1]
        if current in taken or not isinstance(current.op, Elementwise):
            return None
        if current.results[0].shape != anchor.results[0].shape:
            return None
        found.append(current)
        if not waiting:
            return found


def _side_operands(nodes: list[Node], anchor: Node) -> set[Value]:
    inner = {node.results[0] for node in (anchor, *nodes)}
    return {
        strip_reshapes(operand)
        for node in nodes
        for operand in node.operands
        if operand not in inner
    }
