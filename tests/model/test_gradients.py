"""A loss and its gradients, against finite differences in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc
from tests.model.faces import LANGUAGE, MLP, diagnostics, one

RANDOM = np.random.default_rng(3)
LOSS = "cross_entropy(logits, label) + 0.01 * l2(weights)"


def check_gradients(net: dnnc.Model, loss: str, **inputs: np.ndarray) -> None:
    value, gradients = net.value_and_grad(loss, **inputs)
    assert isinstance(value, float)
    assert list(gradients) == list(net.parameters)
    step = 1e-6
    for name, array in net.parameters.items():
        assert gradients[name].shape == array.shape
        kept = array.copy()
        for k in RANDOM.choice(array.size, min(5, array.size), replace=False):
            around = []
            for move in (step, -step):
                moved = kept.copy()
                moved.flat[k] += move
                net.parameters[name] = moved
                around.append(net.value_and_grad(loss, **inputs)[0])
            net.parameters[name] = kept
            slope = (around[0] - around[1]) / (2 * step)
            assert gradients[name].flat[k] == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_gradients_of_a_network() -> None:
    net = dnnc.parse(MLP).model("Mlp", dtype="f64")
    x, label = RANDOM.standard_normal((5, 4)), RANDOM.integers(0, 3, 5)
    check_gradients(net, LOSS, x=x, label=label)


def test_gradients_of_a_table() -> None:
    net = dnnc.parse(LANGUAGE).model("Language", dtype="f64")
    tokens = RANDOM.integers(0, 11, (3, 4))
    check_gradients(net, "cross_entropy(logits, next)", tokens=tokens, next=tokens[:, ::-1])


def test_a_loss_without_labels() -> None:
    net = dnnc.parse(MLP).model("Mlp", dtype="f64")
    check_gradients(net, "mean(logits * logits)", x=RANDOM.standard_normal((2, 4)))


def test_parameters_that_a_loss_does_not_reach_have_no_slope() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    _, gradients = net.value_and_grad("l2(head.weight)", x=np.zeros((1, 4)))
    assert not gradients["dense_1.weight"].any()
    np.testing.assert_allclose(
        gradients["head.weight"], 2 * net.parameters["head.weight"], rtol=1e-6
    )


def test_training_and_predicting_networks_differ() -> None:
    text = MLP.replace("tanh", "tanh -> dropout(0.5)")
    net = dnnc.parse(text).model("Mlp")
    x, loss = np.ones((50, 4)), "mean(logits * logits)"
    predicting, _ = net.value_and_grad(loss, training=False, x=x)
    assert predicting == pytest.approx(float((net(x=x) ** 2).mean()), rel=1e-5)
    assert net.value_and_grad(loss, x=x)[0] != pytest.approx(predicting, rel=1e-3)


def test_the_batch_does_not_matter_to_what_is_compiled() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    for batch in (1, 4, 7):
        for dtype in ("f4", "f8"):
            net.value_and_grad("mean(logits)", x=np.ones((batch, 4), dtype))
    assert len(net._runners) == 1


def test_weights_are_read_at_every_call() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    x = np.ones((1, 4))
    before, _ = net.value_and_grad("sum(logits)", x=x)
    net.parameters["head.offset"] = net.parameters["head.offset"] + 1
    assert net.value_and_grad("sum(logits)", x=x)[0] == pytest.approx(before + 3, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "inputs", "code", "message"),
    [
        ("cross_entropy(logits, labl)", {}, "E101", "did you mean `label`?"),
        ("logits", {}, "E409", "a loss is one number"),
        ("mean(logits", {}, "E0", "<loss>:1:"),
        ("mean(logits)", {"x": None}, "E412", "`x` is a scalar"),
        ("mean(logits)", {"x": np.zeros((2, 3))}, "E412", "got an array of [2, 3]"),
        ("mean(logits)", {"label": 1}, "E412", "`label` is a scalar"),
        ("mean(logits)", {}, "E412", "there is no input `label`"),
        ("cross_entropy(logits, label)", {"label": [0, 1, 2]}, "E412", "must be batch = 2, got 3"),
        ("cross_entropy(logits, label)", {"label": ["a", "b"]}, "E412", "not of numbers"),
    ],
)
def test_what_is_wrong(loss: str, inputs: dict[str, object], code: str, message: str) -> None:
    net = dnnc.parse(MLP).model("Mlp")
    given = {"x": np.zeros((2, 4)), "label": [0, 1], **inputs}
    found = diagnostics(lambda: net.value_and_grad(loss, **given))
    assert found[0].code.startswith(code)
    assert message in found[0].render()


def test_an_input_named_like_what_training_counts() -> None:
    text = "model M { in seed: [batch, 3]\n out y: [batch, 3]\n y = seed -> dropout(0.5) }"
    net = dnnc.parse(text).model("M")
    assert net(seed=np.ones((2, 3))).shape == (2, 3)
    code, message = one(lambda: net.value_and_grad("mean(y)", seed=np.ones((2, 3))))
    assert code == "E305"
    assert "`seed` is both data and a number" in message


def test_an_input_that_is_missing() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    code, text = one(lambda: net.value_and_grad("mean(logits)", label=[0, 1]))
    assert code == "E412"
    assert "the input `x: f32[batch, 4]` is missing" in text
