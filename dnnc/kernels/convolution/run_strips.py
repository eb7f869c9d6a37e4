"""Strips of tiles whose rows and steps come in runs at distances known when the code is written.

They take the place of strips with a table of steps (`dnnc.kernels.product.strips`, "a"), whose
words they have, where rows come in runs of a fixed number, each `pitch` bytes from the one before,
and steps alike. A tile then finds all its rows from one address, which matters where few registers
of sums share what addresses cost: a panel of one vector, and shallow sums. And it can see which
numbers several of its products share, and read each once: a processor that limits its power is
slowed down by what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.product.lines import LINE
from dnnc.kernels.product.strips import Strip
from dnnc.kernels.target import Target, host
from dnnc.kernels.tiles import Tile

__all__ = ["Runs", "run_strip_kernel"]

#: Fewest registers of sums of a tile: fewer would wait for one another.
_FEWEST_SUMS = 8


@dataclass(frozen=True, slots=True)
class Runs:
    """`rows` at a time, `pitch` bytes apart; `steps` at a time, `step` bytes apart.

    The number of rows of a strip is a multiple of `rows`, its depth one of `steps`. With several
    `shifts` so many runs of rows follow one another, each a step further than the one before, and
    the number of rows is a multiple of theirs: a number is read once for all of them. With several
    `taps` so many runs of steps do, each `reach` bytes further, and the depth is a multiple of
    theirs: of all numbers of a step and its like, what several rows have is read once for all.
    """

    rows: int
    pitch: int
    steps: int
    step: int
    shifts: int = 1
    taps: int = 1
    reach: int = 0

    def numbers(self, rows: int) -> dict[int, list[tuple[int, int]]]:
        """Where the numbers of one step of all taps are, in bytes from the first; and which rows
        and taps of a tile of so many rows each is multiplied for."""
        found: dict[int, list[tuple[int, int]]] = {}
        for i in range(rows):
            for t in range(self.taps):
                found.setdefault(i * self.pitch + t * self.reach, []).append((i, t))
        return dict(sorted(found.items()))

    def fit(self, tile: Tile, target: Target | None = None) -> bool:
        """Whether registers hold enough sums of a tile of rows at all shifts."""
        rows = min(self._most(tile, target or host()), self.rows)
        return rows * self.shifts * tile.vectors >= _FEWEST_SUMS

    def tiles(self, tile: Tile, target: Target | None = None) -> tuple[tuple[int, int], ...]:
        """(how many, rows) of the tiles that a run is cut into; at most two sizes."""
        count = -(-self.rows // self._most(tile, target or host()))
        small, larger = divmod(self.rows, count)
        parts = ((larger, small + 1), (count - larger, small))
        return tuple(part for part in parts if part[0])

    def _most(self, tile: Tile, target: Target) -> int:
        """Most rows of a tile."""
        registers = target.vector_registers
        # LLVM loads numbers of several rows ahead, where they do not come with the product.
        if self.shifts == self.taps == 1:
            sums = 24 if registers >= 32 else 6 + 2 * tile.vectors
            return sums // tile.vectors
        # Besides sums and a row of B for each shift or tap: LLVM keeps several numbers on Arm.
        others = 2 if target.is_x86 else 12
        window = self.shifts * self.taps * tile.vectors
        return (registers - others - window) // (self.shifts * tile.vectors)


def run_strip_kernel(tile: Tile, runs: Runs) -> Kernel:
    """The kernel of strips as wide as `tile`, whose rows do not count."""
    shape = (tile.dtype, tile.vectors, tile.lanes)
    return make_kernel("run_strip", lambda: _build(tile, runs), shape, runs, runs.tiles(tile))


def _build(tile: Tile, runs: Runs) -> Callable[[int, int, int], int]:
    from dnnc.kernels.convolution.run_ir import run_tile
    from dnnc.kernels.intrinsics import slot

    parts = runs.tiles(tile)
    (count, rows), (others, fewer) = parts[0], parts[-1]
    if len(parts) == 1:
        others = 0
    big, small = run_tile(tile, rows, runs), run_tile(tile, fewer, runs)
    run, pitch, steps = runs.shifts * runs.rows, runs.pitch, runs.taps * runs.steps
    skipped, tiles_in = run - runs.rows, count + others

    def strip(words: int, unused: int, unused_too: int) -> int:
        depth, table = slot(words, Strip.DEPTH) // steps, slot(words, Strip.A_STEP)
        b, b_step, c_row = slot(words, Strip.B), slot(words, Strip.B_STEP), slot(words, Strip.C_ROW)
        columns, add = slot(words, Strip.COLUMNS), slot(words, Strip.ADD)
        rows_there, to = slot(words, Strip.ROWS), slot(words, Strip.C)
        ahead, too = slot(words, Strip.AHEAD), slot(words, Strip.AHEAD_TOO)
        # As many lines with each run of steps of each tile.
        times = max(rows_there // run * tiles_in * depth, 1)
        lines = (slot(words, Strip.AHEAD_BYTES) // LINE + times - 1) // times
        lines_too = (slot(words, Strip.AHEAD_TOO_BYTES) // LINE + times - 1) // times
        next_lines, next_too = LINE * lines * depth, LINE * lines_too * depth
        for i in range(0, rows_there, run):
            a = slot(words, Strip.A) + slot(slot(words, Strip.A_TABLE), i)
            for tile in range(tiles_in):
                if tile < count:
                    big(
                        a, table, depth, b, b_step, to, c_row, columns, add, ahead, lines, too,
                        lines_too,
                    )  # fmt: skip
                    a, to = a + rows * pitch, to + rows * c_row
                else:
                    small(
                        a, table, depth, b, b_step, to, c_row, columns, add, ahead, lines, too,
                        lines_too,
                    )  # fmt: skip
                    a, to = a + fewer * pitch, to + fewer * c_row
                ahead, too = ahead + next_lines, too + next_too
            to += skipped * c_row
        return 0

    return strip
