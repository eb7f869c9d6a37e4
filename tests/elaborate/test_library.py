"""Every definition of the library: what shape it makes, and that nothing is left out."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.std import library_sources
from dnnc.syntax import tree
from dnnc.syntax.parse import parse
from tests.elaborate.networks import Net, codes, run, walk

IMAGE, FLAT, SEQ, WORDS = "[batch, 6, 9, 8]", "[batch, 10]", "[batch, 5, 6]", "i32[batch, 5]"
LAYERS = [
    (FLAT, "dense(3)", "[batch, 3]"),
    (FLAT, "dense(3, bias = false, drop = 0.5)", "[batch, 3]"),
    (SEQ, "dense(3)", "[batch, 5, 3]"),
    (IMAGE, "dense(3)", "[batch, 6, 9, 3]"),
    (IMAGE, "conv(16)", "[batch, 16, 9, 8]"),
    (IMAGE, "conv(16, 5)", "[batch, 16, 9, 8]"),
    (IMAGE, "conv(16, 3, stride = 2)", "[batch, 16, 5, 4]"),
    (IMAGE, "conv(16, 4, stride = 3)", "[batch, 16, 3, 3]"),
    (IMAGE, "conv(16, [3, 1], stride = [2, 1])", "[batch, 16, 5, 8]"),
    (IMAGE, "conv(16, 3, dilation = 2)", "[batch, 16, 9, 8]"),
    (IMAGE, 'conv(16, 3, padding = "valid")', "[batch, 16, 7, 6]"),
    (IMAGE, "conv(16, 3, padding = 2)", "[batch, 16, 11, 10]"),
    (IMAGE, "conv(16, 3, padding = [1, 0])", "[batch, 16, 9, 6]"),
    (IMAGE, "conv(16, 3, padding = [0, 1, 2, 3])", "[batch, 16, 9, 10]"),
    (IMAGE, "conv(12, 3, groups = 3, bias = false)", "[batch, 12, 9, 8]"),
    (IMAGE, "depthwise(3)", "[batch, 6, 9, 8]"),
    (IMAGE, "depthwise(5, multiplier = 2, stride = 2)", "[batch, 12, 5, 4]"),
    (SEQ, "conv1d(4)", "[batch, 4, 6]"),
    (SEQ, "conv1d(4, 3, stride = 4)", "[batch, 4, 2]"),
    (SEQ, 'conv1d(4, 3, padding = "valid")', "[batch, 4, 4]"),
    (SEQ, "conv1d(4, 3, padding = [2, 0])", "[batch, 4, 6]"),
    (SEQ, "conv1d(10, 3, groups = 5, dilation = 2)", "[batch, 10, 6]"),
    (IMAGE, "max_pool", "[batch, 6, 4, 4]"),
    (IMAGE, "max_pool(3)", "[batch, 6, 3, 2]"),
    (IMAGE, "max_pool(3, stride = 1)", "[batch, 6, 7, 6]"),
    (IMAGE, 'max_pool(3, stride = 2, padding = "same")', "[batch, 6, 5, 4]"),
    (IMAGE, "max_pool([3, 2])", "[batch, 6, 3, 4]"),
    (IMAGE, "avg_pool(2)", "[batch, 6, 4, 4]"),
    (IMAGE, "avg_pool(3, stride = 2, padding = 1)", "[batch, 6, 5, 4]"),
    (SEQ, "max_pool1d(2)", "[batch, 5, 3]"),
    (SEQ, "max_pool1d(3, stride = 1)", "[batch, 5, 4]"),
    (SEQ, "avg_pool1d(3)", "[batch, 5, 2]"),
    (IMAGE, "global_avg_pool", "[batch, 6]"),
    (IMAGE, "global_max_pool", "[batch, 6]"),
    (SEQ, "global_avg_pool", "[batch, 5]"),
    (IMAGE, "flatten", "[batch, 432]"),
    (FLAT, "flatten", "[batch, 10]"),
    (WORDS, "embedding(9, 4)", "[batch, 5, 4]"),
    (SEQ, "positions", "[batch, 5, 6]"),
    (SEQ, "positions(context = 7)", "[batch, 5, 6]"),
    (FLAT, "batch_norm", "[batch, 10]"),
    (SEQ, "batch_norm", "[batch, 5, 6]"),
    (IMAGE, "batch_norm(momentum = 0.5)", "[batch, 6, 9, 8]"),
    (SEQ, "layer_norm", "[batch, 5, 6]"),
    (IMAGE, "dropout(0.3)", "[batch, 6, 9, 8]"),
    (FLAT, "dropconnect(0.3)", "[batch, 10]"),
    (IMAGE, "prelu", "[batch, 6, 9, 8]"),
    (FLAT, "prelu(0.1)", "[batch, 10]"),
    (IMAGE, "residual { conv(6) -> relu }", "[batch, 6, 9, 8]"),
    (IMAGE, "concat { conv(4) | conv(5, 1) }", "[batch, 9, 9, 8]"),
    (IMAGE, "concat(axis = 2) { relu | relu | relu }", "[batch, 6, 27, 8]"),
    (SEQ, "mlp(7)", "[batch, 5, 6]"),
    (SEQ, "mlp(7, activation = relu, drop = 0.1, units = 3)", "[batch, 5, 3]"),
    (SEQ, "rnn(4)", "[batch, 5, 4]"),
    (SEQ, "rnn(4, activation = relu, start = glorot_uniform)", "[batch, 5, 4]"),
    (SEQ, "lstm(4)", "[batch, 5, 4]"),
    (SEQ, "gru(4)", "[batch, 5, 4]"),
    (SEQ, "last", "[batch, 6]"),
    (SEQ, "attention(2)", "[batch, 5, 6]"),
    (SEQ, "attention(3, causal = true, drop = 0.1, bias = false)", "[batch, 5, 6]"),
    (SEQ, "attention(2, memory = memory)", "[batch, 5, 6]"),
    (SEQ, "heads_of(3)", "[batch, 3, 5, 2]"),
    (SEQ, "split_heads(3)", "[batch, 5, 3, 2]"),
    (SEQ, "encoder_layer(6, 2)", "[batch, 5, 6]"),
    (SEQ, "encoder_layer(6, 2, drop = 0.1, hidden = 5)", "[batch, 5, 6]"),
    (SEQ, "decoder_layer(6, 2, memory = memory)", "[batch, 5, 6]"),
    (FLAT, "softmax", "[batch, 10]"),
    (FLAT, "log_softmax(axis = 0)", "[batch, 10]"),
    *((SEQ, name, "[batch, 5, 6]") for name in (
        "relu", "leaky_relu", "elu", "gelu", "silu", "hard_sigmoid", "softplus", "mish", "selu",
        "sigmoid", "tanh", "exp",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "layer", "expected"), LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_the_shape_of_a_layer(shape: str, layer: str, expected: str, training: bool) -> None:
    text = f"model M {{ in x: {shape}\n in memory: [batch, 7, 6]\n out y\n y = x -> {layer} }}"
    assert str(walk(text, training=training).outputs["y"].type) == f"f64{expected}"


SYMBOLIC = [
    ("[batch, 3, h, w]", "conv(8)", "[batch, 8, h, w]"),
    ("[batch, 3, h, w]", "conv(8, 3, stride = 2)", "[batch, 8, (h + 1) // 2, (w + 1) // 2]"),
    ("[batch, 3, h, w]", "max_pool(2)", "[batch, 3, h // 2, w // 2]"),
    ("[batch, 3, h, w]", 'conv(8, 3, padding = "valid")', "[batch, 8, h - 2, w - 2]"),
    ("[batch, 3, h, w]", "flatten", "[batch, 3 * h * w]"),
    ("[batch, time, 6]", "lstm(4) -> last", "[batch, 4]"),
    ("[batch, time, 6]", "encoder_layer(6, 2)", "[batch, time, 6]"),
    ("[batch, time, 6]", "positions", "[batch, time, 6]"),
]


@pytest.mark.parametrize(("shape", "layer", "expected"), SYMBOLIC)
def test_the_shape_of_a_layer_for_any_size(shape: str, layer: str, expected: str) -> None:
    found = walk(f"model M {{ in x: {shape}\n out y\n y = x -> {layer} }}").outputs["y"].type
    assert str(found) == f"f64{expected}"


def test_every_block_has_a_case() -> None:
    blocks = {
        item.name for source in library_sources() for item in parse(source).items
        if isinstance(item, tree.Block) and item.kind == "block"
    }  # fmt: skip
    tested = {layer.split("(")[0].split(" ")[0] for _, layer, _ in LAYERS}
    assert blocks <= tested


X = np.random.default_rng(0).normal(size=(4, 3))


def test_what_activations_compute() -> None:
    positive, negative = np.maximum(X, 0), np.minimum(X, 0)
    sigmoid = 1 / (1 + np.exp(-X))
    softplus = np.log1p(np.exp(X))
    for text, expected in {
        "relu(x)": positive, "leaky_relu(x)": np.where(X > 0, X, 0.01 * X),
        "elu(x, 2)": positive + 2 * np.expm1(negative), "silu(x)": X * sigmoid,
        "hard_sigmoid(x)": np.clip(X / 6 + 0.5, 0, 1), "softplus(x)": softplus,
        "mish(x)": X * np.tanh(softplus), "softmax(x)": np.exp(X) / np.exp(X).sum(1)[:, None],
        "exp(log_softmax(x))": np.exp(X) / np.exp(X).sum(1)[:, None],
        "selu(x)": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X)),
    }.items():  # fmt: skip
        assert np.allclose(run(f"y = {text}", x=X), expected), text


def test_large_logits_stay_finite() -> None:
    large = X * 1e4
    for text in ("softmax(x)", "log_softmax(x)", "softplus(x)", "mish(x)", "sigmoid(x)"):
        assert np.isfinite(run(f"y = {text}", x=large)).all(), text


def test_dropout_keeps_the_mean() -> None:
    ones = np.ones((400, 100))
    found = run("y = x -> dropout(0.25)", x=ones, training=True)
    assert set(np.unique(found)) == {0.0, 1 / 0.75}
    assert found.mean() == pytest.approx(1, abs=0.02)
    assert np.array_equal(run("y = x -> dropout(0.25)", x=ones), ones)


def test_two_dropouts_are_independent() -> None:
    ones = np.ones((100, 100))
    both = run("y = (x -> dropout(0.5)) * (x -> dropout(0.5))", x=ones, training=True)
    assert (both > 0).mean() == pytest.approx(0.25, abs=0.03)


def test_a_causal_attention_does_not_see_the_future() -> None:
    text = "model M { in x: [batch, time, 6]\n out y\n y = x -> attention(2, causal = true) }"
    net = Net(text)
    x = np.random.default_rng(0).normal(size=(2, 5, 6))
    changed = x.copy()
    changed[:, 3:] += 1
    assert np.allclose(net(x=x)[:, :3], net(x=changed)[:, :3])
    assert not np.allclose(net(x=x)[:, 3:], net(x=changed)[:, 3:])


def test_padding_is_that_of_onnx() -> None:
    # SAME_UPPER: the odd pixel of padding stands at the end.
    x = np.arange(1, 7, dtype=float).reshape(1, 1, 1, 6)
    text = """model M { in x: [batch, 1, 1, 6]\n out y
        y = x -> conv(1, [1, 4], stride = [1, 2], bias = false, start = ones) }"""
    assert np.array_equal(Net(text)(x=x).ravel(), [1 + 2 + 3, 2 + 3 + 4 + 5, 4 + 5 + 6])


def test_averages_do_not_count_the_padding() -> None:
    ones = np.ones((1, 1, 5, 5))
    assert np.array_equal(run('y = x -> avg_pool(3, 2, "same")', x=ones), np.ones((1, 1, 3, 3)))


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        (IMAGE, "conv(0)"),
        (IMAGE, "conv(-4)"),
        (IMAGE, "conv(16, groups = 4)"),
        (IMAGE, "conv(15, groups = 2)"),
        (IMAGE, "depthwise(3, multiplier = 0)"),
        (SEQ, "attention(4)"),
        (SEQ, "attention(0)"),
        (SEQ, "positions(context = 4)"),
        (FLAT, "dropout(1)"),
        (FLAT, "dropout(-0.5)"),
        (FLAT, "dense(3, drop = 1.5)"),
        (FLAT, "residual"),
        (FLAT, "concat"),
        (WORDS, "embedding"),
        (WORDS, "embedding(9)"),
        (IMAGE, 'conv(3, padding = "full")'),
        ("[batch, 5, 5]", "positions"),
    ],
)
def test_settings_that_a_layer_refuses(shape: str, layer: str) -> None:
    text = f"model M {{ in x: {shape}\n out y\n y = x -> {layer} }}"
    assert codes(text)[0] in ("E306", "E113")
    assert len(codes(text)) == 1


@pytest.mark.parametrize(
    ("shape", "layer", "code"),
    [
        (FLAT, "conv(3)", "E210"),
        (SEQ, "max_pool", "E204"),
        (FLAT, "lstm(3)", "E210"),
        (FLAT, "embedding(9, 3)", "E202"),
        (SEQ, "residual { dense(3) }", "E203"),
        (IMAGE, "concat { conv(3) | max_pool }", "E203"),
        (IMAGE, 'conv(3, 20, padding = "valid")', "E206"),
        (FLAT, "dense(2.5)", "E112"),
        (FLAT, 'dense("wide")', "E112"),
        (FLAT, "dense(none)", "E112"),
        (FLAT, "dense(-3)", "E114"),
        (IMAGE, "conv(3, 0)", "E113"),
        (IMAGE, "conv(3, stride = 0)", "E113"),
        (IMAGE, "max_pool(-1)", "E112"),
        (SEQ, "encoder_layer(8, 2)", "E210"),
        (FLAT, "dense(3) as 3", "E002"),
    ],
)
def test_misused_layers(shape: str, layer: str, code: str) -> None:
    text = f"model M {{ in x: {shape}\n out y\n y = x -> {layer} }}"
    assert codes(text) == [code]
