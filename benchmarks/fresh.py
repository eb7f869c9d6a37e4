"""What a framework takes in a process of its own: from the command to the first result, with empty
and with filled caches, and the memory that its steps need.

    python -m benchmarks.fresh NAME REQUEST    # the process itself; REQUEST is a line of JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.frameworks import CONTENDERS, create
from benchmarks.machine import environment, forget_peak, resident
from benchmarks.processes import PATIENCE, ROOT

__all__ = ["Fresh", "Start", "measure_fresh"]

#: Steps after the first one, while the peak of memory is watched.
STEPS = 3


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds of one process: until its imports were done, and until its first result.

    `peak` is the bytes that it held at most in later steps, `growth` what they are beyond those
    after its imports; None where the system does not tell.
    """

    importing: float
    first: float
    growth: int | None
    peak: int | None


@dataclass(slots=True)
class Fresh:
    """Starts of one case by contender, with empty caches and with filled ones."""

    case: Case
    cold: dict[str, Start] = field(default_factory=dict)
    warm: dict[str, Start] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def measure_fresh(
    case: Case,
    names: list[str],
    request: dict[str, Any],
    threads: int,
    tell: Callable[[str], None] = lambda text: None,
) -> Fresh:
    """Start each contender twice on a case that `request` describes as for a worker's `open`."""
    fresh = Fresh(case)
    for name in names:
        if case.mode not in CONTENDERS[name].modes:
            continue
        tell(f"{case.name}: starting {name}")
        with tempfile.TemporaryDirectory() as caches:
            try:
                fresh.cold[name] = _start(name, request, threads, Path(caches))
                fresh.warm[name] = _start(name, request, threads, Path(caches))
            except (subprocess.SubprocessError, ValueError) as error:
                fresh.errors[name] = str(error)
    return fresh


def _start(name: str, request: dict[str, Any], threads: int, caches: Path) -> Start:
    variables = {
        **environment(threads),
        "DNNC_CACHE": str(caches / "dnnc"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    # Python keeps bytecode of installed packages; a checkout has to be as well off.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.fresh", name]
    done = subprocess.run(
        [*command, json.dumps({**request, "threads": threads})],
        cwd=ROOT, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ValueError(lines[-1] if lines else f"ended with code {done.returncode}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Start(told["imported"] - begin, told["first"] - begin, told["growth"], told["peak"])


def main() -> None:
    name, text = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(text)
    framework = create(CONTENDERS[name], request["threads"])
    imported, before = time.monotonic(), resident()

    from benchmarks.worker import read_task

    call = framework.open(read_task({**request, "tune": False}))
    call()
    first = time.monotonic()
    forget_peak()
    for _ in range(STEPS):
        call()
    peak = resident(peak=True)
    growth = None if before is None or peak is None else peak - before
    told = {"imported": imported, "first": first, "growth": growth, "peak": peak}
    print(json.dumps(told), file=answers)
    answers.flush()
    # Pools of compiling processes need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
