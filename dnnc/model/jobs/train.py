"""`train M on D { … }`: fit the parameters of a model to data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc.diagnostics import Collector, DnnError
from dnnc.elaborate.network import FieldShape
from dnnc.elaborate.options import TrainOptions, read_options
from dnnc.elaborate.plan import TrainingPlan
from dnnc.elaborate.training import plan_training
from dnnc.ir.graph import Graph
from dnnc.model.compiled import Compiled, MemoryBudget, compile_graph, require_distinct_names
from dnnc.model.job import Job, job_kind
from dnnc.syntax import tree
from dnnc.tuning.decisions import batch

if TYPE_CHECKING:
    from dnnc.model.program import Program
    from dnnc.train.progress import Progress
    from dnnc.train.result import TrainingResult

__all__ = ["TrainJob"]


@job_kind("train")
class TrainJob(Job):
    """A `train` job."""

    def __init__(self, program: Program, node: tree.Job) -> None:
        super().__init__(program, node)
        self._plan: TrainingPlan | None = None

    def plan(self) -> TrainingPlan:
        """Graphs and options of the job; raises DnnError with every error found."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> TrainingPlan:
        node = self.node
        errors = Collector()
        models, datasets = self.program.models, self.program.datasets
        known = self.known(node.model, models, "E401", "model", errors)
        described = self.known(node.data, datasets, "E402", "data block", errors)
        options = read_options(node, self.program.module.env, errors)
        if described:
            try:
                self.program.fields(self.data)
            except DnnError as error:
                errors.add(error)
                described = False
        if known and described and options is not None:
            return self._planned(options, errors)
        if known:
            # The job is not planned, but the network can be judged without it.
            errors.add(DnnError(self.program.faults_of(self.model)))
        raise DnnError(errors.diagnostics)

    def _planned(self, options: TrainOptions, errors: Collector) -> TrainingPlan:
        """The plan, where it has no errors and there have been none before it."""
        try:
            plan = self.plan_with(options)
            require_distinct_names(plan.step, self.node.span)
        except DnnError as error:
            errors.add(error)
            raise DnnError(errors.diagnostics) from None
        errors.raise_if_any()
        return plan

    def options(self) -> TrainOptions:
        """The options as written; raises DnnError with every error found."""
        errors = Collector()
        options = read_options(self.node, self.program.module.env, errors)
        errors.raise_if_any()
        assert options is not None, "without a loss there has been an error"
        return options

    def plan_with(
        self,
        options: TrainOptions,
        settings: Mapping[str, Any] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> TrainingPlan:
        """The plan with settings and sizes of the model in place of its own."""
        fields: dict[str, FieldShape] = self.program.fields(self.data)
        return plan_training(
            self.program.models[self.model],
            settings or {},
            fields,
            options,
            name=self.name,
            data=self.data,
            env=self.program.module.env,
            span=self.node.span,
            sizes=sizes,
        )

    def run(
        self,
        folder: Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        memory: int | str | None = None,
    ) -> TrainingResult:
        """Train; `folder` keeps the run, and nothing is kept without it.

        `memory` bounds the arena of a training step (bytes, or "200MB"): values are computed again
        rather than kept, which changes no bit of the results. Evaluation keeps nothing anyway.

        Raises DnnError, also (E607) where the data hold indices or labels that are out of range.
        """
        from dnnc.model.rows import check_rows
        from dnnc.train.loop import train

        plan = self.plan()
        budget = None
        if memory is not None:
            budget = MemoryBudget.of(memory, plan.batch, plan.span)
        dataset = self.program.dataset(plan.data)
        check_rows(plan, dataset)
        return train(
            plan,
            dataset,
            compile=partial(_compiled, plan, budget),
            folder=folder,
            resume=resume,
            progress=progress,
            program=self.program.text,
        )


def _compiled(plan: TrainingPlan, memory: MemoryBudget | None, graph: Graph) -> Compiled:
    """A graph of a job, for batches of its size; the last of an epoch may be smaller."""
    with batch(plan.batch):
        return compile_graph(graph, memory=memory if graph is plan.step else None)
