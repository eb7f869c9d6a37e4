"""Rows: the values of a column, in memory or made when they are asked for.

Every kind answers `take(indices)` with an array whose first axis runs over the indices. Row
functions apply at once to rows in memory and are deferred for the others, so that windows of a text
or a large folder of pictures are never expanded as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class Rows(Protocol):
    """A sequence of examples of one shape."""

    @property
    def total(self) -> int | None:
        """Rows of the whole source: more than `len` for a sample, None where not known."""

    @property
    def overlap(self) -> int:
        """How many of the rows that follow a row share data with it."""

    def __len__(self) -> int: ...

    def take(self, indices: Array) -> Array:
        """The rows at `indices`: [len(indices), *shape]."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Rows in memory: `values` is [rows, *shape]."""

    values: Array
    total: int | None
    overlap: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: Array) -> Array:
        return np.take(self.values, indices, axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of one long sequence: row i is `tokens[i * stride + shift :][:context]` as i32.

    `reach` is the number of tokens that a row and its companions (a window and the same one
    shifted) touch together; rows whose reaches intersect count as overlapping.
    """

    tokens: Array
    context: int
    stride: int
    shift: int
    reach: int
    complete: bool

    def __len__(self) -> int:
        return max(0, (len(self.tokens) - self.reach) // self.stride + 1)

    @property
    def total(self) -> int | None:
        return len(self) if self.complete else None

    @property
    def overlap(self) -> int:
        return -(-self.reach // self.stride) - 1

    def take(self, indices: Array) -> Array:
        starts = np.asarray(indices, np.int64) * self.stride + self.shift
        windows: Array = self.tokens[starts[:, None] + np.arange(self.context)]
        return windows.astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Rows made by a row function when they are taken."""

    function: Callable[..., Array]
    inputs: tuple[Rows, ...]

    def __len__(self) -> int:
        return min(len(rows) for rows in self.inputs)

    @property
    def total(self) -> int | None:
        return next((rows.total for rows in self.inputs if rows.total is not None), None)

    @property
    def overlap(self) -> int:
        return max(rows.overlap for rows in self.inputs)

    def take(self, indices: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.function(*(rows.take(indices) for rows in self.inputs))


def is_complete(rows: Rows) -> bool:
    """Whether `rows` are all rows of their source and not only the first ones."""
    return rows.total == len(rows)


def map_rows(function: Callable[..., Array], inputs: tuple[Rows, ...]) -> Rows:
    """Apply a function of arrays [rows, ...] that treats every row alike."""
    if not all(isinstance(rows, Stored) for rows in inputs):
        return Mapped(function, inputs)
    stored = [rows for rows in inputs if isinstance(rows, Stored)]
    size = min(len(rows) for rows in stored)
    total = next((rows.total for rows in stored if rows.total is not None), None)
    with np.errstate(all="ignore"):
        values = function(*(rows.values[:size] for rows in stored))
    return Stored(values, total, max(rows.overlap for rows in stored))


def first_row(rows: Rows) -> Array:
    """The first row with its batch axis, [1, *shape], to learn shape and type from."""
    return rows.take(np.zeros(1, np.int64))
