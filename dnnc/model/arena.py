"""The variables of a model in one piece of memory, and a count of their changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["Arena"]

#: Bytes of a cache line and of the widest vector register, at multiples of which arrays begin.
_ALIGNMENT = 64


class Arena:
    """Copies of arrays, each contiguous and aligned to 64 bytes, one after the other in memory.

    Whoever writes into `arrays` says so by `note_change`; `version` tells how often that was.
    """

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        sizes = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in values.values()]
        raw = np.zeros(sum(sizes) + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self.version = 0
        self.arrays: dict[str, np.ndarray] = {}
        for (name, array), size in zip(values.items(), sizes, strict=True):
            place = raw[start : start + array.nbytes]
            self.arrays[name] = place.view(array.dtype).reshape(array.shape)
            self.arrays[name][...] = array
            start += size

    def note_change(self) -> None:
        """What was computed of the arrays before holds no longer."""
        self.version += 1
