"""`dnnc ir FILE`: the program as text, after any pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnc.cli._load import load, model_name, open_model, training_plan
from dnnc.cli._made_up import BATCH, made_up
from dnnc.cli._options import answer, model_arguments, report_options
from dnnc.diagnostics import Diagnostic, DnnError, register_codes

if TYPE_CHECKING:
    from dnnc.ir.graph import Graph
    from dnnc.model import Program

register_codes({"E906": "a command needs a training job, and the file has none"})


@click.command("ir")
@model_arguments
@click.option("--after", metavar="PASS", help="Stop after this pass; `none` for before the first.")
@click.option("--backward", is_flag=True, help="The training step: loss, gradients and updates.")
@click.option("--memory", is_flag=True, help="The plan of memory instead, for one size of batch.")
@report_options
def command(
    file: Path,
    model: str | None,
    definitions: tuple[str, ...],
    after: str | None,
    backward: bool,
    memory: bool,
    json: bool,
) -> None:
    """Show the program that MODEL becomes, as it predicts or, with --backward, as it trains.

    MODEL may be left out where FILE has one alone.
    """
    from dnnc.ir.text import print_graph
    from dnnc.passes.pipeline import optimize
    from dnnc.tuning.decisions import batch

    if memory and after is not None:
        raise click.UsageError("--memory is of the finished program: leave --after out")
    program = load(file, definitions, runs=False)
    graph, size = _graph(program, model_name(program, model), backward)
    if after != "none":
        with batch(size):
            graph = optimize(graph, after)
    text = _memory(graph, size) if memory else print_graph(graph)
    if json:
        answer({"name": graph.name, "after": after, "text": text})
    else:
        click.echo(text)


def _graph(program: Program, name: str, backward: bool) -> tuple[Graph, int]:
    """The program of a model before any pass, and the size of its batches."""
    plan = training_plan(program, name)
    if plan is not None:
        return (plan.step if backward else plan.network.predict), plan.batch
    if backward:
        raise DnnError(
            Diagnostic(
                "E906",
                f"no job trains `{name}`",
                help="the training step is that of a `train` job: it needs a loss and an optimizer",
            )
        )
    return open_model(program, name).network.predict, BATCH


def _memory(graph: Graph, batch: int) -> str:
    from dnnc.program.executable import Executable

    return Executable(graph).describe(made_up(graph, batch))
