"""An empty cache, tables that say what a test wants, and a decision to look up in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph
from dnnc.tuning import tables
from dnnc.tuning.decisions import Case, Decision, Question
from dnnc.tuning.processor import processor

Shipped = Callable[[tables.Table], None]
Ask = Callable[[Dim | int], Question]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache of its own, with tuning on and nothing shipped."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    monkeypatch.setenv("DNNC_TUNE", "on")
    monkeypatch.setattr(tables, "_all_shipped", dict)
    return tmp_path


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    """Ship a table for the kind of processor that runs the test."""

    def ship(table: tables.Table) -> None:
        path = tmp_path / "shipped.json"
        path.write_text(json.dumps({processor().kind: table}), encoding="utf-8")
        monkeypatch.setattr(tables, "_all_shipped", lambda: tables.read_shipped(path))
        tables._consulted.cache_clear()

    return ship


@pytest.fixture
def ask() -> Ask:
    """Questions of a decision between 0, 1 and 2 that takes 0 as a rule."""

    def no_graph(case: Case, choice: int) -> Graph:
        raise AssertionError("looking up compiles nothing")

    toy = Decision("toy", lambda case: (0, 1, 2), lambda case: 0, no_graph)
    question = Question(toy, (("size", 3),), dim(1))
    return lambda amount: dataclasses.replace(question, amount=dim(amount))
