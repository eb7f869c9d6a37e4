"""The arrays that training changes: parameters, states and the optimizer's states, by name."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from dnnc.elaborate.plan import TrainingPlan
from dnnc.program.arrays import side_by_side
from dnnc.train.evaluate import Compiler
from dnnc.train.feed import inputs_of

__all__ = ["Variables", "fingerprint", "first_values", "first_wrong", "restore"]

Variables = dict[str, np.ndarray]


def first_values(
    plan: TrainingPlan, compile: Compiler, initial: Mapping[str, np.ndarray] | None = None
) -> Variables:
    """The variables before the first step: from the seed, or `initial` for the network's own."""
    network = plan.network
    if initial is None:
        seed = {"seed": np.array(plan.seed, np.int64)}
        initial = compile(network.initial)(inputs_of(network.initial, seed))
    names = (*network.parameters, *network.states)
    variables = side_by_side({name: np.asarray(initial[name]) for name in names})
    if plan.optimizer_states:
        held = inputs_of(plan.initial_optimizer, variables)
        states = compile(plan.initial_optimizer)(held)
        variables |= side_by_side({name: states[name] for name in plan.optimizer_states})
    return variables


def restore(variables: Variables, values: Mapping[str, np.ndarray]) -> None:
    """Write `values` into the arrays that programs hold."""
    for name, array in values.items():
        variables[name][...] = array


def first_wrong(variables: Mapping[str, np.ndarray], names: Iterable[str]) -> str | None:
    """The first of `names` whose array holds a value that is not finite."""
    for name in names:
        array = variables[name]
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return name
    return None


def fingerprint(variables: Mapping[str, np.ndarray]) -> str:
    """A text that differs where the values do."""
    total = 0
    for name in sorted(variables):
        array = np.ascontiguousarray(variables[name])
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"
