"""Which epoch is the best, and when to stop."""

from __future__ import annotations

import math

from dnnc.elaborate.plan import EarlyStop, TrainingPlan
from dnnc.train.checkpoint import Position
from dnnc.train.evaluate import Metrics

__all__ = ["judge"]


def judge(plan: TrainingPlan, position: Position, validation: Metrics | None) -> bool:
    """Enter an epoch that has just ended into `position`; True where it is the best so far.

    Sets `reason` where training ends here. Without a validation split the last epoch counts.
    """
    improved = False
    if validation is None:
        position.best_epoch = position.epoch
    else:
        value = float(validation[plan.monitor])
        improved = _better(value, position.best, plan.monitor_larger)
        if improved:
            position.best, position.best_epoch = value, position.epoch
    if position.epoch >= plan.epochs:
        position.reason = "epochs"
    elif validation is not None and plan.stop is not None:
        _wait(plan.stop, position, float(validation[plan.stop.monitor]))
    return improved


def _wait(stop: EarlyStop, position: Position, value: float) -> None:
    if _better(value, position.stop_best, stop.larger_is_better, stop.minimum_gain):
        position.stop_best, position.stop_waited = value, 0
        return
    position.stop_waited += 1
    if position.stop_waited >= stop.patience:
        position.reason = "early stop"


def _better(value: float, best: float | None, larger: bool, gain: float = 0.0) -> bool:
    """Whether `value` improves on `best` by more than `gain`; NaN never does."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value > best + gain if larger else value < best - gain
