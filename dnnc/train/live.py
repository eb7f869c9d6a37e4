"""Progress on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dnnc.train.progress import (
    Columns,
    Moment,
    RunFacts,
    duration,
    grouped,
    headline,
    number,
    verdict,
)

__all__ = ["LiveProgress"]


class LiveProgress:
    """A terminal: finished epochs scroll up as rows of a table, the last line moves."""

    interval = 0.1

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stdout, highlight=False)
        self._columns = Columns()
        self._run: RunFacts | None = None
        self._moment: Moment | None = None
        self._stage = ""
        self._live: Live | None = None
        self._drawn = 0.0

    def start(self, run: RunFacts) -> None:
        self._run, self._columns = run, Columns.of(run)
        self._moment, self._stage = None, ""
        name, _, rest = headline(run).partition("  ")
        self.console.print(Text.assemble((name, "bold"), "  ", (rest, "dim")), soft_wrap=True)
        self.console.print(Text(self._columns.heading(), "dim"), soft_wrap=True)
        self._live = Live(
            Text(""), console=self.console, auto_refresh=False, transient=True, screen=False
        )
        self._live.start()

    def stage(self, text: str) -> None:
        self._stage = text
        # Stages shorter than a blink would only flicker.
        if text == "compiling" or time.monotonic() - self._drawn > self.interval:
            self._draw()

    def step(self, moment: Moment) -> None:
        self._moment, self._stage = moment, ""
        self._draw()

    def record(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "epoch":
            best = entry["improved"]
            row = Text(self._columns.row(entry))
            self.console.print(row + Text(" ●", "green") if best else row, soft_wrap=True)
        elif entry["kind"] == "test":
            self.console.print(Text(verdict(entry), "bold"), soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(Text(text, "dim"), soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        if self._live is None or self._run is None:
            return
        self._drawn = time.monotonic()
        line = Table.grid(padding=(0, 2, 0, 0))
        done = self._moment.step if self._moment else self._run.first_step
        bar = ProgressBar(
            total=max(self._run.steps, 1), completed=done, width=24, complete_style="cyan"
        )
        cells: list[Any] = [bar]
        if self._stage:
            cells.append(Text(f"{self._stage} …", "dim"))
        if self._moment is not None:
            cells += self._cells(self._run, self._moment)
        line.add_row(*cells)
        self._live.update(line, refresh=True)

    def _cells(self, run: RunFacts, moment: Moment) -> list[Text]:
        cells = [
            Text(f"epoch {moment.epoch}/{run.epochs}"),
            Text(f"loss {number(moment.loss)}"),
            Text(f"{grouped(moment.rate)} examples/s", "cyan"),
        ]
        if moment.learning_rate is not None:
            cells.append(Text(f"lr {moment.learning_rate:.2e}", "dim"))
        cells.append(Text(f"{duration(moment.seconds_left)} left", "dim"))
        return cells
