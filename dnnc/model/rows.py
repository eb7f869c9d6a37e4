"""Integers of a data set against the tables and classes of the network that is to train on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnnc.data import Dataset, Split
from dnnc.data.rows import Rows, Stored, Windows
from dnnc.diagnostics import Diagnostic, DnnError, Note
from dnnc.elaborate.plan import TrainingPlan
from dnnc.ir.types import TensorType
from dnnc.model.indices import IndexRange, index_ranges
from dnnc.train import codes as codes  # registers E607

__all__ = ["check_rows"]

#: Examples that are looked at together.
_EXAMPLES = 4096


def check_rows(plan: TrainingPlan, dataset: Dataset) -> None:
    """Raise DnnError (E607) where a field holds an index without a row, or a label without a class.

    A column whose smallest and largest elements are in range is not looked at example by example.
    """
    types = {item.name: item.value.type for item in plan.step.inputs if item.role == "data"}
    labels = [name for name in plan.fields if name not in plan.network.inputs]
    errors = []
    for wanted in index_ranges(plan.step, labels):
        if wanted.size.constant is None:
            continue
        for name, split in dataset.splits.items():
            message = _complaint(wanted, split, types[wanted.name])
            if message:
                notes = (Note("the field is made here", dataset.fields[wanted.name].span),)
                message = f"in the {name} split, {message}"
                errors.append(Diagnostic("E607", message, wanted.span, "looked up here", notes))
                break
    if errors:
        raise DnnError(errors)


def _complaint(wanted: IndexRange, split: Split, type_: TensorType) -> str | None:
    everything = _elements(split.columns[wanted.name])
    if everything is not None and wanted.includes(everything):
        return None
    shape = tuple(size.constant for size in type_.shape[1:])
    batch = type_.shape[0].name
    for array in _parts(split, wanted.name):
        examples = array.reshape(len(array), *shape) if None not in shape else array
        sizes = {batch: len(array)} if batch is not None else {}
        if message := wanted.complaint(examples, sizes, show_place=False):
            return message
    return None


def _elements(rows: Rows) -> np.ndarray | None:
    """All that the examples may hold, where that is in memory."""
    if isinstance(rows, Stored):
        return rows.values
    return rows.tokens if isinstance(rows, Windows) else None


def _parts(split: Split, name: str) -> Iterator[np.ndarray]:
    for start in range(0, split.size, _EXAMPLES):
        yield split.take(np.arange(start, min(split.size, start + _EXAMPLES)), [name])[name]
