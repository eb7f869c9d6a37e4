"""Places in memory, as far as they are known before the sizes are: storages, offsets, loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Node
from dnnc.kernels.abi import Call
from dnnc.ops.creation import Size

__all__ = [
    "Both",
    "CallItem",
    "Item",
    "Location",
    "LoopItem",
    "Moving",
    "Piecewise",
    "Place",
    "Storage",
    "leaves",
    "shifted",
]


@dataclass(slots=True, eq=False)
class Storage:
    """A piece of memory. `kind`: "input", "output", "constant", "size" or "arena".

    `name` is that of the input or output, `array` the constant's elements, `size` the size that the
    program reads as data. `first` and `last` bound the positions of the calls that touch it.
    `group` are the calls that need it for one piece of a batch at a time.
    """

    kind: str
    bytes: Dim
    name: str = ""
    array: np.ndarray | None = None
    size: Size | None = None
    per_thread: bool = False
    group: Piecewise | None = None
    first: int = -1
    last: int = -1

    def touch(self, first: int, last: int) -> None:
        self.first = first if self.first < 0 else min(self.first, first)
        self.last = max(self.last, last)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """`offset` bytes into a storage."""

    storage: Storage
    offset: Dim = field(default_factory=lambda: dim(0))


@dataclass(frozen=True, slots=True, eq=False)
class Moving:
    """A location that depends on the round `i` of a loop: `first` in round 0, afterwards `even` or
    `odd`, by the parity of `i`, plus `i * stride` bytes."""

    loop: LoopItem
    first: Location
    even: Location
    odd: Location
    stride: Dim


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """A location that depends on a number of rounds: `none` for zero, else `odd` or `even`."""

    rounds: Dim
    none: Location
    odd: Location
    even: Location


Location: TypeAlias = Place | Moving | Both


def shifted(location: Location, offset: Dim) -> Location:
    """The location `offset` bytes further."""
    if offset == 0:
        return location
    if isinstance(location, Place):
        return Place(location.storage, location.offset + offset)
    if isinstance(location, Moving):
        first, even, odd = (
            shifted(x, offset) for x in (location.first, location.even, location.odd)
        )
        return Moving(location.loop, first, even, odd, location.stride)
    none, odd, even = (shifted(x, offset) for x in (location.none, location.odd, location.even))
    return Both(location.rounds, none, odd, even)


@dataclass(slots=True, eq=False)
class CallItem:
    """One call. `locations` are those of its buffers and scratch memory, by argument.

    With `only_if_empty` it is part of the program only where that number of rounds is zero.
    """

    call: Call
    node: Node | None
    position: int
    loop: LoopItem | None
    locations: dict[int, Location] = field(default_factory=dict)
    only_if_empty: Dim | None = None


@dataclass(slots=True, eq=False)
class LoopItem:
    """A scan: `items` run `rounds` times. `start` and `stop` bound the positions of its calls."""

    node: Node
    rounds: Dim
    parent: LoopItem | None
    items: list[Item] = field(default_factory=list)
    start: int = 0
    stop: int = 0


@dataclass(slots=True, eq=False)
class Piecewise:
    """Calls that may run one after the other on a piece of the batch, then on the next piece.

    `symbol` is the number of examples. Storages whose `group` this is hold those of one piece.
    """

    symbol: str
    items: list[CallItem]

    @property
    def first(self) -> int:
        return self.items[0].position

    @property
    def last(self) -> int:
        return self.items[-1].position


Item: TypeAlias = CallItem | LoopItem | Piecewise


def leaves(items: Sequence[Item]) -> list[CallItem]:
    """All calls in order, those of loops and of groups once."""
    found: list[CallItem] = []
    for item in items:
        found.extend([item] if isinstance(item, CallItem) else leaves(item.items))
    return found
