"""The report of a run: `report.html` in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnc.elaborate.plan import TrainingPlan
from dnnc.train.evaluate import Compiler
from dnnc.train.feed import Data, Feed, data_types
from dnnc.train.files import write_text
from dnnc.train.folder import RunFolder
from dnnc.train.report.costs import count_macs
from dnnc.train.report.page import Facts, page
from dnnc.train.report.predictions import predictions

__all__ = ["write_report"]


def write_report(
    folder: RunFolder,
    plan: TrainingPlan,
    dataset: Data,
    *,
    compile: Compiler,
    variables: Mapping[str, np.ndarray],
    seconds: float,
) -> None:
    """Write the report of the run in `folder`, whose kept weights are `variables`."""
    examples = {name: dataset.splits[name].size for name in dataset.splits}
    facts = Facts(
        plan=plan,
        history=folder.entries(),
        settings=json.loads(folder.settings.read_text(encoding="utf-8")),
        program=folder.program.read_text(encoding="utf-8"),
        examples={name: count for name, count in examples.items() if count},
        data=_data_rows(dataset, plan),
        macs=_macs(plan, dataset),
        predictions=predictions(plan, dataset, compile, variables),
        seconds=seconds,
    )
    write_text(folder.report, page(facts))


def _data_rows(dataset: Data, plan: TrainingPlan) -> list[tuple[str, str]]:
    example = _example(dataset)
    return [
        (name, f"{example[name].dtype}{list(example[name].shape[1:])}")
        for name in plan.fields
        if name in example
    ] + [("fingerprint", dataset.fingerprint)]


def _macs(plan: TrainingPlan, dataset: Data) -> dict[str, int]:
    graph = plan.network.predict
    types = data_types(graph, tuple(plan.network.inputs))
    if not set(types) <= set(dataset.fields):
        return {}
    feed = Feed(dataset.splits["train"], types, 1, 0)
    inputs = feed.convert(_example(dataset))
    return count_macs(graph, {name: array.shape for name, array in inputs.items()})


def _example(dataset: Data) -> dict[str, Any]:
    return dict(dataset.splits["train"].take(np.arange(1)))
