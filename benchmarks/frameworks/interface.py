"""What a framework has to offer to be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.cases import Case

__all__ = ["LEARNING_RATE", "Framework", "Task", "Variables", "groups"]

#: Adam's, everywhere with beta1 0.9, beta2 0.999 and eps 1e-8.
LEARNING_RATE = 1e-3

Variables = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Task:
    """A case with its weights, by their names in `.dnn`, and its network as ONNX where one asks.

    `tune` lets a framework try out its settings first.
    """

    case: Case
    variables: Variables
    onnx: Path | None = None
    tune: bool = True


class Framework(Protocol):
    """A framework with its threads set."""

    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        """What is timed: a call that predicts and returns the logits, or that makes one step of
        Adam on the mean cross entropy and returns the loss before it."""
        ...


def groups(variables: Variables) -> list[dict[str, np.ndarray]]:
    """Variables layer by layer, in the order of the text, by the last parts of their names."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in variables.items():
        path, _, last = name.rpartition(".")
        layers.setdefault(path, {})[last] = array
    return list(layers.values())
