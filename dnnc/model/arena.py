"""The variables of a model in one piece of memory, and a count of their changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnnc.program.arrays import side_by_side

__all__ = ["Arena"]


class Arena:
    """Copies of arrays, each contiguous and aligned to 64 bytes, one after the other in memory.

    Whoever writes into `arrays` says so by `note_change`; `version` tells how often that was.
    """

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.version = 0
        self.arrays = side_by_side(values)

    def note_change(self) -> None:
        """What was computed of the arrays before holds no longer."""
        self.version += 1
