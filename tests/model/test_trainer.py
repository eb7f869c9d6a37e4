"""Training from Python, step by step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import dnnc
from dnnc.data import batches
from dnnc.elaborate.network import FieldShape
from dnnc.ir.text import print_graph
from dnnc.ir.types import DType
from dnnc.model.losses import step_graph
from tests.model.faces import MLP, one

RANDOM = np.random.default_rng(4)
X = RANDOM.standard_normal((60, 4)).astype("f4")
LABEL = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
DATA = {"x": X, "label": LABEL}
LOSS = "cross_entropy(logits, label)"


@pytest.fixture
def net() -> dnnc.Model:
    return dnnc.parse(MLP).model("Mlp")


def test_the_loss_decreases(net: dnnc.Model) -> None:
    before = net(x=X)
    fit = net.trainer(LOSS, optimizer="adam(lr = 3e-2)", clip="norm(1.0)")
    first = fit.step(x=X, label=LABEL)
    for _ in range(60):
        last = fit.step(x=X, label=LABEL)
    assert last < 0.5 * first
    assert fit.step_number == 61
    assert not np.array_equal(net(x=X), before)
    assert (net(x=X).argmax(1) == LABEL).mean() > 0.8


def test_a_step_is_the_gradient_step(net: dnnc.Model) -> None:
    value, gradients = net.value_and_grad(LOSS, x=X, label=LABEL)
    wanted = {n: a - 0.1 * gradients[n] for n, a in net.parameters.items()}
    loss = net.trainer(LOSS, optimizer="sgd(lr = 0.1)").step(x=X, label=LABEL)
    assert loss == pytest.approx(value, rel=1e-6)
    for name, array in wanted.items():
        np.testing.assert_allclose(net.parameters[name], array, rtol=1e-4, atol=1e-6)


def test_a_smaller_batch_runs_on_the_same_program(net: dnnc.Model) -> None:
    fit = net.trainer(LOSS)
    for size in (32, 32, 7, 1):
        assert np.isfinite(fit.step(x=X[:size], label=LABEL[:size]))
    assert len(fit._runners) == 1


def test_schedules_know_the_steps(net: dnnc.Model) -> None:
    optimizer = "sgd(lr = cosine(0.1, warmup = 2))"
    fit = net.trainer(LOSS, optimizer=optimizer, steps=4)
    moves = []
    for _ in range(4):
        before = net.parameters["head.weight"].copy()
        fit.step(x=X, label=LABEL)
        moves.append(float(abs(net.parameters["head.weight"] - before).max()))
    assert moves[-1] == pytest.approx(0, abs=1e-7)
    assert moves[1] > moves[0]
    code, text = one(lambda: net.trainer(LOSS, optimizer=optimizer).step(x=X, label=LABEL))
    assert code == "E412"
    assert "net.trainer(..., steps=1000)" in text


def test_clipping_bounds_the_gradients(net: dnnc.Model) -> None:
    before = {n: a.copy() for n, a in net.parameters.items()}
    net.trainer(LOSS, "sgd(lr = 1)", clip="norm(0.01)").step(x=X, label=LABEL)
    moved = sum(float(((a - before[n]) ** 2).sum()) for n, a in net.parameters.items())
    assert moved**0.5 == pytest.approx(0.01, rel=1e-3)


def test_double_precision() -> None:
    net = dnnc.parse(MLP).model("Mlp", dtype="f64")
    fit = net.trainer(LOSS)
    fit.step(x=X, label=LABEL)
    assert {a.dtype.name for a in fit.variables.values()} == {"float64"}


def train(fit: dnnc.Trainer, count: int) -> list[float]:
    return [fit.step(x=X[k : k + 20], label=LABEL[k : k + 20]) for k in range(count)]


DROPOUT = MLP.replace("tanh", "tanh -> dropout(0.3)")


def test_dropout_depends_on_seed_and_step() -> None:
    def losses(**options: int) -> list[float]:
        return train(dnnc.parse(DROPOUT).model("Mlp").trainer(LOSS, **options), 3)

    assert losses() == losses()
    assert losses(seed=1) != losses(seed=2)


@pytest.mark.parametrize("by_file", [True, False])
def test_training_goes_on_as_if_nothing_had_happened(by_file: bool, tmp_path: Path) -> None:
    fit = dnnc.parse(DROPOUT).model("Mlp").trainer(LOSS)
    wanted = train(fit, 6)[3:]

    half = dnnc.parse(DROPOUT).model("Mlp").trainer(LOSS)
    train(half, 3)
    rest = dnnc.parse(DROPOUT).model("Mlp", seed=0).trainer(LOSS)
    if by_file:
        half.save(tmp_path / "half")
        rest.load(tmp_path / "half")
    else:
        for name, array in half.variables.items():
            rest.variables[name] = array
        rest.step_number = half.step_number
    got = [rest.step(x=X[k : k + 20], label=LABEL[k : k + 20]) for k in range(3, 6)]
    assert got == wanted
    for name, array in fit.variables.items():
        np.testing.assert_array_equal(rest.variables[name], array)


def test_variables_are_those_of_model_and_optimizer(net: dnnc.Model) -> None:
    fit = net.trainer(LOSS)
    assert np.shares_memory(fit.variables["head.weight"], net.parameters["head.weight"])
    assert fit.variables["optimizer.m/head.weight"].shape == (8, 3)


def test_files_that_do_not_fit_a_trainer(net: dnnc.Model, tmp_path: Path) -> None:
    net.save(tmp_path / "net")
    adam, sgd = net.trainer(LOSS), net.trainer(LOSS, "sgd(lr = 0.1)")
    assert "`net.load` reads" in one(lambda: adam.load(tmp_path / "net"))[1]
    train(adam, 1)
    adam.save(tmp_path / "adam")
    with pytest.raises(dnnc.DnnError, match=r"it holds `optimizer.m/dense_1.weight`"):
        sgd.load(tmp_path / "adam")
    net.load(tmp_path / "adam")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"optimizer": "adm(lr = 1)"}, "E101"),
        ({"optimizer": "adam(rate = 1)"}, "E102"),
        ({"optimizer": "relu"}, "E411"),
        ({"optimizer": "adam("}, "E0"),
    ],
)
def test_a_wrong_optimizer_is_told_at_once(
    net: dnnc.Model, options: dict[str, str], code: str
) -> None:
    assert one(lambda: net.trainer(LOSS, **options))[0].startswith(code)


def test_a_wrong_loss_or_clip_is_told_with_the_first_step(net: dnnc.Model) -> None:
    fit = net.trainer("cross_entropy(logits, lebal)")
    assert one(lambda: fit.step(x=X, label=LABEL))[0] == "E101"
    fit = net.trainer(LOSS, clip="3")
    assert one(lambda: fit.step(x=X, label=LABEL))[0] == "E405"


JOB = """
data Rows {
    x     = array("x")
    label = array("label")
    split = [1.0, 0.0, 0.0]
}
train Mlp on Rows {
    loss      = cross_entropy(logits, label)
    optimizer = adam(lr = cosine(1e-2))
    clip      = norm(1.0)
    epochs    = 3
    batch     = 16
    seed      = 5
}
"""


def test_steps_are_those_of_a_run(tmp_path: Path) -> None:
    program = dnnc.parse(DROPOUT + JOB, arrays={"x": X, "label": LABEL})
    (result,) = program.run(tmp_path / "run")
    net = program.model("Mlp", seed=5)
    fit = net.trainer(LOSS, "adam(lr = cosine(1e-2))", clip="norm(1.0)", steps=result.steps)
    split = program.dataset("Rows").splits["train"]
    for epoch in range(3):
        for rows in batches(split, 16, seed=5, epoch=epoch, shuffle=True):
            fit.step(**split.take(rows))
    assert fit.step_number == result.steps
    for name, array in result.last.items():
        np.testing.assert_array_equal(net.variables[name], array)
    other = program.model("Mlp")
    other.load(tmp_path / "run" / "weights.safetensors")
    np.testing.assert_array_equal(other(x=X), net(x=X))


def test_running_statistics_are_trained_and_used(tmp_path: Path) -> None:
    text = MLP.replace("tanh", "batch_norm -> tanh")
    net = dnnc.parse(text).model("Mlp")
    fit = net.trainer(LOSS)
    before = {name: array.copy() for name, array in net.states.items()}
    predicted = net(x=X)
    train(fit, 5)
    assert before
    assert all(not np.array_equal(net.states[name], array) for name, array in before.items())
    assert not np.array_equal(net(x=X), predicted)
    net.save(tmp_path / "net")
    other = dnnc.parse(text).model("Mlp", seed=8)
    other.load(tmp_path / "net")
    np.testing.assert_array_equal(other(x=X), net(x=X))


def test_threads_take_turns_at_steps(net: dnnc.Model) -> None:
    fit = net.trainer(LOSS)

    def work(thread: int) -> None:
        for k in range(20):
            fit.step(x=X[k:], label=LABEL[k:])
            net(x=X)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert fit.step_number == 60
    assert all(np.isfinite(array).all() for array in fit.variables.values())


def test_the_walk_for_the_first_states_serves_the_first_program(net: dnnc.Model) -> None:
    fields = {name: FieldShape(DType.of(array), array.shape[1:]) for name, array in DATA.items()}
    trainer = net.trainer(LOSS, optimizer="adam(lr = 0.01)")
    walk = trainer._walk
    assert walk is not None
    assert walk.has_sizes_of(fields)
    other = {**fields, "x": FieldShape(DType.F32, (1, *fields["x"].shape))}
    assert not walk.has_sizes_of(other)
    graphs = (
        step_graph(w, fields, trainer.options)
        for w in (walk, net.walk(training=True, fields=fields))
    )
    assert len({print_graph(graph) for graph in graphs}) == 1
