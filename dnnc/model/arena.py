"""The variables of a model in one piece of memory, where changes of them are noticed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

__all__ = ["Arena", "Watch"]

#: Bytes of a cache line and of the widest vector register, at multiples of which arrays begin.
_ALIGNMENT = 64


class Arena:
    """Copies of arrays, each contiguous and aligned to 64 bytes, one after the other in memory."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self._spans: dict[str, tuple[int, int]] = {}
        end = 0
        for name, array in values.items():
            start, end = end, end + -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
            self._spans[name] = (start, end)
        raw = np.zeros(end + _ALIGNMENT, np.uint8)
        first = -raw.ctypes.data % _ALIGNMENT
        self._memory = raw[first : first + end]
        self.arrays: dict[str, np.ndarray] = {}
        for name, values_of in values.items():
            start = self._spans[name][0]
            place = self._memory[start : start + values_of.nbytes]
            self.arrays[name] = place.view(values_of.dtype).reshape(values_of.shape)
            self.arrays[name][...] = values_of

    def watch(self, names: Collection[str]) -> Watch:
        """What notices changes of these arrays."""
        spans: list[tuple[int, int]] = []
        for name, (start, end) in self._spans.items():
            if name not in names:
                continue
            if spans and spans[-1][1] == start:
                start = spans.pop()[0]
            spans.append((start, end))
        words = self._memory.view(np.uint64)
        return Watch([words[start // 8 : end // 8] for start, end in spans])


class Watch:
    """Pieces of memory, and what they held when last asked.

    Comparing costs less than what it saves: reading twice, in place of computing and writing.
    """

    def __init__(self, pieces: list[np.ndarray]) -> None:
        self._pieces = [(piece, np.empty_like(piece)) for piece in pieces]
        self._asked = False

    def changed(self) -> bool:
        """Whether anything has changed since the last call, or there was none."""
        changed = not self._asked
        for piece, kept in self._pieces:
            if changed or not (piece == kept).all():
                kept[...] = piece
                changed = True
        self._asked = True
        return changed
