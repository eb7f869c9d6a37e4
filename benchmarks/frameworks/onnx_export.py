"""PyTorch's networks as ONNX files, for the runtimes that read those."""

from __future__ import annotations

import logging
import warnings

import torch

from benchmarks.frameworks.interface import Task
from benchmarks.frameworks.with_torch import network_of

__all__ = ["export"]


def export(task: Task) -> None:
    """Write the network that a task predicts with to its `onnx`, for batches of its size."""
    assert task.onnx is not None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    x = torch.from_numpy(task.case.inputs()["x"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network_of(task), (x,), str(task.onnx),
            input_names=["x"], output_names=["logits"], dynamo=True, verbose=False,
        )  # fmt: skip
