"""Make the table of choices that is shipped for this kind of processor:

    python -m benchmarks.tune --write-defaults dnnc/tuning/defaults.json

Measured is what the networks of the benchmark choose between, and convolutions of common sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import click

from benchmarks.cases import CASES, Case
from benchmarks.frameworks.with_dnnc import graph_of
from dnnc.ir.dims import dim
from dnnc.model.tuning import Timing, questions_of, settle, table_of
from dnnc.passes.fast_convolution import METHOD, Step
from dnnc.passes.pipeline import optimize, optimize_split
from dnnc.tuning.decisions import Question
from dnnc.tuning.tables import write_shipped

#: Channels with the size of the images that usually have as many, and the sizes of batches.
SHAPES = (
    (16, 32),
    (32, 32),
    (32, 16),
    (64, 56),
    (64, 16),
    (64, 8),
    (128, 28),
    (128, 8),
    (256, 14),
    (512, 7),
)
BATCHES = (1, 8, 64)


@click.command()
@click.option("--write-defaults", "path", type=click.Path(path_type=Path), required=True)
@click.option("--seconds", default=0.5, show_default=True, help="For each decision.")
@click.option("--cases/--grid", "only", default=None, help="One of both alone.")
@click.option("--matching", default="", help="Cases with this text alone, such as taps=5.")
@click.option("--force", is_flag=True, help="Measure again what is known.")
def main(path: Path, seconds: float, only: bool | None, matching: str, force: bool) -> None:
    """Measure, and add what was chosen to a file of defaults."""
    found = [] if only is False else questions_of(map(_passes, CASES))
    found += [] if only is True else _grid()
    found = [(question, amount) for question, amount in found if matching in question.key]
    print(f"{len(found)} decisions")
    timings = settle(found, seconds=seconds, force=force, report=_say)
    write_shipped(path, table_of(timings))


def _passes(case: Case) -> tuple[int, Callable[[], object]]:
    run = optimize_split if case.mode == "infer" else optimize
    return case.batch, partial(run, graph_of(case))


def _grid() -> Iterator[tuple[Question, int]]:
    for channels, size in SHAPES:
        for step in get_args(Step):
            for taps in (3, 5):
                fields = {
                    "step": step,
                    "dtype": "f32",
                    "taps": taps,
                    "channels": channels,
                    "outputs": channels,
                    "high": size,
                    "wide": size,
                }
                question = Question(METHOD, tuple(fields.items()), dim("batch"))
                yield from ((question, count) for count in BATCHES)


def _say(timing: Timing) -> None:
    times = {candidate: round(1e6 * took, 1) for candidate, took in timing.seconds.items()}
    print(timing.decision, timing.case, timing.amount, "->", timing.choice, times, flush=True)


if __name__ == "__main__":
    main()
