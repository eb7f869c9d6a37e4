"""Which values are dropped and computed again: those that free most memory for the least time.

A candidate is a value and a gap between two of its readers. It is computed again right before the
second one, from values that are there at that time; operands that are not are kept for longer where
they are small, else computed again as well. What counts is by how much a candidate lowers the
memory above the target, summed over the positions of the program, for each second that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ops.control import Scan
from dnnc.passes.recompute.footprint import Footprint
from dnnc.passes.recompute.lifetimes import Lifetimes, sources
from dnnc.passes.recompute.part import Part, part_of

__all__ = ["Choice", "choose"]

#: Most nodes that are run again for one value.
_NODES = 12
#: An operand that takes this part of the value's bytes at most is kept rather than computed again.
_SMALL = 1 / 8
#: Time that any node takes, so that what costs next to nothing is compared by what it frees.
_LEAST_SECONDS = 1e-6
#: Part of a round's best that a candidate must still free after others have been chosen.
_STALE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Run `parts` of nodes, operands first, again right before `reader`."""

    parts: tuple[Part, ...]
    reader: Node


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    value: Value
    start: int
    reader: Node
    parts: tuple[Part, ...]
    #: Operands that are read again, and where each is last read so far.
    held: tuple[tuple[Value, int], ...]
    seconds: float


def choose(graph: Graph, footprint: Footprint, target: int) -> list[Choice]:
    """What to compute again so that less than `target` bytes are live, in the program's order.

    The effect is an estimate, and may fall short of the target.
    """
    return _Chooser(graph, footprint, target).choices()


