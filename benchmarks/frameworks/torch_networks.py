"""The networks in PyTorch, with layers in the order of the `.dnn` files, so that weights fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.frameworks.interface import Variables, groups

__all__ = ["BUILDERS", "load_weights"]

Layer = dict[str, np.ndarray]


def mlp(s: Mapping[str, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(s["features"], s["hidden"]), nn.ReLU(),
        nn.Linear(s["hidden"], s["hidden"]), nn.ReLU(),
        nn.Linear(s["hidden"], classes),
    )  # fmt: skip


def lenet(s: Mapping[str, int], classes: int) -> nn.Module:
    width = s["width"]
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * 49, s["hidden"]), nn.ReLU(),
        nn.Linear(s["hidden"], classes),
    )  # fmt: skip


def conv(inputs: int, width: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False)


class Basic(nn.Module):
    """Two convolutions beside the input, or beside a projection of it."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv(inputs, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            conv(width, width, 3), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.skip = nn.Sequential(conv(inputs, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.main(x) + self.skip(x))


def resnet20(s: Mapping[str, int], classes: int) -> nn.Module:
    inputs = s["width"]
    layers = [conv(3, inputs, 3), nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
    for stage in (1, 2, 4):
        for i in range(s["depth"]):
            width = stage * s["width"]
            layers.append(Basic(inputs, width, 2 if stage > 1 and i == 0 else 1))
            inputs = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers)


class Lstm(nn.Module):
    def __init__(self, s: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(s["features"], s["units"], batch_first=True)
        # The language's layer has one offset; a second one that learns would double its rate.
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.dense = nn.Linear(s["units"], classes)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        logits: Tensor = self.dense(y[:, -1])
        return logits


class Joined(nn.Linear):
    """Query, key and value as one product."""


class EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(dim)
        self.joined = Joined(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.norm_2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.joined(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(y[0], y[1], y[2])
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.up(self.norm_2(x)))
        return torch.add(x, self.down(hidden))


class Encoder(nn.Module):
    def __init__(self, s: Mapping[str, int], classes: int) -> None:
        super().__init__()
        layers = (EncoderLayer(s["dim"], s["heads"]) for _ in range(s["depth"]))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(s["dim"])
        self.dense = nn.Linear(s["dim"], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense(self.norm(self.layers(x)).mean(1))
        return logits


BUILDERS: dict[str, Callable[[Mapping[str, int], int], nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "resnet20": resnet20,
    "lstm": Lstm,
    "encoder": Encoder,
}


# --- weights --------------------------------------------------------------------------------------


def load_weights(net: nn.Module, variables: Variables) -> None:
    """Copy weights into the layers of a network, in order. ValueError where they do not fit."""
    layers = iter(groups(variables))
    with torch.no_grad():
        for module in net.modules():
            for target, value in _pairs(module, layers):
                if tuple(target.shape) != value.shape:
                    raise ValueError(f"{module} got weights of {list(value.shape)}")
                target.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    if (left := next(layers, None)) is not None:
        raise ValueError(f"the network has no layer for {list(left)}")


def _pairs(module: nn.Module, layers: Iterator[Layer]) -> list[tuple[Tensor, np.ndarray]]:
    """Tensors of a layer, each with the array that belongs into it."""
    match module:
        case Joined():
            parts = [next(layers) for _ in range(3)]
            weight = np.concatenate([part["weight"].T for part in parts])
            offset = np.concatenate([part["offset"] for part in parts])
            return [(module.weight, weight), (module.bias, offset)]
        case nn.Linear():
            own = next(layers)
            return [(module.weight, own["weight"].T), (module.bias, own["offset"])]
        case nn.Conv2d():
            own = next(layers)
            pairs = [(module.weight, own["weight"])]
            return pairs + ([(module.bias, own["offset"])] if module.bias is not None else [])
        case nn.LayerNorm():
            own = next(layers)
            return [(module.weight, own["scale"]), (module.bias, own["offset"])]
        case nn.BatchNorm2d():
            own = next(layers)
            affine = [(module.weight, own["scale"]), (module.bias, own["offset"])]
            assert module.running_mean is not None
            assert module.running_var is not None
            statistics = [(module.running_mean, own["mean"]), (module.running_var, own["variance"])]
            return affine + statistics
        case nn.LSTM():
            own = next(layers)
            offset = own["offset"]
            values = [own["input"].T, own["recurrent"].T, offset, np.zeros_like(offset)]
            return list(zip(module.parameters(), values, strict=True))
        case _:
            return []
