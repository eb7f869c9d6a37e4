"""Accuracy on Fashion-MNIST: `examples/fashion.dnn` against the same network in PyTorch.

Both train on the same rows in the same order, with the same initial distributions, optimizer,
schedule and number of epochs, and report the accuracy on the 10,000 test images:

    python -m benchmarks.fashion            # both
    python -m benchmarks.fashion --only torch

Needs Debian's `dataset-fashion-mnist` and the extra `peers`.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import dnnc
from dnnc.data import Dataset, batches
from dnnc.elaborate.plan import TrainingPlan

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion.dnn"
PEAK = 3e-3


def one_cycle(step: int, steps: int, rise: float = 0.3, final: float = 1e-4) -> float:
    """The schedule `one_cycle(3e-3)` of the standard library."""
    start = 0.04
    done = step / steps
    if done < rise:
        return PEAK * (start + (1 - start) * 0.5 * (1 - math.cos(math.pi * done / rise)))
    down = 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))
    return PEAK * (final + (1 - final) * down)


def torch_network() -> Any:
    """The model `Fashion`, with the initial distributions of the standard library."""
    from torch import nn

    layers: list[nn.Module] = []
    channels = 1
    for width in (32, 64):
        for _ in range(2):
            conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            nn.init.normal_(conv.weight, std=math.sqrt(2 / (channels * 9)))
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.2)]
    layers.append(nn.Flatten())
    for before, after in ((64 * 7 * 7, 128), (128, 10)):
        dense = nn.Linear(before, after)
        nn.init.xavier_uniform_(dense.weight)
        nn.init.zeros_(dense.bias)
        layers.append(dense)
        if after == 128:
            layers += [nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers)


def train_torch(plan: TrainingPlan, dataset: Dataset) -> float:
    """Test accuracy of PyTorch after the epochs of the plan; the best epoch by validation."""
    import torch

    torch.manual_seed(plan.seed)
    net = torch_network()
    optimizer = torch.optim.Adam(net.parameters(), lr=PEAK)
    split = dataset.splits["train"]
    per_epoch = math.ceil(split.size / plan.batch)
    steps, step, best, result = per_epoch * plan.epochs, 0, 0.0, 0.0
    for epoch in range(plan.epochs):
        net.train()
        for rows in batches(split, plan.batch, seed=plan.seed, epoch=epoch, shuffle=True):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(step, steps)
            images, labels = tensors(split.take(rows))
            loss: Any = torch.nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = accuracy(net, dataset.splits["validation"])
        print(f"  epoch {epoch + 1}: validation accuracy {found:.4f}", flush=True)
        if found > best:
            best, result = found, accuracy(net, dataset.splits["test"])
    return result


def tensors(taken: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """Images and labels of a batch as PyTorch's."""
    import torch

    images = np.asarray(taken["image"], np.float32).reshape(-1, 1, 28, 28)
    return torch.from_numpy(images), torch.from_numpy(np.asarray(taken["label"], np.int64))


def accuracy(net: Any, split: Any) -> float:
    """Share of a split that is classified rightly."""
    import torch

    net.eval()
    hits = 0
    with torch.no_grad():
        for start in range(0, split.size, 500):
            rows = np.arange(start, min(start + 500, split.size))
            images, labels = tensors(split.take(rows))
            hits += int((net(images).argmax(1) == labels).sum())
    return hits / int(split.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=("dnnc", "torch"))
    only = parser.parse_args().only
    program = dnnc.load(EXAMPLE)
    plan = program.jobs[0].plan()
    if only != "torch":
        started = time.perf_counter()
        result = program.jobs[0].run()
        assert result.test is not None
        seconds = time.perf_counter() - started
        print(f"dnnc   test accuracy {result.test['accuracy']:.4f}  {seconds:.0f} s")
    if only != "dnnc":
        started = time.perf_counter()
        found = train_torch(plan, program.dataset("Clothes"))
        print(f"torch  test accuracy {found:.4f}  {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
