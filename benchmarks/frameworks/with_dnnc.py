"""dnnc: by the public face, or by the compiled program alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import dnnc
from benchmarks.cases import Case
from benchmarks.frameworks.interface import LEARNING_RATE, Framework, Task, Variables
from dnnc.diagnostics import Source
from dnnc.elaborate.network import FieldShape
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.training import plan_training
from dnnc.ir.graph import Graph
from dnnc.ir.types import DType
from dnnc.model.arena import Arena
from dnnc.passes.pipeline import optimize_split
from dnnc.program.executable import Executable
from dnnc.syntax.parse import parse_expression
from dnnc.tuning.decisions import batch

__all__ = ["Dnnc", "create", "graph_of", "prepared", "random_variables"]

LOSS = "cross_entropy(logits, label)"
OPTIMIZER = f"adam(lr = {LEARNING_RATE})"


def create(variant: str, threads: int) -> Framework:
    return Dnnc(variant, threads)


def model_of(case: Case, threads: int | None = None) -> dnnc.Model:
    """The network of a case."""
    network = case.definition
    settings: dict[str, Any] = case.settings
    return dnnc.load(network.path).model(network.model, threads=threads, **settings)


def random_variables(case: Case) -> dict[str, np.ndarray]:
    """Weights for a case: as initialized, but for constant arrays, which would hide mistakes."""
    random = np.random.default_rng(7)
    variables = {}
    for name, array in model_of(case).variables.items():
        variables[name] = array.copy()
        if array.min() == array.max():
            variables[name] += 0.2 * random.random(array.shape, np.float32)
    return variables


def graph_of(case: Case) -> Graph:
    """The program of a case as elaborated."""
    net = model_of(case)
    if case.mode == "infer":
        return net.network.predict
    fields = {
        name: FieldShape(DType.of(array), array.shape[1:]) for name, array in case.inputs().items()
    }
    options = TrainOptions(
        loss=parse_expression(Source("<loss>", LOSS)),
        optimizer=parse_expression(Source("<optimizer>", OPTIMIZER)),
    )
    plan = plan_training(
        net.block, net.settings, fields, options,
        name=case.name, data="<arrays>", env=net.program.module.env,
    )  # fmt: skip
    return plan.step


def prepared(
    graph: Graph, variables: Variables, threads: int, examples: int
) -> tuple[Graph, Variables]:
    """The optimized program of a prediction for so many examples, without what depends on weights
    alone, and the values that it takes beside the data."""
    with batch(examples):
        before, after = optimize_split(graph)
    values = dict(variables)
    if before.outputs:
        weights = {item.name: variables[item.name] for item in before.inputs}
        values |= Arena(Executable(before, threads)(weights)).arrays
    names = {item.name for item in after.inputs}
    return after, {name: array for name, array in values.items() if name in names}


@dataclass(frozen=True, slots=True)
class Dnnc:
    """`variant` is "face", or "bare" for the executable without the checks of the public call."""

    variant: str
    threads: int

    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        net = model_of(task.case, self.threads)
        for name, array in task.variables.items():
            net.variables[name] = array
        inputs = task.case.inputs()
        if task.case.mode == "train":
            trainer = net.trainer(LOSS, optimizer=OPTIMIZER)
            return lambda: trainer.step(**inputs)
        if self.variant == "face":
            return lambda: np.asarray(net(**inputs))
        graph, held = prepared(
            net.network.predict, dict(net.variables), self.threads, task.case.batch
        )
        run, arrays = Executable(graph, self.threads), {**held, **inputs}
        return lambda: run(arrays)["logits"]
