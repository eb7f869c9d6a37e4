"""Whatever file operation a crash falls upon, the folder can be resumed; so after `kill -9`."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnc.diagnostics import DnnError
from dnnc.train.files import load_tensors
from dnnc.train.result import Options, TrainingResult
from tests.train.small_plan import points, run, small_plan
from tests.train.test_loop import Stop, assert_same, dying, without_times

OPERATIONS = ("replace", "fsync", "ftruncate", "unlink", "rename", "mkdir", "open")


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> Iterator[list[int]]:
    """Raises at call `at` of any file operation, before it is done; counts the calls."""
    calls = [0]

    def wrap(name: str) -> Any:
        original = getattr(os, name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                raise error
            return original(*args, **kwargs)

        return operation

    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, wrap(name))
        yield calls


def short(folder: Path | None, **given: Any) -> TrainingResult:
    options = Options(checkpoint_steps=2, report=False)
    return run(folder, small_plan(epochs=2), dataset=points(40, 9, 9), options=options, **given)


def test_a_crash_at_any_file_operation_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = short(None)
    at = 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        with failing(monkeypatch, at, Stop()) as calls, suppress(Stop):
            short(folder)
        assert_same(short(folder, resume=True), unbroken)
        shutil.rmtree(folder)
        if calls[0] < at:
            break
    assert at > 30


def test_a_crash_while_an_earlier_run_is_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = short(None)
    for at in range(1, 25):
        folder = tmp_path / str(at)
        short(folder)
        with failing(monkeypatch, at, Stop()), pytest.raises(Stop):
            short(folder)
        assert_same(short(folder, resume=True), unbroken)


def test_a_crash_while_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = short(None)
    for at in range(1, 20):
        folder = tmp_path / str(at)
        with pytest.raises(Stop):
            short(folder, compile=dying(4))
        with failing(monkeypatch, at, Stop()), pytest.raises(Stop):
            short(folder, resume=True)
        assert_same(short(folder, resume=True), unbroken)


def test_a_full_disk_is_told_and_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = short(None)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for at in (12, 20, 30):
        folder = tmp_path / str(at)
        with (
            failing(monkeypatch, at, full),
            pytest.raises(DnnError, match=r"E604.*the disk is full"),
        ):
            short(folder)
        assert not list(folder.rglob(".*.partial"))
        assert_same(short(folder, resume=True), unbroken)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(20))
    kept = sorted((tmp_path / "checkpoint").iterdir())
    assert len(kept) == 2
    content = bytearray(kept[-1].read_bytes())
    content[-5] ^= 1
    kept[-1].write_bytes(content)
    assert_same(run(tmp_path, resume=True), run(None))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_damaged_checkpoints_are_told(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(20))
    for path in (tmp_path / "checkpoint").iterdir():
        content = path.read_bytes()
        changed = {"empty": b"", "cut": content[:-9], "flipped": content[:-1] + b"\xff"}
        path.write_bytes(changed[damage])
    with pytest.raises(DnnError, match="E606"):
        run(tmp_path, resume=True)


def test_missing_best_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(20))
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(DnnError, match=r"E606.*best\.safetensors is missing"):
        run(tmp_path, resume=True)


def test_torn_and_late_lines_of_the_log_go_away(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(tmp_path, compile=dying(20))
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"kind": "step", "step": 99}\n{"kind": "st')
    assert_same(run(tmp_path, resume=True), run(None))


def test_a_folder_without_permission_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with (
        failing(monkeypatch, 1, denied),
        pytest.raises(DnnError, match=r"E604.*permission denied"),
    ):
        run(tmp_path / "run")


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(DnnError, match="E604"):
        run(tmp_path / "run")


def start(folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.train.small_plan", str(folder), str(epochs)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)


def kill_often(folder: Path, times: int, seed: int) -> None:
    """Runs the job in other processes, killing them at random moments, until it is done."""
    epochs, generator = 40, random.Random(seed)
    killed = 0
    while True:
        process = start(folder, epochs)
        if killed < times:
            while not (folder / "metrics.jsonl").exists() and process.poll() is None:
                time.sleep(0.005)
            time.sleep(generator.uniform(0.0, 0.35))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        output, _ = process.communicate(timeout=120)
        if process.returncode == 0:
            assert output.strip() == b"280"
            break
        assert process.returncode == -signal.SIGKILL
    whole = run(None, small_plan(epochs=epochs))
    again = run(folder, small_plan(epochs=epochs), resume=True)
    assert without_times(again.history) == without_times(whole.history)
    last, _ = load_tensors(folder / "weights.safetensors")
    best, _ = load_tensors(folder / "best.safetensors")
    for name, array in whole.last.items():
        assert np.array_equal(array, last[name])
        assert np.array_equal(whole.variables[name], best[name])


def test_kill_at_random_moments(tmp_path: Path) -> None:
    kill_often(tmp_path, 3, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_kill_at_many_random_moments(tmp_path: Path, seed: int) -> None:
    kill_often(tmp_path, 12, seed)
