"""A job of a file: what any kind of job has, and the registry of kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

from dnnc.diagnostics import Collector, Diagnostic, DnnError, closest
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.plan import TrainingPlan
from dnnc.syntax import tree

if TYPE_CHECKING:
    from dnnc.model.program import Program
    from dnnc.train.progress import Progress
    from dnnc.train.result import TrainingResult

__all__ = ["JOBS", "Job", "job_kind", "make_job"]

#: Kinds of jobs by their word in the language. Each is a file in `dnnc/model/jobs/` that
#: registers itself.
JOBS: dict[str, type[Job]] = {}

JobClass = TypeVar("JobClass", bound="type[Job]")


def job_kind(word: str) -> Callable[[JobClass], JobClass]:
    """Class decorator: register what does the jobs that begin with `word`."""

    def register(cls: JobClass) -> JobClass:
        if word in JOBS:
            raise TypeError(f"there are two kinds of job `{word}`")
        JOBS[word] = cls
        return cls

    return register


def make_job(program: Program, node: tree.Job) -> Job:
    """The job of a node, of the kind that its first word names."""
    if not JOBS:
        from dnnc.model import jobs

        for found in iter_modules(jobs.__path__):
            import_module(f"{jobs.__name__}.{found.name}")
    return JOBS.get(node.kind, Job)(program, node)


class Job:
    """One job of a file. By itself it is of a kind that is not supported: E408."""

    def __init__(self, program: Program, node: tree.Job) -> None:
        self.program, self.node = program, node

    @property
    def kind(self) -> str:
        return self.node.kind

    @property
    def name(self) -> str:
        return f"{self.node.model.name} on {self.node.data.name}"

    @property
    def model(self) -> str:
        return self.node.model.name

    @property
    def data(self) -> str:
        return self.node.data.name

    def trains(self, model: str) -> bool:
        """Whether this job trains the model of that name."""
        return self.kind == "train" and self.model == model

    def plan(self) -> TrainingPlan:
        """Graphs and options of the job; raises DnnError with every error found."""
        raise self._unsupported()

    def options(self) -> TrainOptions:
        """The options as written; raises DnnError with every error found."""
        raise self._unsupported()

    def plan_with(
        self,
        options: TrainOptions,
        settings: Mapping[str, Any] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> TrainingPlan:
        """The plan with settings and sizes of the model in place of its own."""
        raise self._unsupported()

    def run(
        self,
        folder: Path | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        memory: int | str | None = None,
    ) -> TrainingResult:
        """Do the job; `folder` keeps the run, and nothing is kept without it. Raises DnnError.

        `memory` bounds the arena of a training step: bytes, or a text such as "200MB".
        """
        raise self._unsupported()

    def _unsupported(self) -> DnnError:
        return DnnError(
            Diagnostic(
                "E408",
                f"`{self.kind}` jobs are not supported by this version",
                self.node.span,
                help="remove the job, or comment it out with `#`",
            )
        )

    def known(
        self, node: tree.Name, known: Iterable[str], code: str, what: str, errors: Collector
    ) -> bool:
        names = list(known)
        if node.name in names:
            return True
        near = closest(node.name, names)
        listed = ", ".join(f"`{name}`" for name in names) or "none"
        errors.add(
            DnnError(
                Diagnostic(
                    code,
                    f"there is no {what} `{node.name}`",
                    node.span,
                    f"the file has {listed}",
                    help=f"did you mean `{near}`?" if near else None,
                )
            )
        )
        return False
