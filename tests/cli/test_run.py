"""`dnnc run` and `dnnc predict`, on a network that trains in a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command


@pytest.fixture
def trained(command: Command) -> Command:
    """The command where the starter of tables has been trained."""
    command("run", "table.dnn", "--quiet", "-D", "epochs=12")
    return command


def test_a_run_reports_and_leaves_a_folder(command: Command) -> None:
    output = command("run", "table.dnn", "-D", "epochs=2").stdout
    assert "test: loss " in output
    assert ", accuracy " in output
    folder = Path("runs/table")
    assert (folder / "best.safetensors").exists()
    assert "epochs    = 2" in (folder / "program.dnn").read_text()


def test_quiet_is_quiet(command: Command) -> None:
    result = command("run", "table.dnn", "-q", "-D", "epochs=1", "--folder", "elsewhere")
    assert result.output == ""
    assert Path("elsewhere/weights.safetensors").exists()
    assert not Path("runs").exists()


def test_json_is_a_line_an_event(command: Command) -> None:
    lines = command("run", "table.dnn", "--json", "-D", "epochs=2").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "start"
    assert kinds.count("epoch") == 2
    assert 0 <= next(e for e in events if e["kind"] == "test")["test"]["accuracy"] <= 1


def test_a_budget_of_memory(command: Command) -> None:
    command("run", "table.dnn", "-q", "-D", "epochs=1", "--folder", "free")
    command("run", "table.dnn", "-q", "-D", "epochs=1", "--folder", "bound", "--memory", "1GB")
    weights = [Path(f"{name}/weights.safetensors").read_bytes() for name in ("free", "bound")]
    assert weights[0] == weights[1]
    for size, code in (("1KB", "E704"), ("2 potatoes", "E412")):
        assert code in command("run", "table.dnn", "--memory", size, exit_code=1).stderr


def test_a_finished_run_is_resumed_without_change(trained: Command) -> None:
    before = Path("runs/table/best.safetensors").read_bytes()
    trained("run", "table.dnn", "--quiet", "-D", "epochs=12", "--resume")
    assert Path("runs/table/best.safetensors").read_bytes() == before


def test_a_run_is_not_resumed_with_other_settings(trained: Command) -> None:
    result = trained("run", "table.dnn", "-q", "-D", "batch=8", "--resume", exit_code=1)
    assert "E605" in result.stderr


def kinds_of(rows: np.ndarray) -> float:
    """The share of rows whose largest logit is that of their kind: fern, moss, reed in turn."""
    return float(np.mean(rows.argmax(1) == np.arange(len(rows)) % 3))


def test_predict_reads_tables_as_training_did(trained: Command) -> None:
    trained("predict", "table.dnn", "Plants", "--input", "table.csv", "--output", "y.npy")
    rows = np.load("y.npy")
    assert rows.shape == (240, 3)
    assert kinds_of(rows) > 0.9


def test_predict_needs_no_label(trained: Command) -> None:
    lines = Path("table.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines[:7]) + "\n")
    answer = json.loads(trained("predict", "table.dnn", "--input", "new.csv", "--json").stdout)
    rows = np.array(answer["outputs"]["logits"])
    assert rows.shape == (6, 3)
    assert kinds_of(rows) > 0.9
    printed = trained("predict", "table.dnn", "--input", "new.csv").stdout.splitlines()
    assert printed[0] == "logits_0,logits_1,logits_2"
    assert np.allclose([[float(x) for x in row.split(",")] for row in printed[1:]], rows)


def test_predict_takes_arrays_as_they_are(trained: Command) -> None:
    # Beyond one batch, so that the parts are put together.
    np.save("x.npy", np.zeros((300, 4), np.float32))
    for option in ("x.npy", "measures=x.npy"):
        trained("predict", "table.dnn", "--input", option, "--output", "y.npz")
        rows = np.load("y.npz")["logits"]
        assert rows.shape == (300, 3)
        assert np.allclose(rows, rows[0])
    trained("predict", "table.dnn", "--input", "x.npy", "--output", "y.csv")
    assert len(Path("y.csv").read_text().splitlines()) == 301


@pytest.mark.parametrize(
    ("option", "code", "remedy"),
    [
        ("missing.npy", "E904", "there is no file"),
        ("measure=x.npy", "E904", "did you mean `measures`?"),
        ("bad.npy", "E905", "not a NumPy array"),
        ("wide.npy", "E412", "[2, 7]"),
    ],
)
def test_inputs_that_do_not_fit(trained: Command, option: str, code: str, remedy: str) -> None:
    Path("bad.npy").write_text("hello")
    np.save("x.npy", np.zeros((2, 4), np.float32))
    np.save("wide.npy", np.zeros((2, 7), np.float32))
    result = trained("predict", "table.dnn", "--input", option, exit_code=1)
    assert code in result.stderr
    assert remedy in result.stderr


def test_predict_without_weights(command: Command) -> None:
    result = command("predict", "table.dnn", "--input", "table.csv", exit_code=1)
    assert "runs/table/best.safetensors" in result.stderr


def test_predict_with_weights_of_another_network(trained: Command) -> None:
    weights = "runs/table/best.safetensors"
    result = trained(
        "predict", "table.dnn", "--input", "table.csv", "--weights", weights,
        "-D", "hidden=5", exit_code=1,
    )  # fmt: skip
    assert "E413" in result.stderr


def test_an_output_needs_a_known_ending(trained: Command) -> None:
    result = trained(
        "predict", "table.dnn", "--input", "table.csv", "--output", "y.txt", exit_code=2
    )
    assert ".npy, .npz or .csv" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_an_interrupted_run_is_resumed_to_the_same_bits(command: Command) -> None:
    arguments = ["run", "table.dnn", "-D", "epochs=400", "-q", "--folder"]
    command(*arguments, "whole")
    process = subprocess.Popen(
        [sys.executable, "-m", "dnnc", *arguments, "broken"], stderr=subprocess.PIPE, text=True
    )
    log = Path("broken/metrics.jsonl")
    while not (log.exists() and log.read_text().count('"epoch"') > 20):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume goes on with the run in broken" in message
    command(*arguments, "broken", "--resume")
    for name in ("best.safetensors", "weights.safetensors"):
        assert Path("broken", name).read_bytes() == Path("whole", name).read_bytes()


def test_predict_finds_the_weights_of_the_last_of_several_jobs(command: Command) -> None:
    path = Path("table.dnn")
    text = path.read_text(encoding="utf-8")
    path.write_text(text + text[text.index("train Plants") :], encoding="utf-8")
    command("run", "table.dnn", "-q", "-D", "epochs=1")
    latest = "runs/table/train-Plants-2/best.safetensors"
    given = command("predict", "table.dnn", "--input", "table.csv", "--weights", latest).stdout
    assert command("predict", "table.dnn", "--input", "table.csv").stdout == given
    Path(latest).unlink()
    assert latest in command("predict", "table.dnn", "--input", "table.csv", exit_code=1).stderr
