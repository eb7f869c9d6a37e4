"""Sizes of register tiles, and how rows are cut into them.

Known without compiling: lowerings need them to size scratch memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dnnc.kernels.target import host

__all__ = ["Tile", "first_tiles", "tiles"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of `rows` by `vectors` registers of `lanes` elements of type f32 or f64."""

    dtype: str
    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def bytes_each(self) -> int:
        return 4 if self.dtype == "f32" else 8


@cache
def tiles(dtype: str, vectors: int = 2) -> tuple[Tile, ...]:
    """Tiles of this processor, largest first: 14, 8 and 4 rows with 32 registers, 6, 4 and 2 with
    16.

    One register holds the broadcast number and `vectors` the row of B; the others are sums.
    """
    target = host()
    lanes = target.lanes(4 if dtype == "f32" else 8)
    rows = (14, 8, 4) if target.vector_registers >= 32 else (6, 4, 2)
    if vectors == 1:
        # Each row takes a load for each of its sums: more rows would wait for their addresses.
        rows = (8, 6, 4)
    return tuple(Tile(dtype, count, vectors, lanes) for count in rows)


@cache
def first_tiles(rows: tuple[int, ...]) -> tuple[int, ...]:
    """For each number of rows left, the index of the tile to compute first.

    The last entry holds for all larger numbers. A tile costs its rows; a small one a little more,
    because its sums are too few to hide the latency of an addition.
    """
    costs = [1.0 * count if count > rows[-1] else 1.15 * count for count in rows]
    best, first = [0.0], [0]
    for left in range(1, 4 * rows[0] + 1):
        options = [
            (cost + best[max(left - count, 0)], -count, index)
            for index, (count, cost) in enumerate(zip(rows, costs, strict=True))
        ]
        cost, _, index = min(options)
        best.append(cost)
        first.append(index)
    first[-1] = 0
    return tuple(first)
