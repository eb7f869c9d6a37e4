"""No kernel reads memory that nothing has written: an arena full of NaN changes no result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dnnc
from dnnc.ir.interpret import interpret
from dnnc.ir.types import TensorType
from dnnc.passes.pipeline import optimize
from dnnc.program import executable
from dnnc.program.arrays import aligned
from dnnc.program.executable import Executable

EXAMPLES = Path(__file__).parents[2] / "examples"


def fitted(array: np.ndarray, wanted: TensorType) -> np.ndarray:
    shape = (len(array), *(int(size) for size in wanted.shape[1:]))
    return np.ascontiguousarray(array, wanted.dtype.numpy).reshape(shape)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("example", ["digits", "diabetes", "lstm", "gpt", "own"])
def test_arena_of_nan(example: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(count: int) -> np.ndarray:
        memory = aligned(count)
        memory[:] = 0xFF  # NaN in every floating-point type
        return memory

    monkeypatch.setattr(executable, "aligned", poisoned)
    program = dnnc.load(EXAMPLES / f"{example}.dnn")
    plan = program.jobs[0].plan()
    step = Executable(optimize(plan.step), threads)
    variables = interpret(plan.network.initial, {"seed": np.array(3, np.int64)})
    variables.update(interpret(plan.initial_optimizer, variables))
    variables = {name: np.array(array) for name, array in variables.items()}
    split = program.dataset(plan.data).splits["train"]
    types = {item.name: item.value.type for item in plan.step.inputs}
    for number, rows in enumerate((plan.batch, 7, 1), start=1):
        taken = split.take(np.arange(rows))
        batch = {name: fitted(taken[name], types[name]) for name in plan.fields}
        scalars = {"step": number, "steps": 100, "seed": 3}
        held = {n: np.array(v, np.int64) for n, v in scalars.items() if n in types}
        loss = step({**batch, **held, **variables})["loss"]
        assert np.isfinite(loss)
        for name, array in variables.items():
            assert np.isfinite(array).all(), name
