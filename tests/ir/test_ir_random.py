"""The random generator: published answers, independence of place, distribution."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.ir.random import philox, stream_key, uniform
from dnnc.ir.types import DType


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        # From kat_vectors of the Random123 distribution, philox2x32 with 10 rounds.
        ((0x00000000, 0x00000000), 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_known_answers(counter: tuple[int, int], key: int, words: tuple[int, int]) -> None:
    low, high = (np.array([word], np.uint32) for word in counter)
    x0, x1 = philox(low, high, key)
    assert (int(x0[0]), int(x1[0])) == words


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_numbers_are_uniform(dtype: DType) -> None:
    numbers = uniform(1, 2, 3, (100, 1000), dtype)
    assert numbers.dtype == dtype.numpy
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    # Chi-squared with 99 degrees of freedom exceeds 175 once in a million.
    assert ((counts - 1000) ** 2 / 1000).sum() < 175
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.02


def test_numbers_depend_on_everything_but_the_shape() -> None:
    numbers = uniform(1, 2, 3, (6,), DType.F64)
    np.testing.assert_array_equal(uniform(1, 2, 3, (2, 3), DType.F64).ravel(), numbers)
    np.testing.assert_array_equal(uniform(1, 2, 3, (3,), DType.F64), numbers[:3])
    for seed, step, place in [(0, 2, 3), (1, 3, 3), (1, 2, 4), (-1, 2, 3), (2**62, 2, 3)]:
        assert not np.isin(uniform(seed, step, place, (6,), DType.F64), numbers).any()


def test_numbers_of_different_places_are_independent() -> None:
    rows = np.stack([uniform(7, 1, place, (2000,), DType.F64) for place in range(20)])
    correlations = np.corrcoef(rows) - np.eye(20)
    assert np.abs(correlations).max() < 0.12


def test_keys_and_numbers_stay_the_same() -> None:
    """A saved run must resume with the same numbers in every version."""
    assert [stream_key(0, 0), stream_key(1, 0), stream_key(-1, 5)] == [
        0xE220A839,
        stream_key(1 - 2**64, 0),
        stream_key(2**64 - 1, 5),
    ]
    assert (
        uniform(0, 0, 0, (2,), DType.F32).tolist() == uniform(0, 2**32, 0, (2,), DType.F32).tolist()
    )
