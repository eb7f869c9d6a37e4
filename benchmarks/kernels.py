"""Rates of single kernels over a sweep of shapes, odd ones included.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --only conv scan --threads 1

Products are set against the ceiling of multiply-adds that is measured beside them, since clocks
change from minute to minute, everything else against the memory that it has to read and write.
Layers count with their gradients as `backward`.
Rates are those of the kernels; beside them stands the time of the call from Python, which also
checks arrays, makes new ones for results, and wakes threads. All cases take turns, for several
rounds, and the best one counts: a neighbour seldom disturbs all of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.command_line import make_parser, parse
from benchmarks.kernel_cases import FAMILIES, KernelCase
from benchmarks.machine import busy_seconds, describe, load
from benchmarks.speed import QUIET
from dnnc.passes.pipeline import optimize
from dnnc.program.ceiling import measure_ceiling, measure_register_ceiling, measure_unit_ceiling
from dnnc.program.executable import Executable

__all__ = ["Rate", "Subject", "main"]

#: Runs in a row of the kernels alone, and then of whole calls.
_REPEAT = 10


@dataclass(slots=True)
class Rate:
    """Seconds of the fastest run of a case's kernels and of the fastest call, and how it compares.

    `ceiling` is in operations a second; `disturbance` the processors that others used meanwhile, in
    the quietest round.
    """

    case: KernelCase
    best: float = float("inf")
    call: float = float("inf")
    ceiling: float = 0.0
    disturbance: float = float("inf")

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.case.family,
            "shape": self.case.shape,
            "min": self.best,
            "call": self.call,
            "flops": self.case.flops,
            "bytes": self.case.bytes,
            "ceiling_flops": self.ceiling,
            "others": self.disturbance,
        }


class Subject:
    """A case that is ready to run; `rate` is the best of the rounds so far."""

    def __init__(self, case: KernelCase, threads: int) -> None:
        self.rate = Rate(case)
        self._threads, self._arrays = threads, case.arrays()
        self._run = Executable(optimize(case.graph), threads)

    def time(self, seconds: float) -> None:
        """A round of about that long, behind a measurement of the ceiling."""
        rate = self.rate
        rate.ceiling = max(rate.ceiling, measure_ceiling(self._threads))
        busy, own, begin = busy_seconds(), time.process_time(), time.perf_counter()
        while True:
            entries = self._run.profile(self._arrays, _REPEAT)
            rate.best = min(rate.best, sum(entry.seconds for entry in entries))
            for _ in range(_REPEAT):
                start = time.perf_counter()
                self._run(self._arrays)
                rate.call = min(rate.call, time.perf_counter() - start)
            wall = time.perf_counter() - begin
            if wall >= seconds:
                break
        own, after = time.process_time() - own, busy_seconds()
        others = 0.0 if busy is None or after is None else max(0.0, after - busy - own) / wall
        rate.disturbance = min(rate.disturbance, others)


def sweep(
    families: Sequence[str], threads: int, seconds: float, rounds: int
) -> tuple[list[Rate], float, float | None]:
    """Rates of all cases of some families, the ceiling between registers alone, and that of the
    matrix unit if there is one."""
    subjects, registers, unit = [], 0.0, None
    for name in families:
        for make in FAMILIES[name]:
            for case in make():
                print(f"{case.family} {case.shape}", file=sys.stderr, flush=True)
                subjects.append(Subject(case, threads))
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        for subject in subjects:
            subject.time(seconds / rounds)
        registers = max(registers, measure_register_ceiling(threads))
        found = measure_unit_ceiling(threads)
        unit = found if found is None or unit is None else max(unit, found)
    return [subject.rate for subject in subjects], registers, unit


def show(rates: Sequence[Rate], registers: float) -> None:
    """Print a table, each rate as a share of the ceiling that was measured beside it."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    table = Table(box=None, pad_edge=False)
    for heading in ("kernel", "shape", "µs", "call", "GFLOP/s", "of ceiling", "GB/s"):
        text = heading in ("kernel", "shape")
        table.add_column(heading, justify="left" if text else "right", no_wrap=True)
    for rate in rates:
        case, speed = rate.case, rate.case.flops / rate.best
        table.add_row(
            case.family + "*" * (rate.disturbance > QUIET),
            case.shape,
            f"{1e6 * rate.best:.1f}",
            f"{1e6 * rate.call:.1f}",
            f"{speed / 1e9:.1f}" if case.flops else "",
            f"{speed / rate.ceiling:.0%}" if case.flops else "",
            f"{case.bytes / rate.best / 1e9:.1f}",
        )
    console.print(table)
    ceilings = [rate.ceiling / 1e9 for rate in rates]
    console.print(
        f"ceiling {min(ceilings):.0f} to {max(ceilings):.0f} GFLOP/s in this run, "
        f"{registers / 1e9:.0f} between registers alone"
    )
    if any(rate.disturbance > QUIET for rate in rates):
        console.print(f"* others used more than {QUIET:.0%} of a processor meanwhile")


def main() -> None:
    parser = make_parser("benchmarks.kernels", __doc__)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each shape")
    parser.add_argument("--rounds", type=int, default=5, help="turns that this time is divided in")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parse(parser)
    before = load()
    settings = arguments.threads, arguments.seconds, arguments.rounds
    rates, registers, unit = sweep(arguments.only, *settings)
    if arguments.json:
        found = {"machine": describe(), "threads": arguments.threads, "loads": [before, load()]}
        found |= {"registers_flops": registers, "unit_flops": unit}
        print(json.dumps({**found, "kernels": [rate.to_json() for rate in rates]}, indent=2))
        return
    show(rates, registers)
    if unit is not None:
        print(f"matrix unit {unit / 1e9:.0f} GFLOP/s, each product of float32 as six of bfloat16")
    machine = describe()
    print(f"{machine['processor']}, {arguments.threads} threads, load before: {before}")


if __name__ == "__main__":
    main()
