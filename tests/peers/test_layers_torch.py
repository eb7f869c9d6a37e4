"""Every layer, activation and loss of the library against PyTorch: values and gradients.

Each case is a model in the language and the same function in PyTorch over the same weights. `nudge`
is a parameter added to the input, so that the gradient for the input is compared as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnnc

pytestmark = pytest.mark.peers

Weights = dict[str, Any]
Reference = Callable[[Any, Weights], Any]

TOLERANCE = 1e-4


def build(layer: str, shape: tuple[int, ...]) -> dnnc.Model:
    """The model `x -> layer` over inputs `[batch, *shape]`, with a nudge for the input."""
    inner = ", ".join(map(str, shape))
    text = f"""
    model Layer {{
        in  x: [batch, {inner}]
        out y
        param nudge: [1, {inner}] = zeros
        z = x + nudge
        y = z -> {layer}
    }}
    """
    return dnnc.parse(text).model("Layer", seed=3)


def compare(found: np.ndarray, wanted: np.ndarray, what: str, scale: float = 1e-3) -> None:
    """Largest difference relative to the largest value, or to `scale` where that is larger."""
    scale = max(float(np.abs(wanted).max()), scale)
    error = float(np.abs(found - wanted).max()) / scale
    assert error < TOLERANCE, f"{what}: relative error {error:.2e}"


def check(net: dnnc.Model, shape: tuple[int, ...], reference: Reference, training: bool) -> None:
    """Compare the output, and the gradients of a random projection of it."""
    import torch

    rng = np.random.default_rng(7)
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    weights = {
        n: torch.tensor(a, requires_grad=n in net.parameters) for n, a in net.variables.items()
    }
    wanted = reference(torch.from_numpy(x) + weights["nudge"], weights)
    if not training:
        compare(net(x=x), wanted.detach().numpy(), "output")
    projection = rng.standard_normal(tuple(wanted.shape)).astype(np.float32)
    (wanted * torch.from_numpy(projection)).sum().backward()
    loss, gradients = net.value_and_grad("sum(y * r)", training=training, x=x, r=projection)
    products = wanted.detach().numpy().astype(np.float64) * projection
    assert abs(loss - products.sum()) <= TOLERANCE * np.abs(products).sum()
    # Some gradients vanish in exact arithmetic (an offset of keys, a shift before a batch norm):
    # what rounding leaves of them is measured against the gradients as a whole.
    largest = max(float(weights[name].grad.abs().max()) for name in net.parameters)
    for name in net.parameters:
        compare(gradients[name], weights[name].grad.numpy(), f"gradient of {name}", largest / 10)


def functional() -> Any:
    return pytest.importorskip("torch").nn.functional


def _activation(name: str, **options: Any) -> Reference:
    return lambda x, w: getattr(functional(), name)(x, **options)


ACTIVATIONS: dict[str, Reference] = {
    "relu": _activation("relu"),
    "leaky_relu": _activation("leaky_relu"),
    "leaky_relu(0.2)": _activation("leaky_relu", negative_slope=0.2),
    "elu": _activation("elu"),
    "selu": _activation("selu"),
    "gelu": _activation("gelu"),
    "silu": _activation("silu"),
    "sigmoid": lambda x, w: x.sigmoid(),
    "hard_sigmoid": _activation("hardsigmoid"),
    "tanh": lambda x, w: x.tanh(),
    "softplus": _activation("softplus"),
    "mish": _activation("mish"),
    "softmax": _activation("softmax", dim=-1),
    "log_softmax": _activation("log_softmax", dim=-1),
    "softmax(axis = 1)": _activation("softmax", dim=1),
    "prelu": lambda x, w: functional().prelu(x, w["prelu_1.weight"]),
}


@pytest.mark.parametrize("layer", ACTIVATIONS)
def test_activation(layer: str) -> None:
    check(build(layer, (5, 6)), (5, 6), ACTIVATIONS[layer], training=False)


def _conv(**options: Any) -> Reference:
    return lambda x, w: functional().conv2d(
        x, w["conv_1.weight"], w.get("conv_1.offset"), **options
    )


def _same(kernel: int, stride: int, dilation: int, pads: tuple[int, int, int, int]) -> Reference:
    """PyTorch pads evenly, so that uneven padding is done before (left, right, top, bottom)."""

    def reference(x: Any, w: Weights) -> Any:
        padded = functional().pad(x, pads)
        return functional().conv2d(
            padded, w["conv_1.weight"], w["conv_1.offset"], stride=stride, dilation=dilation
        )

    return reference


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], Reference]] = {
    "conv(4, 3)": ((3, 8, 7), _conv(padding=1)),
    "conv(4, 3, bias = false)": ((3, 8, 7), _conv(padding=1)),
    "conv(4, 1)": ((3, 5, 5), _conv()),
    "conv(4, 5, padding = \"valid\")": ((3, 9, 8), _conv()),
    "conv(4, 3, stride = 2)": ((3, 8, 8), _same(3, 2, 1, (0, 1, 0, 1))),
    "conv(4, 3, stride = 2, padding = 1)": ((3, 9, 8), _conv(stride=2, padding=1)),
    "conv(4, [3, 1], stride = [2, 1], padding = [1, 0])": (
        (3, 9, 8),
        _conv(stride=(2, 1), padding=(1, 0)),
    ),
    "conv(4, 3, dilation = 2)": ((3, 8, 8), _conv(padding=2, dilation=2)),
    "conv(6, 3, groups = 3)": ((3, 8, 8), _conv(padding=1, groups=3)),
    "conv(4, 2)": ((3, 6, 6), _same(2, 1, 1, (0, 1, 0, 1))),
    "conv(17, 3)": ((19, 6, 5), _conv(padding=1)),
    "conv(4, 3, padding = [0, 1, 2, 3])": (
        (3, 7, 6),
        lambda x, w: functional().conv2d(
            functional().pad(x, (1, 3, 0, 2)), w["conv_1.weight"], w["conv_1.offset"]
        ),
    ),
    "depthwise(3)": (
        (4, 7, 7),
        lambda x, w: functional().conv2d(
            x, w["depthwise_1.filter.weight"], w["depthwise_1.filter.offset"], padding=1, groups=4
        ),
    ),
    "depthwise(3, multiplier = 2, stride = 2, padding = 1)": (
        (3, 7, 7),
        lambda x, w: functional().conv2d(
            x, w["depthwise_1.filter.weight"], w["depthwise_1.filter.offset"],
            padding=1, stride=2, groups=3,
        ),
    ),
    "conv1d(4, 3)": (
        (3, 9),
        lambda x, w: functional().conv1d(
            x, w["conv1d_1.weight"], w["conv1d_1.offset"], padding=1
        ),
    ),
    "conv1d(6, 5, stride = 2, dilation = 2, groups = 3, padding = 3)": (
        (3, 17),
        lambda x, w: functional().conv1d(
            x, w["conv1d_1.weight"], w["conv1d_1.offset"],
            padding=3, stride=2, dilation=2, groups=3,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layer", CONVOLUTIONS)
def test_convolution(layer: str) -> None:
    shape, reference = CONVOLUTIONS[layer]
    check(build(layer, shape), shape, reference, training=False)


POOLINGS: dict[str, tuple[tuple[int, ...], Reference]] = {
    "max_pool(2)": ((3, 8, 6), _activation("max_pool2d", kernel_size=2)),
    "max_pool(3, 2)": ((3, 9, 7), _activation("max_pool2d", kernel_size=3, stride=2)),
    "max_pool(3, 2, padding = 1)": (
        (3, 9, 8),
        _activation("max_pool2d", kernel_size=3, stride=2, padding=1),
    ),
    "max_pool([1, 2])": ((3, 5, 6), _activation("max_pool2d", kernel_size=(1, 2))),
    "avg_pool(2)": ((3, 8, 6), _activation("avg_pool2d", kernel_size=2)),
    "avg_pool(3, 2, padding = 1)": (
        (3, 9, 8),
        _activation(
            "avg_pool2d", kernel_size=3, stride=2, padding=1, count_include_pad=False
        ),
    ),
    "max_pool1d(2)": ((3, 8), _activation("max_pool1d", kernel_size=2)),
    "avg_pool1d(3, 2)": ((3, 9), _activation("avg_pool1d", kernel_size=3, stride=2)),
    "global_avg_pool": ((3, 5, 4), lambda x, w: x.mean((2, 3))),
    "global_max_pool": ((3, 5, 4), lambda x, w: x.amax((2, 3))),
    "flatten": ((3, 5, 4), lambda x, w: x.flatten(1)),
    "reshape([batch, 4, 15])": ((3, 5, 4), lambda x, w: x.reshape(-1, 4, 15)),
    "mean(axis = [2, 3])": ((3, 5, 4), lambda x, w: x.mean((2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("layer", POOLINGS)
def test_pooling(layer: str) -> None:
    shape, reference = POOLINGS[layer]
    check(build(layer, shape), shape, reference, training=False)


def _linear(x: Any, w: Weights, name: str) -> Any:
    y = x @ w[f"{name}.weight"]
    return y + w[f"{name}.offset"] if f"{name}.offset" in w else y


def _layer_norm(x: Any, w: Weights, name: str) -> Any:
    features = x.shape[-1]
    return functional().layer_norm(x, (features,), w[f"{name}.scale"], w[f"{name}.offset"])


def _attention(x: Any, w: Weights, name: str, heads: int, causal: bool, memory: Any = None) -> Any:
    def heads_of(t: Any, part: str) -> Any:
        y = _linear(t, w, f"{name}.{part}")
        return y.reshape(y.shape[0], y.shape[1], heads, -1).transpose(1, 2)

    source = x if memory is None else memory
    q, k, v = heads_of(x, "query"), heads_of(source, "key"), heads_of(source, "value")
    mixed = functional().scaled_dot_product_attention(q, k, v, is_causal=causal)
    return _linear(mixed.transpose(1, 2).reshape(x.shape), w, f"{name}.output")


def _mlp(x: Any, w: Weights, name: str) -> Any:
    return _linear(functional().gelu(_linear(x, w, f"{name}.up")), w, f"{name}.down")


def _encoder(x: Any, w: Weights) -> Any:
    name = "encoder_layer_1"
    first, second = f"{name}.residual_1", f"{name}.residual_2"
    normed = _layer_norm(x, w, f"{first}.layer_norm_1")
    x = x + _attention(normed, w, f"{first}.attention_1", 2, causal=False)
    return x + _mlp(_layer_norm(x, w, f"{second}.layer_norm_1"), w, f"{second}.mlp_1")


def _concat(x: Any, w: Weights) -> Any:
    import torch

    conv = functional().conv2d
    parts = [
        conv(x, w["concat_1.conv_1.weight"], w["concat_1.conv_1.offset"]),
        conv(
            conv(x, w["concat_1.conv_2.weight"], w["concat_1.conv_2.offset"]),
            w["concat_1.conv_3.weight"], w["concat_1.conv_3.offset"], padding=1,
        ),
    ]  # fmt: skip
    return torch.cat(parts, 1)


OTHERS: dict[str, tuple[tuple[int, ...], Reference]] = {
    "dense(7)": ((5,), lambda x, w: _linear(x, w, "dense_1")),
    "dense(7, bias = false)": ((4, 5), lambda x, w: _linear(x, w, "dense_1")),
    "dense(1)": ((1,), lambda x, w: _linear(x, w, "dense_1")),
    "dense(33)": ((4, 65), lambda x, w: _linear(x, w, "dense_1")),
    "layer_norm": ((4, 6), lambda x, w: _layer_norm(x, w, "layer_norm_1")),
    "mlp(12)": ((4, 6), lambda x, w: _mlp(x, w, "mlp_1")),
    "residual { layer_norm -> dense(6) }": (
        (4, 6),
        lambda x, w: (
            x + _linear(_layer_norm(x, w, "residual_1.layer_norm_1"), w, "residual_1.dense_1")
        ),
    ),
    "concat(axis = 1) { conv(2, 1) | conv(3, 1) -> conv(2, 3) }": ((3, 5, 5), _concat),
    "attention(2)": ((5, 8), lambda x, w: _attention(x, w, "attention_1", 2, causal=False)),
    "attention(4, causal = true)": (
        (5, 8),
        lambda x, w: _attention(x, w, "attention_1", 4, causal=True),
    ),
    "attention(2, memory = relu(z))": (
        (5, 8),
        lambda x, w: _attention(x, w, "attention_1", 2, causal=False, memory=x.relu()),
    ),
    "encoder_layer(8, 2)": ((5, 8), _encoder),
    "positions(9)": ((5, 8), lambda x, w: x + w["positions_1.weight"][:5]),
    "dropout(0)": ((5,), lambda x, w: x),
}


@pytest.mark.parametrize("layer", OTHERS)
def test_layer(layer: str) -> None:
    shape, reference = OTHERS[layer]
    check(build(layer, shape), shape, reference, training=False)


def test_attention_that_keeps_its_scores() -> None:
    def reference(x: Any, w: Weights) -> Any:
        return _attention(x, w, "attention_1", 2, causal=False)

    check(build("attention(2)", (5, 8)), (5, 8), reference, training=True)


@pytest.mark.parametrize("causal", [False, True])
def test_long_attention(causal: bool) -> None:
    layer = f"attention(2, causal = {str(causal).lower()})"
    check(
        build(layer, (300, 40)),
        (300, 40),
        lambda x, w: _attention(x, w, "attention_1", 2, causal=causal),
        training=False,
    )


def test_masked_attention() -> None:
    import torch

    text = """
    model Masked {
        in  x: [batch, time, 3, 24]
        in  seen: bool[batch, 1, 1, time]
        out y
        param nudge: [1, 1, 1, 24] = zeros
        z = x + nudge
        y = attend(z, 2 * z, sin(z), mask = seen)
    }
    """
    net = dnnc.parse(text).model("Masked", seed=3)
    rng = np.random.default_rng(7)
    x = rng.standard_normal((2, 70, 3, 24)).astype(np.float32)
    seen = rng.random((2, 1, 1, 70)) < 0.6
    nudge = torch.zeros(1, 1, 1, 24, requires_grad=True)
    z = (torch.from_numpy(x) + nudge).transpose(1, 2)
    attend = functional().scaled_dot_product_attention
    wanted = attend(z, 2 * z, z.sin(), attn_mask=torch.from_numpy(seen)).transpose(1, 2)
    compare(net(x=x, seen=seen), wanted.detach().numpy(), "output")
    projection = rng.standard_normal(x.shape).astype(np.float32)
    (wanted * torch.from_numpy(projection)).sum().backward()
    _, found = net.value_and_grad("sum(y * r)", x=x, seen=seen, r=projection)
    compare(found["nudge"], nudge.grad.numpy(), "gradient")


def _batch_norm(training: bool) -> Reference:
    def reference(x: Any, w: Weights) -> Any:
        mean, variance = w["batch_norm_1.mean"], w["batch_norm_1.variance"]
        return functional().batch_norm(
            x, mean.clone(), variance.clone(), w["batch_norm_1.scale"], w["batch_norm_1.offset"],
            training=training, eps=1e-5,
        )  # fmt: skip

    return reference


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4,), (4, 7)])
def test_batch_norm(shape: tuple[int, ...], training: bool) -> None:
    net = build("batch_norm", shape)
    rng = np.random.default_rng(1)
    for name, array in net.variables.items():
        net.variables[name] = array + rng.uniform(0.1, 0.5, array.shape).astype(np.float32)
    check(net, shape, _batch_norm(training), training)


def test_batch_norm_keeps_statistics() -> None:
    """The running statistics after three steps are those of PyTorch."""
    import torch

    net = build("batch_norm", (4, 5, 6))
    norm = torch.nn.BatchNorm2d(4)
    trainer = net.trainer("sum(y * 0)", optimizer="sgd(lr = 0)")
    rng = np.random.default_rng(2)
    for _ in range(3):
        x = rng.standard_normal((3, 4, 5, 6)).astype(np.float32)
        trainer.step(x=x)
        norm(torch.from_numpy(x))
    compare(net.states["batch_norm_1.mean"], norm.running_mean.numpy(), "mean")
    compare(net.states["batch_norm_1.variance"], norm.running_var.numpy(), "variance")


def _recurrent(kind: str, gates: list[int]) -> Reference:
    """PyTorch's module with our weights, its gates put in our order."""

    def reference(x: Any, w: Weights) -> Any:
        import torch

        units = w[f"{kind}_1.recurrent"].shape[0]
        module = getattr(torch.nn, kind.upper())(x.shape[-1], units, batch_first=True)

        def ordered(t: Any) -> Any:
            parts = t.split(units, dim=-1)
            return torch.cat([parts[g] for g in gates], -1)

        second = w.get(f"{kind}_1.recurrent_offset")
        offset = ordered(w[f"{kind}_1.offset"])
        values = {
            "weight_ih_l0": ordered(w[f"{kind}_1.input"]).T,
            "weight_hh_l0": ordered(w[f"{kind}_1.recurrent"]).T,
            "bias_ih_l0": offset,
            "bias_hh_l0": ordered(second) if second is not None else torch.zeros_like(offset),
        }
        return torch.func.functional_call(module, values, (x,))[0]

    return reference


