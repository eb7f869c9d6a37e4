"""`dnnc check` and `dnnc explain`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command


def test_a_file_without_errors(command: Command) -> None:
    result = command("check", "table.dnn")
    assert result.stdout == "table.dnn: no errors in 1 model, 1 data block, 1 job\n"
    assert result.stderr == ""


def test_a_file_without_errors_in_json(command: Command) -> None:
    answer = json.loads(command("check", "table.dnn", "--json").stdout)
    assert answer == {
        "ok": True,
        "models": ["Plants"],
        "data": ["Garden"],
        "jobs": [{"kind": "train", "name": "Plants on Garden"}],
    }


def broken() -> None:
    path = Path("table.dnn")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("relu", "rellu", 1).replace("dense(kinds)", "dens(kinds)"))


def test_every_error_is_reported(command: Command) -> None:
    broken()
    result = command("check", "table.dnn", exit_code=1)
    assert result.stdout == ""
    assert "did you mean `relu`?" in result.stderr
    assert "did you mean `dense`?" in result.stderr
    assert "table.dnn:15:29" in result.stderr


def test_errors_in_json_have_places(command: Command) -> None:
    broken()
    answer = json.loads(command("check", "table.dnn", "--json", exit_code=1).stdout)
    assert not answer["ok"]
    first = answer["diagnostics"][0]
    assert first["range"]["file"] == "table.dnn"
    assert first["range"]["start"] == {"line": 15, "column": 29}


def test_an_override_is_checked(command: Command) -> None:
    command("check", "table.dnn", "-D", "Plants.hidden=8", "-D", "epochs=1")
    result = command("check", "table.dnn", "-D", "Plants.kinds=5 + x", exit_code=1)
    assert "`x`" in result.stderr
    result = command("check", "table.dnn", "-D", "epoks=1", exit_code=1)
    assert "did you mean `epochs`?" in result.stderr


def test_a_missing_file_is_wrong_usage(command: Command) -> None:
    command("check", "nothing.dnn", exit_code=2)


def test_explain(command: Command) -> None:
    assert command("explain", "e101").stdout == "E101: unknown name\n"
    assert json.loads(command("explain", "E101", "--json").stdout)["codes"] == {
        "E101": "unknown name"
    }
    assert "E901: " in command("explain").stdout
    assert "There is no error code E1" in command("explain", "E1", exit_code=2).stderr
