"""What is learned from data and kept for other data: means, deviations, vocabularies, fillings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dnnc.data.rows import Array, Rows

#: Rows summed at a time.
_CHUNK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """`mean` and `deviation` as f64, of the shape of one example or of single numbers.

    Where values are constant the deviation is 1, so that they become 0.
    """

    mean: Array
    deviation: Array

    def apply(self, values: Array) -> Array:
        """Standardize values [rows, *shape] or one example; gives f32 unless they are f64."""
        storage = np.float64 if values.dtype == np.float64 else np.float32
        result: Array = ((values - self.mean) / self.deviation).astype(storage)
        return result


#: Anything learned: by `standardize`, `categories` (names), `one_hot` (classes), and what `missing`
#: puts in place.
Fit: TypeAlias = "Statistics | tuple[str, ...] | int | Array"


def fit(rows: Rows, indices: Array, together: bool) -> Statistics:
    """Mean and population deviation over rows, and over the whole example where `together`.

    Chunks are joined by the update of Chan, Golub and LeVeque (1979), which keeps the precision
    that sums of squares lose.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for start in range(0, len(indices), _CHUNK):
        values = rows.take(indices[start : start + _CHUNK]).astype(np.float64)
        axes = tuple(range(values.ndim)) if together else (0,)
        size = values.size if together else len(values)
        if not size:
            continue
        here = values.mean(axis=axes)
        spread = ((values - here) ** 2).sum(axis=axes)
        delta = here - mean
        total = count + size
        squares = squares + spread + delta**2 * (count * size / total)
        mean = mean + delta * (size / total)
        count = total
    deviation = np.sqrt(squares / max(1, count))
    # Rounding leaves a trace of deviation in constant columns that are not exact in binary.
    flat = deviation <= 1e-12 * np.abs(mean)
    return Statistics(mean, np.where(flat, 1.0, deviation))
