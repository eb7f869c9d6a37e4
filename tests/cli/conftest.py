"""A folder with a small program in it, and the command to use on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnnc.cli import command as dnnc

Command = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Command:
    """`command("check", "table.dnn")` in a folder that holds the starter file of tables."""

    def run(*arguments: str, exit_code: int = 0, input: str | None = None) -> Result:
        result = CliRunner().invoke(dnnc, arguments, input=input)
        assert result.exit_code == exit_code, result.output
        return result

    run("new", "table", "--kind", "table")
    return run
