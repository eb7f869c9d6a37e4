"""A plan for given sizes: instructions, the contents of slots, offsets in the arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnnc.ir.dims import Dim
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
)
from dnnc.program.pieces import Cut, is_spread
from dnnc.program.plan import Plan

__all__ = ["ARENA", "FIXED", "Binding", "Step", "bind", "cost"]

#: Roots that slots are relative to; those of inputs and outputs follow in order of the storages.
FIXED, ARENA = 0, 1

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
        place = _settled(location, self.sizes)
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


def _chosen(location: Both, sizes: Mapping[str, int]) -> Location:
    rounds = location.rounds.evaluate(sizes)
    if rounds <= 0:
        return location.none
    return location.odd if rounds % 2 else location.even


def _settled(location: Location, sizes: Mapping[str, int]) -> Place:
    """The place of a value of the outermost level."""
    while isinstance(location, Both):
        location = _chosen(location, sizes)
    assert isinstance(location, Place)
    return location


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
        self.table: list[int] = []
        #: Patches of each loop, and where its instruction stands.
        self.patches: dict[int, list[tuple[int, int, int, int, int]]] = {}
        self.loops: dict[int, int] = {}
        self.slots: list[tuple[int, int, int]] = []
        self.hidden: dict[tuple[int, int, int], int] = {}
        self.keep: list[np.ndarray] = []
        self.places: dict[int, tuple[int, int]] = {}
        self.roots = 2
        self.seconds = 0.0
        self.rounds = 1
        self.barriers = Barriers()

    def bind(self) -> Binding:
        for storage in self.plan.storages:
            self.place(storage)
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
        which, offsets, strides = np.array(self.slots or [(0, 0, 0)], np.int64).T.copy()
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
            self.places,
            self.keep,
            self.seconds,
        )

    # Memory.

    def size(self, size: Dim) -> int:
        return max(0, size.evaluate(self.sizes))

    def place(self, storage: Storage) -> None:
        if storage.kind in ("input", "output"):
            self.places[id(storage)] = (self.roots, 0)
            self.roots += 1
        elif storage.kind in ("constant", "size"):
            array = storage.array
            if array is None:
                assert storage.size is not None
                op = storage.size
                array = np.array([op.dim.evaluate(self.sizes)], op.dtype.numpy)
            self.keep.append(array)
            self.places[id(storage)] = (FIXED, array.ctypes.data)
        else:
            self.places[id(storage)] = (ARENA, self.arrangement.rooms[id(storage)].offset)

    # Slots.

    def slot(self, which: int, offset: int, stride: int = 0) -> int:
        self.slots.append((which, offset, stride))
        return len(self.slots) - 1

    def fixed(self, place: Place) -> tuple[int, int, int]:
        root, offset = self.places[id(place.storage)]
        room = self.arrangement.rooms.get(id(place.storage))
        stride = room.stride if room else 0
        return root, offset + place.offset.evaluate(self.sizes), stride

    def fill(self, slot: int, location: Location) -> None:
        """Make a slot hold an address, by its first contents or by a patch of a loop."""
        if isinstance(location, Both):
            self.fill(slot, _chosen(location, self.sizes))
        elif isinstance(location, Place):
            self.slots[slot] = self.fixed(location)
        else:
            first, even, odd = (
                self.hide(part) for part in (location.first, location.even, location.odd)
            )
            stride = location.stride.evaluate(self.sizes)
            self.patches[id(location.loop)].append((slot, first, even, odd, stride))

    def hide(self, location: Location) -> int:
        """A slot of no call that holds an address for patches to begin from."""
        if isinstance(location, Both):
            return self.hide(_chosen(location, self.sizes))
        if isinstance(location, Moving):
            slot = self.slot(FIXED, 0)
            self.fill(slot, location)
            return slot
        fixed = self.fixed(location)
        if fixed not in self.hidden:
            self.hidden[fixed] = self.slot(*fixed)
        return self.hidden[fixed]

    def flat_patches(self) -> np.ndarray:
        flat: list[tuple[int, int, int, int, int]] = []
        for loop, patches in self.patches.items():
            start = self.loops[loop]
            self.table[start + 4 : start + 6] = [len(flat), len(patches)]
            flat += patches
        return np.array(flat or [(0, 0, 0, 0, 0)], np.int64)

    # Instructions.

    def emit_group(self, group: Piecewise, how: Cut) -> list[_Part]:
        """Append a loop over pieces of the batch that threads share, and calls for the rest."""
        start = self.open_loop(SHARE, group, how.rounds)
        patches, done = self.patches[id(group)], how.rounds * how.each
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
            place = _settled(location, self.sizes)
            self.slots[base + k] = self.fixed(place)
            size = count * self.example(item.call.arguments[k], group)
            if size and place.storage.group is not group:
                hidden = self.hide(place)
                self.patches[id(group)].append((base + k, hidden, hidden, hidden, size))
        return self.instruction(item, base, ALONE)

    def emit_rest(self, item: CallItem, group: Piecewise, count: int, first: int) -> list[int]:
        """Append a call that the team does for `count` examples from `first` on. The
        instruction."""
        sizes = {**self.sizes, group.symbol: count}
        base = self.integers(item, sizes)
        for k, location in item.locations.items():
            argument, place = item.call.arguments[k], _settled(location, self.sizes)
            root, offset, stride = self.fixed(place)
            if place.storage.group is not group:
                offset += first * self.example(argument, group)
            elif not (isinstance(argument, Scratch) and argument.per_thread):
                # What threads share lies where the first one has its pieces.
                stride = 0
            self.slots[base + k] = (root, offset, stride)
        return self.instruction(item, base, self.flags(item, cost(item.call, sizes)[2]))

    def integers(self, item: CallItem, sizes: Mapping[str, int]) -> int:
        """Append slots for a call, with its sizes; where they begin."""
        base = len(self.slots)
        for argument in item.call.arguments:
            size = argument.size.evaluate(sizes) if isinstance(argument, Integer) else 0
            self.slot(FIXED, size)
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
            self.fill(base + k, location)
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
            (writes if written else reads).extend(self.spans(location))
        return reads, writes

    def spans(self, location: Location) -> list[Span]:
        if isinstance(location, Moving):
            parts = (location.first, location.even, location.odd)
            return [span for part in parts for span in self.spans(part)]
        if isinstance(location, Both):
            return self.spans(_chosen(location, self.sizes))
        root, offset = self.places[id(location.storage)]
        room = self.arrangement.rooms.get(id(location.storage))
        size = room.bytes if room else self.size(location.storage.bytes)
        return [(root, offset, offset + (room.stride * (self.threads - 1) if room else 0) + size)]

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
        counter = self.slot(FIXED, 0)
        self.table += [kind, rounds, 0, counter, 0, 0, 0]
        self.patches[id(loop)] = []
        self.barriers.force()
        return start

    def close_loop(self, start: int) -> None:
        self.table += [END, start]
        self.table[start + 2] = len(self.table)
        self.barriers.force()
