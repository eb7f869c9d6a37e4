"""What the kernels of attention and of its gradient share: sizes, packing, products of blocks.

Queries are taken in blocks of `QUERY_BLOCK`, keys in blocks of `KEY_BLOCK`. A matrix with one row
for each query or key is packed into panels [panel, row, column of the panel], zero beyond its last
column, which serve as the left side of a product along columns and as the right side of one along
rows. Products of queries by keys take panels of keys, [panel, depth, key of the panel]. All strides
are those of panels and blocks, so that one kernel does for all sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.kernels.abi import Scratch
from dnnc.kernels.target import host
from dnnc.kernels.tiles import Tile, tiles

__all__ = [
    "KEY_BLOCK",
    "QUERY_BLOCK",
    "Products",
    "Scheme",
    "build_pack",
    "build_products",
    "build_turn",
    "build_unpack",
]

#: Queries and keys of a block. Both are such that register tiles cover them without a rest.
QUERY_BLOCK, KEY_BLOCK = 64, 256


@dataclass(frozen=True, slots=True)
class Scheme:
    """Register tiles: `scores` for products with panels of keys, `mixed` for those with panels of
    rows, whose `mixed.columns` are the width of panels."""

    scores: tuple[Tile, ...]
    mixed: tuple[Tile, ...]

    @staticmethod
    def of(dtype: str, *depths: Dim) -> Scheme:
        """For heads of these sizes: narrow panels where they suffice."""
        lanes = host().lanes(4 if dtype == "f32" else 8)
        narrow = all(depth.constant is not None and depth.constant <= lanes for depth in depths)
        return Scheme(tiles(dtype), tiles(dtype, 1 if narrow else 2))

    @property
    def tile(self) -> Tile:
        return self.mixed[0]

    @property
    def size(self) -> int:
        return self.tile.bytes_each

    @property
    def width(self) -> int:
        """Columns of a panel of rows."""
        return self.tile.columns

    @property
    def keys(self) -> int:
        """Keys of a panel of keys."""
        return self.scores[0].columns

    @property
    def over(self) -> int:
        """Rows that a register tile may reach over."""
        return max(self.scores[0].rows, self.mixed[0].rows)

    @property
    def line(self) -> int:
        """Bytes of a row of scores. The rest beyond a block lets register tiles reach over, and
        keeps rows from sharing sets of the cache."""
        return KEY_BLOCK * self.size + 64

    def filled(self, depth: Dim) -> Dim:
        """Columns in whole panels."""
        return ceil_div(depth, dim(self.width)) * self.width

    def rows(self, count: Dim | int, depth: Dim) -> Scratch:
        """Memory for so many rows in panels."""
        return self._scratch((dim(count) + self.over) * self.filled(depth))

    def turned(self, keys: Dim, depth: Dim) -> Scratch:
        """Memory for panels of keys."""
        return self._scratch(ceil_div(keys, dim(self.keys)) * self.keys * self.filled(depth))

    def block(self) -> Scratch:
        """Memory for the scores of a block."""
        return Scratch(dim((QUERY_BLOCK + self.over) * self.line), per_thread=True)

    def _scratch(self, elements: Dim) -> Scratch:
        return Scratch(elements * self.size, per_thread=True)


def build_pack(scheme: Scheme) -> Callable[..., None]:
    """`f(target, room, source, row, rows, depth)`: rows of `depth` elements, `row` bytes apart,
    into panels with `room` rows."""
    from dnnc.kernels.intrinsics import zero_bytes
    from dnnc.kernels.movement.moves import copy_rows

    copy = copy_rows(scheme.tile)
    width, size = scheme.width, scheme.size

    def pack(target: int, room: int, source: int, row: int, rows: int, depth: int) -> None:
        for first in range(0, depth, width):
            columns = min(depth - first, width)
            to = target + first * room * size
            if columns < width:
                zero_bytes(to, rows * width * size)
            copy(to, width * size, source + first * size, row, rows, columns)

    return pack


def build_unpack(scheme: Scheme) -> Callable[..., None]:
    """`f(target, row, source, room, rows, depth)`: the inverse of `build_pack`."""
    from dnnc.kernels.movement.moves import copy_rows

    copy = copy_rows(scheme.tile)
    width, size = scheme.width, scheme.size

    def unpack(target: int, row: int, source: int, room: int, rows: int, depth: int) -> None:
        for first in range(0, depth, width):
            columns = min(depth - first, width)
            at = source + first * room * size
            copy(target + first * size, row, at, width * size, rows, columns)

    return unpack


def build_turn(scheme: Scheme) -> Callable[..., None]:
    """`f(target, filled, source, row, rows, depth)`: rows of `depth` elements, `row` bytes apart,
    into panels of keys of `filled` elements each."""
    from dnnc.kernels.intrinsics import zero_bytes
    from dnnc.kernels.movement.packing import build_transpose
    from dnnc.kernels.subroutine import shared

    transpose = shared(build_transpose, scheme.size)
    keys, size = scheme.keys, scheme.size

    def turn(target: int, filled: int, source: int, row: int, rows: int, depth: int) -> None:
        for first in range(0, rows, keys):
            to = target + first * filled * size
            some = min(rows - first, keys)
            transpose(to, keys * size, source + first * row, row, some, depth)
            if depth < filled:
                zero_bytes(to + depth * keys * size, (filled - depth) * keys * size)

    return turn


@dataclass(frozen=True, slots=True)
class Products:
    """Products of blocks, as functions to call from kernels.

    `score(to, rows, width, packed, room, turned, filled)`: scores of `rows` packed rows, in panels
    with `room`, by `width` keys of panels of keys.

    `mix(to, to_room, rows, scores, keys, packed, room, depth, add)`: `rows` rows of scores times
    `keys` packed rows.

    `gather(to, to_room, width, scores, rows, packed, room, depth)`: adds `width` columns of
    scores times `rows` packed rows.
    """

    score: Any
    mix: Any
    gather: Any


@cache
def build_products(scheme: Scheme) -> Products:
    """Functions compiled as a part of the kernels that call them, once for all of these."""
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.winograd.blocked import Strides, build_rows

    keys, width, size, line = scheme.keys, scheme.width, scheme.size, scheme.line
    row = width * size
    by_keys = subroutine(
        build_rows(scheme.scores, Strides(row, size, keys * size, line, whole=True))
    )
    by_rows = subroutine(build_rows(scheme.mixed, Strides(line, size, row, row)))
    by_columns = subroutine(build_rows(scheme.mixed, Strides(size, line, row, row)))

    def score(
        to: int, rows: int, count: int, packed: int, room: int, turned: int, filled: int
    ) -> None:
        for first in range(0, count, keys):
            b = turned + first * filled * size
            by_keys(rows, packed, room * row, filled // width, width, b, to + first * size, 0)

    def mix(
        to: int,
        to_room: int,
        rows: int,
        scores: int,
        count: int,
        packed: int,
        room: int,
        depth: int,
        add: int,
    ) -> None:
        for panel in range((depth + width - 1) // width):
            b, c = packed + panel * room * row, to + panel * to_room * row
            by_rows(rows, scores, 0, 1, count, b, c, add)

    def gather(
        to: int,
        to_room: int,
        count: int,
        scores: int,
        rows: int,
        packed: int,
        room: int,
        depth: int,
    ) -> None:
        for panel in range((depth + width - 1) // width):
            b, c = packed + panel * room * row, to + panel * to_room * row
            by_columns(count, scores, 0, 1, rows, b, c, 1)

    return Products(subroutine(score), subroutine(mix), subroutine(gather))
