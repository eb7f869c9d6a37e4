"""A plan for given sizes: instructions for the driver, and the slots that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Scratch
from dnnc.kernels.driver import (
    ALONE,
    BARRIER,
    CALL,
    CALL_WORDS,
    END,
    END_WORDS,
    LOOP,
    LOOP_WORDS,
    SERIAL,
    SHARE,
)
from dnnc.program.aliases import bytes_of
from dnnc.program.arrangement import Arrangement, arrangement, cuts_of
from dnnc.program.barriers import Barriers, Span
from dnnc.program.locations import CallItem, Item, Location, LoopItem, Piecewise
from dnnc.program.pieces import Cut, is_spread
from dnnc.program.plan import Plan
from dnnc.program.slots import FIXED, Patch, Slots, settled

__all__ = ["Binding", "Step", "bind", "cost"]

#: A call that takes less time than a barrier or two is done by one thread. Seconds.
_SERIAL_SECONDS = 1.5e-6
_BYTES_PER_SECOND, _FLOPS_PER_SECOND = 2e10, 5e10


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One item of the outermost level, or a call of a group for all pieces of the batch by itself:
    instructions `start` to `stop` of the table."""

    item: CallItem | LoopItem
    start: int
    stop: int
    flops: int
    bytes: int


@dataclass(slots=True, eq=False)
class Binding:
    """A program for given sizes.

    The program is the first `stop` words of the table; what follows is for single steps of it. Slot
    k begins as `roots[which[k]] + offsets[k] + tid * strides[k]`. `places` tell the root of a
    storage and where it begins, by its identity. `seconds` is a rough estimate of the time on one
    thread.
    """

    sizes: dict[str, int]
    table: np.ndarray
    stop: int
    patches: np.ndarray
    which: np.ndarray
    offsets: np.ndarray
    strides: np.ndarray
    steps: list[Step]
    arena_bytes: int
    arrangement: Arrangement
    places: dict[int, tuple[int, int]]
    keep: list[np.ndarray]
    seconds: float

    def address(self, location: Location, roots: Sequence[int]) -> int:
        """The address of a value of the outermost level."""
        place = settled(location, self.sizes)
        root, offset = self.places[id(place.storage)]
        return roots[root] + offset + place.offset.evaluate(self.sizes)


def bind(
    plan: Plan,
    addresses: Mapping[str, int],
    sizes: dict[str, int],
    threads: int,
    whole: bool = False,
) -> Binding:
    """The program of a plan for given sizes; `addresses` of kernels by key.

    With `whole` every call does the whole batch, so that values are there when a step is done.
    """
    return _Binder(plan, addresses, sizes, threads, whole).bind()


def cost(call: Call, sizes: Mapping[str, int]) -> tuple[int, int, float]:
    """Flops of a call, bytes that it reads and writes, and a rough estimate of its seconds on one
    thread."""
    flops = max(0, call.flops.evaluate(sizes))
    types = [buffer.value.type for buffer in call.buffers]
    moved = sum(max(0, type.elements.evaluate(sizes)) * type.dtype.size for type in types)
    return flops, moved, moved / _BYTES_PER_SECOND + flops / _FLOPS_PER_SECOND


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A call of a group that works in pieces: its instruction for a piece, the patches of the
    group's loop that are for it, and its instruction for the rest of the batch."""

    item: CallItem
    group: Piecewise
    piece: list[int]
    patches: range
    rest: list[int]


