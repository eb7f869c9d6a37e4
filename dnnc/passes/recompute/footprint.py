"""What a program takes, as far as the pass wants to know, and how much it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnnc.diagnostics import Span
from dnnc.ir.graph import Graph, Node, Value

__all__ = ["Budget", "Footprint"]


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """Memory and time of the program of a graph, for given sizes.

    The program is a sequence of calls, whose positions count from 0. `spans` gives the first and
    the last position of each node that has calls, in their order; all other nodes cost nothing.
    `live` is the number of bytes of the arena that are in use at each position, `seconds` a rough
    estimate of the time of each node, and `bytes_of` tells the bytes of a value.
    """

    spans: dict[Node, tuple[int, int]]
    live: np.ndarray
    seconds: dict[Node, float]
    bytes_of: Callable[[Value], int]
    #: Bytes of the whole arena, in which storages lie with gaps between them.
    arena: Callable[[], int]


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """Most `bytes` that the arena of a program may have, and who measures it.

    `arena` tells what a program takes as it will run; `measure` its footprint if each call did all
    of the batch, as they do where values are computed again. `batch` is the number of examples for
    which it is measured; `span` the place that is blamed where the budget cannot be met.
    """

    bytes: int
    batch: int
    arena: Callable[[Graph], int]
    measure: Callable[[Graph], Footprint]
    span: Span | None = None
