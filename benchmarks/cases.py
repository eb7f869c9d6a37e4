"""What is timed: the networks, and for each the batches of prediction and of training."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

__all__ = ["CASES", "NETWORKS", "Case", "Mode", "choose"]

Mode = Literal["infer", "train"]
FOLDER = Path(__file__).parent / "networks"
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Network:
    """A network of `networks/`.

    `settings` are all that its model takes; the shape of an example follows from them. `image` says
    that its inputs are pictures, [batch, channels, h, w].
    """

    name: str
    model: str
    settings: Mapping[str, int]
    example: tuple[int | str, ...]
    image: bool = False

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.dnn"


NETWORKS = {
    network.name: network
    for network in (
        Network("mlp", "Mlp", {"features": 784, "hidden": 512}, ("features",)),
        Network("lenet", "LeNet", {"width": 32, "hidden": 512}, (1, 28, 28), image=True),
        Network("resnet20", "ResNet", {"width": 16, "depth": 3}, (3, 32, 32), image=True),
        Network("lstm", "Lstm", {"features": 32, "units": 128, "steps": 64}, ("steps", "features")),
        Network(
            "encoder",
            "Encoder",
            {"dim": 256, "heads": 4, "depth": 4, "steps": 128},
            ("steps", "dim"),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Case:
    """A network that predicts or trains on batches of one size; `sizes` override its settings."""

    network: str
    mode: Mode
    batch: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.network}-{self.mode}-b{self.batch}"

    @property
    def definition(self) -> Network:
        return NETWORKS[self.network]

    @property
    def settings(self) -> dict[str, int]:
        return {**self.definition.settings, **self.sizes}

    def inputs(self) -> dict[str, np.ndarray]:
        """The batch: `x`, and `label` where the network trains. The same on every call."""
        random = np.random.default_rng(2024)
        settings = self.settings
        shape = [settings[s] if isinstance(s, str) else s for s in self.definition.example]
        x = random.standard_normal((self.batch, *shape)).astype(np.float32)
        arrays: dict[str, np.ndarray] = {"x": x}
        if self.mode == "train":
            arrays["label"] = random.integers(0, CLASSES, self.batch)
        return arrays

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "mode": self.mode,
            "batch": self.batch,
            "sizes": dict(self.sizes),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Case:
        return Case(value["network"], value["mode"], value["batch"], value["sizes"])


def _cases(network: str, infer: Iterable[int], train: int) -> list[Case]:
    return [*(Case(network, "infer", b) for b in infer), Case(network, "train", train)]


CASES: tuple[Case, ...] = (
    *_cases("mlp", (1, 32, 256), 128),
    *_cases("lenet", (1, 64), 64),
    *_cases("resnet20", (1, 64), 64),
    *_cases("lstm", (1, 32), 32),
    *_cases("encoder", (1, 8), 8),
)


def choose(wanted: Iterable[str] | None) -> list[Case]:
    """The cases that match any of some patterns, such as `mlp`, `lenet-train` or `*-b1`; all of
    them for None.

    A pattern matches a whole name or its beginning up to a hyphen. ValueError where one matches
    nothing.
    """
    if wanted is None:
        return list(CASES)
    chosen: set[str] = set()
    for pattern in wanted:
        found = {c.name for c in CASES if _matches(c.name, pattern)}
        if not found:
            raise ValueError(
                f"no case matches `{pattern}`; there are {', '.join(c.name for c in CASES)}"
            )
        chosen |= found
    return [case for case in CASES if case.name in chosen]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}-*")