RECURRENT = {
    "rnn(6)": _recurrent("rnn", [0]),
    "lstm(6)": _recurrent("lstm", [0, 1, 2, 3]),
    "gru(6)": _recurrent("gru", [0, 1, 2]),
}


@pytest.mark.parametrize("layer", RECURRENT)
@pytest.mark.parametrize("steps", [1, 7])
def test_recurrent(layer: str, steps: int) -> None:
    check(build(layer, (steps, 5)), (steps, 5), RECURRENT[layer], training=False)


def test_embedding() -> None:
    import torch

    net = dnnc.parse(
        """
        model Table { in tokens: i32[batch, seq]  out y: [batch, seq, 5]
            y = tokens -> embedding(11, 5) }
        """
    ).model("Table")
    tokens = np.array([[1, 2, 2], [10, 0, 2]], np.int32)
    table = torch.tensor(net.parameters["embedding_1.weight"], requires_grad=True)
    wanted = functional().embedding(torch.from_numpy(tokens), table)
    compare(net(tokens=tokens), wanted.detach().numpy(), "output")
    (wanted**2).sum().backward()
    _, gradients = net.value_and_grad("sum(y * y)", tokens=tokens)
    compare(gradients["embedding_1.weight"], table.grad.numpy(), "gradient")


# --- losses and metrics ---------------------------------------------------------------------------


