"""Work through a batch in pieces, so that what flows from call to call stays in the cache.

    conv_last x → a;  max_pool a → b      becomes      for each piece of the batch:
                                                           conv_last x[piece] → a
                                                           max_pool a → b[piece]

Each thread takes pieces of its own, and has memory for `a` of one piece alone; so nothing waits for
the other threads, and the whole of `a` is never there. Calls may do so that treat the examples of
a batch by themselves (`Call.examples`). Which ones run together is known before the sizes are;
how many examples make a piece, or that the batch is better done in one, is decided for given sizes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Call
from dnnc.kernels.target import second_cache
from dnnc.program.aliases import bytes_of
from dnnc.program.locations import CallItem, Item, Piecewise
from dnnc.program.schedule import TYPICAL_SIZE

if TYPE_CHECKING:
    from dnnc.program.plan import Planner

__all__ = ["Cut", "cut", "group_calls", "is_spread"]

#: What a call reads and writes of a piece takes one part in so many of the second-level cache.
_PART = 3
#: Calls that read weights are kept apart where one touches so many times as many bytes of an
#: example as the other: a piece that suits the one is too small for the other.
_UNLIKE = 4
#: What a piece costs whatever its size, in the time of an example.
_FIXED = 0.25
#: How much more time than that of its examples a cut may take, by what pieces cost and by threads
#: that wait: more than that is not gained.
_WORTH = 1.15


# Before sizes are known.


def group_calls(planner: Planner, items: Sequence[Item]) -> list[Item]:
    """The items of a program, with calls that may run in pieces together.

    Calls in between that need nothing of what these make, such as packing weights, go before.
    """
    grouped: list[Item] = []
    run = _Run(planner)
    for item in items:
        if not run.takes(item):
            grouped += run.items()
            run = _Run(planner)
            if not run.takes(item):
                grouped.append(item)
    grouped += run.items()
    _number(grouped)
    return grouped


def is_spread(value: Value, symbol: str) -> bool:
    """Whether axis 0 of a value is that of so many examples."""
    return value.type.rank > 0 and value.shape[0].name == symbol


def _number(items: Sequence[Item]) -> None:
    """Number the calls of the outermost level as they come; loops keep their numbers."""
    calls: list[CallItem] = []
    for item in (*items, None):
        if isinstance(item, CallItem):
            calls.append(item)
        elif isinstance(item, Piecewise):
            calls += item.items
        else:
            positions = sorted(call.position for call in calls)
            for call, position in zip(calls, positions, strict=True):
                call.position = position
            calls = []


@dataclass(slots=True)
class _Run:
    """Calls that follow one another: members, which treat examples by themselves, and others that
    may go before these."""

    planner: Planner
    symbol: str | None = None
    calls: list[CallItem] = field(default_factory=list)
    members: list[CallItem] = field(default_factory=list)
    #: Roots that each call reads and writes, by its identity; and all that members do.
    roots: dict[int, tuple[set[Value], set[Value]]] = field(default_factory=dict)
    read: set[Value] = field(default_factory=set)
    written: set[Value] = field(default_factory=set)

    def takes(self, item: Item) -> bool:
        """Append a call, if it may belong here."""
        if not isinstance(item, CallItem):
            return False
        symbol = self.batch_symbol(item.call)
        if symbol is None and not self.members:
            return False
        buffers = item.call.buffers
        read, written = (
            {self.planner.root(b.value) for b in buffers if b.written is kind}
            for kind in (False, True)
        )
        if symbol is not None and self.symbol in (None, symbol):
            self.symbol = symbol
            self.members.append(item)
            self.roots[id(item)] = read, written
            self.read |= read
            self.written |= written
        elif symbol is not None or not self.lets_pass(read, written):
            return False
        self.calls.append(item)
        return True

    def batch_symbol(self, call: Call) -> str | None:
        """The number of examples of a call, if it finds them along axis 0 of whole values."""
        symbol = call.examples
        for buffer in call.buffers:
            value = buffer.value
            root, offset = self.planner.resolve(value)
            if symbol is None:
                return None
            if not is_spread(value, symbol):
                if buffer.written or _has((*value.shape, *root.shape), symbol):
                    return None
            elif offset != 0 or bytes_of(root) != bytes_of(value) or _has(value.shape[1:], symbol):
                return None
        return symbol

    def lets_pass(self, read: set[Value], written: set[Value]) -> bool:
        """Whether a call may go before the members: not where it makes the next value of an input,
        which is to come after all that read the old one."""
        if not (self.written.isdisjoint(read | written) and self.read.isdisjoint(written)):
            return False
        return self.planner.results.isdisjoint(written)

    def items(self) -> list[Item]:
        """The calls in their order, with groups of those that gain by pieces."""
        groups = {id(group.items[0]): group for group in self.groups()}
        found: list[Item] = []
        done: set[int] = set()
        for k, call in enumerate(self.calls):
            if id(call) in done:
                continue
            group = groups.get(id(call))
            if group is None:
                found.append(call)
                continue
            stop = self.calls.index(group.items[-1], k) + 1
            done.update(map(id, self.calls[k:stop]))
            own = set(map(id, group.items))
            found += [other for other in self.calls[k:stop] if id(other) not in own]
            found.append(group)
        return found

    def groups(self) -> Iterator[Piecewise]:
        for alike in self.alike():
            for part in self.connected(alike):
                inner = self.inner(part)
                if inner and self.pays(part, inner):
                    assert self.symbol is not None
                    group = Piecewise(self.symbol, part)
                    self.planner.groups |= dict.fromkeys(inner, group)
                    yield group

    def alike(self) -> Iterator[list[CallItem]]:
        """Parts in which calls that read weights touch about as many bytes of an example."""
        part: list[CallItem] = []
        sizes: list[int] = []
        for item in self.members:
            if self.weights(item):
                size = max(self.bytes_of_example(item), 1)
                if sizes and max(*sizes, size) >= _UNLIKE * min(*sizes, size):
                    yield part
                    part, sizes = [], []
                sizes.append(size)
            part.append(item)
        if part:
            yield part

    def connected(self, items: list[CallItem]) -> Iterator[list[CallItem]]:
        """Parts between which nothing flows that is needed only here."""
        inner = self.inner(items)
        touched = [set.union(*self.roots[id(item)]) & inner for item in items]
        last = {root: k for k, roots in enumerate(touched) for root in roots}
        start = reach = 0
        for k, roots in enumerate(touched):
            if k > reach:
                yield items[start:k]
                start = k
            reach = max(k, reach, *(last[root] for root in roots))
        if items:
            yield items[start:]

    def inner(self, items: Sequence[CallItem]) -> set[Value]:
        """Values that nothing but these calls writes and reads."""
        planner, own = self.planner, set(map(id, items))
        found = set().union(*(self.roots[id(item)][1] for item in items))
        return {
            root
            for root in found - planner.results - planner.locations.keys()
            if own.issuperset(map(id, planner.writers.get(root, ())))
            and own.issuperset(map(id, planner.reads.get(root, ())))
        }

    def pays(self, items: Sequence[CallItem], inner: set[Value]) -> bool:
        """Whether pieces that fit into the cache keep more there than they read of weights, which
        come anew for each piece and have to be packed before the group."""
        sizes = self.typical_sizes()
        most = _room() // max(1, *map(self.bytes_of_example, items))
        kept = sum(bytes_of(root).evaluate(sizes) for root in inner)
        weights = {weight for item in items for weight in self.weights(item)}
        return most * kept > sum(bytes_of(weight).evaluate(sizes) for weight in weights)

    def weights(self, item: CallItem) -> list[Value]:
        """What a call reads that all examples have in common."""
        assert self.symbol is not None
        return [b.value for b in item.call.buffers if not is_spread(b.value, self.symbol)]

    def bytes_of_example(self, item: CallItem) -> int:
        """Bytes of an example that a call reads and writes."""
        assert self.symbol is not None
        return _bytes_of_example(item.call, self.symbol, self.typical_sizes())

    def typical_sizes(self) -> Mapping[str, int]:
        """Sizes of any name, for one example."""
        assert self.symbol is not None
        return defaultdict(lambda: TYPICAL_SIZE, {self.symbol: 1})


def _bytes_of_example(call: Call, symbol: str, sizes: Mapping[str, int]) -> int:
    """Bytes that a call reads and writes of what has examples, for sizes of one."""
    values = {buffer.value for buffer in call.buffers}
    return sum(bytes_of(value).evaluate(sizes) for value in values if is_spread(value, symbol))


def _has(sizes: Sequence[Dim], symbol: str) -> bool:
    return any(symbol in size.symbols for size in sizes)


def _room() -> int:
    """Bytes of a piece that a call may read and write."""
    return second_cache() // _PART


# For given sizes.


@dataclass(frozen=True, slots=True)
class Cut:
    """How a batch is cut: `rounds` pieces of `each` examples, and `rest` examples, which the team
    does together."""

    each: int
    rounds: int
    rest: int

    def time(self, threads: int) -> float:
        """Time that the team takes, in that of an example."""
        turns = -(-self.rounds // threads)
        rest = self.rest / threads + _FIXED if self.rest else 0
        return turns * (self.each + _FIXED) + rest


def cut(group: Piecewise, sizes: Mapping[str, int], threads: int) -> Cut | None:
    """How a group's batch is cut; None where it is better done in one."""
    examples, one = sizes[group.symbol], {**sizes, group.symbol: 1}
    touched = (_bytes_of_example(item.call, group.symbol, one) for item in group.items)
    most = _room() // max(1, *touched)
    if most < 1 or examples <= most:
        return None
    # As large as the cache allows, or such that threads have the same number of pieces.
    turns = -(-examples // (threads * most))
    each = {most, *(max(1, examples // (threads * t)) for t in range(turns, turns + 4))}
    cuts = [
        Cut(size, rounds, examples - rounds * size)
        for size in each
        if size <= most
        for rounds in {examples // size, examples // size // threads * threads}
        if rounds
    ]
    best = min(cuts, key=lambda c: (c.time(threads), c.rest, -c.each), default=None)
    if best is None or best.time(threads) > _WORTH * examples / threads:
        return None
    return best
