"""`dnnc new`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dnnc.cli import command as dnnc
from dnnc.diagnostics import Source
from dnnc.syntax.format import format_source


@pytest.mark.parametrize("kind", ["images", "table", "text"])
def test_a_starter_checks_and_is_in_standard_layout(kind: str, folder: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(dnnc, ["new", "mine", "--kind", kind]).exit_code == 0
    result = runner.invoke(dnnc, ["check", "mine.dnn"])
    assert result.exit_code == 0, result.output
    text = Path("mine.dnn").read_text(encoding="utf-8")
    assert format_source(Source("mine.dnn", text)) == text
    assert "NAME" not in text


def test_the_kind_names_the_file(folder: Path) -> None:
    CliRunner().invoke(dnnc, ["new", "--kind", "text"])
    assert sorted(path.name for path in folder.iterdir()) == ["text.dnn", "text.txt"]


@pytest.mark.parametrize("existing", ["mine.dnn", "mine.csv"])
def test_nothing_is_overwritten(existing: str, folder: Path) -> None:
    Path(existing).write_text("precious")
    result = CliRunner().invoke(dnnc, ["new", "mine.dnn"])
    assert result.exit_code == 1
    assert f"{existing} would be overwritten" in result.stderr
    assert [path.name for path in folder.iterdir()] == [existing]
    assert Path(existing).read_text() == "precious"


def test_a_name_must_be_one_of_a_file(folder: Path) -> None:
    assert CliRunner().invoke(dnnc, ["new", 'a"b']).exit_code == 2
