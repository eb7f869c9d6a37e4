"""DNNC_DEBUG shows what a program's kernels are."""

import pytest

from dnnc import ops
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.program.executable import Executable


def shown(level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("DNNC_DEBUG", level)
    x = Value(TensorType.make(DType.F32, [dim("n")]))
    Executable(Graph("f", (Input("x", x, "data"),), (Output("y", ops.exp(x)),)), threads=1)
    return capsys.readouterr().err


def test_levels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("3", monkeypatch, capsys) == ""
    loops = shown("4", monkeypatch, capsys)
    assert "# kernel elementwise" in loops
    assert "def kernel(args, tid, threads):" in loops
    assert "f_exp_f32_f32(" in loops
    machine = shown("5", monkeypatch, capsys)
    assert "@dnnc_" in machine
    assert "ret i32" in machine