def _logits_net(classes: int) -> dnnc.Model:
    return build(f"reshape([batch, {classes}])", (classes,))


LOSSES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "cross_entropy(y, label)": lambda f, y, t: f.cross_entropy(y, t),
    "cross_entropy(y, label, smoothing = 0.1)": lambda f, y, t: f.cross_entropy(
        y, t, label_smoothing=0.1
    ),
    "cross_entropy(y, label, ignore = 2)": lambda f, y, t: f.cross_entropy(y, t, ignore_index=2),
    "cross_entropy(y, label, weights = [1.0, 2.0, 0.5, 1.0, 3.0])": lambda f, y, t: f.cross_entropy(
        y, t, weight=_tensor([1.0, 2.0, 0.5, 1.0, 3.0])
    ),
    "binary_cross_entropy(y, target)": lambda f, y, t: f.binary_cross_entropy_with_logits(y, t),
    "mse(y, target)": lambda f, y, t: f.mse_loss(y, t),
    "mae(y, target)": lambda f, y, t: f.l1_loss(y, t),
    "huber(y, target, delta = 0.4)": lambda f, y, t: f.huber_loss(y, t, delta=0.4),
    "kl(y, target)": lambda f, y, t: f.kl_div(
        f.log_softmax(y, -1), f.log_softmax(t, -1), log_target=True, reduction="batchmean"
    ),
}


