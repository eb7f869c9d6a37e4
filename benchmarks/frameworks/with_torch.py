"""PyTorch, eager and compiled, at its best: fused Adam, weights frozen for prediction, and for
pictures whichever layout of memory is faster here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch._inductor.config as inductor

from benchmarks.cases import CLASSES, Case
from benchmarks.frameworks.interface import LEARNING_RATE, Framework, Task
from benchmarks.frameworks.torch_networks import BUILDERS, load_weights

__all__ = ["Torch", "create", "network_of"]


def create(variant: str, threads: int) -> Framework:
    torch.set_num_threads(threads)
    return Torch(variant)


def network_of(task: Task) -> torch.nn.Module:
    """The network of a task with its weights, for prediction or for training."""
    case = task.case
    net = BUILDERS[case.network](case.settings, CLASSES)
    load_weights(net, task.variables)
    return net.train(case.mode == "train")


@dataclass(frozen=True, slots=True)
class Torch:
    """`variant` is "eager" or "compile"."""

    variant: str

    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        torch.compiler.reset()
        if not (task.tune and task.case.definition.image):
            return self._open(task, torch.contiguous_format)
        # The weights that are timed and checked start anew: those of the trials have learned.
        return self._open(task, min(self._right(task), key=lambda f: _seconds(self._open(task, f))))

    def _right(self, task: Task) -> list[torch.memory_format]:
        """The layouts of memory in which the results are those of the eager network: the gradient
        of a compiled one is zero behind some pooling layers (2.13, and one layout of LeNet)."""
        formats = [torch.contiguous_format, torch.channels_last]
        if self.variant != "compile" or task.case.mode != "train":
            return formats
        wanted = _losses(Torch("eager")._open(task, formats[0]))
        right = [f for f in formats if np.allclose(_losses(self._open(task, f)), wanted, rtol=0.01)]
        return right or formats

    def _open(self, task: Task, memory: torch.memory_format) -> Callable[[], np.ndarray | float]:
        net: Any = network_of(task)
        x = torch.from_numpy(task.case.inputs()["x"])
        if task.case.definition.image:
            net, x = net.to(memory_format=memory), x.to(memory_format=memory)
        if task.case.mode == "train":
            return self._training(task.case, net, x)
        if self.variant == "compile":
            inductor.freezing = True
            net = torch.compile(net)

        def predict() -> np.ndarray:
            with torch.no_grad():
                logits: np.ndarray = net(x).numpy()
            return logits

        return predict

    def _training(self, case: Case, net: Any, x: torch.Tensor) -> Callable[[], float]:
        label = torch.from_numpy(case.inputs()["label"])
        learning = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=LEARNING_RATE, fused=True)

        def loss_of(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(net(x), label)

        forward: Any = torch.compile(loss_of) if self.variant == "compile" else loss_of

        def step() -> float:
            optimizer.zero_grad()
            loss = forward(x, label)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step


def _losses(step: Callable[[], np.ndarray | float]) -> list[float]:
    """The losses of the first steps, which tell a wrong gradient."""
    return [float(step()) for _ in range(4)]


def _seconds(run: Callable[[], Any]) -> float:
    """The shortest of a few calls after the first."""
    run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
