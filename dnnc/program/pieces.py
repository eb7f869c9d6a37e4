"""Work through a batch in pieces, so that what flows from call to call stays in the cache.

    conv_last x → a;  max_pool a → b      becomes      for each piece of the batch:
                                                           conv_last x[piece] → a
                                                           max_pool a → b[piece]

Each thread takes pieces of its own, and has memory for `a` of one piece alone; so nothing waits for
the other threads, and the whole of `a` is never there. Calls may do so that treat the examples of
a batch by themselves (`Call.separable`). Which ones run together is known before the sizes are;
how many examples make a piece, or that the batch is small enough to do without, is decided for
given sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Buffer, Call
from dnnc.kernels.target import second_cache
from dnnc.program.aliases import bytes_of
from dnnc.program.locations import CallItem, Item, Piecewise

if TYPE_CHECKING:
    from dnnc.program.plan import Planner

__all__ = ["Cut", "cut", "group_calls", "is_spread"]

#: What an unknown size is taken for where memory is weighed before sizes are known.
_TYPICAL_SIZE = 64
#: Calls that read weights are kept apart where one touches so many times as many bytes of an
#: example as the other: a piece that suits the one is too small for the other.
_UNLIKE = 4
#: The share of the second-level cache that what a call touches may take.
_SHARE = 2
#: What each call costs whatever the size of the piece, as a part of an example's time.
_FIXED = 0.5


# Before sizes are known.


def group_calls(planner: Planner, items: Sequence[Item]) -> list[Item]:
    """The items of a program, with calls that may run in pieces together.

    Calls in between that have nothing to do with them, such as packing weights, go before.
    """
    grouped: list[Item] = []
    run = _Run(planner)
    for item in items:
        if isinstance(item, CallItem):
            symbol = _symbol(planner, item.call)
            if symbol is not None and run.symbol in (None, symbol):
                run.add(item, symbol)
                continue
            if run.items and symbol is None and run.lets_pass(item):
                grouped.append(item)
                continue
            grouped += run.groups()
            run = _Run(planner)
            if symbol is not None:
                run.add(item, symbol)
                continue
        else:
            grouped += run.groups()
            run = _Run(planner)
        grouped.append(item)
    grouped += run.groups()
    _number(grouped)
    return grouped


def is_spread(value: Value, symbol: str) -> bool:
    """Whether a value has an axis of so many examples."""
    return value.type.rank > 0 and value.shape[0].name == symbol


def _symbol(planner: Planner, call: Call) -> str | None:
    """The symbol of the number of examples that a call treats by themselves."""
    if not call.separable:
        return None
    buffers = [a for a in call.arguments if isinstance(a, Buffer)]
    names = {b.value.shape[0].name if b.value.type.rank else None for b in buffers if b.written}
    symbol = names.pop() if len(names) == 1 else None
    if symbol is None:
        return None
    for buffer in buffers:
        value = buffer.value
        root, offset = planner.resolve(value)
        if is_spread(value, symbol):
            if offset != 0 or bytes_of(root) != bytes_of(value) or _has(value.shape[1:], symbol):
                return None
        elif _has((*value.shape, *root.shape), symbol):
            return None
    return symbol


def _has(sizes: Sequence[Dim], symbol: str) -> bool:
    return any(symbol in size.symbols for size in sizes)


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
    """Separable calls that follow one another."""

    planner: Planner
    symbol: str | None = None
    items: list[CallItem] = field(default_factory=list)
    read: set[Value] = field(default_factory=set)
    written: set[Value] = field(default_factory=set)

    def add(self, item: CallItem, symbol: str) -> None:
        self.symbol = symbol
        self.items.append(item)
        read, written = self.roots(item)
        self.read |= read
        self.written |= written

    def roots(self, item: CallItem) -> tuple[set[Value], set[Value]]:
        buffers = [a for a in item.call.arguments if isinstance(a, Buffer)]
        root = self.planner.root
        return (
            {root(buffer.value) for buffer in buffers if not buffer.written},
            {root(buffer.value) for buffer in buffers if buffer.written},
        )

    def lets_pass(self, item: CallItem) -> bool:
        """Whether a call may go before the run: not where it makes the next value of an input,
        which is to come after all that read the old one."""
        read, written = self.roots(item)
        if not (self.written.isdisjoint(read | written) and self.read.isdisjoint(written)):
            return False
        return self.planner.results.isdisjoint(written)

    def groups(self) -> list[Item]:
        """The run as groups, and calls that gain nothing by pieces."""
        found: list[Item] = []
        for items in self.alike():
            for part in self.connected(items):
                inner = self.inner(part)
                if not inner:
                    found += part
                    continue
                assert self.symbol is not None
                group = Piecewise(self.symbol, part)
                self.planner.groups |= dict.fromkeys(inner, group)
                found.append(group)
        return found

    def alike(self) -> Iterator[list[CallItem]]:
        """Parts in which calls that read weights touch about as many bytes of an example."""
        part: list[CallItem] = []
        sizes: list[int] = []
        for item in self.items:
            size = self.touched(item)
            if self.reads_weights(item):
                if sizes and max(*sizes, size) >= _UNLIKE * min(*sizes, size):
                    yield part
                    part, sizes = [], []
                sizes.append(size)
            part.append(item)
        if part:
            yield part

    def reads_weights(self, item: CallItem) -> bool:
        """Whether a call reads what examples have in common, anew for each piece."""
        assert self.symbol is not None
        buffers = (a for a in item.call.arguments if isinstance(a, Buffer))
        return any(not is_spread(buffer.value, self.symbol) for buffer in buffers)

    def touched(self, item: CallItem) -> int:
        assert self.symbol is not None
        values = (a.value for a in item.call.arguments if isinstance(a, Buffer))
        sizes = {name: _TYPICAL_SIZE for value in values for d in value.shape for name in d.symbols}
        return max(_touched(item.call, self.symbol, sizes), 1)

    def connected(self, items: list[CallItem]) -> Iterator[list[CallItem]]:
        """Parts between which nothing flows that is needed only here."""
        inner = self.inner(items)
        touching = [set.union(*self.roots(item)) & inner for item in items]
        start = 0
        for k in range(1, len(items)):
            before = set().union(*touching[:k])
            if before.isdisjoint(set().union(*touching[k:])):
                yield items[start:k]
                start = k
        if items:
            yield items[start:]

    def inner(self, items: Sequence[CallItem]) -> set[Value]:
        """Values that nothing but these calls writes and reads."""
        planner, own = self.planner, set(map(id, items))
        found = set().union(*(self.roots(item)[1] for item in items))
        return {
            root
            for root in found - planner.results - planner.locations.keys()
            if own.issuperset(map(id, planner.writers.get(root, ())))
            and own.issuperset(map(id, planner.reads.get(root, ())))
        }


# For given sizes.


@dataclass(frozen=True, slots=True)
class Cut:
    """How a batch is cut: `rounds` pieces of `each` examples, and `rest` examples, which the team
    does together."""

    each: int
    rounds: int
    rest: int


def cut(group: Piecewise, sizes: Mapping[str, int], threads: int) -> Cut | None:
    """How a group's batch is cut; None where it is better done in one."""
    examples = sizes[group.symbol]
    each = max(_touched(item.call, group.symbol, sizes) for item in group.items)
    room = second_cache() // _SHARE
    most = room // max(each, 1)
    if most < 1 or examples * each <= room:
        return None
    cuts = [Cut(n, examples // n, examples % n) for n in range(1, min(most, examples) + 1)]
    return min(cuts, key=lambda c: (_time(c, threads), -c.each))


def _time(cut: Cut, threads: int) -> float:
    """Time that the team takes, in that of an example."""
    rounds = -(-cut.rounds // threads)
    rest = cut.rest / threads + _FIXED if cut.rest else 0
    return rounds * (cut.each + _FIXED) + rest


def _touched(call: Call, symbol: str, sizes: Mapping[str, int]) -> int:
    """Bytes of one example that a call reads and writes."""
    one = {**sizes, symbol: 1}
    values = {a.value for a in call.arguments if isinstance(a, Buffer)}
    return sum(bytes_of(value).evaluate(one) for value in values if is_spread(value, symbol))
