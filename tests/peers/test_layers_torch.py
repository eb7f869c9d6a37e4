"""Layers and activations of the library against PyTorch: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dnnc
from tests.peers.torch_layers import (
    Reference,
    Weights,
    build,
    check,
    compare,
    functional,
    layer_norm,
    linear,
    mlp,
)

pytestmark = pytest.mark.peers


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
    "conv(160, 1)": ((130, 5, 5), _same(1, 1, 1, (0, 0, 0, 0))),
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
    "dense(7)": ((5,), lambda x, w: linear(x, w, "dense_1")),
    "dense(7, bias = false)": ((4, 5), lambda x, w: linear(x, w, "dense_1")),
    "dense(1)": ((1,), lambda x, w: linear(x, w, "dense_1")),
    "dense(33)": ((4, 65), lambda x, w: linear(x, w, "dense_1")),
    "layer_norm": ((4, 6), lambda x, w: layer_norm(x, w, "layer_norm_1")),
    "mlp(12)": ((4, 6), lambda x, w: mlp(x, w, "mlp_1")),
    "residual { layer_norm -> dense(6) }": (
        (4, 6),
        lambda x, w: (
            x + linear(layer_norm(x, w, "residual_1.layer_norm_1"), w, "residual_1.dense_1")
        ),
    ),
    "concat(axis = 1) { conv(2, 1) | conv(3, 1) -> conv(2, 3) }": ((3, 5, 5), _concat),
    "positions(9)": ((5, 8), lambda x, w: x + w["positions_1.weight"][:5]),
    "dropout(0)": ((5,), lambda x, w: x),
}


@pytest.mark.parametrize("layer", OTHERS)
def test_layer(layer: str) -> None:
    shape, reference = OTHERS[layer]
    check(build(layer, shape), shape, reference, training=False)


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
