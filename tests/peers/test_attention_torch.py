"""Attention, as a layer and within an encoder, against PyTorch."""

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


def _attention(x: Any, w: Weights, name: str, heads: int, causal: bool, memory: Any = None) -> Any:
    def heads_of(t: Any, part: str) -> Any:
        y = linear(t, w, f"{name}.{part}")
        return y.reshape(y.shape[0], y.shape[1], heads, -1).transpose(1, 2)

    source = x if memory is None else memory
    q, k, v = heads_of(x, "query"), heads_of(source, "key"), heads_of(source, "value")
    mixed = functional().scaled_dot_product_attention(q, k, v, is_causal=causal)
    return linear(mixed.transpose(1, 2).reshape(x.shape), w, f"{name}.output")


def _encoder(x: Any, w: Weights) -> Any:
    name = "encoder_layer_1"
    first, second = f"{name}.residual_1", f"{name}.residual_2"
    normed = layer_norm(x, w, f"{first}.layer_norm_1")
    x = x + _attention(normed, w, f"{first}.attention_1", 2, causal=False)
    return x + mlp(layer_norm(x, w, f"{second}.layer_norm_1"), w, f"{second}.mlp_1")


LAYERS: dict[str, Reference] = {
    "attention(2)": lambda x, w: _attention(x, w, "attention_1", 2, causal=False),
    "attention(4, causal = true)": lambda x, w: _attention(x, w, "attention_1", 4, causal=True),
    "attention(2, memory = relu(z))": lambda x, w: _attention(
        x, w, "attention_1", 2, causal=False, memory=x.relu()
    ),
    "encoder_layer(8, 2)": _encoder,
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layer(layer: str) -> None:
    check(build(layer, (5, 8)), (5, 8), LAYERS[layer], training=False)


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
