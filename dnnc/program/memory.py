"""Addresses of arrays, and offsets in the arena: storages that live at different times share
memory."""

from __future__ import annotations

import ctypes
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ALIGNMENT", "Interval", "Layout", "address_of", "arrange", "round_up"]

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


def address_of(array: np.ndarray) -> int:
    """Where the elements of a contiguous array begin."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        # Read-only or empty. This way takes five times as long.
        address: int = array.__array_interface__["data"][0]
        return address


def arrange(intervals: Sequence[Interval]) -> Layout:
    """Place the largest first, each at the lowest offset that is free while it lives."""
    order = sorted(range(len(intervals)), key=lambda k: (-intervals[k].bytes, intervals[k].first))
    offsets = [0] * len(intervals)
    #: Start, end, and the first and last position, ordered by the start.
    placed: list[tuple[int, int, int, int]] = []
    peak = 0
    for k in order:
        interval = intervals[k]
        size = round_up(interval.bytes)
        if not size:
            continue
        offset = _lowest(placed, interval, size)
        offsets[k] = offset
        peak = max(peak, offset + size)
        insort(placed, (offset, offset + size, interval.first, interval.last))
    return Layout(offsets, peak, sum(round_up(interval.bytes) for interval in intervals))


def _lowest(placed: list[tuple[int, int, int, int]], interval: Interval, size: int) -> int:
    begin, end = interval.first, interval.last
    offset = 0
    for start, stop, first, last in placed:
        if first <= end and begin <= last:
            if start - offset >= size:
                break
            if stop > offset:
                offset = stop
    return offset
