"""JAX: the networks as functions of the weights by their names in `.dnn`, channels last inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax  # type: ignore[import-not-found, unused-ignore]
import jax.numpy as jnp  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from jax import lax

from benchmarks.frameworks.interface import LEARNING_RATE, Framework, Task

__all__ = ["create"]

Weights = dict[str, Any]
Settings = Mapping[str, int]


def create(variant: str, threads: int) -> Framework:
    return Jax()


class Scope:
    """The weights below a path, and where running statistics go."""

    def __init__(self, weights: Weights, training: bool, path: str = "", seen: Any = None) -> None:
        self.weights, self.training, self.path = weights, training, path
        self.seen: Weights = {} if seen is None else seen

    def __getitem__(self, name: str) -> Any:
        return self.weights[self.path + name]

    def inner(self, name: str) -> Scope:
        return Scope(self.weights, self.training, f"{self.path}{name}.", self.seen)

    def dense(self, x: Any, name: str) -> Any:
        layer = self.inner(name)
        return x @ layer["weight"] + layer["offset"]

    def conv(self, x: Any, name: str, stride: int = 1) -> Any:
        """A convolution of [batch, h, w, channels], padded by half the kernel."""
        layer = self.inner(name)
        w = layer["weight"].transpose(2, 3, 1, 0)
        pads = [(w.shape[0] // 2,) * 2, (w.shape[1] // 2,) * 2]
        y = lax.conv_general_dilated(
            x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        offset = f"{layer.path}offset"
        return y + self.weights[offset] if offset in self.weights else y

    def batch_norm(self, x: Any, name: str) -> Any:
        layer = self.inner(name)
        mean, variance = layer["mean"], layer["variance"]
        if self.training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size / x.shape[-1]
            for key, now in (("mean", mean), ("variance", variance * (count / (count - 1)))):
                self.seen[layer.path + key] = 0.9 * layer[key] + 0.1 * lax.stop_gradient(now)
        return (x - mean) * (layer["scale"] / jnp.sqrt(variance + 1e-5)) + layer["offset"]

    def layer_norm(self, x: Any, name: str) -> Any:
        layer = self.inner(name)
        d = x - x.mean(-1, keepdims=True)
        return (
            d / jnp.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * layer["scale"] + layer["offset"]
        )


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def mlp(s: Scope, x: Any, settings: Settings) -> Any:
    x = jax.nn.relu(s.dense(x, "dense_1"))
    return s.dense(jax.nn.relu(s.dense(x, "dense_2")), "dense_3")


def lenet(s: Scope, x: Any, settings: Settings) -> Any:
    y = x.transpose(0, 2, 3, 1)
    for name in ("conv_1", "conv_2"):
        y = pool(jax.nn.relu(s.conv(y, name)))
    y = y.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return s.dense(jax.nn.relu(s.dense(y, "dense_1")), "dense_2")


def resnet20(s: Scope, x: Any, settings: Settings) -> Any:
    y = x.transpose(0, 2, 3, 1)
    y = jax.nn.relu(s.batch_norm(s.conv(y, "conv_1"), "batch_norm_1"))
    for i in range(3 * settings["depth"]):
        b = s.inner(f"basic_{i + 1}")
        stride = 2 if i > 0 and i % settings["depth"] == 0 else 1
        main = jax.nn.relu(b.batch_norm(b.conv(y, "conv_1", stride), "batch_norm_1"))
        main = b.batch_norm(b.conv(main, "conv_2"), "batch_norm_2")
        if stride > 1:
            y = b.batch_norm(b.conv(y, "conv_3", stride), "batch_norm_3")
        y = jax.nn.relu(main + y)
    return s.dense(y.mean((1, 2)), "dense_1")


def lstm(s: Scope, x: Any, settings: Settings) -> Any:
    layer = s.inner("lstm_1")
    inputs = (x @ layer["input"] + layer["offset"]).swapaxes(0, 1)
    zero = jnp.zeros((len(x), settings["units"]), x.dtype)

    def turn(carry: tuple[Any, Any], xt: Any) -> tuple[tuple[Any, Any], None]:
        h, c = carry
        i, f, g, o = jnp.split(xt + h @ layer["recurrent"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    (h, _), _ = lax.scan(turn, (zero, zero), inputs)
    return s.dense(h, "dense_1")


def attention(s: Scope, x: Any, heads: int) -> Any:
    batch, steps, dim = x.shape
    q, k, v = (
        s.dense(x, name).reshape(batch, steps, heads, dim // heads)
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (dim // heads) ** -0.5
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    return s.dense(mixed.reshape(batch, steps, dim), "output")


def encoder(s: Scope, x: Any, settings: Settings) -> Any:
    for i in range(settings["depth"]):
        layer = s.inner(f"encoder_layer_{i + 1}")
        first, second = layer.inner("residual_1"), layer.inner("residual_2")
        y = first.layer_norm(x, "layer_norm_1")
        x = x + attention(first.inner("attention_1"), y, settings["heads"])
        y = second.layer_norm(x, "layer_norm_1")
        y = jax.nn.gelu(second.inner("mlp_1").dense(y, "up"), approximate=False)
        x = x + second.inner("mlp_1").dense(y, "down")
    return s.dense(s.layer_norm(x, "layer_norm_1").mean(1), "dense_1")


NETWORKS: dict[str, Callable[[Scope, Any, Settings], Any]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet20": resnet20,
    "lstm": lstm,
    "encoder": encoder,
}


@dataclass(frozen=True, slots=True)
class Jax:
    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        case = task.case
        forward, settings = NETWORKS[case.network], case.settings
        weights: Weights = {name: jnp.array(a) for name, a in task.variables.items()}
        arrays = {name: jnp.array(a) for name, a in case.inputs().items()}
        if case.mode == "train":
            return Training(forward, settings, weights, arrays).step
        run = jax.jit(lambda w, x: forward(Scope(w, False), x, settings))
        return lambda: np.asarray(run(weights, arrays["x"]))


class Training:
    """Adam over the mean cross entropy; one compiled function a step, buffers reused."""

    def __init__(
        self, forward: Callable[[Scope, Any, Settings], Any], settings: Settings,
        weights: Weights, arrays: Weights,
    ) -> None:  # fmt: skip
        running = {n for n in weights if n.endswith((".mean", ".variance"))}
        self.states = {n: w for n, w in weights.items() if n in running}
        self.weights = {n: w for n, w in weights.items() if n not in running}
        zeros = {n: jnp.zeros_like(w) for n, w in self.weights.items()}
        self.moments = (zeros, {n: jnp.zeros_like(w) for n, w in self.weights.items()})
        self.arrays, self.count = arrays, 0

        def loss_of(weights: Weights, states: Weights, x: Any, label: Any) -> tuple[Any, Weights]:
            scope = Scope({**weights, **states}, True)
            logp = jax.nn.log_softmax(forward(scope, x, settings))
            return -jnp.take_along_axis(logp, label[:, None], -1).mean(), scope.seen

        def update(w: Any, g: Any, m: Any, v: Any, t: Any) -> tuple[Any, Any, Any]:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            rate = LEARNING_RATE / (1 - 0.9**t)
            return w - rate * m / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

        def step(
            weights: Weights, states: Weights, moments: Any, t: Any, x: Any, label: Any
        ) -> Any:
            slope = jax.value_and_grad(loss_of, has_aux=True)
            (loss, seen), grads = slope(weights, states, x, label)
            new = {
                n: update(w, grads[n], moments[0][n], moments[1][n], t) for n, w in weights.items()
            }
            parts: list[Weights] = [{n: u[i] for n, u in new.items()} for i in range(3)]
            return loss, parts[0], seen, (parts[1], parts[2])

        self.compiled = jax.jit(step, donate_argnums=(0, 1, 2))

    def step(self) -> float:
        self.count += 1
        loss, self.weights, self.states, self.moments = self.compiled(
            self.weights, self.states, self.moments, jnp.float32(self.count),
            self.arrays["x"], self.arrays["label"],
        )  # fmt: skip
        # The loss may be ready before the weights are.
        jax.block_until_ready(self.weights)
        return float(loss)
