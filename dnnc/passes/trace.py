"""What the passes tell about themselves on standard error, as DNNC_DEBUG asks."""

from __future__ import annotations

import sys
from collections import Counter
from contextvars import ContextVar

__all__ = ["counting", "fired", "say"]

_COUNTS: ContextVar[Counter[str] | None] = ContextVar("rules", default=None)


class counting:  # noqa: N801 - reads as a statement
    """`with counting() as counts:` collects how often each rule fires inside."""

    def __enter__(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        self._token = _COUNTS.set(counts)
        return counts

    def __exit__(self, *_: object) -> None:
        _COUNTS.reset(self._token)


def fired(rule: str) -> None:
    """A rewrite rule has changed the graph."""
    counts = _COUNTS.get()
    if counts is not None:
        counts[rule] += 1


def say(text: str) -> None:
    """Write a line of a trace."""
    print(text, file=sys.stderr)
