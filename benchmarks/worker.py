"""A process that holds one framework and answers a parent's requests, one line of JSON each.

    python -m benchmarks.worker NAME --threads 2

Between requests it sleeps; what frameworks print goes to standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.frameworks import CONTENDERS, create
from benchmarks.frameworks.interface import Framework, Task
from benchmarks.machine import busy_seconds

__all__ = ["Worker", "read_task"]

#: Seconds of calls before those that count: caches are cold after others have run.
WARM_UP = 5e-3
#: Steps of training whose losses are compared.
CHECKED_STEPS = 3

Request = dict[str, Any]


def read_task(request: Request) -> Task:
    """The task of a request: its case, and the file with its weights."""
    with np.load(request["weights"]) as arrays:
        variables = {name: arrays[name] for name in arrays.files}
    onnx = Path(request["onnx"]) if request.get("onnx") else None
    return Task(Case.from_json(request["case"]), variables, onnx, request.get("tune", True))


@dataclass(slots=True)
class Worker:
    """A framework and the call that it is asked to time."""

    framework: Framework
    threads: int
    call: Callable[[], np.ndarray | float] | None = None

    def answer(self, request: Request) -> Request:
        """Do what a request asks for; the answer."""
        actions: dict[str, Callable[[Request], Request]] = {
            "weights": self.weights,
            "export": self.export,
            "open": self.open,
            "round": self.round,
            "ceiling": self.ceiling,
            "close": self.close,
        }
        return actions[request["do"]](request)

    def weights(self, request: Request) -> Request:
        """Write the weights of a case; tell its floating-point operations."""
        from benchmarks.flops import product_flops
        from benchmarks.frameworks.with_dnnc import random_variables

        case = Case.from_json(request["case"])
        np.savez(request["weights"], **random_variables(case))  # type: ignore[arg-type]
        return {"flops": product_flops(case)}

    def export(self, request: Request) -> Request:
        """Write the network of a case as ONNX."""
        from benchmarks.frameworks.onnx_export import export

        export(read_task(request))
        return {}

    def open(self, request: Request) -> Request:
        """Make the call of a case; write what it returns (the first losses of a training)."""
        start = time.perf_counter()
        task = read_task(request)
        self.call = self.framework.open(task)
        first = np.array(self.call())
        seconds = time.perf_counter() - start
        if task.case.mode == "train":
            rest = [self.call() for _ in range(CHECKED_STEPS - 1)]
            first = np.array([first, *rest])
        np.save(request["result"], first)
        return {"seconds": seconds}

    def round(self, request: Request) -> Request:
        """Times of calls for as long as asked, but of `least` calls, and what others used of the
        processors meanwhile; all in seconds."""
        assert self.call is not None
        gc.collect()
        gc.disable()
        try:
            return self._round(self.call, request["seconds"], request["least"])
        finally:
            gc.enable()

    def _round(self, call: Callable[[], Any], seconds: float, least: int) -> Request:
        clock = time.perf_counter
        warm = clock()
        while True:
            call()
            if clock() - warm > WARM_UP:
                break
        times: list[float] = []
        busy, own, begin = busy_seconds(), time.process_time(), clock()
        while len(times) < least or clock() - begin < seconds:
            start = clock()
            call()
            times.append(clock() - start)
        wall, own = clock() - begin, time.process_time() - own
        others = None if busy is None else busy_seconds() - busy - own  # type: ignore[operator]
        return {"times": times, "wall": wall, "others": others}

    def ceiling(self, request: Request) -> Request:
        """Multiply-adds as products need them, and between registers alone, in operations a
        second."""
        from dnnc.program.ceiling import measure_ceiling, measure_register_ceiling

        return {
            "flops": measure_ceiling(self.threads),
            "registers": measure_register_ceiling(self.threads),
        }

    def close(self, request: Request) -> Request:
        """Let go of the case."""
        self.call = None
        gc.collect()
        return {}


def serve(worker: Worker, requests: IO[str], answers: IO[str]) -> None:
    """Answer until the parent closes its end."""
    for line in requests:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            text = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {text[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    framework = create(CONTENDERS[arguments.name], arguments.threads)
    print(json.dumps({}), file=answers, flush=True)
    serve(Worker(framework, arguments.threads), sys.stdin, answers)


if __name__ == "__main__":
    main()
