"""The benchmark on tiny networks: what it measures, checks and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import measure
from benchmarks.cases import CASES, NETWORKS, Case, Mode, choose
from benchmarks.flops import product_flops
from benchmarks.frameworks import CONTENDERS, installed
from benchmarks.frameworks.with_dnnc import graph_of, random_variables
from benchmarks.kernel_cases import FAMILIES, KernelCase, matmul_weight
from benchmarks.kernels import Subject
from benchmarks.report import Report, show
from benchmarks.speed import Settings, Speed, Timing, disagreement
from benchmarks.steps import arrays_of, by_kernel
from dnnc.ir.interpret import interpret
from dnnc.program.profile import ProfileEntry

BRIEF = Settings(threads=1, rounds=2, seconds=0.001, least=2)

#: Every network, small.
SMALL = {
    "mlp": {"features": 6, "hidden": 5},
    "lenet": {"width": 2, "hidden": 5},
    "resnet20": {"width": 2, "depth": 2},
    "lstm": {"features": 3, "units": 4, "steps": 5},
    "encoder": {"dim": 8, "heads": 2, "depth": 2, "steps": 3},
}


# Cases.


def test_patterns_choose_cases() -> None:
    assert choose(None) == list(CASES)
    assert {c.network for c in choose(["mlp"])} == {"mlp"}
    assert [c.name for c in choose(["lenet-train"])] == ["lenet-train-b64"]
    assert [c.name for c in choose(["resnet20-infer-b1", "mlp-train"])] == [
        "mlp-train-b128",
        "resnet20-infer-b1",
    ]
    assert {c.network for c in choose(["*-b1"])} == set(NETWORKS)
    with pytest.raises(ValueError, match="no case matches `lenett`"):
        choose(["lenett"])


def test_a_case_passes_through_json() -> None:
    case = Case("mlp", "train", 3, SMALL["mlp"])
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
    first, second = case.inputs(), case.inputs()
    assert first["x"].shape == (3, 6)
    assert all(first[name].tobytes() == second[name].tobytes() for name in ("x", "label"))


def test_operations_of_products() -> None:
    forward = 2 * (784 * 512 + 512 * 512 + 512 * 10)
    assert product_flops(Case("mlp", "infer", 3)) == 3 * forward
    # The input of the first layer needs no gradient.
    assert product_flops(Case("mlp", "train", 3)) == 3 * (3 * forward - 2 * 784 * 512)
    turn = 2 * 4 * 4 * (3 + 4)
    lstm = Case("lstm", "infer", 2, SMALL["lstm"])
    assert product_flops(lstm) == 2 * (5 * turn + 2 * 4 * 10)
    train = Case("lstm", "train", 2, SMALL["lstm"])
    assert product_flops(train) == 2 * (3 * (5 * turn + 2 * 4 * 10) - 5 * 2 * 16 * 3)
    conv = Case("lenet", "infer", 1)
    images = 28 * 28 * 25 * 32 + 14 * 14 * 32 * 25 * 64
    assert product_flops(conv) == 2 * (images + 3136 * 512 + 512 * 10)


# What must agree.


def test_results_that_disagree() -> None:
    infer, train = Case("mlp", "infer", 1), Case("mlp", "train", 1)
    wanted = np.array([[1.0, -2.0]])
    assert disagreement(infer, wanted + 1e-4, wanted) is None
    assert "logits differ" in str(disagreement(infer, wanted + 1e-3, wanted))
    assert "differ" in str(disagreement(infer, wanted * np.nan, wanted))
    assert "results are [2], dnnc's [1, 2]" in str(disagreement(infer, wanted[0], wanted))
    losses = np.array([2.0, 1.9, 1.8])
    later, first = losses + np.array([0, 0.01, 0.01]), losses + np.array([0.01, 0, 0])
    assert disagreement(train, later, losses) is None
    assert "losses differ" in str(disagreement(train, first, losses))


# Measuring.


def test_dnnc_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = SMALL["mlp"]
    cases = [Case("mlp", "infer", 2, sizes), Case("mlp", "train", 2, sizes)]
    report = measure(cases, peers=[], settings=BRIEF, parts=["speed"])
    assert report.errors() == []
    infer, train = report.speeds
    assert set(infer.timings) == {"dnnc", "dnnc-bare"}
    assert set(train.timings) == {"dnnc"}
    assert len(infer.timings["dnnc"].times) >= BRIEF.rounds * BRIEF.least
    assert report.ceiling > 1e9
    assert report.registers > 1e9
    plain = json.loads(json.dumps(report.to_json()))
    assert [speed["case"] for speed in plain["speed"]] == ["mlp-infer-b2", "mlp-train-b2"]
    show(report)
    printed = capsys.readouterr().out
    assert "mlp-train-b2" in printed
    assert "GFLOP/s in this run" in printed


@pytest.mark.slow
def test_a_start_of_dnnc() -> None:
    case = Case("mlp", "train", 2, SMALL["mlp"])
    report = measure([case], peers=[], settings=BRIEF, parts=["start"])
    assert report.errors() == []
    cold, warm = report.starts[0].cold["dnnc"], report.starts[0].warm["dnnc"]
    assert 0 < cold.importing < cold.first
    assert warm.first < cold.first
    assert warm.growth is None or warm.growth > 0


def test_what_is_missing_and_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report({"processor": "p", "processors": 2, "system": "s", "python": "3"}, 2)
    report.versions = {"dnnc": "1", "torch": "2"}
    report.missing = {"jax": "jax"}
    report.loads = [None, 3.5]
    speed = Speed(Case("mlp", "infer", 1), 10**9, ceiling=1e11)
    speed.timings["dnnc"] = Timing(1.0, [0.02, 0.03], wall=1.0, others=0.5)
    speed.timings["torch"] = Timing(1.0, [0.05, 0.04], wall=1.0)
    speed.errors["torch-compile"] = "no compiler"
    report.speeds.append(speed)
    show(report)
    printed = capsys.readouterr().out
    for text in ("mlp-infer-b1*", "torch 2.00", "50%", "not installed: jax", "no compiler"):
        assert text in printed
    assert "load before and after: unknown and 3.5" in printed


def test_a_worker_that_fails_is_no_peer(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "benchmarks.worker", "dnnc", "--threads", "1"]
    done = subprocess.run(
        command, cwd=root, input='{"do": "open"}\n', capture_output=True, text=True, check=True
    )
    hello, answer = map(json.loads, done.stdout.splitlines())
    assert hello == {}
    assert answer["error"].startswith("KeyError")


# Kernels.


def check_rate(case: KernelCase) -> None:
    subject = Subject(case, threads=1)
    subject.time(0.0)
    rate = subject.rate
    # Of two calls one may be disturbed: which takes longer says nothing.
    assert rate.best > 0
    assert rate.call > 0
    assert rate.to_json()["shape"] == case.shape


def test_the_rate_of_a_product() -> None:
    check_rate(min(matmul_weight(), key=lambda c: c.bytes))


@pytest.mark.slow
@pytest.mark.parametrize("make", [makes[-1] for makes in FAMILIES.values()])
def test_rates_of_every_family(make: Callable[[], Iterator[KernelCase]]) -> None:
    check_rate(min(make(), key=lambda c: c.bytes))


def test_every_kernel_case_is_well_formed() -> None:
    for makes in FAMILIES.values():
        for make in makes:
            for case in make():
                assert case.bytes > 0
                assert case.graph.outputs


# Steps.


def test_steps_are_gathered_by_kernel() -> None:
    entries = [
        ProfileEntry(("matmul",), None, 2.0, 10, 1),
        ProfileEntry(("copy", "matmul", "copy"), None, 9.0, 1, 1),
        ProfileEntry(("matmul",), None, 3.0, 20, 2),
    ]
    first, second = by_kernel(entries)
    assert (first.name, first.steps) == ("copy + matmul", 1)
    assert (second.seconds, second.flops, second.bytes) == (5.0, 30, 3)


def test_arrays_of_a_training_step() -> None:
    case = Case("mlp", "train", 2, SMALL["mlp"])
    graph = graph_of(case)
    arrays = arrays_of(case, graph, random_variables(case))
    assert arrays["step"] == 1
    assert arrays["x"].tobytes() == case.inputs()["x"].tobytes()
    assert interpret(graph, arrays)["loss"] > 0


# Peers.


@pytest.mark.peers
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_networks_agree_with_torch(mode: Mode) -> None:
    cases = [Case(name, mode, 3, sizes) for name, sizes in SMALL.items()]
    report = measure(cases, peers=["torch"], settings=BRIEF, parts=["speed"])
    assert report.errors() == []
    for speed in report.speeds:
        assert {"dnnc", "torch"} <= set(speed.timings)


@pytest.mark.peers
def test_networks_agree_with_the_other_peers() -> None:
    peers = [n for n, c in CONTENDERS.items() if not c.own and installed(c) is None]
    peers.remove("torch-compile")
    cases = [Case(name, "infer", 2, sizes) for name, sizes in SMALL.items()]
    report = measure(cases, peers=peers, settings=BRIEF, parts=["speed"])
    assert report.errors() == []
    assert all(set(peers) <= set(speed.timings) for speed in report.speeds)
