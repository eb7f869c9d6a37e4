"""Sizes of register tiles, and how rows are cut into them.

Known without compiling: lowerings need them to size scratch memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dnnc.kernels.target import Target, host

__all__ = ["Tile", "dot_sizes", "first_tiles", "most_vectors", "tiles"]


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
def tiles(dtype: str, vectors: int = 2, target: Target | None = None) -> tuple[Tile, ...]:
    """Tiles of a processor (this one unless given), largest first.

    Of the registers `vectors` hold the row of B, and the numbers of A that are broadcast take one
    on x86, and several elsewhere, since no instruction multiplies what it loads; the others are
    sums. So there are 14, 8 and 4 rows with 32 registers (12, 8 and 4 not on x86), 6, 4 and 2 with
    16.
    """
    target = target or host()
    assert vectors <= most_vectors(target)
    lanes = target.lanes(4 if dtype == "f32" else 8)
    most = 14 if target.is_x86 else 12
    rows = (most, 8, 4) if target.vector_registers >= 32 else (6, 4, 2)
    if vectors != 2:
        # One vector: each row takes a load for each of its sums, and more rows would wait for
        # their addresses. Three: twenty-four sums, for which fewer numbers are loaded.
        rows = (8, 6, 4)
    return tuple(Tile(dtype, count, vectors, lanes) for count in rows)


def most_vectors(target: Target | None = None) -> int:
    """The widest tiles of products, in vectors.

    Three where there are registers for eight rows of them, and where vectors are as wide as a cache
    line, so that each may come from a panel of its own.
    """
    target = target or host()
    return 3 if target.vector_registers >= 32 and target.vector_bits == 512 else 2


@cache
def dot_sizes(target: Target | None = None) -> tuple[tuple[int, int], ...]:
    """Rows and columns of tiles whose sums run along vectors, the widest first.

    Each row and each column is read once a step, and all that are in flight fit the registers.
    """
    target = target or host()
    if target.vector_registers >= 32:
        return ((3, 8), (3, 7), (4, 6), (5, 5))
    # Without instructions that multiply and add, products take registers as well.
    return ((3, 4), (3, 3), (4, 2)) if target.vector_bits >= 256 else ((2, 4), (2, 3), (2, 2))


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
