"""What is done to a region of a product or a convolution once it holds its sums.

An epilogue is a kernel of its own, called by drivers through its address: `f(args, region, 0)`,
where `args` are its own slots and `region` a table of `Region.WORDS` words. A region is some rows
by some adjacent columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from dnnc.kernels.abi import Argument, Integer, Kernel
from dnnc.kernels.code import Code

__all__ = ["Epilogue", "Region", "no_epilogue"]


class Region(IntEnum):
    """Words of a region: where its sums lie, its extent, and the index of its first element.

    A product has the indices matrix, row, column; a convolution image, channel, line, column.
    Rows are those of the matrix or the channels. Adjacent columns of
    the sums are STEP apart in the result.
    """

    SOURCE = 0
    SOURCE_ROW = 1
    ROWS = 2
    COLUMNS = 3
    FIRST = 4
    STEP = 8
    WORDS = 9


@dataclass(frozen=True, slots=True)
class Epilogue:
    """The code of an epilogue and its slots."""

    kernel: Kernel
    slots: tuple[Argument, ...]
    #: Whether lines of an image may come as one, since nothing depends on line or column alone.
    flat: bool = False

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What follows the slots of the driver."""
        return (Code(self.kernel), *self.slots)


def no_epilogue() -> tuple[Argument, ...]:
    return (Integer.of(0),)
