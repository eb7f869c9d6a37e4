"""A loss that is not finite stops the run and is explained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnc import ops
from dnnc.diagnostics import DnnError
from dnnc.ir.graph import Graph, Input, Origin, Output, Value, origin
from dnnc.train.finite import MiscompiledError, explain
from dnnc.train.result import Options
from tests.train.small_plan import F32, interpreted, place, points, run, small_plan, tensor


@pytest.mark.parametrize("step", [1, 2, 9, 14])
def test_the_step_and_the_place_are_told(tmp_path: Path, step: int) -> None:
    with pytest.raises(DnnError) as caught:
        run(tmp_path, small_plan(poison=step), options=Options(report=False))
    (found,) = caught.value.diagnostics
    assert found.code == "E601"
    assert f"at step {step} " in found.message
    assert found.span is not None
    assert found.span.place == "blobs.dnn:2:23"
    assert "`log` is the first to give nan" in found.label
    assert any("dense_2" in note.message for note in found.notes)


def test_parameters_that_overflow_are_told() -> None:
    with pytest.raises(DnnError) as caught:
        run(None, small_plan(rate=1e38))
    text = str(caught.value)
    assert "E601" in text
    assert "at step " in text


def test_data_that_are_not_finite_are_told() -> None:
    data = points()
    data.splits["train"].arrays["image"][33, 5] = np.nan
    with pytest.raises(DnnError, match=r"E602.*field `image` of the training split holds nan"):
        run(None, dataset=data)


def test_infinities_that_were_meant_are_not_blamed() -> None:
    """A mask of minus infinity before a maximum is right; the logarithm of zero is not."""
    x = Input("x", Value(tensor(F32, 3)), "data")
    masked = ops.select(ops.greater(x.value, 0.0), x.value, float("-inf"))
    largest = ops.reduce_max(masked, (0,))
    wrong = ops.log(ops.reduce_sum(ops.multiply(x.value, 0.0), (0,)))
    loss = ops.add(ops.multiply(largest, 0.0), wrong)
    graph = Graph("step", (x,), (Output("loss", loss),))
    plan = dataclasses.replace(small_plan(), step=graph, fields=("x",))
    error = explain(plan, interpreted(graph), {"x": np.array([1, -2, 3], np.float32)}, "step 1")
    assert "`log` is the first to give minus infinity" in str(error)


def test_the_compiled_program_is_asked_where_the_reference_stays_finite() -> None:
    x = Input("x", Value(tensor(F32, 3)), "data")
    with origin(Origin(place("dense(3)"), "dense_2")):
        loss = ops.reduce_sum(x.value, (0,))
    graph = Graph("step", (x,), (Output("loss", loss),))
    plan = dataclasses.replace(small_plan(), step=graph, fields=("x",))

    class Compiled:
        def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
            return {"loss": np.array(np.inf, np.float32)}

        def first_nonfinite(self, inputs: Any) -> tuple[Any, str]:
            return loss.node, "total"

    large = np.full(3, 1e37, np.float32)
    text = str(explain(plan, Compiled(), {"x": large}, "step 7"))
    assert "at step 7" in text
    assert "`total` is the first that is not finite" in text
    assert "dense_2" in text
    with pytest.raises(MiscompiledError, match=r"first in `total` of reduce_sum"):
        explain(plan, Compiled(), {"x": large / large}, "step 7")


def test_an_undefined_logarithm_is_helped() -> None:
    with pytest.raises(DnnError, match=r"keep its operand above zero"):
        run(None, small_plan(poison=2))
