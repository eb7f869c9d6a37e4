"""Memory of arrays: where it begins."""

import numpy as np
import pytest

from dnnc.program.arrays import aligned, empty
from dnnc.program.memory import ALIGNMENT, address_of


@pytest.mark.parametrize("count", [0, 1, 100, 1 << 16, (1 << 21) + 3])
def test_aligned_memory(count: int) -> None:
    array = aligned(count)
    assert array.nbytes == count
    if count:
        assert address_of(array) % ALIGNMENT == 0
        array[:] = 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_large_arrays_are_aligned(dtype: str) -> None:
    # NumPy's own begin 16 bytes behind a multiple of 64 as a rule: one of several would show it.
    arrays = [empty((300 + k, 1000), np.dtype(dtype)) for k in range(5)]
    for k, array in enumerate(arrays):
        array[:] = k
        assert array.shape == (300 + k, 1000)
        assert array.dtype == np.dtype(dtype)
        assert array.flags.c_contiguous
        assert address_of(array) % ALIGNMENT == 0
    assert [int(array.max()) for array in arrays] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7, 5)])
def test_small_arrays(shape: tuple[int, ...]) -> None:
    assert empty(shape, np.dtype(np.int64)).shape == shape
