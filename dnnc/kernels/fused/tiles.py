"""Rows that are worked on together, so that what a column needs is loaded and computed once.

Short rows profit most: a loop over the columns of one row would end before it has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dnnc.ir.graph import Value
from dnnc.kernels.fused.builder import Builder
from dnnc.kernels.fused.plan import EXPENSIVE

__all__ = ["rows_at_once", "tiled_rows"]

#: Computations in the body of a loop, over all the rows of a tile: LLVM unrolls so many.
_MOST = 96


def rows_at_once(targets: Sequence[Value], varies: Callable[[Value], bool]) -> int:
    """Rows of a tile, a power of two up to 8, by what there is to compute for `targets`: `varies`
    tells what differs from row to row."""
    pending, seen = list(targets), set(targets)
    count = len(pending)
    while pending:
        value = pending.pop()
        if not varies(value):
            continue
        count += 1
        if value.node is None:
            continue
        if value.node.op.name in EXPENSIVE:
            return 1
        fresh = [v for v in value.node.operands if v not in seen]
        seen.update(fresh)
        pending += fresh
    return next(rows for rows in (8, 4, 2, 1) if rows * count <= _MOST or rows == 1)


def tiled_rows(
    b: Builder,
    axes: list[int],
    bounds: tuple[str, str],
    at_once: int,
    each: Callable[[], None],
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Loops over `axes`, then over the last axis from `low` to `high`.

    `bounds` are of the first of the axes; rows along the last of them are taken `at_once`. For
    each column of a tile `each` writes what is done for every row, `before` and `after` what is
    done once.
    """
    if len(axes) > 1:
        with b.loop(axes[0], *bounds):
            size = b.size(b.space.axes[axes[1]].size)
            tiled_rows(b, axes[1:], ("0", size), at_once, each, before, after)
        return
    (axis,), (first, end) = axes, bounds
    columns = f"for i{len(b.space.axes) - 1} in range(low, high):"
    if at_once > 1:
        with (
            b.writer.block(f"for tile in range({first}, {end} - {at_once - 1}, {at_once}):"),
            b.writer.block(columns),
        ):
            before()
            with b.writer.block(f"for k in range({at_once}):"):
                b.writer.add(f"i{axis} = tile + k")
                with b.moved([axis]):
                    each()
            after()
        if b.space.axes[axis].size % at_once == 0:
            return
        first = f"{first} + ({end} - {first}) // {at_once} * {at_once}"
    with b.loop(axis, first, end), b.writer.block(columns):
        before()
        each()
        after()
