"""The matrices of fast convolution by Winograd's method, in exact numbers.

`m` results of a correlation with `r` taps take `n = m + r - 1` products instead of `m r`: with d
the `n` inputs and g the taps, `y = A^T [(G g) * (B^T d)]`. In two dimensions `Y = A^T [(G g G^T) *
(B^T d B)] A`. The construction is that of Toom and Cook: the polynomials of d, g and y are known by
their values at `n - 1` points and at infinity. Points that are each other's negative let a
transform share half of its work; those chosen keep the rounding error of float32 to three times
that of the direct sum for up to 6 products, and to ten times for 8.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["Winograd", "winograd"]

Matrix = tuple[tuple[Fraction, ...], ...]

#: Finite points, by the number of products in one dimension.
_POINTS = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
    8: tuple(Fraction(*point) for point in ((0,), (1,), (-1,), (1, 2), (-1, 2), (2,), (-2,))),
}


@dataclass(frozen=True, slots=True)
class Winograd:
    """The transforms of inputs `bt` [n, n], of taps `g` [n, r] and of results `at` [m, n]."""

    bt: Matrix
    g: Matrix
    at: Matrix

    def arrays(self) -> tuple[npt.NDArray[np.float64], ...]:
        """`bt`, `g` and `at` in float64."""
        return tuple(np.array(matrix, np.float64) for matrix in (self.bt, self.g, self.at))


@cache
def winograd(results: int, taps: int) -> Winograd:
    """The transforms of F(results, taps), where 4, 6 or 8 products are needed."""
    count = results + taps - 1
    points = _POINTS[count]

    def values(terms: int) -> Matrix:
        """Values of a polynomial of so many coefficients at all points, infinity last."""
        finite = [tuple(point**power for power in range(terms)) for point in points]
        return (*finite, (Fraction(0),) * (terms - 1) + (Fraction(1),))

    bt = _transposed(_inverse(values(count)))
    # Rows of `bt` may have any scale, which those of `g` make up for: with one number 1 at an even
    # place, and others near it, the transform takes fewest operations.
    scales = [next(number for number in (*row[::2], *row[1::2]) if number != 0) for row in bt]
    return Winograd(
        tuple(
            tuple(number / scale for number in row) for row, scale in zip(bt, scales, strict=True)
        ),
        tuple(
            tuple(number * scale for number in row)
            for row, scale in zip(values(taps), scales, strict=True)
        ),
        _transposed(values(results)),
    )


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _inverse(matrix: Matrix) -> Matrix:
    """By elimination, exactly."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(i == j)) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [number / rows[i][i] for number in rows[i]]
        for k in range(size):
            if k != i and rows[k][i] != 0:
                factor = rows[k][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return tuple(tuple(row[size:]) for row in rows)
