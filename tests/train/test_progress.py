"""The four forms of progress."""

from __future__ import annotations

import io
import json

import pytest

from dnnc.train.live import LiveProgress
from dnnc.train.progress import (
    JsonProgress,
    Moment,
    PlainProgress,
    QuietProgress,
    choose_progress,
    duration,
    number,
)
from tests.train.small_plan import run, small_plan


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines() -> None:
    stream = io.StringIO()
    run(None, progress=PlainProgress(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("Blobs on Points  203 parameters · 100 train, 37 validation")
    assert len(lines) == 1 + 1 + 4 + 1
    assert "accuracy" in lines[1]
    assert lines[-1].startswith("test: loss ")


def test_json_lines_are_those_of_the_log() -> None:
    stream = io.StringIO()
    result = run(None, progress=JsonProgress(stream))
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert entries[0]["kind"] == "start"
    assert [e for e in entries if e["kind"] not in ("start", "note")] == list(result.history)


def test_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = LiveProgress(stream)
    progress.interval = 0.0
    run(None, small_plan(epochs=3), progress=progress)
    text = stream.getvalue()
    assert "examples/s" in text
    assert "epoch 2/3" in text
    assert "left" in text
    assert text.count("●") >= 1


def test_quiet() -> None:
    QuietProgress().step(Moment(1, 1, 0.5, 10.0, 1.0))


def test_the_form_follows_from_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_progress(stream=Terminal()), LiveProgress)
    assert isinstance(choose_progress(stream=io.StringIO()), PlainProgress)
    assert isinstance(choose_progress(stream=Terminal(), json=True), JsonProgress)
    assert isinstance(choose_progress(stream=Terminal(), quiet=True), QuietProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_progress(stream=Terminal()), PlainProgress)


def test_numbers() -> None:
    assert number(0.97222) == "0.9722"
    assert number(1.0) == "1.000"
    assert number(12345.0) == "12345"
    assert number(1.5e-7) == "1.500e-07"
    assert number(float("nan")) == "nan"
    assert duration(0.244) == "0.24 s"
    assert duration(187) == "3:07"
    assert duration(7387) == "2:03:07"