def _tensor(values: list[float]) -> Any:
    import torch

    return torch.tensor(values)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss(loss: str) -> None:
    import torch

    rng = np.random.default_rng(5)
    net = _logits_net(5)
    x = rng.standard_normal((9, 5)).astype(np.float32) * 3
    labels = np.array([0, 1, 2, 3, 4, 4, 2, 1, 0])
    target = rng.random((9, 5)).astype(np.float32)
    given: dict[str, np.ndarray] = {"label": labels} if "label" in loss else {"target": target}
    nudge = torch.zeros((1, 5), requires_grad=True)
    chosen = torch.from_numpy(next(iter(given.values())))
    wanted = LOSSES[loss](functional(), torch.from_numpy(x) + nudge, chosen)
    wanted.backward()
    found, gradients = net.value_and_grad(loss, x=x, **given)
    assert found == pytest.approx(wanted.item(), rel=TOLERANCE)
    assert nudge.grad is not None
    compare(gradients["nudge"], nudge.grad.numpy(), "gradient")


OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "sgd(lr = 0.1)": lambda o, p: o.SGD(p, lr=0.1),
    "momentum(lr = 0.1, beta = 0.8)": lambda o, p: o.SGD(p, lr=0.1, momentum=0.8),
    "nesterov(lr = 0.1, beta = 0.8)": lambda o, p: o.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    "adagrad(lr = 0.1)": lambda o, p: o.Adagrad(p, lr=0.1),
    "rmsprop(lr = 0.01)": lambda o, p: o.RMSprop(p, lr=0.01),
    "adam(lr = 0.01)": lambda o, p: o.Adam(p, lr=0.01),
    "adamw(lr = 0.01, decay = 0.1)": lambda o, p: o.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("clip", [None, "norm(0.5)", "value(0.05)"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer(optimizer: str, clip: str | None) -> None:
    """Five steps of each optimizer end with PyTorch's weights."""
    import torch

    net = build("dense(4) -> tanh", (6,))
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in net.parameters.items()}
    peer = OPTIMIZERS[optimizer](torch.optim, list(weights.values()))
    trainer = net.trainer("mse(y, t)", optimizer=optimizer, clip=clip)
    rng = np.random.default_rng(4)
    for _ in range(5):
        x = rng.standard_normal((8, 6)).astype(np.float32)
        t = rng.standard_normal((8, 4)).astype(np.float32) * 4
        trainer.step(x=x, t=t)
        y = _linear(torch.from_numpy(x) + weights["nudge"], weights, "dense_1").tanh()
        peer.zero_grad()
        functional().mse_loss(y, torch.from_numpy(t)).backward()
        if clip == "norm(0.5)":
            torch.nn.utils.clip_grad_norm_(list(weights.values()), 0.5)
        elif clip:
            torch.nn.utils.clip_grad_value_(list(weights.values()), 0.05)
        peer.step()
    for name, array in net.parameters.items():
        compare(array, weights[name].detach().numpy(), name)
