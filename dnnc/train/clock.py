"""The time that a run takes, for its log and for how it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Clock"]


@dataclass(slots=True)
class Clock:
    """Times of this process' part of a run, in seconds.

    `compiling` does not count for rates, nor does evaluation for `stepping`. `shown` is when the
    progress was last told of a step.
    """

    started: float = field(default_factory=time.perf_counter)
    shown: float = field(default_factory=time.perf_counter)
    compiling: float = 0.0
    stepping: float = 0.0
    steps: int = 0
    examples: int = 0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.started

    @property
    def rate(self) -> float:
        """Examples a second while stepping."""
        return self.examples / self.stepping if self.stepping else 0.0

    def step(self, examples: int, seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.examples += examples
        self.stepping += seconds

    def left(self, steps: int) -> float:
        """Time that `steps` more will take, with the evaluation between them."""
        spent = self.seconds - self.compiling
        return spent / self.steps * steps if self.steps else float("inf")
