"""Slots for given sizes: where the arguments of calls lie, and how loops change that.

Slot k begins as an address relative to a root, `roots[root] + offset + tid * stride`, or as a
number: an offset to the root FIXED. In every round of a loop its patches set slots anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from dnnc.program.arrangement import Arrangement
from dnnc.program.barriers import Span
from dnnc.program.locations import Both, Location, LoopItem, Moving, Piecewise, Place, Storage

__all__ = ["ARENA", "FIXED", "Patch", "Slots", "settled"]

#: Roots that slots are relative to; those of inputs and outputs follow in order of the storages.
FIXED, ARENA = 0, 1

#: A slot with those that it begins from in the first round, and then in even and odd ones, and the
#: bytes that each round adds.
Patch: TypeAlias = tuple[int, int, int, int, int]


def settled(location: Location, sizes: Mapping[str, int]) -> Place:
    """The place of a value of the outermost level."""
    while isinstance(location, Both):
        location = _chosen(location, sizes)
    assert isinstance(location, Place)
    return location


def _chosen(location: Both, sizes: Mapping[str, int]) -> Location:
    rounds = location.rounds.evaluate(sizes)
    if rounds <= 0:
        return location.none
    return location.odd if rounds % 2 else location.even


class Slots:
    """The slots of a program, and the patches of each of its loops, by their identity.

    `places` tell the root of a storage and where it begins, by its identity; `keep` are arrays that
    the program reads.
    """

    def __init__(
        self,
        storages: Iterable[Storage],
        sizes: Mapping[str, int],
        arrangement: Arrangement,
        threads: int,
    ) -> None:
        self.sizes, self.threads = sizes, threads
        self.patches: dict[int, list[Patch]] = {}
        self.places: dict[int, tuple[int, int]] = {}
        self.keep: list[np.ndarray] = []
        self._rooms = arrangement.rooms
        self._slots: list[tuple[int, int, int]] = []
        self._hidden: dict[tuple[int, int, int], int] = {}
        self._roots = 2
        for storage in storages:
            self._place(storage)

    def _place(self, storage: Storage) -> None:
        if storage.kind in ("input", "output"):
            self.places[id(storage)] = (self._roots, 0)
            self._roots += 1
        elif storage.kind in ("constant", "size"):
            array = storage.array
            if array is None:
                assert storage.size is not None
                op = storage.size
                array = np.array([op.dim.evaluate(self.sizes)], op.dtype.numpy)
            self.keep.append(array)
            self.places[id(storage)] = (FIXED, array.ctypes.data)
        else:
            self.places[id(storage)] = (ARENA, self._rooms[id(storage)].offset)

    def __len__(self) -> int:
        return len(self._slots)

    def arrays(self) -> np.ndarray:
        """Roots, offsets and strides of all slots, a row each."""
        return np.array(self._slots or [(0, 0, 0)], np.int64).T.copy()

    def add(self, root: int, offset: int, stride: int = 0) -> int:
        """A new slot."""
        self._slots.append((root, offset, stride))
        return len(self._slots) - 1

    def put(self, slot: int, place: Place, further: int = 0, shared: bool = False) -> None:
        """Make a slot begin as the address of a place, some bytes `further`; that of the first
        thread for all of them where it is `shared`."""
        root, offset, stride = self._address(place)
        self._slots[slot] = root, offset + further, 0 if shared else stride

    def fill(self, slot: int, location: Location) -> None:
        """Make a slot hold an address, by its first contents or by a patch of a loop."""
        if isinstance(location, Both):
            self.fill(slot, _chosen(location, self.sizes))
        elif isinstance(location, Place):
            self.put(slot, location)
        else:
            first, even, odd = (
                self._hide(part) for part in (location.first, location.even, location.odd)
            )
            stride = location.stride.evaluate(self.sizes)
            self.patches[id(location.loop)].append((slot, first, even, odd, stride))

    def move(self, slot: int, place: Place, loop: LoopItem | Piecewise, step: int) -> None:
        """Have a loop set a slot to a place in the first round, and `step` bytes on in each one."""
        hidden = self._hide(place)
        self.patches[id(loop)].append((slot, hidden, hidden, hidden, step))

    def spans(self, location: Location) -> list[Span]:
        """The memory of a location, with that of all threads."""
        if isinstance(location, Moving):
            parts = (location.first, location.even, location.odd)
            return [span for part in parts for span in self.spans(part)]
        if isinstance(location, Both):
            return self.spans(_chosen(location, self.sizes))
        storage = location.storage
        root, offset = self.places[id(storage)]
        room = self._rooms.get(id(storage))
        size = room.bytes if room else max(0, storage.bytes.evaluate(self.sizes))
        return [(root, offset, offset + (room.stride * (self.threads - 1) if room else 0) + size)]

    def _address(self, place: Place) -> tuple[int, int, int]:
        root, offset = self.places[id(place.storage)]
        room = self._rooms.get(id(place.storage))
        return root, offset + place.offset.evaluate(self.sizes), room.stride if room else 0

    def _hide(self, location: Location) -> int:
        """A slot of no call that holds an address for patches to begin from."""
        if isinstance(location, Both):
            return self._hide(_chosen(location, self.sizes))
        if isinstance(location, Moving):
            slot = self.add(FIXED, 0)
            self.fill(slot, location)
            return slot
        address = self._address(location)
        if address not in self._hidden:
            self._hidden[address] = self.add(*address)
        return self._hidden[address]
