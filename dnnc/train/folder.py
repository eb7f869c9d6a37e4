"""The folder of a run: what it holds, its lock and its log.

    program.dnn            the program that was run
    settings.json          resolved settings, data, machine
    weights.safetensors    the last weights
    best.safetensors       the weights of the best epoch
    checkpoint/            all that is needed to continue (dnnc.train.checkpoint)
    metrics.jsonl          a line for each logged step and each epoch
    report.html            the report, for a browser
    previous/              an earlier run that this one replaced

One process at a time holds the folder, by a lock that the system releases when the process ends.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dnnc.train.codes import fault
from dnnc.train.files import TEMPORARY, sync_folder, writing

__all__ = ["RunFolder", "open_folder", "plain"]

_CHECKPOINTS = "checkpoint"
#: In the order of moving away: without checkpoints nothing can resume half of an earlier run.
_CONTENT = (
    _CHECKPOINTS,
    "metrics.jsonl",
    "best.safetensors",
    "weights.safetensors",
    "settings.json",
    "program.dnn",
    "report.html",
)


class RunFolder:
    """An opened run folder; made by `open_folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log: BinaryIO | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / _CHECKPOINTS

    @property
    def program(self) -> Path:
        return self.path / "program.dnn"

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log_bytes(self) -> int:
        """Length of the log as it is on disk."""
        try:
            return self.metrics.stat().st_size
        except FileNotFoundError:
            return 0

    def start_over(self, keep_earlier: bool = True) -> bool:
        """Make room for a run; True where an earlier one was moved to previous/."""
        with writing(self.path):
            self._remove_partial()
            moved = keep_earlier and self.log_bytes > 0
            if moved:
                self._move_earlier(self.path / "previous")
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for name in _CONTENT[1:]:
                (self.path / name).unlink(missing_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            sync_folder(self.path)
        self.open_log(0)
        return moved

    def _move_earlier(self, previous: Path) -> None:
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir(exist_ok=True)
        for name in _CONTENT:
            if (self.path / name).exists():
                os.replace(self.path / name, previous / name)

    def continue_run(self, log_bytes: int) -> None:
        """Make ready to go on: partial files and lines behind the checkpoint go away."""
        with writing(self.path):
            self._remove_partial()
        self.open_log(log_bytes)

    def open_log(self, length: int) -> None:
        """Open the log for appending after its first `length` bytes."""
        with writing(self.metrics):
            self._log = open(self.metrics, "ab")  # noqa: SIM115 - closed by open_folder
            self._log.truncate(length)
            self._log.seek(length)

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to the log."""
        assert self._log is not None
        with writing(self.metrics):
            self._log.write((json.dumps(plain(entry)) + "\n").encode())
            self._log.flush()

    def sync_log(self) -> int:
        """Bring the log to the disk; its length in bytes."""
        assert self._log is not None
        with writing(self.metrics):
            os.fsync(self._log.fileno())
            return self._log.tell()

    def entries(self) -> list[dict[str, Any]]:
        """All lines of the log."""
        try:
            lines = self.metrics.read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise fault("E606", f"{self.metrics} is damaged: {error}") from error

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _remove_partial(self) -> None:
        for folder in (self.path, self.checkpoints):
            if folder.is_dir():
                for path in folder.glob(f".*{TEMPORARY}"):
                    path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[RunFolder]:
    """Make the folder where needed and hold its lock; E603 where another process has it."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        folder = RunFolder(path)
        try:
            yield folder
        finally:
            folder.close()


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite become null, arrays lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path / ".lock"
    with writing(lock):
        # Not truncated on opening: the file names its holder until the lock is ours.
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with writing(lock):
            taken = _try_lock(descriptor)
        if not taken:
            holder = os.read(descriptor, 64).decode(errors="replace").strip()
            raise fault(
                "E603",
                f"the run folder {path} is in use"
                + (f" by process {holder}" if holder.isdigit() else ""),
                help="wait for that run, or give this one another folder with --folder",
            )
        with writing(lock):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    # A lock of the system rather than the mere file: it cannot outlive its process, so that nothing
    # stale is ever left and two takers cannot both win.
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
