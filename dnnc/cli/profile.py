"""`dnnc profile FILE`: time every layer, against what the machine can do."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnc.cli._faults import colours
from dnnc.cli._load import load, model_name, open_model, training_plan
from dnnc.cli._made_up import BATCH, made_up
from dnnc.cli._options import answer, model_arguments, report_options, threads_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dnnc.ir.graph import Graph, Node, Value
    from dnnc.model import Program
    from dnnc.program.profile import ProfileTotal


@dataclass(frozen=True, slots=True)
class Profile:
    """One program and its layers: `name` says which, `sizes` the shapes of its data."""

    name: str
    sizes: str
    layers: list[ProfileTotal]

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers)


@click.command("profile")
@model_arguments
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Examples in a batch.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=20, show_default=True, help="Runs to time."
)
@threads_option
@report_options
def command(
    file: Path,
    model: str | None,
    definitions: tuple[str, ...],
    batch: int | None,
    repeat: int,
    json: bool,
) -> None:
    """Time the layers of MODEL, as it predicts and as it trains.

    Times are the best of several runs, on values that were made up. GFLOP/s stand beside their
    share of the most that the multiply-add units reach, which is measured in the same run.
    """
    program = load(file, definitions)
    name = model_name(program, model)
    from dnnc import environment
    from dnnc.program.ceiling import measure_ceiling

    count = environment.threads()
    profiles = [
        _profile(title, graph, batch or size, repeat)
        for title, graph, size in _graphs(program, name)
    ]
    ceiling = measure_ceiling(count)
    if json:
        answer({"threads": count, "ceiling_flops": ceiling, "programs": _plain(profiles)})
    else:
        _show(profiles, ceiling, count)


def _graphs(program: Program, name: str) -> list[tuple[str, Graph, int]]:
    """The programs of a model before any pass, with the usual size of their batches."""
    plan = training_plan(program, name)
    if plan is None:
        return [(f"{name}, predicting", open_model(program, name).network.predict, BATCH)]
    return [
        (f"{name}, predicting", plan.network.predict, plan.batch),
        (f"{name}, a training step", plan.step, plan.batch),
    ]


def _profile(title: str, graph: Graph, size: int, repeat: int) -> Profile:
    from dnnc.passes.pipeline import optimize
    from dnnc.program.executable import Executable
    from dnnc.program.profile import total_by
    from dnnc.tuning.decisions import batch

    with batch(size):
        graph = optimize(graph)
    inputs = made_up(graph, size)
    executable = Executable(graph)
    executable({key: array.copy() for key, array in inputs.items()})
    weights = _weights(graph)
    entries = executable.profile(inputs, repeat)
    layers = total_by(lambda entry: _name(entry.node, weights), entries)
    shapes = (
        f"{item.name} {list(inputs[item.name].shape)}"
        for item in graph.inputs
        if item.role == "data"
    )
    return Profile(title, ", ".join(shapes), layers)


def _weights(graph: Graph) -> dict[Value, str]:
    """Values that depend on parameters and states alone, with a parameter of each ("": none)."""
    found = {
        item.value: item.name if item.role == "parameter" else ""
        for item in graph.inputs
        if item.is_variable
    }
    for node in graph.nodes:
        if all(operand in found for operand in node.operands):
            name = next((found[operand] for operand in node.operands if found[operand]), "")
            found.update(dict.fromkeys(node.results, name))
    return found


def _name(node: Node | None, weights: Mapping[Value, str]) -> str:
    """The layer that a step belongs to, or else the text that it comes from.

    A product that is fused with what follows it belongs to the layer whose weights it reads.
    """
    from dnnc.ops.control import Fused
    from dnnc.ops.conv import Convolution
    from dnnc.ops.linear import MatMul
    from dnnc.ops.packed import PackedMatMul

    if node is None:
        return "(copies)"
    inner = node.op.body.nodes if isinstance(node.op, Fused) else []
    if any(isinstance(item.op, (MatMul, PackedMatMul, Convolution)) for item in (node, *inner)):
        for operand in node.operands:
            if name := weights.get(operand):
                return name.rpartition(".")[0] or name
    if node.origin.path or node.origin.span is None:
        return node.origin.path or node.op.name
    span = node.origin.span
    text = " ".join(span.text.split())
    line, _ = span.source.position(span.start)
    return f"{text if len(text) <= 30 else text[:29] + '…'} (line {line})"


def _plain(profiles: Iterable[Profile]) -> list[dict[str, Any]]:
    return [{**asdict(profile), "seconds": profile.seconds} for profile in profiles]


def _show(profiles: Iterable[Profile], ceiling: float, threads: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from dnnc.program.profile import ProfileTotal

    # Lines in a file or a pipe are as long as they need to be.
    width = None if sys.stdout.isatty() else 160
    console = Console(no_color=not colours(sys.stdout), highlight=False, width=width)
    for profile in profiles:
        table = Table(box=None, pad_edge=False, title_justify="left", title=profile.name)
        for heading in ("layer", "steps", "µs", "share", "MFLOP", "GFLOP/s", "of ceiling"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for layer in profile.layers:
            table.add_row(*_cells(layer, profile.seconds, ceiling))
        total = ProfileTotal("total", profile.seconds)
        total.flops = sum(layer.flops for layer in profile.layers)
        total.steps = sum(layer.steps for layer in profile.layers)
        table.add_row(*_cells(total, profile.seconds, ceiling), style="bold")
        console.print(table, f"  {profile.sizes}", sep="\n")
        console.print()
    console.print(
        f"ceiling: {ceiling / 1e9:.0f} GFLOP/s on {threads} thread{'s' if threads > 1 else ''}, "
        "measured in this run"
    )


def _cells(layer: ProfileTotal, whole: float, ceiling: float) -> tuple[str, ...]:
    rate = layer.flops / layer.seconds if layer.seconds else 0.0
    return (
        layer.name,
        str(layer.steps),
        f"{1e6 * layer.seconds:.1f}",
        f"{layer.seconds / whole:.0%}" if whole else "",
        f"{layer.flops / 1e6:.2f}" if layer.flops else "",
        f"{rate / 1e9:.1f}" if layer.flops else "",
        f"{rate / ceiling:.0%}" if layer.flops else "",
    )
