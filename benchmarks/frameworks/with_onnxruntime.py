"""ONNX Runtime on the exported network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-not-found, unused-ignore]

from benchmarks.frameworks.interface import Framework, Task

__all__ = ["create"]


def create(variant: str, threads: int) -> Framework:
    return OnnxRuntime(threads)


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    threads: int

    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(task.onnx), options, providers=["CPUExecutionProvider"]
        )
        feed = {session.get_inputs()[0].name: task.case.inputs()["x"]}
        return lambda: np.asarray(session.run(None, feed)[0])