class _Chooser:
    def __init__(self, graph: Graph, footprint: Footprint, target: int) -> None:
        self.footprint, self.target = footprint, target
        self.lifetimes = Lifetimes(graph, footprint)
        self.live = footprint.live.astype(np.int64)
        #: Gaps in which values are not there any more.
        self.dropped: dict[Value, tuple[int, int]] = {}
        #: Positions at which values are read to compute others again.
        self.holds: dict[Value, list[int]] = {}
        self.parts: dict[object, Part] = {}

    def choices(self) -> list[Choice]:
        found = [(self.score(c), k, c) for k, c in enumerate(self.candidates())]
        found = [entry for entry in found if entry[0] > 0]
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        chosen: list[_Candidate] = []
        for score, _, old in found:
            if not self.excess(self.live):
                break
            if old.value in self.dropped or self.is_held(old):
                continue
            # Made anew, because others that were chosen may have taken its operands.
            candidate = self.candidate(old.value, old.start, old.reader)
            if candidate is not None and self.score(candidate) >= _STALE * score:
                self.take(candidate)
                chosen.append(candidate)
        chosen.sort(key=lambda candidate: self.lifetimes.first(candidate.reader))
        return [Choice(candidate.parts, candidate.reader) for candidate in chosen]

    # Candidates.

    def candidates(self) -> Iterator[_Candidate]:
        for node in self.lifetimes.order:
            if not self.is_repeatable(node):
                continue
            for value in node.results:
                if value in self.lifetimes.fixed or not self.footprint.bytes_of(value):
                    continue
                for start, reader in self.lifetimes.gaps(value):
                    stop = self.lifetimes.first(reader)
                    if self.excess(self.live[start + 1 : stop]):
                        candidate = self.candidate(value, start, reader)
                        if candidate is not None:
                            yield candidate

    def is_repeatable(self, node: Node) -> bool:
        """Whether running a node again gives the same: random numbers depend on seed and step."""
        return bool(node.operands) and node.op.pure and not isinstance(node.op, Scan)

    def candidate(self, value: Value, start: int, reader: Node) -> _Candidate | None:
        """The way to compute a value again before `reader`; None where there is none."""
        assert value.node is not None
        position = self.lifetimes.first(reader)
        most = _SMALL * self.footprint.bytes_of(value)
        wanted: dict[Node, set[Value]] = {value.node: {value}}
        parts: dict[Node, Part] = {}
        stack = [value.node]
        while stack:
            node = stack.pop()
            parts[node] = part = self.part(node, wanted[node], position)
            for operand in self.read(part):
                if operand.node is None:
                    if self.lifetimes.overwritten.get(operand, position) < position:
                        return None
                elif operand not in wanted.get(operand.node, ()) and not self.is_there(
                    operand, position, most
                ):
                    if not self.is_repeatable(operand.node) or len(wanted) >= _NODES:
                        return None
                    wanted.setdefault(operand.node, set()).add(operand)
                    stack.append(operand.node)
        return self.made_of(value, start, reader, list(parts.values()))

    def made_of(
        self, value: Value, start: int, reader: Node, parts: list[Part]
    ) -> _Candidate | None:
        parts.sort(key=lambda part: self.lifetimes.first(part.node))
        if self.lifetimes.last(parts[-1].node) >= self.lifetimes.first(reader):
            return None
        again = {result for part in parts for result in part.results}
        read = dict.fromkeys(operand for part in parts for operand in self.read(part))
        held = [(v, self.lifetimes.end(v)) for v in read if v.node is not None and v not in again]
        seconds = sum(self.seconds(part) for part in parts)
        return _Candidate(value, start, reader, tuple(parts), tuple(held), seconds)

    def part(self, node: Node, wanted: set[Value], position: int) -> Part:
        there = [r for r in node.results if r not in wanted and self.is_there(r, position)]
        key = node, frozenset(wanted), tuple(there)
        if key not in self.parts:
            self.parts[key] = part_of(node, wanted, there)
        return self.parts[key]

    def read(self, part: Part) -> dict[Value, None]:
        """The inputs and the results of nodes that a part reads."""
        if part.op is part.node.op:
            return dict.fromkeys(self.lifetimes.operands[part.node])
        return dict.fromkeys(s for v in part.operands for s in sources(v, self.footprint))

    def seconds(self, part: Part) -> float:
        seconds = self.footprint.seconds[part.node]
        if part.op is not part.node.op:
            whole = self.moved((*part.node.operands, *part.node.results))
            seconds *= min(1.0, self.moved((*part.operands, *part.results)) / max(1, whole))
        return seconds + _LEAST_SECONDS

    def moved(self, values: tuple[Value, ...]) -> int:
        return sum(map(self.footprint.bytes_of, values))

    def is_there(self, value: Value, position: int, most: float = -1) -> bool:
        """Whether a value can be read at `position`; it is kept until then where it is small."""
        gap = self.dropped.get(value)
        if gap is not None and gap[0] < position <= gap[1]:
            return False
        return self.lifetimes.end(value) >= position or self.footprint.bytes_of(value) <= most

    # Their effect.

    def excess(self, live: np.ndarray) -> int:
        """Bytes above the target, summed over positions."""
        return int(np.maximum(live - self.target, 0).sum())

    def score(self, candidate: _Candidate) -> float:
        """Bytes above the target that go away, for each second of work."""
        return (self.excess(self.live) - self.excess(self.after(candidate))) / candidate.seconds

    def after(self, candidate: _Candidate) -> np.ndarray:
        """What is live when a candidate has been taken."""
        live = self.live.copy()
        position = self.lifetimes.first(candidate.reader)
        live[candidate.start + 1 : position] -= self.footprint.bytes_of(candidate.value)
        for operand, end in candidate.held:
            live[end + 1 : position + 1] += self.footprint.bytes_of(operand)
        made = sum(self.moved(part.results) for part in candidate.parts)
        live[position] += made - self.footprint.bytes_of(candidate.value)
        return live

    def take(self, candidate: _Candidate) -> None:
        self.live = self.after(candidate)
        position = self.lifetimes.first(candidate.reader)
        self.dropped[candidate.value] = candidate.start, position
        for operand, end in candidate.held:
            if end < position:
                self.lifetimes.reads[operand].append(candidate.reader)
            self.holds.setdefault(operand, []).append(position)

    def is_held(self, candidate: _Candidate) -> bool:
        """Whether another choice reads the value where this candidate would drop it."""
        stop = self.lifetimes.first(candidate.reader)
        return any(candidate.start < at < stop for at in self.holds.get(candidate.value, ()))
