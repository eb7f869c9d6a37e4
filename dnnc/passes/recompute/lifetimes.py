"""When each value of a program is made and read, by positions of calls."""

from __future__ import annotations

from collections.abc import Iterator

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ops.control import After
from dnnc.passes.recompute.footprint import Footprint

__all__ = ["Lifetimes", "sources"]


def sources(value: Value, footprint: Footprint) -> Iterator[Value]:
    """The inputs and the results of nodes with calls that reading a value reads.

    All nodes between them, such as reshapes, cost nothing.
    """
    stack, seen = [value], {value}
    while stack:
        current = stack.pop()
        if current.node is None or current.node in footprint.spans:
            yield current
            continue
        operands = current.node.operands
        for operand in operands[:1] if isinstance(current.node.op, After) else operands:
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)


class Lifetimes:
    """`reads` of a value are the nodes that read it, in order; `operands` the other way round.

    `fixed` are values that the graph returns, and `overwritten` tells for inputs that the program
    updates the position from which the old value is gone.
    """

    def __init__(self, graph: Graph, footprint: Footprint) -> None:
        self.footprint = footprint
        self.order: list[Node] = sorted(footprint.spans, key=lambda n: footprint.spans[n][0])
        self.operands: dict[Node, list[Value]] = {}
        self.reads: dict[Value, list[Node]] = {}
        for node in self.order:
            found = dict.fromkeys(s for v in node.operands for s in sources(v, footprint))
            self.operands[node] = list(found)
            for value in found:
                self.reads.setdefault(value, []).append(node)
        self.fixed: set[Value] = set()
        self.overwritten: dict[Value, int] = {}
        for output in graph.outputs:
            for value in sources(output.value, footprint):
                self.fixed.add(value)
                if output.updates is not None and value.node is not None:
                    old = graph.input(output.updates).value
                    self.overwritten[old] = footprint.spans[value.node][0]

    def first(self, node: Node) -> int:
        return self.footprint.spans[node][0]

    def last(self, node: Node) -> int:
        return self.footprint.spans[node][1]

    def end(self, value: Value) -> int:
        """The position of the last call that reads a value."""
        reads = self.reads.get(value)
        if reads:
            return self.last(reads[-1])
        return self.last(value.node) if value.node is not None else 0

    def gaps(self, value: Value) -> Iterator[tuple[int, Node]]:
        """Each stretch in which a value is kept and not read: its start, and the node at its end.

        The positions strictly between are those at which the value need not be there.
        """
        assert value.node is not None
        start = self.last(value.node)
        for node in self.reads.get(value, ()):
            if self.first(node) - start > 1:
                yield start, node
            start = max(start, self.last(node))
