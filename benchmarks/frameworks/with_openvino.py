"""OpenVINO on the exported network, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import openvino  # type: ignore[import-not-found, unused-ignore]

from benchmarks.frameworks.interface import Framework, Task

__all__ = ["create"]


def create(variant: str, threads: int) -> Framework:
    return OpenVino(threads)


@dataclass(frozen=True, slots=True)
class OpenVino:
    threads: int

    def open(self, task: Task) -> Callable[[], np.ndarray | float]:
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.Core().compile_model(str(task.onnx), "CPU", settings)
        request = compiled.create_infer_request()
        feed = {0: task.case.inputs()["x"]}
        return lambda: np.asarray(request.infer(feed, share_inputs=True, share_outputs=True)[0])
