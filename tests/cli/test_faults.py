"""Errors, faults, interrupts and closed pipes: what is printed, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dnnc.cli import Commands
from dnnc.cli import command as dnnc
from dnnc.cli._options import report_options
from dnnc.diagnostics import Diagnostic, DnnError


def raising(error: BaseException) -> Commands:
    """A group whose command `go` raises `error`."""

    class Group(Commands):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return ["go"]

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return go if cmd_name == "go" else None

    @click.command()
    @report_options
    def go(json: bool) -> None:
        raise error

    return Group("dnnc")


def test_diagnostics_go_to_standard_error() -> None:
    errors = [Diagnostic("E702", "first"), Diagnostic("E702", "second")]
    result = CliRunner().invoke(raising(DnnError(errors)), ["go"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "error[E702]: first" in result.stderr
    assert "error[E702]: second" in result.stderr
    assert "2 errors" in result.stderr


def test_diagnostics_as_json_go_to_standard_output() -> None:
    error = DnnError(Diagnostic("E702", "first", help="try"))
    result = CliRunner().invoke(raising(error), ["go", "--json"])
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert not answer["ok"]
    assert [found["help"] for found in answer["diagnostics"]] == ["try"]


def test_a_fault_says_whose_it_is_and_keeps_its_traceback() -> None:
    result = CliRunner().invoke(raising(KeyError("lost")), ["go"])
    assert result.exit_code == 70
    assert "internal error: KeyError: 'lost'" in result.stderr
    assert "Traceback" not in result.stderr
    report = Path(result.stderr.split("The traceback is in ")[1].split(";")[0])
    assert "Traceback" in report.read_text()
    report.unlink()


@pytest.mark.parametrize(("options", "variable"), [(["--debug"], "0"), ([], "1")])
def test_a_fault_shows_its_traceback_on_demand(options: list[str], variable: str) -> None:
    command = raising(KeyError("lost"))
    result = CliRunner(env={"DNNC_DEBUG": variable}).invoke(command, ["go", *options])
    assert result.exit_code == 70
    assert "Traceback" in result.stderr


def test_an_interrupt() -> None:
    result = CliRunner().invoke(raising(KeyboardInterrupt()), ["go"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_an_error_of_the_file_system_is_no_fault_of_the_compiler() -> None:
    result = CliRunner().invoke(raising(PermissionError(13, "Permission denied", "x.dnn")), ["go"])
    assert result.exit_code == 1
    assert result.stderr == "error: x.dnn: Permission denied\n"


def test_wrong_usage() -> None:
    result = CliRunner().invoke(dnnc, ["chek"])
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.stderr


def test_an_unknown_variable_is_an_error() -> None:
    result = CliRunner(env={"DNNC_DEBG": "1"}).invoke(dnnc, ["explain"])
    assert result.exit_code == 1
    assert "did you mean `DNNC_DEBUG`?" in result.stderr


def test_a_closed_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dnnc", "explain"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert result.returncode == 0
    assert result.stderr == b""


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from dnnc.cli import command\n"
        "assert CliRunner().invoke(command, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'numba', 'llvmlite', 'rich', 'lark'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_version() -> None:
    result = CliRunner().invoke(dnnc, ["--version"])
    assert result.output.startswith("dnnc ")
