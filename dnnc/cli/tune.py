"""`dnnc tune FILE`: measure on this machine what its programs can choose between."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnc.cli._faults import colours
from dnnc.cli._load import load, model_name
from dnnc.cli._options import answer, model_arguments, report_options, threads_option
from dnnc.diagnostics import Diagnostic, DnnError, register_codes

if TYPE_CHECKING:
    from dnnc.model.tuning import Timing

register_codes(
    {
        "E908": "what is measured could not be kept, or would not be used",
        "E909": "a file of --write-defaults cannot be read or written",
    }
)


@click.command("tune")
@model_arguments
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Examples in a batch to predict for, 1 unless given; repeatable.",
)
@click.option("--force", is_flag=True, help="Measure again what is known.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    help="Time to measure each decision for, beyond compiling.",
)
@click.option(
    "--write-defaults",
    "defaults",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Add the choices to a file such as the one that is shipped, too.",
)
@threads_option
@report_options
def command(
    file: Path,
    model: str | None,
    definitions: tuple[str, ...],
    batches: tuple[int, ...],
    force: bool,
    seconds: float,
    defaults: Path | None,
    json: bool,
) -> None:
    """Measure the methods that the programs of MODEL can choose between, and keep the fastest.

    Those are its predictions for the given sizes of batches and, where a job trains it, for that of
    the job, and its training step. Choices are kept in the cache for this processor; programs take
    them from then on. They change the last bits of results: DNNC_TUNE=off uses none.
    """
    _require_use()
    program = load(file, definitions)
    name = model_name(program, model)
    from dnnc.model.tuning import tune

    timings = tune(program, name, batches or (1,), force=force, seconds=seconds, report=_say)
    if defaults is not None:
        _write(defaults, timings)
    if json:
        answer({"choices": [asdict(timing) for timing in timings]})
    else:
        _show(timings)


def _require_use() -> None:
    """Raise DnnError (E908) where choices have no place to be kept or programs ignore them."""
    from dnnc import environment
    from dnnc.tuning.tables import measured_path

    if environment.tune() != "on":
        message = f"`DNNC_TUNE` is `{environment.tune()}`: programs would not take what is measured"
        raise DnnError(Diagnostic("E908", message, help="unset it, or set it to `on`"))
    if measured_path() is None:
        message = "there is no private cache folder to keep choices in"
        raise DnnError(Diagnostic("E908", message, help="set `DNNC_CACHE` to a folder of your own"))


def _write(path: Path, timings: Iterable[Timing]) -> None:
    from dnnc.model.tuning import table_of
    from dnnc.tuning.tables import write_shipped

    try:
        write_shipped(path, table_of(timings))
    except (OSError, ValueError) as error:
        raise DnnError(Diagnostic("E909", f"{path}: {error}")) from None


def _say(timing: Timing) -> None:
    """Show someone who waits that something goes on."""
    if sys.stderr.isatty() and timing.seconds:
        click.echo(f"measured: {timing.decision} {timing.case}, batch {timing.amount}", err=True)


def _show(timings: list[Timing]) -> None:
    from rich.console import Console
    from rich.table import Table

    # Lines in a file or a pipe are as long as they need to be.
    width = None if sys.stdout.isatty() else 200
    console = Console(no_color=not colours(sys.stdout), highlight=False, width=width)
    table = Table(box=None, pad_edge=False)
    for heading in ("decision", "case", "batch", "µs of each", "choice", "rule", "gain"):
        table.add_column(heading)
    for timing in timings:
        table.add_row(*_cells(timing))
    console.print(table)
    measured = sum(bool(timing.seconds) for timing in timings)
    console.print(f"{measured} measured, {len(timings) - measured} known before")


def _cells(timing: Timing) -> tuple[str, ...]:
    times = "  ".join(f"{name}: {1e6 * took:.1f}" for name, took in timing.seconds.items())
    changed = timing.choice != timing.usual
    gain = timing.seconds[timing.usual] / timing.seconds[timing.choice] if timing.seconds else 1.0
    return (
        timing.decision,
        timing.case,
        str(timing.amount),
        times or "known",
        str(timing.choice),
        str(timing.usual),
        f"{gain:.2f}x" if changed and timing.seconds else "",
    )
