"""A layer of the library and the same function in PyTorch over the same weights.

`nudge` is a parameter added to the input, so that the gradient for the input is compared as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnnc

__all__ = [
    "TOLERANCE",
    "Reference",
    "Weights",
    "build",
    "check",
    "compare",
    "functional",
    "layer_norm",
    "linear",
    "mlp",
]

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
    """`torch.nn.functional`; skips the test where there is no PyTorch."""
    return pytest.importorskip("torch").nn.functional


def linear(x: Any, w: Weights, name: str) -> Any:
    """The layer `dense` of that name."""
    y = x @ w[f"{name}.weight"]
    return y + w[f"{name}.offset"] if f"{name}.offset" in w else y


def layer_norm(x: Any, w: Weights, name: str) -> Any:
    """The layer `layer_norm` of that name."""
    features = x.shape[-1]
    return functional().layer_norm(x, (features,), w[f"{name}.scale"], w[f"{name}.offset"])


def mlp(x: Any, w: Weights, name: str) -> Any:
    """The layer `mlp` of that name."""
    return linear(functional().gelu(linear(x, w, f"{name}.up")), w, f"{name}.down")
