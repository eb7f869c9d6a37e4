"""Losses and optimizers against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnnc
from tests.peers.torch_layers import TOLERANCE, build, compare, functional, linear

pytestmark = pytest.mark.peers


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
        y = linear(torch.from_numpy(x) + weights["nudge"], weights, "dense_1").tanh()
        peer.zero_grad()
        functional().mse_loss(y, torch.from_numpy(t)).backward()
        if clip == "norm(0.5)":
            torch.nn.utils.clip_grad_norm_(list(weights.values()), 0.5)
        elif clip:
            torch.nn.utils.clip_grad_value_(list(weights.values()), 0.05)
        peer.step()
    for name, array in net.parameters.items():
        compare(array, weights[name].detach().numpy(), name)
