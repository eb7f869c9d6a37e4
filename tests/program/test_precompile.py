"""A second process compiles the same kernels that the first one needs."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import Kernel, make_kernel
from dnnc.kernels.compile import missing_kernels
from dnnc.kernels.load import load_lowerings
from dnnc.passes.pipeline import optimize
from dnnc.program import precompile
from dnnc.program.plan import make_plan
from dnnc.program.show import needed_kernels
from dnnc.program.team import team_kernels


def graph() -> Graph:
    x = Value(TensorType.make(DType.F32, [dim("n"), 11]))
    total = ops.reduce_sum(ops.multiply(ops.exp(x), 0.375), 1)
    outputs = (Output("y", ops.log1p(total)), Output("z", ops.reduce_max(x, 0)))
    return optimize(Graph("f", (Input("x", x, "data"),), outputs))


def run_helper(graph: Graph, folder: Path, close: bool) -> None:
    """Run the second process on a graph, and end when it does or close its pipe at once."""
    paths = {"DNNC_CACHE": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "dnnc.program.precompile"],
        stdin=subprocess.PIPE,
        env=os.environ | paths,
    ) as process:
        assert process.stdin is not None
        data = pickle.dumps(graph)
        process.stdin.write(b"%d\n" % len(data) + data)
        process.stdin.flush()
        if close:
            process.stdin.close()
        assert process.wait() == 0


def test_the_helper_makes_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_lowerings()
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    program = graph()
    missing = missing_kernels([*needed_kernels(make_plan(program)), *team_kernels()])
    assert missing
    run_helper(program, tmp_path, close=False)
    assert missing_kernels(missing) == []


def test_the_helper_ends_when_the_first_process_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    run_helper(graph(), tmp_path, close=True)
    assert len(list(tmp_path.rglob("*.o"))) == len(team_kernels())


class Given:
    """Stands in for a helper: what it was asked for."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def give(self, graph: Graph) -> None:
        self.said.append(graph.name)

    def release(self) -> None:
        self.said.append("release")


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """The only helper there is to start, and an empty cache."""
    load_lowerings()
    given = Given()
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    monkeypatch.setattr(precompile, "_Helper", lambda: given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(precompile, "missing_kernels", lambda kernels: kernels)
    return given


def test_help_is_for_many_missing_kernels(helper: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    program = graph()
    kernels = needed_kernels(make_plan(program))
    with precompile.helped(program) as start:
        start(kernels)
        assert helper.said == []
    monkeypatch.setattr(precompile, "_FEWEST", len(kernels))
    with precompile.helped(program) as start:
        start(kernels)
        assert helper.said == ["f"]
    assert helper.said == ["f", "release"]


def test_a_helper_that_waits_is_given_the_next_program(helper: Given) -> None:
    precompile.get_ready()
    precompile.get_ready()
    with precompile.helped(graph()):
        assert helper.said == ["f"]
    with precompile.helped(graph()):
        assert helper.said == ["f", "release"]


def test_programs_that_belong_together_have_one_helper(helper: Given) -> None:
    many = [make_kernel(f"k{k}", lambda: pytest.fail("not built")) for k in range(20)]
    precompile.get_ready()
    with precompile.helped(graph()):
        with precompile.helped(graph()) as start:
            start(many)
        assert helper.said == ["f"]
    assert helper.said == ["f", "release"]
    with precompile.helped(graph()), precompile.helped(graph()) as start:
        start(many)
        assert helper.said == ["f", "release", "f"]


def test_one_processor_works_alone(helper: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    precompile.get_ready()
    with precompile.helped(graph()) as start:
        start([make_kernel(f"k{k}", lambda: pytest.fail("not built")) for k in range(20)])
    assert helper.said == []


def test_both_ends_begin_with_costly_kernels() -> None:
    written = [Kernel(f"w{k}", f"w{k}", lambda: pytest.fail("not built")) for k in range(3)]
    made = [Kernel(f"g{k}", f"g{k}", written[0].build, "x" * k) for k in range(1, 4)]
    names = [k.name for k in precompile.from_both_ends([*made, *written])]
    assert names == ["w0", "w2", "g2", "g1", "g3", "w1"]
