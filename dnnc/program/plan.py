"""Where every value of a program lives: the part of the memory plan that does not depend on sizes.

The nodes of a graph become a list of items: calls of kernels, and loops (scans) over lists of
items. Every value that a call names gets a location. Inputs and outputs lie in the caller's arrays;
a pure alias (reshape) lies where its operand does; everything else lies in storages of one arena,
which share memory where their lifetimes allow (`dnnc.program.memory`). Updated inputs are written
in place where nothing reads the old value afterwards, else through a temporary and a copy at the
end of the program.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Node, Value, uncollected
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Scratch
from dnnc.kernels.driver import copy_kernel
from dnnc.ops.control import After, Scan
from dnnc.ops.creation import Constant, Size
from dnnc.program.aliases import Alias, alias_of, bytes_of
from dnnc.program.locations import (
    Both,
    CallItem,
    Item,
    Location,
    LoopItem,
    Moving,
    Piecewise,
    Place,
    Storage,
    leaves,
    shifted,
)
from dnnc.program.loops import plan_scan
from dnnc.program.pieces import group_calls
from dnnc.program.schedule import Lowered, scheduled

__all__ = ["Plan", "Planner", "make_plan"]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The program of a graph: items in order, all storages, and where each value lies."""

    graph: Graph
    items: list[Item]
    storages: list[Storage]
    locations: dict[Value, Location]
    aliases: dict[Value, Alias]

    def locate(self, value: Value) -> Location:
        """Where a value of the graph lies; KeyError where no call touches it."""
        root, offset = resolve(value, self.aliases)
        return shifted(self.locations[root], offset)


def make_plan(graph: Graph, known: Lowered | None = None, pieces: bool = True) -> Plan:
    """Lower and order the nodes of a graph and decide where its values live.

    `known` keeps the calls of nodes between plans of graphs that share them. Without `pieces` no
    calls are grouped to run on pieces of a batch, nor are they in graphs with `after`, where values
    are computed again at the right time.
    """
    with uncollected():
        return Planner(graph, known).plan(pieces)


def resolve(value: Value, aliases: dict[Value, Alias]) -> tuple[Value, Dim]:
    """The value whose memory this one lies in, and the offset in bytes."""
    offset = dim(0)
    while True:
        alias = aliases.get(value) or alias_of(value)
        if alias is None:
            return value, offset
        value, offset = alias.value, offset + alias.offset


def _group_of(location: Location) -> Piecewise | None:
    return location.storage.group if isinstance(location, Place) else None


def _used_values(graph: Graph) -> set[Value]:
    """Values that a node or an output reads, in the graph and in the bodies of its loops."""
    used = {output.value for output in graph.outputs}
    for node in graph.nodes:
        used.update(node.operands)
        if isinstance(node.op, Scan):
            used |= _used_values(node.op.body)
    return used


