"""A partition of a graph into units, which become kernels one by one, and when two may be one.

Units stand in an order in which producers come before consumers, also after they have been joined.
Two may be joined when no path leads from one to the other through a third, or the third would have
to run both before and after the result. The order is kept up to date as by Pearce and Kelly (A
dynamic topological sort algorithm, 2006), so a search looks only at units between the two.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.passes.fuse.reads import Place

__all__ = ["Partition", "Unit"]


@dataclass(eq=False, slots=True)
class Unit:
    """Nodes that run together.

    `space` is what the kernel iterates over, `reduced` the axes of its reductions, and `places`
    tells for each node where the axes of its frame lie in the space. A unit that is not `open`
    takes no further nodes by joining.
    """

    nodes: list[Node]
    order: int
    open: bool
    space: tuple[Dim, ...] = ()
    reduced: Place = ()
    anchor: Node | None = None
    places: dict[Node, Place] = field(default_factory=dict)
    reads: dict[Value, None] = field(default_factory=dict)
    before: set[Unit] = field(default_factory=set)
    after: set[Unit] = field(default_factory=set)


class Partition:
    """All units of a graph."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.of: dict[Node, Unit] = {}

    def __iter__(self) -> Iterator[Unit]:
        """Units, producers first."""
        return iter(sorted((u for u in self.units if u.nodes), key=lambda unit: unit.order))

    def add(self, unit: Unit) -> None:
        self.units.append(unit)
        for node in unit.nodes:
            self.of[node] = unit

    def connect(self, unit: Unit, producers: Iterable[Unit]) -> None:
        """Record that a unit reads what others write."""
        for producer in producers:
            if producer is not unit:
                unit.before.add(producer)
                producer.after.add(unit)

    def settle(self) -> None:
        """Number all units in an order in which producers come first."""
        waiting = {unit: len(unit.before) for unit in self.units}
        ready = [(unit.order, i) for i, unit in enumerate(self.units) if not unit.before]
        index = {unit: i for i, unit in enumerate(self.units)}
        heapq.heapify(ready)
        number = 0
        while ready:
            unit = self.units[heapq.heappop(ready)[1]]
            for user in unit.after:
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, (user.order, index[user]))
            unit.order = number
            number += 1
        if number < len(self.units):
            raise ValueError("units depend on each other in a circle")

    def join(self, a: Unit, b: Unit) -> bool:
        """Make one unit of two, in the place of `a`, unless a path through others forbids it."""
        first, last = (a, b) if a.order < b.order else (b, a)
        later = _reach(first, last, forward=True)
        if later is None:
            return False
        earlier = _reach(last, first, forward=False)
        assert earlier is not None
        self._reorder(first, last, earlier, later)
        a.nodes.extend(b.nodes)
        a.places.update(b.places)
        a.reads.update(b.reads)
        for node in b.nodes:
            self.of[node] = a
        for unit in b.before:
            unit.after.discard(b)
        for unit in b.after:
            unit.before.discard(b)
        self.connect(a, b.before)
        for unit in b.after:
            self.connect(unit, (a,))
        b.nodes, b.before, b.after = [], set(), set()
        return True

    def _reorder(self, first: Unit, last: Unit, earlier: set[Unit], later: set[Unit]) -> None:
        """Move what `last` needs before both, and what needs `first` after both."""
        ahead = sorted(earlier, key=lambda unit: unit.order)
        behind = sorted(later, key=lambda unit: unit.order)
        slots = sorted(unit.order for unit in (*ahead, *behind, first, last))
        middle = slots[len(ahead)]
        for unit, slot in zip(ahead, slots, strict=False):
            unit.order = slot
        for unit, slot in zip(behind, slots[len(ahead) + 2 :], strict=True):
            unit.order = slot
        first.order = last.order = middle


def _reach(start: Unit, goal: Unit, forward: bool) -> set[Unit] | None:
    """Units between the two in order that can be reached from `start`; None where `goal` is among
    them."""
    found: set[Unit] = set()
    stack = [unit for unit in (start.after if forward else start.before) if unit is not goal]
    while stack:
        unit = stack.pop()
        if unit is goal:
            return None
        beyond = unit.order > goal.order if forward else unit.order < goal.order
        if beyond or unit in found:
            continue
        found.add(unit)
        stack.extend(unit.after if forward else unit.before)
    return found