class _Binder:
    def __init__(
        self,
        plan: Plan,
        addresses: Mapping[str, int],
        sizes: dict[str, int],
        threads: int,
        whole: bool,
    ) -> None:
        self.plan, self.addresses, self.sizes, self.threads = plan, addresses, sizes, threads
        self.cuts = {} if whole else cuts_of(plan, sizes, threads)
        self.arrangement = arrangement(plan, sizes, threads, self.cuts)
        self.slots = Slots(plan.storages, sizes, self.arrangement, threads)
        self.table: list[int] = []
        #: Where the instruction of each loop stands.
        self.loops: dict[int, int] = {}
        self.seconds = 0.0
        self.rounds = 1
        self.barriers = Barriers()

    def bind(self) -> Binding:
        emitted: list[Step | _Part] = []
        for item in self.plan.items:
            if not isinstance(item, Piecewise):
                emitted.append(self.emit_step(item))
            elif id(item) in self.cuts:
                emitted += self.emit_group(item, self.cuts[id(item)])
            else:
                emitted += [self.emit_step(call) for call in item.items]
        stop = len(self.table)
        patches = self.flat_patches()
        steps = [self.part_step(s) if isinstance(s, _Part) else s for s in emitted]
        which, offsets, strides = self.slots.arrays()
        return Binding(
            self.sizes,
            np.array(self.table or [0], np.int64),
            stop,
            patches,
            which,
            offsets,
            strides,
            steps,
            self.arrangement.layout.peak,
            self.arrangement,
            self.slots.places,
            self.slots.keep,
            self.seconds,
        )

    def flat_patches(self) -> np.ndarray:
        flat: list[Patch] = []
        for loop, patches in self.slots.patches.items():
            start = self.loops[loop]
            self.table[start + 4 : start + 6] = [len(flat), len(patches)]
            flat += patches
        return np.array(flat or [(0, 0, 0, 0, 0)], np.int64)

    # Instructions.

    def emit_group(self, group: Piecewise, how: Cut) -> list[_Part]:
        """Append a loop over pieces of the batch that threads share, and calls for the rest."""
        start = self.open_loop(SHARE, group, how.rounds)
        patches, done = self.slots.patches[id(group)], how.rounds * how.each
        pieces, ranges = [], []
        for item in group.items:
            before = len(patches)
            pieces.append(self.emit_piece(item, group, how.each))
            ranges.append(range(before, len(patches)))
            self.seconds += cost(item.call, self.sizes)[2]
        self.close_loop(start)
        rests = [self.emit_rest(i, group, how.rest, done) if how.rest else [] for i in group.items]
        parts = zip(group.items, pieces, ranges, rests, strict=True)
        return [_Part(item, group, piece, own, rest) for item, piece, own, rest in parts]

    def emit_piece(self, item: CallItem, group: Piecewise, count: int) -> list[int]:
        """Append a call that a thread does for the `count` examples of a round. The instruction."""
        base = self.integers(item, {**self.sizes, group.symbol: count})
        for k, location in item.locations.items():
            place = settled(location, self.sizes)
            self.slots.put(base + k, place)
            size = count * self.example(item.call.arguments[k], group)
            if size and place.storage.group is not group:
                self.slots.move(base + k, place, group, size)
        return self.instruction(item, base, ALONE)

    def emit_rest(self, item: CallItem, group: Piecewise, count: int, first: int) -> list[int]:
        """Append a call that the team does for `count` examples from `first` on. The
        instruction."""
        sizes = {**self.sizes, group.symbol: count}
        base = self.integers(item, sizes)
        for k, location in item.locations.items():
            argument, place = item.call.arguments[k], settled(location, self.sizes)
            own = isinstance(argument, Scratch) and argument.per_thread
            if place.storage.group is not group:
                self.slots.put(base + k, place, first * self.example(argument, group))
            else:
                # What threads share lies where the first one has its pieces.
                self.slots.put(base + k, place, shared=not own)
        return self.instruction(item, base, self.flags(item, cost(item.call, sizes)[2]))

    def integers(self, item: CallItem, sizes: Mapping[str, int]) -> int:
        """Append slots for a call, with its sizes; where they begin."""
        base = len(self.slots)
        for argument in item.call.arguments:
            size = argument.size.evaluate(sizes) if isinstance(argument, Integer) else 0
            self.slots.add(FIXED, size)
        return base

    def instruction(self, item: CallItem, base: int, flags: int) -> list[int]:
        """Append a call of the slots from `base` on."""
        words = [CALL, self.addresses[item.call.kernel.key], base, flags]
        self.table += words
        return words

    def example(self, argument: Argument, group: Piecewise) -> int:
        """Bytes of one example of a value, 0 where all examples have an argument in common."""
        if not isinstance(argument, Buffer) or not is_spread(argument.value, group.symbol):
            return 0
        return bytes_of(argument.value).evaluate({**self.sizes, group.symbol: 1})

    def part_step(self, part: _Part) -> Step:
        """Append the call of a group for all pieces, as a step by itself."""
        loop, begin = self.loops[id(part.group)], len(self.table)
        _, rounds, _, counter, first, *_ = self.table[loop : loop + LOOP_WORDS]
        body = begin + LOOP_WORDS + CALL_WORDS
        own = part.patches
        self.table += [SHARE, rounds, body + END_WORDS, counter, first + own.start, len(own), 0]
        self.table += [*part.piece, END, begin]
        if part.rest:
            *call, flags = part.rest
            self.table += [*call, flags | BARRIER]
        flops, moved, _ = cost(part.item.call, self.sizes)
        return Step(part.item, begin, len(self.table), flops, moved)

    def emit_step(self, item: CallItem | LoopItem) -> Step:
        start = len(self.table)
        flops, size = self.emit(item)
        return Step(item, start, len(self.table), flops, size)

    def emit(self, item: Item) -> tuple[int, int]:
        """Append an item to the table; its flops and the bytes that it moves."""
        assert not isinstance(item, Piecewise)
        return self.emit_loop(item) if isinstance(item, LoopItem) else self.emit_call(item)

    def emit_call(self, item: CallItem) -> tuple[int, int]:
        if item.only_if_empty is not None and item.only_if_empty.evaluate(self.sizes) > 0:
            return 0, 0
        base = self.integers(item, self.sizes)
        for k, location in item.locations.items():
            self.slots.fill(base + k, location)
        flops, moved, seconds = cost(item.call, self.sizes)
        self.seconds += seconds * self.rounds
        self.instruction(item, base, self.flags(item, seconds))
        return flops, moved

    def flags(self, item: CallItem, seconds: float) -> int:
        """Whether one thread does the call, and whether the team meets before it."""
        serial = seconds < _SERIAL_SECONDS
        meet = self.barriers.needed(*self.touched(item), serial)
        return (SERIAL if serial else 0) | (BARRIER if meet else 0)

    def touched(self, item: CallItem) -> tuple[list[Span], list[Span]]:
        """Memory that a call reads and writes."""
        reads: list[Span] = []
        writes: list[Span] = []
        for k, location in item.locations.items():
            argument = item.call.arguments[k]
            written = not isinstance(argument, Buffer) or argument.written
            (writes if written else reads).extend(self.slots.spans(location))
        return reads, writes

    def emit_loop(self, loop: LoopItem) -> tuple[int, int]:
        rounds = max(0, loop.rounds.evaluate(self.sizes))
        start = self.open_loop(LOOP, loop, rounds)
        self.rounds *= max(rounds, 1)
        flops = moved = 0
        for item in loop.items:
            more_flops, more_bytes = self.emit(item)
            flops, moved = flops + more_flops, moved + more_bytes
        self.rounds //= max(rounds, 1)
        self.close_loop(start)
        return flops * rounds, moved * rounds

    def open_loop(self, kind: int, loop: LoopItem | Piecewise, rounds: int) -> int:
        """Append the instruction that begins a loop; where it stands."""
        start = self.loops[id(loop)] = len(self.table)
        counter = self.slots.add(FIXED, 0)
        self.table += [kind, rounds, 0, counter, 0, 0, 0]
        self.slots.patches[id(loop)] = []
        self.barriers.force()
        return start

    def close_loop(self, start: int) -> None:
        self.table += [END, start]
        self.table[start + 2] = len(self.table)
        self.barriers.force()
