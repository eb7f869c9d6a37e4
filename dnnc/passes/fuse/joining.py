"""Joining units along the values that flow between them.

Two units can be one kernel when their spaces are the same, or when one works on what is left of
the other's space after its reductions: the mean and the variance of a row, next to the row.
Reductions of one kernel all run along the same axes. A kernel that reduces everything runs in one
piece, so it writes no tensor of full size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from dnnc.ir.graph import Node, Value
from dnnc.ops.creation import RandomUniform
from dnnc.passes.fuse.reads import REDUCTIONS, Place, Reads, strip_reshapes
from dnnc.passes.fuse.units import Partition, Unit

__all__ = ["Joiner"]

_MOST_NODES = 60
_MOST_VALUES = 16


class Joiner:
    """Joins units of one partition. `readers` are the nodes that read each stored value; `kept` are
    the stored values that something besides units of this kind needs."""

    def __init__(
        self,
        partition: Partition,
        reads: Reads,
        readers: dict[Value, list[Node]],
        kept: set[Value],
    ) -> None:
        self.partition, self.reads, self.readers, self.kept = partition, reads, readers, kept
        self._known_reads: dict[Node, list[tuple[Place, Node | None, bool]]] = {}

    def join_all(self, nodes: Iterable[Node]) -> None:
        """Join whatever can be.

        First along values that lead on to tensors of full size, then reductions of one tensor, and
        last what only goes on with small results, which would else use up the room of the others.
        """
        ordered = [node for node in nodes if self.partition.of[node].open]
        tails = self._tails(ordered)
        self._join_along([node for node in ordered if node not in tails])
        self._join_siblings(ordered)
        self._join_along(ordered)
        for unit in list(self.partition):
            if unit.anchor is not None:
                self._join_sources(unit)
        for unit in list(self.partition):
            if not unit.open:
                self._join_feeders(unit)

    def _tails(self, ordered: list[Node]) -> set[Node]:
        """Nodes that follow a reduction and do not lead back to a larger tensor."""
        after: set[Node] = set()
        for node in ordered:
            if isinstance(node.op, REDUCTIONS):
                continue
            for value, place in self.reads.of_node(node):
                source = value.node
                if source is None or len(place) < self.reads.rank(node):
                    continue
                if isinstance(source.op, REDUCTIONS) or source in after:
                    after.add(node)
        leads: set[Node] = set()
        for node in reversed(ordered):
            size = len(self.reads.axes(node.results[0]))
            for reader in self.readers.get(node.results[0], ()):
                fusable = reader in self.partition.of[reader].places
                if reader in leads or (fusable and self.reads.rank(reader) > size):
                    leads.add(node)
        return after - leads

    def _join_along(self, ordered: list[Node]) -> None:
        """Join along values, producers first, until nothing more can be joined."""
        changed = True
        while changed:
            changed = False
            for node in ordered:
                for value, _ in self.reads.of_node(node):
                    producer = self.partition.of.get(value.node) if value.node else None
                    if producer is not None and producer is not self.partition.of[node]:
                        changed |= self.join(producer, self.partition.of[node])

    def join(self, a: Unit, b: Unit) -> bool:
        """Join `b`, which reads values of `a`, to it; whether that was possible."""
        if not (a.open and b.open):
            return False
        flow = self._flow(a, b)
        if flow is None:
            return False
        common = _common_space(a, b, flow)
        return common is not None and self._join_in(a, b, *common)

    def _join_siblings(self, ordered: list[Node]) -> None:
        """Join kernels with reductions along the same axes that read one tensor of full size."""
        seen: dict[tuple[Value, Place], Node] = {}
        for node in ordered:
            unit = self.partition.of[node]
            if not unit.reduced:
                continue
            for value, place in self.reads.of_node(node):
                lies = tuple(unit.places[node][axis] for axis in place)
                if len(lies) < len(unit.space):
                    continue
                other = self.partition.of[seen.setdefault((value, lies), node)]
                unit = self.partition.of[node]
                if other is unit or (other.space, other.reduced) != (unit.space, unit.reduced):
                    continue
                identity = tuple(range(len(unit.space)))
                first, second = (other, unit) if other.order < unit.order else (unit, other)
                if self._flow(first, second) is not None and self._flow(second, first) == {}:
                    self._join_in(first, second, identity, identity)

    def _join_sources(self, user: Unit) -> None:
        """Compute within an epilogue what nothing but the epilogue needs."""
        full = tuple(axis for axis, size in enumerate(user.space) if size != 1)
        for source in sorted(user.before, key=lambda unit: -unit.order):
            if not source.open or source.reduced:
                continue
            if any(isinstance(node.op, RandomUniform) for node in source.nodes):
                continue
            if source.space != tuple(user.space[axis] for axis in full):
                continue
            own = {*source.nodes, *user.places}
            if any(self._is_needed_outside(node.results[0], own) for node in source.nodes):
                continue
            new = [value for value in source.reads if value not in user.reads]
            identity = tuple(range(len(user.space)))
            flow = self._flow(source, user)
            if len(new) > 1 or flow != dict(enumerate(full)):
                continue
            self._join_in(user, source, identity, full)

    def _join_feeders(self, user: Unit) -> None:
        """Join units over one space that read a tensor in common and all feed one other unit."""
        feeders = sorted((u for u in user.before if u.open), key=lambda unit: unit.order)
        for i, b in enumerate(feeders):
            for a in feeders[:i]:
                if not (a.nodes and b.nodes) or a.space != b.space or a.reduced != b.reduced:
                    continue
                if len(a.space) and not a.reads.keys().isdisjoint(b.reads):
                    identity = tuple(range(len(a.space)))
                    if self._flow(a, b) == {} and self._flow(b, a) == {}:
                        self._join_in(a, b, identity, identity)

    def _flow(self, a: Unit, b: Unit) -> dict[int, int] | None:
        """Which axis of `b`'s space each axis of `a`'s is, as far as values tell; None: no way."""
        axes: dict[int, int] = {}
        unit_of = self.partition.of
        for node in self._readers_in(a, b):
            for place, maker, direct in self._reads_of(node):
                if maker is None or unit_of.get(maker) is not a:
                    continue
                if not direct or maker not in a.places:
                    return None  # Through a reshape: no axis-by-axis relation.
                source, within = _result_place(maker, a), b.places[node]
                for x, axis in zip(source, place, strict=True):
                    y = within[axis]
                    if axes.setdefault(x, y) != y:
                        return None
        return axes if _is_increasing(axes) else None

    def _readers_in(self, a: Unit, b: Unit) -> Iterable[Node]:
        """Nodes of `b`'s space, among them all that read what `a` makes."""
        if len(b.places) <= len(a.nodes):
            return b.places
        found = (reader for node in a.nodes for reader in self.readers.get(node.results[0], ()))
        return {reader: None for reader in found if reader in b.places}

    def _reads_of(self, node: Node) -> list[tuple[Place, Node | None, bool]]:
        """What a node reads: places, the nodes that store it, and whether that is no reshape of
        what they make."""
        found = self._known_reads.get(node)
        if found is None:
            found = self._known_reads[node] = []
            for value, place in self.reads.of_node(node):
                source = strip_reshapes(value)
                found.append((place, source.node, source is value))
        return found

    def _join_in(self, a: Unit, b: Unit, from_a: Place, from_b: Place) -> bool:
        """Join in a space of which `from_a[i]` is axis `i` of `a`'s, and `from_b[i]` of `b`'s."""
        space = a.space if len(a.space) >= len(b.space) else b.space
        reduced = _reduced(a, b, from_a, from_b)
        if reduced is None or len(a.nodes) + len(b.nodes) > _MOST_NODES:
            return False
        if not self._is_small(a, b, reduced == tuple(range(len(space)))):
            return False
        own = list(a.places)
        if not self.partition.join(a, b):
            return False
        for by, nodes in ((from_a, own), (from_b, list(b.places))):
            if by != tuple(range(len(by))):
                for node in nodes:
                    a.places[node] = tuple(by[axis] for axis in a.places[node])
        a.space, a.reduced = space, reduced
        return True

    def _is_small(self, a: Unit, b: Unit, in_one_piece: bool) -> bool:
        nodes = (*a.nodes, *b.nodes)
        if not in_one_piece and len(nodes) + len(a.reads) + len(b.reads) <= _MOST_VALUES:
            return True
        inner = set(nodes)
        inputs = {v for v in (*a.reads, *b.reads) if v.node not in inner}
        written = [n.results[0] for n in nodes if self._is_needed_outside(n.results[0], inner)]
        if len(inputs) + len(written) > _MOST_VALUES:
            return False
        return not in_one_piece or all(value.type.elements == 1 for value in written)

    def _is_needed_outside(self, value: Value, inner: set[Node]) -> bool:
        if value in self.kept:
            return True
        return not inner.issuperset(self.readers.get(value, ()))


