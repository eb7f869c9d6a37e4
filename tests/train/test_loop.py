"""The loop: metrics, best weights, early stopping, resuming with the same bits."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnc.diagnostics import DnnError
from dnnc.elaborate.plan import EarlyStop
from dnnc.train.files import load_tensors
from dnnc.train.interrupt import TrainingInterrupted
from dnnc.train.result import Options, TrainingResult
from tests.train.small_plan import interpreted, points, run, small_plan


def without_times(history: Any) -> list[dict[str, Any]]:
    return [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in history]


def assert_same(one: TrainingResult, other: TrainingResult) -> None:
    for kind in ("variables", "last"):
        arrays, others = getattr(one, kind), getattr(other, kind)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            assert array.tobytes() == others[name].tobytes(), name
    assert without_times(one.history) == without_times(other.history)
    assert (one.reason, one.steps, one.best_epoch) == (other.reason, other.steps, other.best_epoch)


class Stop(BaseException):
    """The process dies."""


def dying(after: int) -> Callable[[Any], Any]:
    """A compiler whose programs stop the run at call `after` of the step, before it is done."""
    calls = 0

    def compile(graph: Any) -> Any:
        function = interpreted(graph)
        if graph.name != "step":
            return function

        def step(inputs: Mapping[str, np.ndarray]) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Stop
            return function(inputs)

        return step

    return compile


def test_learns_and_reports_the_best_epoch() -> None:
    result = run(None, small_plan(epochs=8))
    assert result.reason == "epochs"
    assert result.steps == 8 * 7
    assert result.validation is not None
    assert result.test is not None
    assert result.validation["accuracy"] > 0.8
    losses = [e["validation"]["loss"] for e in result.history if e["kind"] == "epoch"]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert result.validation["loss"] == min(losses)


def test_metrics_equal_those_of_the_whole_split() -> None:
    result = run(None, small_plan(epochs=2))
    held = points().splits["test"].arrays
    w = {name: array.astype(np.float64) for name, array in result.variables.items()}
    hidden = np.maximum(held["image"] @ w["dense_1.weight"] + w["dense_1.offset"], 0)
    logits = hidden @ w["dense_2.weight"] + w["dense_2.offset"]
    right = (logits.argmax(1) == held["label"]).mean()
    lifted = logits - logits.max(1, keepdims=True)
    chosen = lifted[np.arange(len(lifted)), held["label"]]
    loss = (np.log(np.exp(lifted).sum(1)) - chosen).mean()
    assert result.test is not None
    assert result.test["accuracy"] == pytest.approx(right, abs=1e-7)
    assert result.test["loss"] == pytest.approx(loss, rel=1e-5)
    assert result.test["largest"] == pytest.approx(logits.max(), rel=1e-6)


def test_without_validation_the_last_weights_count() -> None:
    result = run(None, small_plan(epochs=2), dataset=points(validation=0))
    assert result.best_epoch == 2
    assert result.validation is None
    for name, array in result.variables.items():
        assert np.array_equal(array, result.last[name])


def test_monitor_may_ask_for_the_largest() -> None:
    result = run(None, small_plan(epochs=5, monitor="accuracy"))
    values = [e["validation"]["accuracy"] for e in result.history if e["kind"] == "epoch"]
    assert result.best_epoch == 1 + int(np.argmax(values))


def test_stops_early() -> None:
    stop = EarlyStop("loss", patience=2)
    result = run(None, small_plan(epochs=50, rate=0.2, stop=stop))
    assert result.reason == "early stop"
    assert result.epochs == result.best_epoch + 2


def test_a_minimum_gain_counts_for_stopping_only() -> None:
    stop = EarlyStop("loss", patience=2, minimum_gain=1e9)
    result = run(None, small_plan(epochs=50, stop=stop))
    assert result.epochs == 3
    assert result.best_epoch > 1


def test_early_stopping_needs_a_validation_split() -> None:
    plan = small_plan(stop=EarlyStop("loss", patience=2))
    with pytest.raises(DnnError, match="E607"):
        run(None, plan, dataset=points(validation=0))


def test_given_first_weights_are_used(tmp_path: Path) -> None:
    first = run(None, small_plan(epochs=1))
    again = run(None, small_plan(epochs=1), initial=first.last)
    assert again.train_loss < first.train_loss


def test_the_folder_holds_what_it_promises(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    last, about = load_tensors(tmp_path / "run" / "weights.safetensors")
    best, _ = load_tensors(tmp_path / "run" / "best.safetensors")
    assert about["model"] == "Blobs"
    for name, array in result.last.items():
        assert np.array_equal(array, last[name])
        assert np.array_equal(result.variables[name], best[name])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(result.history)
    assert "model Blobs" in (tmp_path / "run" / "program.dnn").read_text()
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["seed"] == 3
    assert not list((tmp_path / "run").rglob(".*.partial"))


@pytest.mark.parametrize("after", [0, 1, 2, 5, 7, 8, 14, 20, 27])
def test_a_broken_run_ends_like_an_unbroken_one(tmp_path: Path, after: int) -> None:
    unbroken = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "broken", compile=dying(after))
    assert_same(run(tmp_path / "broken", resume=True), unbroken)
    for name in ("weights.safetensors", "best.safetensors"):
        one, other = (tmp_path / folder / name for folder in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes()


def test_breaking_often(tmp_path: Path) -> None:
    unbroken = run(None)
    for _ in range(30):
        try:
            result = run(tmp_path, compile=dying(4), resume=True)
        except Stop:
            continue
        break
    assert_same(result, unbroken)


def test_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    again = run(tmp_path, resume=True, compile=dying(0))
    assert again.already_finished
    assert_same(first, again)
    assert again.test == first.test
    assert again.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}


def test_running_again_keeps_the_earlier_run_aside(tmp_path: Path) -> None:
    first = run(tmp_path)
    run(tmp_path, small_plan(seed=4))
    assert (tmp_path / "previous" / "metrics.jsonl").exists()
    kept, _ = load_tensors(tmp_path / "previous" / "weights.safetensors")
    assert np.array_equal(kept["dense_1.weight"], first.last["dense_1.weight"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 4}, "The seed changed"),
        ({"epochs": 9}, "The number of epochs changed"),
        ({"rate": 0.07}, "The program changed"),
    ],
)
def test_resuming_something_else_is_an_error(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(9))
    with pytest.raises(DnnError, match="E605") as caught:
        run(tmp_path, small_plan(**change), resume=True)
    assert told in str(caught.value)
    assert_same(run(tmp_path, resume=True), run(None))


def test_resuming_with_other_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(9))
    other = dataclasses.replace(points(), fingerprint="points-2")
    with pytest.raises(DnnError, match="The data changed"):
        run(tmp_path, resume=True, dataset=other)


def test_the_error_shows_what_changed_in_the_text(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(9), program="a = 1\nlr = 0.05\n")
    with pytest.raises(DnnError, match=r"it was: lr = 0\.05") as caught:
        run(tmp_path, small_plan(rate=0.07), resume=True, program="a = 1\nlr = 0.07\n")
    assert "it is: lr = 0.07" in str(caught.value)


def test_a_signal_stops_after_the_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    def compile(graph: Any) -> Any:
        function = interpreted(graph)

        def step(inputs: Mapping[str, np.ndarray]) -> Any:
            if graph.name == "step" and int(inputs["step"]) == 10:
                signal.raise_signal(signal.SIGINT)
            return function(inputs)

        return step

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted) as caught:
        run(tmp_path, compile=compile, options=Options(report=False))
    assert caught.value.exit_code == 130
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "checkpoint" / "step-0000000010.safetensors").exists()
    assert_same(run(tmp_path, resume=True), run(None))
