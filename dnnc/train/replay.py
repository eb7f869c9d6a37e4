"""Finding the step at which a run went wrong, by repeating the steps since a copy in memory.

A step changes variables in place, so when its loss turns out wrong the weights that it came from
are gone. Steps are deterministic: repeated from an earlier copy they go wrong in the same place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dnnc.diagnostics import DnnError
from dnnc.elaborate.plan import TrainingPlan
from dnnc.train.checkpoint import Position
from dnnc.train.codes import fault
from dnnc.train.evaluate import Compiled
from dnnc.train.feed import Feed, inputs_of
from dnnc.train.finite import explain
from dnnc.train.variables import Variables, first_wrong, restore

__all__ = ["find_wrong_step"]


def find_wrong_step(
    plan: TrainingPlan,
    step: Compiled,
    feed: Feed,
    variables: Variables,
    scalars: Mapping[str, np.ndarray],
    start: tuple[Variables, Position],
    done: int,
) -> DnnError:
    """The error for the first step since `start` whose loss or parameters are not finite.

    `start` is a copy of the variables and its position in the epoch; `done` steps ended well, as
    far as their loss showed. `variables` and `scalars` are the inputs of `step` and are
    overwritten.
    """
    values, position = start[0], dataclasses.replace(start[1])
    restore(variables, values)
    inputs = inputs_of(plan.step, variables, scalars)
    for batch in feed.shuffled(position.epoch, position.batch):
        before = {name: array.copy() for name, array in variables.items()}
        position.step += 1
        scalars["step"][...] = position.step
        loss = float(step({**inputs, **batch})["loss"])
        if not np.isfinite(loss) or first_wrong(variables, plan.network.parameters) is not None:
            restore(variables, before)
            at = f"step {position.step} (epoch {position.epoch + 1})"
            return explain(plan, step, {**inputs, **batch}, at)
        if position.step > done:
            break
    return fault("E601", f"the loss is not finite after step {done}", plan.span)
