"""Worker processes as seen by the parent, which lets one of them run at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.machine import environment

__all__ = ["Process", "WorkerError", "running"]

ROOT = Path(__file__).parents[1]
#: Seconds for an answer: compilers may take minutes for a network.
PATIENCE = 900.0

Request = dict[str, Any]


class WorkerError(Exception):
    """A worker could not do what it was asked for, or ended."""


class Process:
    """A worker with one framework. It is stopped while nothing is asked of it: pools of threads
    that spin would take time from the others."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", name, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env=environment(threads),
        )
        self._buffer = b""
        try:
            self._receive()
        except WorkerError:
            self.close()
            raise
        self._signal("SIGSTOP")

    def ask(self, request: Request) -> Request:
        """The answer to a request; raises WorkerError."""
        assert self._child.stdin is not None
        self._signal("SIGCONT")
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            return self._receive()
        except BrokenPipeError:
            raise WorkerError(self._ended()) from None
        finally:
            self._signal("SIGSTOP")

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                # What could not be written to a process that ended is lost with it.
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self._child.wait()
        self._log.close()

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        if number is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def _receive(self) -> Request:
        assert self._child.stdout is not None
        handle, until = self._child.stdout.fileno(), time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([handle], [], [], max(0, until - time.monotonic()))
            if not ready:
                self._child.kill()
                raise WorkerError(f"no answer in {PATIENCE:.0f} s")
            piece = os.read(handle, 1 << 16)
            if not piece:
                raise WorkerError(self._ended())
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: Request = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _ended(self) -> str:
        self._child.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"ended with code {self._child.returncode}: {lines[-1] if lines else 'no output'}"


@contextmanager
def running(
    names: list[str], threads: int, failed: Callable[[str, str], None]
) -> Iterator[dict[str, Process]]:
    """Workers by name; `failed(name, reason)` is told of those that do not start."""
    processes: dict[str, Process] = {}
    try:
        for name in names:
            try:
                processes[name] = Process(name, threads)
            except WorkerError as error:
                failed(name, str(error))
        yield processes
    finally:
        for process in processes.values():
            process.close()