def _result_place(node: Node, unit: Unit) -> Place:
    place = unit.places[node]
    if not isinstance(node.op, REDUCTIONS):
        return place
    axes = (axis for axis, size in enumerate(node.operands[0].shape) if size != 1)
    return tuple(p for p, axis in zip(place, axes, strict=True) if axis not in node.op.axes)


def _is_increasing(axes: dict[int, int]) -> bool:
    targets = [axes[axis] for axis in sorted(axes)]
    return all(x < y for x, y in itertools.pairwise(targets))


def _common_space(a: Unit, b: Unit, flow: dict[int, int]) -> tuple[Place, Place] | None:
    """Axes of the common space for those of `a`'s and of `b`'s space, or None."""
    if len(a.space) == len(b.space):
        same = a.space == b.space and all(x == y for x, y in flow.items())
        identity = tuple(range(len(a.space)))
        return (identity, identity) if same else None
    small, large = (a, b) if len(a.space) < len(b.space) else (b, a)
    relation = flow if small is a else {y: x for x, y in flow.items()}
    kept = [axis for axis in range(len(large.space)) if axis not in large.reduced]
    if small.reduced or not large.reduced or len(relation) != len(small.space):
        return None
    embedding = tuple(relation[axis] for axis in range(len(small.space)))
    if list(embedding) != kept or any(
        small.space[i] != large.space[axis] for i, axis in enumerate(embedding)
    ):
        return None
    identity = tuple(range(len(large.space)))
    return (embedding, identity) if small is a else (identity, embedding)


def _reduced(a: Unit, b: Unit, from_a: Place, from_b: Place) -> Place | None:
    """The axes that the joined unit reduces; None where the two differ."""
    first = tuple(from_a[axis] for axis in a.reduced)
    second = tuple(from_b[axis] for axis in b.reduced)
    if first and second and first != second:
        return None
    return first or second
