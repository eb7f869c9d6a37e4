"""Figures as tables for people, and as plain values for scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fresh import Fresh, Start
from benchmarks.speed import QUIET, Speed, Timing

__all__ = ["Report", "show"]

MEGABYTE = 1e6


@dataclass(slots=True)
class Report:
    """All that a run found. `versions` and `missing` are by contender; `loads` are mean loads
    of the machine before and after."""

    machine: dict[str, str | int]
    threads: int
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    loads: list[float | None] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    starts: list[Fresh] = field(default_factory=list)

    @property
    def ceiling(self) -> float:
        """The highest rate of multiply-adds in the run, operations a second."""
        return max((speed.ceiling for speed in self.speeds), default=0.0)

    @property
    def registers(self) -> float:
        """As `ceiling`, between registers alone."""
        return max((speed.registers for speed in self.speeds), default=0.0)

    def errors(self) -> list[str]:
        """What went wrong, a line each."""
        parts: Sequence[Speed | Fresh] = [*self.speeds, *self.starts]
        return [
            f"{part.case.name}: {name}: {text}"
            for part in parts
            for name, text in part.errors.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "threads": self.threads,
            "versions": self.versions,
            "missing": self.missing,
            "loads": self.loads,
            "ceiling_flops": self.ceiling,
            "registers_flops": self.registers,
            "speed": [_speed(speed, self.ceiling) for speed in self.speeds],
            "start": [_fresh(fresh) for fresh in self.starts],
            "errors": self.errors(),
        }


def _speed(speed: Speed, ceiling: float) -> dict[str, Any]:
    return {
        "case": speed.case.name,
        "flops": speed.flops,
        "ceiling_flops": speed.ceiling,
        "registers_flops": speed.registers,
        "disturbed": speed.disturbed,
        "contenders": {
            name: {
                "min": timing.best,
                "median": timing.median,
                "spread": timing.spread,
                "calls": len(timing.times),
                "preparing": timing.preparing,
                "others": timing.disturbance,
                "of_ceiling": speed.flops / timing.best / ceiling if ceiling else None,
            }
            for name, timing in speed.timings.items()
        },
    }


def _fresh(fresh: Fresh) -> dict[str, Any]:
    def plain(start: Start) -> dict[str, Any]:
        return asdict(start)

    return {
        "case": fresh.case.name,
        "cold": {name: plain(start) for name, start in fresh.cold.items()},
        "warm": {name: plain(start) for name, start in fresh.warm.items()},
    }


def show(report: Report) -> None:
    """Print the report as tables."""
    # Lines in a file or a pipe are as long as they need to be.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    names = list(report.versions)
    if report.speeds:
        console.print(_speed_table(report, names))
        if any(speed.disturbed for speed in report.speeds):
            console.print(f"* others used more than {QUIET:.0%} of a processor meanwhile")
    if report.starts:
        console.print(_start_table(report, names))
    loads = " and ".join("unknown" if load is None else f"{load:.1f}" for load in report.loads)
    machine = report.machine
    console.print(
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, "
        f"Python {machine['python']}; {report.threads} threads; load before and after: {loads}"
    )
    if report.ceiling:
        console.print(
            f"ceiling {report.ceiling / 1e9:.0f} GFLOP/s in this run, "
            f"{report.registers / 1e9:.0f} between registers alone"
        )
    versions = {name: text for name, text in report.versions.items() if name != "dnnc-bare"}
    console.print(", ".join(f"{name} {text}" for name, text in versions.items()))
    for name, text in report.missing.items():
        console.print(f"not installed: {name} ({text})")
    for line in report.errors():
        console.print(f"error: {line}", style="red")


def _table(title: str, headings: Sequence[str], left: int) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", no_wrap=True)
    return table


def _speed_table(report: Report, names: Sequence[str]) -> Table:
    title = "Times in µs; `x dnnc` is a minimum as a multiple of dnnc's"
    columns = ("case", "", *names, "best peer", "GFLOP/s", "of ceiling")
    table = _table(title, columns, 2)
    for speed in report.speeds:
        for i, (what, figure) in enumerate(_figures(speed).items()):
            case = speed.case.name + "*" * speed.disturbed if i == 0 else ""
            cells = [figure(speed.timings[n]) if n in speed.timings else "" for n in names]
            table.add_row(case, what, *cells, *(_summary(speed, report.ceiling) if i == 0 else ()))
        table.add_row()
    return table


def _figures(speed: Speed) -> dict[str, Callable[[Timing], str]]:
    """What is told of each contender in a case."""
    own = speed.own
    return {
        "min": lambda t: f"{1e6 * t.best:.1f}",
        "median": lambda t: f"{1e6 * t.median:.1f}",
        "spread": lambda t: f"{t.spread:.0%}",
        "x dnnc": lambda t: f"{t.best / own.best:.2f}" if own else "",
    }


def _summary(speed: Speed, ceiling: float) -> tuple[str, ...]:
    """The best peer against dnnc, dnnc's rate, and its share of the ceiling."""
    own: Timing | None = speed.own
    if own is None:
        return ()
    peer = speed.best_peer()
    rate = speed.flops / own.best
    return (
        f"{peer[0]} {peer[1].best / own.best:.2f}" if peer else "",
        f"{rate / 1e9:.0f}",
        f"{rate / ceiling:.0%}" if ceiling else "",
    )


def _start_table(report: Report, names: Sequence[str]) -> Table:
    title = "s from the command to the first result; MB of later steps beyond imports, and in all"
    table = _table(title, ("case", "", *names), 2)
    for fresh in report.starts:
        rows = (
            ("import", {n: f"{s.importing:.2f}" for n, s in fresh.warm.items()}),
            ("cold", {n: f"{s.first:.2f}" for n, s in fresh.cold.items()}),
            ("warm", {n: f"{s.first:.2f}" for n, s in fresh.warm.items()}),
            ("memory", {n: _megabytes(s.growth) for n, s in fresh.warm.items()}),
            ("in all", {n: _megabytes(s.peak) for n, s in fresh.warm.items()}),
        )
        for i, (what, cells) in enumerate(rows):
            case = fresh.case.name if i == 0 else ""
            table.add_row(case, what, *(cells.get(name, "") for name in names))
        table.add_row()
    return table


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / MEGABYTE:.0f}"
