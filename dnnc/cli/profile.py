"""`dnnc profile FILE`: time every layer, against what the machine can do."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnc.cli._faults import colours
from dnnc.cli._load import definitions_option, load, model_name, open_model, training_plan
from dnnc.cli._made_up import BATCH, made_up
from dnnc.cli._options import answer, debug_option, file_argument, json_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dnnc.ir.graph import Graph, Node
    from dnnc.model import Program
    from dnnc.program.executable import ProfileEntry


@dataclass(slots=True)
class Line:
    """A layer's share of a program: `seconds` in all its steps, `flops` counted for them."""

    layer: str
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """One program: `name` says which, `sizes` the shapes of its data."""

    name: str
    sizes: str
    lines: list[Line]

    @property
    def seconds(self) -> float:
        return sum(line.seconds for line in self.lines)


@click.command("profile")
@file_argument
@click.argument("model", required=False)
@definitions_option
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Examples in a batch.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=20, show_default=True, help="Runs to time."
)
@threads_option
@json_option
@debug_option
def command(
    file: Path,
    model: str | None,
    definitions: tuple[str, ...],
    batch: int | None,
    repeat: int,
    threads: int | None,
    json: bool,
) -> None:
    """Time the layers of MODEL, as it predicts and as it trains.

    Times are the best of several runs, on values that were made up. GFLOP/s stand beside their
    share of the most that the multiply-add units reach, which is measured in the same run.
    """
    if threads is not None:
        os.environ["DNNC_THREADS"] = str(threads)
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
    """The programs of a model, with the batch that each is timed at."""
    from dnnc.passes.pipeline import optimize

    plan = training_plan(program, name)
    if plan is None:
        graph = optimize(open_model(program, name).network.predict)
        return [(f"{name}, predicting", graph, BATCH)]
    return [
        (f"{name}, predicting", optimize(plan.network.predict), plan.batch),
        (f"{name}, a training step", optimize(plan.step), plan.batch),
    ]


def _profile(title: str, graph: Graph, batch: int, repeat: int) -> Profile:
    from dnnc.program.executable import Executable

    inputs = made_up(graph, batch)
    executable = Executable(graph)
    executable({key: array.copy() for key, array in inputs.items()})
    lines: dict[str, Line] = {}
    for entry in executable.profile(inputs, repeat):
        layer = _layer(entry)
        line = lines.setdefault(layer, Line(layer))
        line.seconds += entry.seconds
        line.flops += entry.flops
        line.bytes += entry.bytes
        line.steps += 1
    shapes = (
        f"{item.name} {list(inputs[item.name].shape)}"
        for item in graph.inputs
        if item.role == "data"
    )
    return Profile(title, ", ".join(shapes), list(lines.values()))


def _layer(entry: ProfileEntry) -> str:
    """The path of the layer that a step computes; of a fused one, that of its own origin."""
    node: Node | None = entry.node
    return (node.origin.path if node is not None else "") or "(other)"


def _plain(profiles: Iterable[Profile]) -> list[dict[str, Any]]:
    return [{**asdict(profile), "seconds": profile.seconds} for profile in profiles]


def _show(profiles: Iterable[Profile], ceiling: float, threads: int) -> None:
    from rich.console import Console
    from rich.table import Table

    # Lines in a file or a pipe are as long as they need to be.
    width = None if sys.stdout.isatty() else 160
    console = Console(no_color=not colours(sys.stdout), highlight=False, width=width)
    for profile in profiles:
        table = Table(box=None, pad_edge=False, title_justify="left", title=profile.name)
        for heading in ("layer", "steps", "µs", "share", "MFLOP", "GFLOP/s", "of ceiling"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        total = Line("total")
        for line in sorted(profile.lines, key=lambda line: -line.seconds):
            table.add_row(*_cells(line, profile.seconds, ceiling))
            total.seconds += line.seconds
            total.flops += line.flops
            total.steps += line.steps
        table.add_row(*_cells(total, profile.seconds, ceiling), style="bold")
        console.print(table, f"  {profile.sizes}", sep="\n")
        console.print()
    console.print(
        f"ceiling: {ceiling / 1e9:.0f} GFLOP/s on {threads} thread{'s' if threads > 1 else ''}, "
        "measured in this run"
    )


def _cells(line: Line, whole: float, ceiling: float) -> tuple[str, ...]:
    rate = line.flops / line.seconds if line.seconds else 0.0
    return (
        line.layer,
        str(line.steps),
        f"{1e6 * line.seconds:.1f}",
        f"{line.seconds / whole:.0%}" if whole else "",
        f"{line.flops / 1e6:.2f}" if line.flops else "",
        f"{rate / 1e9:.1f}" if line.flops else "",
        f"{rate / ceiling:.0%}" if line.flops else "",
    )
