"""A second process compiles the same kernels that the first one needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.text import print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.compile import missing_kernels
from dnnc.kernels.load import load_lowerings
from dnnc.passes.pipeline import optimize
from dnnc.program import precompile
from dnnc.program.plan import make_plan
from dnnc.program.show import needed_kernels


def graph() -> Graph:
    x = Value(TensorType.make(DType.F32, [dim("n"), 11]))
    total = ops.reduce_sum(ops.multiply(ops.exp(x), 0.375), 1)
    outputs = (Output("y", ops.log1p(total)), Output("z", ops.reduce_max(x, 0)))
    return optimize(Graph("f", (Input("x", x, "data"),), outputs))


def helper(text: str, cache: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "dnnc.program.precompile", str(len(text))],
        input=text.encode(),
        env=os.environ | {"DNNC_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )


def test_the_helper_makes_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_lowerings()
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    program = graph()
    missing = missing_kernels(needed_kernels(make_plan(program)))
    assert missing
    text = print_graph(program)
    with subprocess.Popen(
        [sys.executable, "-m", "dnnc.program.precompile", str(len(text))],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.flush()
        assert process.wait() == 0
    assert missing_kernels(missing) == []


def test_the_helper_ends_when_the_first_process_is_done(tmp_path: Path) -> None:
    text = print_graph(graph())
    helper(text, tmp_path)
    assert not list(tmp_path.rglob("*.o"))


def test_help_is_for_many_missing_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_lowerings()
    monkeypatch.setenv("DNNC_CACHE", str(tmp_path))
    program = graph()
    kernels = needed_kernels(make_plan(program))
    monkeypatch.setattr(precompile, "_start", lambda graph: pytest.fail("no help is needed"))
    with precompile.helped(program, kernels):
        pass
    monkeypatch.setattr(precompile, "_FEWEST", len(kernels))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(precompile, "_start", lambda graph: None)
    with precompile.helped(program, kernels):
        pass
