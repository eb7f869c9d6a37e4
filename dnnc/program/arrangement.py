"""Where the storages of a plan lie in the arena, for given sizes and so many threads.

What a group of calls needs for a piece of a batch lies, for each thread, in one stretch of memory,
since threads are at different calls at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    own: dict[int, list[Storage]] = {}
    others: list[Storage] = []
    for storage in plan.storages:
        if storage.kind != "arena":
            continue
        if storage.group is not None and id(storage.group) in cuts:
            own.setdefault(id(storage.group), []).append(storage)
        else:
            others.append(storage)
    sizes_of = [max(0, storage.bytes.evaluate(sizes)) for storage in others]
    strides = [
        round_up(size) if storage.per_thread else 0
        for storage, size in zip(others, sizes_of, strict=True)
    ]
    intervals = [
        Interval(stride * threads or size, storage.first, storage.last)
        for storage, size, stride in zip(others, sizes_of, strides, strict=True)
    ]
    parts = []
    for key, storages in own.items():
        group = storages[0].group
        assert group is not None
        each = [_most_bytes(storage, group, cuts[key], sizes) for storage in storages]
        layout = arrange(
            [Interval(size, s.first, s.last) for size, s in zip(each, storages, strict=True)]
        )
        parts.append((storages, each, layout))
        intervals.append(Interval(layout.peak * threads, group.first, group.last))
    whole = arrange(intervals)
    rooms = {
        id(storage): Room(offset, size, stride)
        for storage, offset, size, stride in zip(
            others, whole.offsets, sizes_of, strides, strict=False
        )
    }
    for (storages, each, layout), base in zip(parts, whole.offsets[len(others) :], strict=True):
        for storage, offset, size in zip(storages, layout.offsets, each, strict=True):
            rooms[id(storage)] = Room(base + offset, size, layout.peak)
    return Arrangement(rooms, intervals, whole)


def _most_bytes(storage: Storage, group: Piecewise, how: Cut, sizes: Mapping[str, int]) -> int:
    """Bytes of a storage for a piece, or for the rest of the batch."""
    counts = (how.each, how.rest)
    return max(storage.bytes.evaluate({**sizes, group.symbol: n}) for n in counts if n)
