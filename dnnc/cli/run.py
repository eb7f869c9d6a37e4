"""`dnnc run FILE`: do the jobs of a file, in order."""

from __future__ import annotations

from pathlib import Path

import click

from dnnc.cli._load import load
from dnnc.cli._options import memory_option, program_arguments, report_options, threads_option


@click.command("run")
@program_arguments
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the run is kept; runs/ and the name of FILE unless given.",
)
@click.option("--resume", is_flag=True, help="Go on with a run that was broken off.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@memory_option
@threads_option
@report_options
def command(
    file: Path,
    definitions: tuple[str, ...],
    folder: Path | None,
    resume: bool,
    quiet: bool,
    memory: str | None,
    json: bool,
) -> None:
    """Check FILE and do its jobs: train, report on the test split, keep the weights.

    With --json every event is a line of JSON on standard output.
    """
    program = load(file, definitions)
    from dnnc.train.progress import choose_progress

    progress = choose_progress(json=json, quiet=quiet)
    program.run(folder=folder, resume=resume, progress=progress, memory=memory)
