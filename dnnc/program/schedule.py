"""The order of nodes: as the outputs ask for them, with memory freed early and updates late.

The order starts from a depth-first walk of the outputs. A node that frees at least as much memory
as it takes runs as soon as its operands are there, so that gradients of weights do not wait, with
all that they hold, for the end of the program. A node that makes the next value of an updated input
waits for every reader of the old value, which lets it overwrite that value in place.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeAlias

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Graph, Node, Value
from dnnc.kernels.abi import Call, lower
from dnnc.kernels.fused.lower import elementwise_calls, is_pointwise
from dnnc.kernels.fused.space import View
from dnnc.ops.control import Fused, Scan
from dnnc.ops.creation import Constant, Size
from dnnc.ops.shape import Concat
from dnnc.program.aliases import alias_of, bytes_of

__all__ = ["TYPICAL_SIZE", "Lowered", "scheduled"]

Lowered: TypeAlias = dict[Node, list[Call]]

#: What an unknown size is taken for where memory is weighed.
TYPICAL_SIZE = 64


def scheduled(graph: Graph, known: Lowered | None = None) -> tuple[list[Node], Lowered]:
    """The nodes of a graph in the order of execution, and the calls of each.

    `known` are calls from plans of graphs that share nodes with this one; those of others join.
    """
    nodes = graph.nodes
    lowered = lowered_nodes(graph, nodes, {} if known is None else known)
    return _Scheduler(graph, nodes).order(), _without_unread(graph, nodes, lowered)


def lowered_nodes(graph: Graph, nodes: Sequence[Node], known: Lowered) -> Lowered:
    """The calls of each node; fused kernels write parts of a concatenation where they belong."""
    parts = _parts_of_concats(graph, nodes)
    lowered: Lowered = {}
    for node in nodes:
        if not _is_lowered(node):
            continue
        if isinstance(node.op, Fused) and not parts.keys().isdisjoint(node.results):
            lowered[node] = elementwise_calls(node.op, node.operands, node.results, parts)
        elif isinstance(node.op, Concat):
            calls = zip(lower(node), node.operands, strict=True)
            lowered[node] = [call for call, operand in calls if operand not in parts]
        else:
            if node not in known:
                known[node] = lower(node)
            lowered[node] = known[node]
    return lowered


def _parts_of_concats(graph: Graph, nodes: Sequence[Node]) -> dict[Value, View]:
    """Results of fused kernels that nothing but one concatenation reads."""
    users = Counter(operand for node in nodes for operand in node.operands)
    users.update(output.value for output in graph.outputs)
    parts: dict[Value, View] = {}
    for node in nodes:
        if not isinstance(node.op, Concat) or not _is_lowered(node):
            continue
        whole, axis = node.results[0], node.op.axis
        strides = tuple(product(whole.shape[k + 1 :]) for k in range(whole.type.rank))
        start = dim(0)
        for operand in node.operands:
            maker = operand.node.op if operand.node else None
            if users[operand] == 1 and isinstance(maker, Fused) and is_pointwise(maker):
                parts[operand] = View(whole, strides, start * strides[axis])
            start = start + operand.shape[axis]
    return parts


def _without_unread(graph: Graph, nodes: Sequence[Node], lowered: Lowered) -> Lowered:
    """Nodes that write nothing that is read have no calls: kernels may read a slice where it
    lies."""
    read = {_root(output.value) for output in graph.outputs}
    for node in reversed(nodes):
        if isinstance(node.op, Scan):
            read.update(_root(value) for value in node.operands)
            continue
        buffers = [buffer for call in lowered.get(node, ()) for buffer in call.buffers]
        if any(_root(buffer.value) in read for buffer in buffers if buffer.written):
            read.update(_root(buffer.value) for buffer in buffers if not buffer.written)
        elif node in lowered:
            lowered[node] = []
    return lowered


def _is_lowered(node: Node) -> bool:
    if isinstance(node.op, Scan | Constant | Size):
        return False
    return alias_of(node.results[0]) is None


def _root(value: Value) -> Value:
    while (alias := alias_of(value)) is not None:
        value = alias.value
    return value


class _Scheduler:
    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self.graph, self.nodes = graph, nodes
        self.rank = {node: k for k, node in enumerate(nodes)}
        self.bytes: dict[Value, int] = {}
        #: How many nodes still have to read a root.
        self.left: dict[Value, int] = defaultdict(int)
        self.roots = {node: {_root(value) for value in node.operands} for node in nodes}
        self.readers: dict[Value, list[Node]] = defaultdict(list)
        for node in nodes:
            for root in self.roots[node]:
                self.left[root] += 1
                self.readers[root].append(node)
        self.kept = {_root(output.value) for output in graph.outputs}
        self.in_place: dict[Node, Value] = {}

    def order(self) -> list[Node]:
        before = self.constraints()
        after: dict[Node, list[Node]] = defaultdict(list)
        for node, needed in before.items():
            for other in needed:
                after[other].append(node)
        missing = {node: len(before[node]) for node in self.nodes}
        ready = _Ready(self)
        for node in self.nodes:
            if not missing[node]:
                ready.add(node)
        order: list[Node] = []
        while (taken := ready.take()) is not None:
            node = taken
            order.append(node)
            for root in self.roots[node]:
                self.left[root] -= 1
                if self.left[root] == 1:
                    ready.look_again(self.readers[root])
            for other in after[node]:
                missing[other] -= 1
                if not missing[other]:
                    ready.add(other)
        assert len(order) == len(self.nodes)
        return order

    def growth(self, node: Node) -> int:
        """Bytes that a node takes less the bytes that it frees."""
        if alias_of(node.results[0]) is not None or isinstance(node.op, Constant | Size):
            return 0
        taken = sum(self.size(r) for r in node.results if self.in_place.get(node) is None)
        freed = sum(
            self.size(root)
            for root in self.roots[node]
            if self.left[root] == 1 and root.node is not None and root not in self.kept
        )
        return taken - freed

    def size(self, value: Value) -> int:
        if value not in self.bytes:
            size: Dim = bytes_of(value)
            self.bytes[value] = size.evaluate(dict.fromkeys(size.symbols, TYPICAL_SIZE))
        return self.bytes[value]

    def constraints(self) -> dict[Node, set[Node]]:
        """For each node the nodes that come before it."""
        before: dict[Node, set[Node]] = {
            node: {value.node for value in node.operands if value.node is not None}
            for node in self.nodes
        }
        for output in self.graph.outputs:
            maker = _root(output.value).node
            if output.updates is None or maker is None:
                continue
            old = self.graph.input(output.updates).value
            readers = [node for node in self.readers[old] if node is not maker]
            if not any(self.depends(reader, maker, before) for reader in readers):
                before[maker].update(readers)
                self.in_place[maker] = old
        return before

    def depends(self, node: Node, on: Node, before: dict[Node, set[Node]]) -> bool:
        stack, seen = [node], {node}
        while stack:
            current = stack.pop()
            if current is on:
                return True
            for other in before[current] - seen:
                seen.add(other)
                stack.append(other)
        return False


class _Ready:
    """Nodes whose operands are there. Those that do not raise memory go first, then the first."""

    def __init__(self, scheduler: _Scheduler) -> None:
        self.scheduler = scheduler
        self.all: list[int] = []
        self.light: list[int] = []
        self.waiting: set[int] = set()

    def add(self, node: Node) -> None:
        rank = self.scheduler.rank[node]
        self.waiting.add(rank)
        heapq.heappush(self.all, rank)
        self.look_again([node])

    def look_again(self, nodes: Sequence[Node]) -> None:
        """Notice which of some nodes do not raise memory. Once that is so, it stays so."""
        for node in nodes:
            rank = self.scheduler.rank[node]
            if rank in self.waiting and self.scheduler.growth(node) <= 0:
                heapq.heappush(self.light, rank)

    def take(self) -> Node | None:
        for heap in (self.light, self.all):
            while heap:
                rank = heapq.heappop(heap)
                if rank in self.waiting:
                    self.waiting.remove(rank)
                    return self.scheduler.nodes[rank]
        return None
