"""Killed at random moments and resumed, `dnnc run` ends with the bits of a whole run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnnc.train.files import load_tensors

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.dnn"
#: Runs that are killed in time; those that end before are tried again.
TIMES = 15


def command(folder: Path, *options: str) -> list[str]:
    """A short run: five epochs, but a checkpoint only at the end of each."""
    python = [sys.executable, "-m", "dnnc", "run", str(EXAMPLE), "-D", "epochs=5"]
    return [*python, "--folder", str(folder), "--quiet", *options]


def whole_run(folder: Path) -> float:
    """Run without a break; seconds it took."""
    started = time.perf_counter()
    subprocess.run(command(folder), check=True)
    return time.perf_counter() - started


def killed_run(folder: Path, moment: float) -> bool:
    """Start a run, kill it after `moment` seconds, resume it; whether the kill came in time."""
    process = subprocess.Popen(command(folder))
    time.sleep(moment)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command(folder, "--resume"), check=True)
    return alive


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    whole_run(tmp_path / "cold")  # compiles the kernels
    seconds = whole_run(tmp_path / "whole")
    wanted = (tmp_path / "whole" / "weights.safetensors").read_bytes()
    best = (tmp_path / "whole" / "best.safetensors").read_bytes()
    rng = random.Random(2)
    killed = 0
    for k in range(2 * TIMES):
        if killed == TIMES:
            break
        folder, moment = tmp_path / f"killed-{k}", rng.uniform(0.2, 0.95) * seconds
        if killed_run(folder, moment):
            killed += 1
        else:
            # The machine is faster than it was: a run takes no longer than that.
            seconds = moment
        assert (folder / "weights.safetensors").read_bytes() == wanted, f"run {k}"
        assert (folder / "best.safetensors").read_bytes() == best, f"run {k}"
    assert killed == TIMES, "most kills must fall inside a run"
    assert load_tensors(tmp_path / "whole" / "weights.safetensors")[0]
