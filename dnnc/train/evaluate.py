"""Loss and metrics over a whole split, exactly: from sums over its batches, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from dnnc.elaborate.plan import Evaluation
from dnnc.ir.interpret import interpret
from dnnc.train.feed import inputs_of

__all__ = ["Compiled", "Compiler", "Metrics", "evaluate"]

Compiled: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
Compiler: TypeAlias = Callable[[Any], Compiled]
#: A number for each scalar metric, nested lists for the others.
Metrics: TypeAlias = dict[str, Any]

_JOIN: dict[str, Callable[..., np.ndarray]] = {"add": np.add, "max": np.maximum, "min": np.minimum}


def evaluate(
    evaluation: Evaluation,
    sums: Compiled,
    variables: Mapping[str, np.ndarray],
    batches: Iterable[Mapping[str, np.ndarray]],
    examples: int,
) -> Metrics:
    """The metrics over all `batches`; `sums` is `evaluation.sums` compiled."""
    totals: dict[str, np.ndarray] = {}
    for batch in batches:
        parts = sums(inputs_of(evaluation.sums, variables, batch))
        for name, how in evaluation.combine.items():
            part = _wide(parts[name])
            totals[name] = _JOIN[how](totals[name], part) if name in totals else part
    return _finish(evaluation, totals, examples)


def _wide(array: np.ndarray) -> np.ndarray:
    """A copy as float64 or int64, so that many batches neither round nor overflow."""
    kind = np.float64 if np.issubdtype(array.dtype, np.floating) else np.int64
    return np.array(array, dtype=kind)


def _finish(evaluation: Evaluation, totals: dict[str, np.ndarray], examples: int) -> Metrics:
    given = {**totals, "batch": np.array(examples, np.int64)}
    inputs = {
        item.name: given[item.name].astype(item.value.type.dtype.numpy)
        for item in evaluation.finish.inputs
    }
    with np.errstate(all="ignore"):
        outputs = interpret(evaluation.finish, inputs, {"batch": examples})
    return {name: outputs[name].tolist() for name in evaluation.names}
