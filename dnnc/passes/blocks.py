"""How the axes of two shapes with equally many elements correspond.

[b, t, 4, 8] and [b * t, 32]     →     b, t ~ b * t;  4, 8 ~ 32
"""

from __future__ import annotations

from typing import TypeAlias

from dnnc.ir.dims import Dim, dim

__all__ = ["Blocks", "blocks", "moved_sizes"]

#: Pairs of ranges of axes `(start, stop), (start, stop)` of two shapes with the same product.
Blocks: TypeAlias = list[tuple[tuple[int, int], tuple[int, int]]]


def moved_sizes(
    sizes: tuple[Dim, ...], old: tuple[Dim, ...], new: tuple[Dim, ...], pairs: Blocks
) -> tuple[Dim, ...] | None:
    """Sizes that broadcast to `old`, as ones that broadcast to `new`; None where that fails.

    They must fill a block of axes, or be 1 on all of it.
    """
    padded = (dim(1),) * (len(old) - len(sizes)) + sizes
    target: list[Dim] = []
    for (start, stop), (new_start, new_stop) in pairs:
        if padded[start:stop] == old[start:stop]:
            target.extend(new[new_start:new_stop])
        elif all(size == 1 for size in padded[start:stop]):
            target.extend([dim(1)] * (new_stop - new_start))
        else:
            return None
    return tuple(target)


def blocks(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> Blocks | None:
    """Two shapes of equally many elements, cut into the shortest ranges with equal products."""
    result: Blocks = []
    i = j = 0
    while i < len(a) or j < len(b):
        start_i, start_j = i, j
        left, right = dim(1), dim(1)
        if i < len(a):
            left, i = a[i], i + 1
        if j < len(b):
            right, j = b[j], j + 1
        while left != right:
            if _divides(left, right) and i < len(a):
                left, i = left * a[i], i + 1
            elif j < len(b):
                right, j = right * b[j], j + 1
            elif i < len(a):
                left, i = left * a[i], i + 1
            else:
                return None
        result.append(((start_i, i), (start_j, j)))
    return result


def _divides(a: Dim, b: Dim) -> bool:
    """Whether `b` is a larger multiple of `a`."""
    return a != b and a != 0 and b % a == 0