class Planner:
    """Two walks: the first orders calls and places what has a prescribed place, the second the
    rest.
    """

    def __init__(self, graph: Graph, known: Lowered | None = None) -> None:
        self.graph, self.known = graph, known
        self.position = 0
        self.storages: list[Storage] = []
        self.locations: dict[Value, Location] = {}
        self.aliases: dict[Value, Alias] = {}
        self.used = _used_values(graph)
        #: What the graph returns or updates.
        self.results: set[Value] = set()
        #: What each call may store in place of what it reads, in order.
        self.pairs: dict[CallItem, dict[Value, dict[Value, None]]] = {}
        #: The loop in whose rounds a value is made.
        self.loops: dict[Value, LoopItem | None] = {}
        self.reads: dict[Value, list[CallItem]] = {}
        self.writers: dict[Value, list[CallItem]] = {}
        #: The calls that alone need a value, a piece of the batch at a time.
        self.groups: dict[Value, Piecewise] = {}
        self.scratch: dict[int, Place] = {}
        #: The value that was last written to a storage of the arena.
        self.holders: dict[int, Value] = {}

    def plan(self, pieces: bool) -> Plan:
        for item in self.graph.inputs:
            storage = self.storage("input", bytes_of(item.value), item.name)
            self.locations[item.value] = Place(storage)
        nodes, lowered = scheduled(self.graph, self.known)
        items: list[Item] = []
        self.place_outputs()
        self.walk(nodes, items, None, lowered)
        self.results = {self.root(output.value) for output in self.graph.outputs}
        if pieces and not any(isinstance(node.op, After) for node in nodes):
            items = group_calls(self, items)
        self.copy_outputs(items)
        self.place_updates(items)
        for part in items:
            group = part if isinstance(part, Piecewise) else None
            for call in leaves([part]):
                self.place(call, group)
        self.measure(items)
        return Plan(self.graph, items, self.storages, self.locations, self.aliases)

    # Values and their roots.

    def resolve(self, value: Value) -> tuple[Value, Dim]:
        return resolve(value, self.aliases)

    def root(self, value: Value) -> Value:
        return self.resolve(value)[0]

    def storage(self, kind: str, size: Dim, name: str = "") -> Storage:
        storage = Storage(kind, size, name)
        self.storages.append(storage)
        return storage

    def settled(self, value: Value) -> Location:
        """The location of a value, which gets a storage where it has none yet."""
        root, offset = self.resolve(value)
        if root not in self.locations:
            storage = self.storage("arena", bytes_of(root))
            storage.group = self.groups.get(root)
            self.locations[root] = Place(storage)
        return shifted(self.locations[root], offset)

    # First walk: items in order.

    def walk(
        self, nodes: Sequence[Node], items: list[Item], loop: LoopItem | None, lowered: Lowered
    ) -> None:
        for node in nodes:
            for result in node.results:
                self.loops[result] = loop
            if isinstance(node.op, Scan):
                plan_scan(self, node, items, loop)
            elif isinstance(node.op, Constant | Size):
                self.static(node)
            elif alias_of(node.results[0]) is None:
                for call in lowered[node]:
                    self.add(items, call, node, loop)

    def add(
        self, items: list[Item], call: Call, node: Node | None, loop: LoopItem | None
    ) -> CallItem:
        item = CallItem(call, node, self.position, loop)
        self.position += 1
        items.append(item)
        for buffer in call.buffers:
            root = self.root(buffer.value)
            table = self.writers if buffer.written else self.reads
            table.setdefault(root, []).append(item)
            if buffer.written:
                # Also of values between the calls of one node, which are no results of it.
                self.loops.setdefault(root, loop)
            elif root.node is not None and isinstance(root.node.op, Constant | Size):
                self.static(root.node)
        return item

    def copy(
        self, items: list[Item], target: Value, source: Value, loop: LoopItem | None
    ) -> CallItem:
        arguments: tuple[Argument, ...] = (
            Buffer(target, True),
            Buffer(source),
            Integer(bytes_of(source)),
        )
        return self.add(items, Call(copy_kernel(), arguments), source.node, loop)

    def static(self, node: Node) -> None:
        """Constants and sizes read as data are prepared once for given sizes."""
        value, op = node.results[0], node.op
        if value in self.locations:
            return
        if isinstance(op, Size):
            storage = self.storage("size", bytes_of(value))
            storage.size = op
        else:
            storage = self.storage("constant", bytes_of(value))
            storage.array = np.ascontiguousarray(op.evaluate()[0])
        self.locations[value] = Place(storage)

    # Outputs and updates.

    def place_outputs(self) -> None:
        """Results that are returned are written straight into the caller's arrays."""
        for output in self.graph.outputs:
            root, offset = self.resolve(output.value)
            if output.updates is not None or root.node is None or root in self.locations:
                continue
            if isinstance(root.node.op, Constant | Size) or offset != 0:
                continue
            if bytes_of(root) == bytes_of(output.value):
                self.locations[root] = Place(self.storage("output", bytes_of(root), output.name))

    def copy_outputs(self, items: list[Item]) -> None:
        """Outputs that share memory with an input, a constant or another output are copied."""
        written = {storage.name for storage in self.storages if storage.kind == "output"}
        for output in self.graph.outputs:
            if output.updates is None and output.name not in written:
                target = Value(output.value.type)
                storage = self.storage("output", bytes_of(target), output.name)
                self.locations[target] = Place(storage)
                self.copy(items, target, output.value, None)

    def place_updates(self, items: list[Item]) -> None:
        updates = [
            (self.graph.input(output.updates).value, output.value)
            for output in self.graph.outputs
            if output.updates is not None
        ]
        late: list[tuple[Value, Value]] = []
        for old, value in updates:
            if self.root(value).node is None and self.root(value) is not old:
                # The old value of another input, which may be overwritten as well.
                aside = Value(old.type)
                self.copy(items, aside, value, None)
                late.append((old, aside))
        for old, value in updates:
            root, offset = self.resolve(value)
            if root.node is None:
                continue
            if self.may_overwrite(root, offset, old):
                self.locations[root] = self.locations[old]
            else:
                late.append((old, value))
        for old, source in late:
            self.copy(items, old, source, None)

    def may_overwrite(self, root: Value, offset: Dim, old: Value) -> bool:
        """Whether a new value can be written over the old one where it is made."""
        if root in self.locations or offset != 0 or bytes_of(root) != bytes_of(old):
            return False
        writers = self.writers.get(root, [])
        if len(writers) != 1 or writers[0].loop is not None:
            return False
        writer = writers[0]
        return all(
            reader.position < writer.position
            or (
                reader is writer
                and old in self.replaceable(writer, root)
                and self.reads_once(reader, old)
            )
            for reader in self.reads.get(old, [])
        )

    def replaceable(self, item: CallItem, root: Value) -> Collection[Value]:
        """What a call reads in whose memory it may store a result."""
        found = self.pairs.get(item)
        if found is None:
            found = self.pairs[item] = {}
            for result, operand in item.call.in_place:
                old, offset = self.resolve(operand)
                if offset == 0:
                    found.setdefault(self.root(result), {})[old] = None
        return found.get(root, {})

    def reads_once(self, item: CallItem, root: Value) -> bool:
        """Whether one argument alone reads a memory: a second one may read other elements of it."""
        return sum(reader is item for reader in self.reads.get(root, [])) == 1

    # Second walk: everything else.

    def place(self, item: CallItem, group: Piecewise | None) -> None:
        for k, argument in enumerate(item.call.arguments):
            if isinstance(argument, Scratch):
                item.locations[k] = self.place_scratch(argument, group)
            elif isinstance(argument, Buffer):
                root = self.root(argument.value)
                reused = None if root in self.locations else self.reusable(item, root)
                if reused is not None:
                    self.locations[root] = reused
                    self.holders[id(reused.storage)] = root
                item.locations[k] = self.settled(argument.value)

    def place_scratch(self, argument: Scratch, group: Piecewise | None) -> Place:
        if id(argument) not in self.scratch:
            storage = self.storage("arena", argument.bytes)
            storage.per_thread, storage.group = argument.per_thread, group
            self.scratch[id(argument)] = Place(storage)
        place = self.scratch[id(argument)]
        assert place.storage.group is group, "calls of one node are in one group, or in none"
        return place

    def reusable(self, item: CallItem, root: Value) -> Place | None:
        """The memory of an operand that dies here and that the call may overwrite."""
        for old in self.replaceable(item, root):
            if old not in self.loops:
                continue
            place = self.locations.get(old)
            if not isinstance(place, Place) or place.storage.kind != "arena":
                continue
            if self.loops[old] is not item.loop or place.storage.bytes != bytes_of(root):
                continue
            if place.storage.group is not self.groups.get(root):
                continue
            if self.holders.get(id(place.storage), old) is not old:
                continue
            last = max(reader.position for reader in self.reads[old])
            if last == item.position and self.reads_once(item, old):
                return place
        return None

    # Lifetimes.

    def measure(self, items: Sequence[Item], group: Piecewise | None = None) -> None:
        for item in items:
            if isinstance(item, CallItem):
                for location in item.locations.values():
                    first = last = item.position
                    if group is not None and _group_of(location) is not group:
                        # Another piece begins where this one ends.
                        first, last = group.first, group.last
                    self.touch(location, first, last)
                continue
            if isinstance(item, Piecewise):
                self.measure(item.items, item)
                continue
            self.measure(item.items)
            for value in (*item.node.operands, *item.node.results):
                self.touch(self.settled(value), item.start, item.stop)

    def touch(self, location: Location, first: int, last: int) -> None:
        """Extend lifetimes; what moves with a loop lives for all of it."""
        if isinstance(location, Moving):
            loop = location.loop
            for part in (location.first, location.even, location.odd):
                self.touch(part, min(first, loop.start), max(last, loop.stop))
        elif isinstance(location, Both):
            for part in (location.none, location.odd, location.even):
                self.touch(part, first, last)
        else:
            location.storage.touch(first, last)
