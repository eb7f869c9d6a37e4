"""What a run tells while it goes on: one small interface, and its four forms.

`LiveProgress` (`dnnc.train.live`) draws on a terminal, `PlainProgress` prints lines,
`JsonProgress` prints each line of the log as JSON, `QuietProgress` says nothing. `choose_progress`
picks one for a stream.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from dnnc.train.folder import plain

__all__ = [
    "Columns",
    "JsonProgress",
    "Moment",
    "PlainProgress",
    "Progress",
    "QuietProgress",
    "RunFacts",
    "choose_progress",
    "duration",
    "grouped",
    "headline",
    "number",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run before its first step. `examples` counts those of each split."""

    name: str
    parameters: int
    examples: dict[str, int]
    epochs: int
    steps: int
    batch: int
    metrics: tuple[str, ...]
    folder: str | None = None
    first_step: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """A point within an epoch. `loss` is the epoch's mean so far, `rate` in examples a second."""

    step: int
    epoch: int
    loss: float
    rate: float
    seconds_left: float
    learning_rate: float | None = None


class Progress(Protocol):
    """The listener of a run. `interval` is the least time between calls of `step`, in s."""

    interval: float

    def start(self, run: RunFacts) -> None: ...

    def stage(self, text: str) -> None:
        """Something that takes a while begins: "compiling", "validating"; "" ends it."""
        ...

    def step(self, moment: Moment) -> None: ...

    def record(self, entry: dict[str, Any]) -> None:
        """A line of the log: its "kind" is step, epoch, test or end."""
        ...

    def note(self, text: str) -> None:
        """A sentence for the user."""
        ...

    def close(self) -> None: ...


class QuietProgress:
    """Says nothing."""

    interval = float("inf")

    def start(self, run: RunFacts) -> None:
        pass

    def stage(self, text: str) -> None:
        pass

    def step(self, moment: Moment) -> None:
        pass

    def record(self, entry: dict[str, Any]) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class JsonProgress(QuietProgress):
    """A JSON object a line: the facts of the run, each line of the log, each note."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout

    def start(self, run: RunFacts) -> None:
        facts = {name: getattr(run, name) for name in run.__slots__}
        self._print({"kind": "start", **facts})

    def record(self, entry: dict[str, Any]) -> None:
        self._print(entry)

    def note(self, text: str) -> None:
        self._print({"kind": "note", "text": text})

    def _print(self, entry: dict[str, Any]) -> None:
        print(json.dumps(plain(entry)), file=self.stream, flush=True)


@dataclass
class Columns:
    """The table of epochs: a heading once, then a row an epoch, all of fixed width."""

    titles: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    has_validation: bool = False

    @staticmethod
    def of(run: RunFacts) -> Columns:
        validated = run.examples.get("validation", 0) > 0
        metrics = run.metrics if validated else ()
        names = tuple(name if name != "loss" else "valid. loss" for name in metrics)
        titles = ("epoch", "train loss", *names, "lr", "time")
        widths = tuple(max(len(title), 8) for title in titles)
        return Columns(titles, widths, validated)

    def heading(self) -> str:
        return self._line(self.titles)

    def row(self, entry: dict[str, Any]) -> str:
        metrics = entry["validation"].values() if self.has_validation else ()
        numbers = [number(value) for value in (entry["train"]["loss"], *metrics)]
        rate = entry.get("learning_rate")
        cells = (
            str(entry["epoch"]),
            *numbers,
            "" if rate is None else f"{rate:.2e}",
            duration(entry["epoch_seconds"]),
        )
        return self._line(cells)

    def _line(self, cells: tuple[str, ...]) -> str:
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True))
        return "  ".join(padded)


@dataclass
class PlainProgress:
    """Lines for a log or a pipe: a row an epoch, in long ones a sign of life."""

    stream: TextIO | None = None
    interval: float = 30.0
    _columns: Columns = field(default_factory=Columns)

    def start(self, run: RunFacts) -> None:
        self._columns = Columns.of(run)
        self.note(headline(run))
        self.note(self._columns.heading())

    def stage(self, text: str) -> None:
        pass

    def step(self, moment: Moment) -> None:
        self.note(f"{self._running(moment)}, {duration(moment.seconds_left)} left")

    def record(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "epoch":
            self.note(self._columns.row(entry) + (" *" if entry["improved"] else ""))
        elif entry["kind"] == "test":
            self.note(verdict(entry))

    def note(self, text: str) -> None:
        print(text, file=self.stream or sys.stdout, flush=True)

    def close(self) -> None:
        pass

    def _running(self, moment: Moment) -> str:
        return (
            f"epoch {moment.epoch}, step {moment.step}: loss {number(moment.loss)}, "
            f"{grouped(moment.rate)} examples/s"
        )


def choose_progress(
    *, json: bool = False, quiet: bool = False, stream: TextIO | None = None
) -> Progress:
    """The form that suits a stream (standard output): live on a terminal, lines elsewhere."""
    stream = stream or sys.stdout
    if quiet:
        return QuietProgress()
    if json:
        return JsonProgress(stream)
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        # Rich takes a while to import, and only a terminal needs it.
        from dnnc.train.live import LiveProgress

        return LiveProgress(stream)
    return PlainProgress(stream)


def headline(run: RunFacts) -> str:
    """The facts of a run in a line: name, two blanks, the rest."""
    splits = ", ".join(f"{grouped(n)} {name}" for name, n in run.examples.items() if n)
    facts = [f"{grouped(run.parameters)} parameters", splits, f"batch {run.batch}"]
    return f"{run.name}  " + " · ".join(fact for fact in facts if fact)


def verdict(entry: dict[str, Any]) -> str:
    """The metrics of the test split in a line."""
    values = ", ".join(f"{name} {number(value)}" for name, value in entry["test"].items())
    return f"test: {values} (weights of epoch {entry['epoch']})"


def number(value: Any) -> str:
    """A metric with four significant digits; a metric with several values only says so."""
    if isinstance(value, list):
        return "…"
    if value is None:
        return "nan"
    if isinstance(value, int):
        return grouped(value)
    if 1e4 <= abs(value) < 1e6:
        return f"{value:.0f}"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:#.4g}".rstrip(".")
    return f"{value:.3e}"


def grouped(value: float) -> str:
    """A whole number with thin groups of thousands; a dash where it is none."""
    if value != value or value in (float("inf"), float("-inf")):
        return "–"
    return f"{round(value):,}".replace(",", " ")


def duration(seconds: float) -> str:
    """`0.24 s`, `12 s`, `3:07`, `2:03:07`."""
    if seconds != seconds or seconds == float("inf"):
        return "–"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
