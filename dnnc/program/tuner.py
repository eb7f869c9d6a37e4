"""Measuring what a decision's candidates cost on this machine.

Each candidate runs alone, on arrays that were made up. The candidates take turns, so that a machine
that is busy for a while, or changes its clock, slows all of them; the shortest time of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from dnnc.ir.graph import Graph
from dnnc.program.executable import Executable
from dnnc.tuning.decisions import Case, Decision

__all__ = ["measure"]

#: Rounds in which every candidate has its turn, if the time allows, and the least.
_ROUNDS, _FEWEST = 200, 3
#: Runs of a program in one turn: the first finds the caches full of another's data.
_RUNS = 4


def measure(
    decision: Decision, case: Case, amount: int, threads: int | None = None, seconds: float = 0.5
) -> dict[int, float]:
    """Seconds that each candidate takes, by the candidate.

    Timing ends after about `seconds`, or three rounds; compiling comes on top.
    """
    turns = {
        candidate: _turn(decision.graph(case, candidate), amount, threads)
        for candidate in decision.candidates(case)
    }
    best = {candidate: turn() for candidate, turn in turns.items()}
    end = time.perf_counter() + seconds
    for count in range(_ROUNDS):
        if count >= _FEWEST and time.perf_counter() > end:
            break
        for candidate, turn in turns.items():
            best[candidate] = min(best[candidate], turn())
    return best


def _turn(graph: Graph, amount: int, threads: int | None) -> Callable[[], float]:
    """A function that runs the graph a few times and returns the seconds of the shortest run."""
    executable = Executable(graph, threads)
    arrays = _made_up(graph, amount)
    return lambda: executable.shortest(arrays, _RUNS)


def _made_up(graph: Graph, amount: int) -> dict[str, np.ndarray]:
    """Small numbers for every input; integers are zero."""
    draw = np.random.default_rng(0)
    sizes = dict.fromkeys(graph.symbols, amount)
    arrays = {}
    for item in graph.inputs:
        shape, dtype = item.value.type.concrete(sizes), item.value.type.dtype
        values = draw.uniform(-0.1, 0.1, shape) if dtype.is_float else np.zeros(shape)
        arrays[item.name] = values.astype(dtype.numpy)
    return arrays
