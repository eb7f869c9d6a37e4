"""Measuring: what is measured, what is chosen, and that programs take it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dnnc
from dnnc.cli import command as command_line
from dnnc.ir.graph import Graph
from dnnc.model import tuning
from dnnc.ops.channels_last import ConvLast
from dnnc.passes.fast_convolution import METHOD
from dnnc.passes.pipeline import optimize
from dnnc.program import tuner
from dnnc.tuning import tables
from dnnc.tuning.decisions import Case, Decision, batch

NET = """
model Net {
    in  x: [batch, 8, 6, 6]
    out y: [batch, 8, 6, 6]

    y = x -> conv(8, 3, padding = 1)
}
"""


class Timer:
    """In place of the clock: seconds by candidate and amount; notes what it is asked."""

    def __init__(self, times: dict[int, dict[int, float]]) -> None:
        self.times, self.asked = times, list[tuple[str, int]]()

    def __call__(
        self, decision: Decision, case: Case, amount: int, threads: int | None, seconds: float
    ) -> dict[int, float]:
        self.asked.append((str(case["step"]), amount))
        return self.times[amount]


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    """For one image the direct method is best; for 32 tiles of 2 save less than the margin."""
    fake = Timer({1: {0: 1.0, 2: 1.5, 4: 2.0}, 32: {0: 9.0, 2: 0.97, 4: 1.0}})
    monkeypatch.setattr(tuner, "measure", fake)
    return fake


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(command_line, ["tune", "net.dnn", *arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture
def file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    Path("net.dnn").write_text(NET, encoding="utf-8")
    return Path("net.dnn")


def tile(graph: Graph) -> int:
    (op,) = (node.op for node in graph.nodes if isinstance(node.op, ConvLast))
    return op.tile


def test_only_a_clear_gain_is_taken(timer: Timer) -> None:
    found = tuning.tune(dnnc.parse(NET), "Net", (1, 32))
    assert [(t.amount, t.choice, t.usual) for t in found] == [(1, 0, 4), (32, 4, 4)]
    assert timer.asked == [("predict", 1), ("predict", 32)]


def test_what_is_known_is_measured_by_force_alone(timer: Timer) -> None:
    program = dnnc.parse(NET)
    tuning.tune(program, "Net", (1,))
    (again,) = tuning.tune(program, "Net", (1,))
    assert (again.choice, again.seconds) == (0, {})
    assert len(timer.asked) == 1
    tuning.tune(program, "Net", (1,), force=True)
    assert len(timer.asked) == 2


def test_a_training_step_is_tuned_with_its_job(timer: Timer, folder: Path) -> None:
    np.save(folder / "x.npy", np.zeros((64, 8, 6, 6), "f4"))
    job = """
    data D { source = array("x")
             x = source }
    train Net on D { loss = mean(y * y)
                     optimizer = sgd(lr = 0.1)
                     epochs = 1
                     batch = 32 }
    """
    program = dnnc.parse(NET + job, arrays={"x": np.zeros((64, 8, 6, 6), "f4")})
    tuning.tune(program, "Net", (1,))
    assert set(timer.asked) >= {("predict", 1), ("predict", 32), ("forward", 32), ("weight", 32)}


def test_programs_take_what_was_measured(timer: Timer) -> None:
    program = dnnc.parse(NET)
    tuning.tune(program, "Net", (1, 32))
    graph = program.model("Net").network.predict
    with batch(1):
        assert tile(optimize(graph, after="layout")) == 0
    with batch(32):
        assert tile(optimize(graph, after="layout")) == 4


def test_results_depend_on_the_call_alone(timer: Timer) -> None:
    program = dnnc.parse(NET)
    tuning.tune(program, "Net", (1, 32))
    x = np.random.default_rng(0).standard_normal((32, 8, 6, 6)).astype("f4")
    one, other = program.model("Net"), program.model("Net")
    first = [one(x=x), one(x=x[:1])]
    second = [other(x=x[:1]), other(x=x)]
    np.testing.assert_array_equal(first[0], second[1])
    np.testing.assert_array_equal(first[1], second[0])
    np.testing.assert_allclose(first[0][:1], first[1], atol=1e-5)
    assert one._predict is None


def test_steps_depend_on_their_own_batch_alone() -> None:
    case = "step=forward dtype=f32 taps=3 channels=8 outputs=8 high=6 wide=6"
    tables.store({"convolution": {case: {1: 0, 64: 4}}})
    x = np.random.default_rng(0).standard_normal((32, 8, 6, 6)).astype("f4")
    results = []
    for order in ((1, 32), (32, 1)):
        fit = dnnc.parse(NET).model("Net").trainer("mean(y * y)", optimizer="sgd(lr = 0.0)")
        losses = {size: fit.step(x=x[:size]) for size in order}
        variants = fit._runners._made.values()
        assert [len(made._by_choices) for made in variants] == [2]
        results.append(losses)
    assert results[0] == results[1]


def test_one_program_where_the_batch_does_not_matter(timer: Timer) -> None:
    net = dnnc.parse(NET).model("Net")
    net(x=np.zeros((2, 8, 6, 6), "f4"))
    assert net._predict is not None


def test_the_command(file: Path, timer: Timer) -> None:
    shown = run("--batch", "1", "--batch", "32").stdout
    assert "step=predict" in shown
    assert "2.00x" in shown
    assert "2 measured, 0 known before" in shown
    assert "0 measured, 1 known before" in run().stdout


def test_the_command_answers_in_json_and_writes_defaults(file: Path, timer: Timer) -> None:
    answer = json.loads(run("--json", "--write-defaults", "defaults.json").stdout)
    (choice,) = answer["choices"]
    assert (choice["choice"], choice["seconds"]["4"]) == (0, 2.0)
    (table,) = tables.read_shipped(Path("defaults.json")).values()
    assert table == tables.measured()
    Path("defaults.json").write_text("[]", encoding="utf-8")
    assert "E909" in run("--write-defaults", "defaults.json", exit_code=1).stderr


def test_the_command_wants_its_choices_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DNNC_TUNE", "off")
        assert "E908" in run(exit_code=1).stderr
    monkeypatch.setenv("DNNC_CACHE", "off")
    assert "E908" in run(exit_code=1).stderr


@pytest.mark.parametrize("step", ["predict", "forward", "input", "weight"])
def test_every_candidate_is_a_program(step: str) -> None:
    case = {"step": step, "dtype": "f32", "taps": 3}
    case |= {"channels": 16, "outputs": 8, "high": 6, "wide": 5}
    shapes = set()
    for candidate in METHOD.candidates(case):
        graph = METHOD.graph(case, candidate)
        shapes.add(graph.outputs[0].value.shape)
        assert graph.symbols == {"batch"}
    assert len(shapes) == 1
    assert METHOD.rule(case) in METHOD.candidates(case)


@pytest.mark.slow
def test_real_times() -> None:
    found = tuning.tune(dnnc.parse(NET), "Net", (1, 8), seconds=0.02)
    assert [set(timing.seconds) for timing in found] == [{0, 2, 4}] * 2
    assert all(took > 0 for timing in found for took in timing.seconds.values())
    assert all(timing.choice in timing.seconds for timing in found)
