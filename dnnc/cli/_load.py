"""From a path and `-D` options to a program, and from a program to one of its models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnnc.diagnostics import Diagnostic, DnnError, closest, register_codes
from dnnc.syntax import tree

if TYPE_CHECKING:
    from dnnc.elaborate.plan import TrainingPlan
    from dnnc.ir.dims import Dim
    from dnnc.model import Model, Program

__all__ = ["load", "model_name", "open_model", "training_plan"]

register_codes({"E903": "a command names a model that is not in the file"})


def load(path: Path, definitions: Sequence[str] = (), runs: bool = True) -> Program:
    """The checked program of a file, of which something `runs` or which is only to be looked at;
    raises DnnError with everything that is wrong."""
    from dnnc.cli._overrides import override
    from dnnc.model.program import checked
    from dnnc.syntax.parse import read_source

    return checked(override(read_source(path), definitions), runs=runs)


def model_name(program: Program, name: str | None) -> str:
    """The name of a model of the file, which may be left out where there is one alone."""
    models = list(program.models)
    if name in models:
        return str(name)
    if name is None and len(models) == 1:
        return models[0]
    listed = ", ".join(models) if models else "none"
    if name is None:
        message, help = f"the file has {len(models)} models", f"name one of them: {listed}"
    else:
        near = closest(name, models)
        message = f"the file has no model `{name}`"
        help = f"did you mean `{near}`?" if near else f"its models: {listed}"
    raise DnnError(Diagnostic("E903", message, help=help))


def training_plan(program: Program, name: str) -> TrainingPlan | None:
    """The plan of the first job that trains the model; None where there is none."""
    for job in program.jobs:
        if job.kind == "train" and job.model == name:
            return job.plan()
    return None


def open_model(program: Program, name: str) -> Model:
    """The model, with those sizes of its inputs fixed that its training data have."""
    plan = training_plan(program, name)
    if plan is None:
        return program.model(name)
    sizes: dict[str, Any] = {}
    for port in program.models[name].definition.body:
        if isinstance(port, tree.Port) and port.direction == "in" and port.shape is not None:
            for input in port.names:
                sizes.update(_sizes(port.shape, plan.network.inputs[input].shape))
    return program.model(name, **sizes)


def _sizes(shape: tree.Shape, known: Sequence[Dim]) -> Iterator[tuple[str, int]]:
    """The named sizes of a port that are numbers in the network."""
    for entry, size in zip(shape.dims, known, strict=False):
        if isinstance(entry, tree.Ellipsis_):
            return
        if isinstance(entry.size, tree.Name) and size.constant is not None:
            yield entry.size.name, size.constant
