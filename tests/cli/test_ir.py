"""`dnnc ir` and `dnnc profile`."""

from __future__ import annotations

import json
from pathlib import Path

from dnnc.ir.text import parse_graph
from tests.cli.conftest import Command


def test_the_program_is_text_that_can_be_read_back(command: Command) -> None:
    text = command("ir", "table.dnn", "--after", "none").stdout
    graph = parse_graph(text)
    assert {item.name for item in graph.inputs} >= {"measures", "dense_1.weight"}
    assert "matmul" in text
    assert "fused" not in text
    assert "fused" in command("ir", "table.dnn", "Plants").stdout


def test_the_training_step(command: Command) -> None:
    text = command("ir", "table.dnn", "--backward", "--after", "cse").stdout
    assert "dense_1.weight <-" in text
    answer = json.loads(command("ir", "table.dnn", "--backward", "--json").stdout)
    assert "dense_1.weight <-" in answer["text"]


def test_the_memory_plan(command: Command) -> None:
    text = command("ir", "table.dnn", "--memory").stdout
    summary, _, table = text.partition("\n\n")
    assert summary.startswith("memory of `predict` for batch = ")
    assert "bytes at the peak; all values by themselves would take " in summary
    assert "aligned to 64 bytes" in summary
    head, *rows = (line.split(maxsplit=3) for line in table.strip().splitlines())
    assert head == ["offset", "bytes", "calls", "values"]
    assert rows
    assert all(int(offset) % 64 == 0 and int(size) > 0 for offset, size, *_ in rows)
    for _, _, calls, _ in rows:
        first, last = map(int, calls.split(".."))
        assert 0 <= first <= last
    command("ir", "table.dnn", "--memory", "--after", "cse", exit_code=2)


def test_wrong_names(command: Command) -> None:
    assert "E701" in command("ir", "table.dnn", "--after", "fold_", exit_code=1).stderr
    wrong = command("ir", "table.dnn", "Plant", exit_code=1)
    assert "did you mean `Plants`?" in wrong.stderr


TWO = """
model A { in x: [batch, 4]
          out y: [batch, 4]
          y = x }
model B { in x: [batch, 4]
          out y: [batch, 2]
          y = x -> dense(2) }
"""


def test_a_file_of_several_models_needs_a_name(command: Command) -> None:
    Path("two.dnn").write_text(TWO)
    assert "E903" in command("ir", "two.dnn", exit_code=1).stderr
    assert "dense_1.weight" in command("ir", "two.dnn", "B").stdout
    assert "E906" in command("ir", "two.dnn", "B", "--backward", exit_code=1).stderr


def test_a_profile(command: Command) -> None:
    text = command("profile", "table.dnn", "--repeat", "2", "--batch", "8").stdout
    assert "Plants, a training step" in text
    assert "dense_1" in text
    assert "ceiling: " in text


def test_a_profile_in_json(command: Command) -> None:
    answer = json.loads(command("profile", "table.dnn", "--repeat", "2", "--json").stdout)
    predicting, training = answer["programs"]
    assert predicting["seconds"] > 0
    assert sum(layer["flops"] for layer in training["layers"]) > 0
    assert answer["ceiling_flops"] > 1e9
