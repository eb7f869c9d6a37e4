"""What a run is given besides its plan, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnc.train.evaluate import Metrics
from dnnc.train.variables import Variables

__all__ = ["Options", "TrainingResult"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is kept, none of which changes its results.

    A checkpoint is due after `checkpoint_seconds`, after `checkpoint_steps` steps where given, and
    at the end of an epoch; those by time never take more than a twentieth of the time.
    """

    checkpoint_seconds: float = 30.0
    checkpoint_steps: int | None = None
    report: bool = True


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run gave. `variables` are parameters and states of the best epoch, `last` of the last
    one.

    `reason` is "epochs" or "early stop". Metrics are by name; `validation` are those of the best
    epoch. `seconds` counts all parts of a resumed run. `history` holds the lines of the log.
    """

    name: str
    folder: Path | None
    reason: str
    epochs: int
    steps: int
    best_epoch: int
    train_loss: float
    validation: Metrics | None
    test: Metrics | None
    variables: Variables
    last: Variables
    seconds: float
    history: tuple[dict[str, Any], ...]
    already_finished: bool = False
