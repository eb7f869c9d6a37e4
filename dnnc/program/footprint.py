"""Memory and time of the program that a graph will be, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np

from dnnc.diagnostics import Span
from dnnc.ir.graph import Graph, Node, Value
from dnnc.kernels.load import load_lowerings
from dnnc.passes.recompute import Budget, Footprint
from dnnc.program.aliases import bytes_of
from dnnc.program.arrangement import arrangement, cuts_of
from dnnc.program.binding import cost
from dnnc.program.locations import Item, LoopItem, Piecewise, leaves
from dnnc.program.memory import round_up
from dnnc.program.plan import make_plan
from dnnc.program.schedule import Lowered
from dnnc.program.team import default_threads

__all__ = ["memory_budget"]


def memory_budget(
    size: int, graph: Graph, batch: int, threads: int | None = None, span: Span | None = None
) -> Budget:
    """A budget of `size` bytes for the program of a graph with so many examples in a batch."""
    sizes, count = graph.sizes(batch, batch), threads or default_threads()
    known: Lowered = {}

    def arena(graph: Graph) -> int:
        load_lowerings()
        plan = make_plan(graph, known)
        return arrangement(plan, sizes, count, cuts_of(plan, sizes, count)).layout.peak

    measure = partial(_footprint, sizes=sizes, threads=count, known=known)
    return Budget(size, batch, arena, measure, span)


def _footprint(graph: Graph, sizes: Mapping[str, int], threads: int, known: Lowered) -> Footprint:
    load_lowerings()
    plan = make_plan(graph, known, pieces=False)
    arranged = arrangement(plan, sizes, threads, {})
    spans: dict[Node, tuple[int, int]] = {}
    seconds: dict[Node, float] = {}
    _walk(plan.items, sizes, spans, seconds)
    used = [interval for interval in arranged.intervals if interval.bytes and interval.first >= 0]
    ends = [interval.last for interval in used] + [last for _, last in spans.values()]
    change = np.zeros(2 + max(ends, default=0), np.int64)
    for interval in used:
        change[interval.first] += round_up(interval.bytes)
        change[interval.last + 1] -= round_up(interval.bytes)
    live = np.cumsum(change)

    @cache
    def size_of(value: Value) -> int:
        return round_up(max(0, bytes_of(value).evaluate(sizes)))

    return Footprint(spans, live, seconds, size_of, lambda: arranged.layout.peak)


def _walk(
    items: Sequence[Item],
    sizes: Mapping[str, int],
    spans: dict[Node, tuple[int, int]],
    seconds: dict[Node, float],
) -> None:
    """Positions and time of each node of the outermost level.

    Copies that end a program belong to nodes that have been met before: they count for none.
    """
    before: Node | None = None
    for item in items:
        assert not isinstance(item, Piecewise)
        node = item.node
        if node is None or (node in spans and node is not before):
            continue
        if isinstance(item, LoopItem):
            first, last = item.start, item.stop
            rounds = max(1, item.rounds.evaluate(sizes))
        else:
            first = last = item.position
            rounds = 1
        calls = leaves([item])
        spans[node] = spans.get(node, (first, last))[0], last
        spent = rounds * sum(cost(call.call, sizes)[2] for call in calls)
        seconds[node] = seconds.get(node, 0.0) + spent
        before = node
