"""Where the storages of a plan lie in the arena, for given sizes and so many threads.

What a group of calls needs for a piece of a batch lies, for each thread, in one stretch of memory,
since threads are at different calls at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from dnnc.program.locations import Piecewise, Storage
from dnnc.program.memory import Interval, Layout, arrange, round_up
from dnnc.program.pieces import Cut, cut
from dnnc.program.plan import Plan

__all__ = ["Arrangement", "Cuts", "Room", "arrangement", "cuts_of"]

Cuts: TypeAlias = dict[int, Cut]  # by the identity of a group


@dataclass(frozen=True, slots=True)
class Room:
    """`bytes` from `offset` in the arena on, for each thread `stride` bytes further; without a
    stride threads share them."""

    offset: int
    bytes: int
    stride: int


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The room of each storage, by its identity, and what shares memory in the arena."""

    rooms: dict[int, Room]
    intervals: list[Interval]
    layout: Layout


def cuts_of(plan: Plan, sizes: Mapping[str, int], threads: int) -> Cuts:
    """How the groups of a program work through their batches, where they do so in pieces."""
    groups = [item for item in plan.items if isinstance(item, Piecewise)]
    found = ((id(group), cut(group, sizes, threads)) for group in groups)
    return {group: how for group, how in found if how is not None}


def arrangement(plan: Plan, sizes: Mapping[str, int], threads: int, cuts: Cuts) -> Arrangement:
    """The rooms of all storages of the arena, where groups are cut like that."""
    inside = [storage for storage in plan.storages if storage.kind == "arena"]
    groups: dict[int, list[Storage]] = {}
    parts: list[tuple[Room, Storage, Interval]] = []
    for storage in inside:
        if storage.group is not None and id(storage.group) in cuts:
            groups.setdefault(id(storage.group), []).append(storage)
            continue
        size = max(0, storage.bytes.evaluate(sizes))
        stride = round_up(size) if storage.per_thread else 0
        interval = Interval(stride * threads or size, storage.first, storage.last)
        parts.append((Room(0, size, stride), storage, interval))
    for key, storages in groups.items():
        group = storages[0].group
        assert group is not None
        each = [_most_bytes(storage, group, cuts[key], sizes) for storage in storages]
        bounds = zip(each, storages, strict=True)
        layout = arrange([Interval(size, s.first, s.last) for size, s in bounds])
        interval = Interval(layout.peak * threads, group.first, group.last)
        for storage, offset, size in zip(storages, layout.offsets, each, strict=True):
            parts.append((Room(offset, size, layout.peak), storage, interval))
    intervals = list({id(interval): interval for _, _, interval in parts}.values())
    layout = arrange(intervals)
    bases = dict(zip(map(id, intervals), layout.offsets, strict=True))
    rooms = {
        id(storage): replace(room, offset=bases[id(interval)] + room.offset)
        for room, storage, interval in parts
    }
    return Arrangement(rooms, intervals, layout)


def _most_bytes(storage: Storage, group: Piecewise, how: Cut, sizes: Mapping[str, int]) -> int:
    """Bytes of a storage for a piece, or for the rest of the batch."""
    counts = (how.each, how.rest)
    return max(0, *(storage.bytes.evaluate({**sizes, group.symbol: n}) for n in counts if n))
