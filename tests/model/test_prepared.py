"""What depends on weights alone is computed once, and again when they change."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc
from dnnc.model.arena import Arena
from tests.model.faces import predicted

RANDOM = np.random.default_rng(6)
NORMED = """
model Normed {
    in  x: [batch, 4]
    out y: [batch, 3]
    y = x -> dense(5) -> batch_norm -> tanh -> dense(3)
}
"""


@pytest.fixture(scope="module")
def net() -> dnnc.Model:
    return dnnc.parse(NORMED).model("Normed", threads=1)


def test_every_change_is_seen_at_once(net: dnnc.Model) -> None:
    x = RANDOM.standard_normal((3, 4)).astype("f4")
    seen = []
    for name, array in net.variables.items():
        kept, changed = array.copy(), array.copy()
        changed.flat[-1] += 0.5
        net.variables[name] = changed
        seen.append(net(x=x))
        np.testing.assert_allclose(seen[-1], predicted(net, x=x), rtol=1e-4, atol=1e-5)
        net.variables[name] = kept
        np.testing.assert_allclose(net(x=x), predicted(net, x=x), rtol=1e-4, atol=1e-5)
        assert not np.array_equal(net(x=x), seen[-1]), name


def test_weights_are_prepared_once(net: dnnc.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((1, 4), "f4")
    net(x=x)
    predictor = net._predict
    assert predictor is not None
    prepare, count = predictor._prepare, 0
    assert prepare is not None

    def counted(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal count
        count += 1
        return prepare(inputs)

    monkeypatch.setattr(predictor, "_prepare", counted)
    for _ in range(3):
        net(x=x)
    assert count == 0
    net.states["batch_norm_1.mean"] = net.states["batch_norm_1.mean"] + 1
    for _ in range(3):
        net(x=x)
    assert count == 1


def test_weights_that_are_no_numbers(net: dnnc.Model) -> None:
    kept = net.parameters["batch_norm_1.scale"].copy()
    net.parameters["batch_norm_1.scale"] = np.full(5, np.nan)
    x = np.ones((1, 4), "f4")
    assert np.isnan(net(x=x)).any()
    net.parameters["batch_norm_1.scale"] = kept
    assert np.isfinite(net(x=x)).all()


def test_an_arena_holds_copies_side_by_side() -> None:
    values = {
        "a": np.arange(5, dtype="f4"),
        "b": np.ones((0, 3)),
        "c": np.array(2, "i8"),
        "d": np.ones((3, 7), "u1"),
    }
    arena = Arena(values)
    for name, array in arena.arrays.items():
        np.testing.assert_array_equal(array, values[name])
        assert array.dtype == values[name].dtype
        assert array.ctypes.data % 64 == 0 or not array.size
        assert array.flags.c_contiguous
        assert array.flags.writeable
    version = arena.version
    arena.note_change()
    assert arena.version != version
    assert not Arena({}).arrays


def test_a_step_of_training_changes_what_is_prepared(net: dnnc.Model) -> None:
    x = RANDOM.standard_normal((8, 4)).astype("f4")
    before = net(x=x)
    net.trainer("mean(y * y)", optimizer="sgd(lr = 0.1)").step(x=x)
    after = net(x=x)
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, predicted(net, x=x), rtol=1e-4, atol=1e-5)
