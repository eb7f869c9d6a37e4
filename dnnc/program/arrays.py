"""Memory that programs read fastest: aligned, and in large pages where there is much of it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from dnnc.program.memory import ALIGNMENT, round_up

__all__ = ["aligned", "side_by_side"]

#: Bytes of a large page, on x86 and with the usual settings elsewhere.
_PAGE = 1 << 21


def aligned(count: int) -> np.ndarray:
    """`count` bytes, not initialized, that begin at a multiple of ALIGNMENT.

    Where they fill a large page they begin with one, if the system has such pages: matrices whose
    rows lie on pages of their own cost less to address.
    """
    if count >= _PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        # Where there is no room for large pages, there may be some for small ones.
        with suppress(OSError):
            return _large(count)
    raw = np.empty(count + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count]


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
