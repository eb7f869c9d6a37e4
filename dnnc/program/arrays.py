"""Memory that programs read fastest: aligned, and in large pages where there is much of it."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from dnnc.program.memory import ALIGNMENT, address_of, round_up

__all__ = ["aligned", "empty", "side_by_side"]

#: Bytes of a large page, on x86 and with the usual settings elsewhere.
_PAGE = 1 << 21
#: Bytes of an array from which on alignment pays for what it costs, about a microsecond: vectors
#: across two lines are stored as two, and threads that share columns would share lines.
_WORTHWHILE = 1 << 12


def aligned(count: int) -> np.ndarray:
    """`count` bytes, not initialized, that begin at a multiple of ALIGNMENT.

    Where they fill a large page they begin with one, if the system has such pages: matrices whose
    rows lie on pages of their own cost less to address.
    """
    if count >= _PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        # Where there is no room for large pages, there may be some for small ones.
        with suppress(OSError):
            return _large(count)
    return _aligned((count,), count, np.dtype(np.uint8))


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array, not initialized. Large ones are aligned, in memory that the allocator keeps."""
    count = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if count < _WORTHWHILE else _aligned(shape, count, dtype)


def _aligned(shape: Sequence[int], count: int, dtype: np.dtype) -> np.ndarray:
    raw = np.empty(count + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, raw, -address_of(raw) % ALIGNMENT)


def _large(count: int) -> np.ndarray:
    # Pages that nobody touches take no memory.
    area = mmap.mmap(-1, count + 2 * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        area.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(area, np.uint8)
    start = -raw.ctypes.data % _PAGE
    return raw[start : start + count]


def side_by_side(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies of arrays, contiguous, one after the other in one piece of memory."""
    raw = aligned(sum(round_up(array.nbytes) for array in values.values()))
    copies: dict[str, np.ndarray] = {}
    start = 0
    for name, array in values.items():
        place = raw[start : start + array.nbytes]
        copies[name] = place.view(array.dtype).reshape(array.shape)
        copies[name][...] = array
        start += round_up(array.nbytes)
    return copies
