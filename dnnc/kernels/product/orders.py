"""Which order of loops the sizes of a matrix product favour."""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.product import slots
from dnnc.kernels.tiles import Tile
from dnnc.kernels.unit.product import build_favours_unit

__all__ = ["FEW_ROWS", "build_dots_pay", "build_suits", "build_turned_pays"]

#: Stands for `few_rows` among the addresses of kernels.
FEW_ROWS = 1


def build_suits(widest: Tile) -> Callable[[int], int]:
    """`f(args)`: which order of loops the sizes of this call favour: that of this driver (0), that
    of `few_rows` (`FEW_ROWS`), or that of another kernel (its address)."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared, subroutine

    favours_unit = shared(build_favours_unit, returns=1)
    turned_pays, dots_pay, few_rows_pay = (
        subroutine(build(widest), returns=1)
        for build in (build_turned_pays, build_dots_pay, _build_few_rows_pay)
    )

    def suits(args: int) -> int:
        m, n, k = slot(args, slots.M), slot(args, slots.N), slot(args, slots.K)
        flip_a, flip_b = slot(args, slots.FLIP_A), slot(args, slots.FLIP_B)
        vector: int = slot(args, slots.VECTOR)
        other: int = slot(args, slots.OTHER)
        unit: int = slot(args, slots.UNIT)
        if m == 1 or (n == 1 and not slot(args, slots.WIDTH)):
            return vector
        if unit and favours_unit(m, n, k, flip_a, flip_b, slot(args, slots.PIECES)):
            return unit
        if flip_a:
            return other if other and turned_pays(m, n, k) else 0
        if other and dots_pay(m, n, k, flip_b):
            return other
        return FEW_ROWS if flip_b and few_rows_pay(m, n, k, slot(args, slots.GROUP)) else 0

    return suits


# Estimates of the functions below are in multiply-adds. Columns are rounded up to vectors, or rows
# where a result is turned, and a single column beyond whole vectors counts for nothing in the order
# of this driver; and to transpose a number costs half a vector of multiply-adds. Another
# order of loops has to be better by a twentieth, which is about what the estimates are worth.


def build_turned_pays(widest: Tile) -> Callable[[int, int, int], int]:
    """`f(m, n, k)`: whether to compute the transposed result, where A is stored transposed."""
    lanes, two = widest.lanes, 2 * widest.lanes

    def turned_pays(m: int, n: int, k: int) -> int:
        turned = (m + two - 1) // two * two * n * k + lanes // 2 * m * n
        plain = (n + lanes - 2) // lanes * lanes * m * k + lanes // 2 * m * k
        return 1 if m >= two and k > 0 and (n <= lanes or 20 * turned < 19 * plain) else 0

    return turned_pays


def build_dots_pay(widest: Tile) -> Callable[[int, int, int, int], int]:
    """`f(m, n, k, flip_b)`: whether to read both operands along their rows: those of B transposed
    unless that is how it is stored."""
    lanes, size, block = widest.lanes, widest.bytes_each, slots.DOTS_BLOCK

    def dots_pay(m: int, n: int, k: int, flip_b: int) -> int:
        if k < slots.DOTS_DEPTH or (not flip_b and m < slots.DOTS_COLUMNS):
            return 0
        if n <= slots.DOTS_COLUMNS or (flip_b and m <= slots.DOTS_ROWS):
            return 1
        # Each number is loaded for few multiply-adds, twice where vectors lie across two lines of
        # the cache; and lanes are added up for each block of the depth.
        dots = m * n * k + m * n * k // (8 if k * size % 64 == 0 else 4)
        dots += 10 * lanes * m * n * ((k + block - 1) // block)
        plain, turning = (n + lanes - 2) // lanes * lanes * m * k, lanes // 2 * n * k
        if flip_b:
            plain += turning
        else:
            dots += turning
        return 1 if 20 * dots < 19 * plain else 0

    return dots_pay


def _build_few_rows_pay(widest: Tile) -> Callable[[int, int, int, int], int]:
    """`f(m, n, k, group)`: whether to turn A and the result rather than B, which is stored
    transposed: A then takes the place of panels of B, `group` bytes."""
    lanes, two, size = widest.lanes, 2 * widest.lanes, widest.bytes_each

    def few_rows_pay(m: int, n: int, k: int, group: int) -> int:
        room = m <= n and (m + two - 1) // two * two * k * size <= group
        turned = (m + lanes - 1) // lanes * lanes * n * k + lanes // 2 * m * (n + k)
        packed = (n + lanes - 2) // lanes * lanes * m * k + lanes // 2 * n * k
        return 1 if room and 0 < k <= slots.DEPTH and turned < packed else 0

    return few_rows_pay
