"""Stopping between two steps, never within one: a step changes variables in place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["TrainingInterrupted", "interruptible"]


class TrainingInterrupted(KeyboardInterrupt):
    """A signal stopped the run after a step; where there is a folder, it can be resumed.

    `exit_code` is the shell's convention, 130 for SIGINT.
    """

    def __init__(self, number: int, folder: Path | None) -> None:
        super().__init__()
        self.exit_code = 128 + number
        self.folder = folder


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Gives a function that returns the signal that has asked the run to stop, 0 while none has.

    The second signal acts at once, as it would without this. Signals reach the main thread only; in
    another thread nothing is installed.
    """
    asked = 0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = number
        _set(before)

    try:
        for number in numbers:
            signal.signal(number, ask)
        yield lambda: asked
    finally:
        _set(before)


def _set(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
