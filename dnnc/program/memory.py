"""Offsets in the arena: storages that live at different times share memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Interval", "Layout", "arrange", "round_up"]

#: Bytes; a cache line, and the widest vector register.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Interval:
    """`bytes` needed from position `first` to position `last`, both included."""

    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`offsets` of the intervals, in their order; `peak` bytes in all; `naive` without sharing."""

    offsets: list[int]
    peak: int
    naive: int


def round_up(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def arrange(intervals: Sequence[Interval]) -> Layout:
    """Place the largest first, each at the lowest offset that is free while it lives."""
    order = sorted(range(len(intervals)), key=lambda k: (-intervals[k].bytes, intervals[k].first))
    offsets = [0] * len(intervals)
    placed: list[tuple[int, int, Interval]] = []
    peak = 0
    for k in order:
        interval = intervals[k]
        size = round_up(interval.bytes)
        if not size:
            continue
        offset = _lowest(placed, interval, size)
        offsets[k] = offset
        peak = max(peak, offset + size)
        placed.append((offset, offset + size, interval))
    return Layout(offsets, peak, sum(round_up(interval.bytes) for interval in intervals))


def _lowest(placed: list[tuple[int, int, Interval]], interval: Interval, size: int) -> int:
    taken = sorted(
        (start, stop)
        for start, stop, other in placed
        if other.first <= interval.last and interval.first <= other.last
    )
    offset = 0
    for start, stop in taken:
        if start - offset >= size:
            break
        offset = max(offset, stop)
    return offset
