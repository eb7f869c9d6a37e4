"""`dnnc check FILE`: find every mistake before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from dnnc.cli._load import load
from dnnc.cli._options import answer, program_arguments, report_options


@click.command("check")
@program_arguments
@report_options
def command(file: Path, definitions: tuple[str, ...], json: bool) -> None:
    """Check names, shapes, settings, data and jobs of FILE; nothing is run.

    Every independent error is reported, with its place and what to do about it.
    """
    program = load(file, definitions, runs=False)
    jobs = [{"kind": job.kind, "name": job.name} for job in program.jobs]
    if json:
        answer({"models": list(program.models), "data": list(program.datasets), "jobs": jobs})
        return
    counts = (
        _counted(len(program.models), "model"),
        _counted(len(program.datasets), "data block"),
        _counted(len(jobs), "job"),
    )
    click.echo(f"{file}: no errors in {', '.join(counts)}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
