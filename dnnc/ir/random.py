"""Random numbers that depend on nothing but their place: Philox2x32-10.

The generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number
is a function of (seed, step, place in the program, index of the element), so it depends neither on
the number of threads nor on the order of execution. The kernels compute the same bits.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dnnc.ir.types import DType

__all__ = ["MULTIPLIER", "ROUNDS", "WEYL", "philox", "stream_key", "uniform"]

Words: TypeAlias = npt.NDArray[np.uint32]

MULTIPLIER = 0xD256D193
WEYL = 0x9E3779B9
ROUNDS = 10

_MASK = (1 << 64) - 1


def stream_key(seed: int, place: int) -> int:
    """The 32-bit key of one place of a program.

    The high half of SplitMix64's output function (Steele et al., OOPSLA 2014) at
    `seed + (place + 1) * 0x9E3779B97F4A7C15`, modulo 2**64.
    """
    z = (seed + (place + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 32


def philox(low: Words, high: Words, key: int) -> tuple[Words, Words]:
    """Two 32-bit words for each counter (`low`, `high`) under a 32-bit key."""
    x0, x1 = low.astype(np.uint64), high.astype(np.uint64)
    for turn in range(ROUNDS):
        round_key = np.uint64((key + turn * WEYL) & 0xFFFFFFFF)
        wide = x0 * np.uint64(MULTIPLIER)
        x0 = (wide >> np.uint64(32)) ^ round_key ^ x1
        x1 = wide & np.uint64(0xFFFFFFFF)
    return x0.astype(np.uint32), x1.astype(np.uint32)


def uniform(
    seed: int, step: int, place: int, shape: tuple[int, ...], dtype: DType
) -> npt.NDArray[Any]:
    """Numbers in [0, 1): f32 with 24 random bits, f64 with 53.

    The counter of an element is (its row-major index, the step), each modulo 2**32.
    """
    index = np.arange(math.prod(shape), dtype=np.uint64).astype(np.uint32)
    x0, x1 = philox(index, np.full_like(index, step & 0xFFFFFFFF), stream_key(seed, place))
    if dtype is DType.F32:
        return ((x0 >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)).reshape(shape)
    high = (x0 >> np.uint32(5)).astype(np.float64) * 2.0**26
    low = (x1 >> np.uint32(6)).astype(np.float64)
    return ((high + low) * 2.0**-53).reshape(shape)
