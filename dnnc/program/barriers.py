"""Before which calls the threads of a team have to meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Barriers", "Span"]

Span: TypeAlias = tuple[int, int, int]  # root, first byte, byte after the last


@dataclass(slots=True)
class _Touched:
    """Memory read and written since the last barrier."""

    reads: list[Span] = field(default_factory=list)
    writes: list[Span] = field(default_factory=list)

    def conflicts(self, reads: list[Span], writes: list[Span]) -> bool:
        return (
            _overlap(self.writes, reads)
            or _overlap(self.writes, writes)
            or _overlap(self.reads, writes)
        )

    def add(self, reads: list[Span], writes: list[Span]) -> None:
        self.reads += reads
        self.writes += writes


def _overlap(one: list[Span], other: list[Span]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in one for b in other)


class Barriers:
    """One walk over the calls of a program, in order."""

    def __init__(self) -> None:
        self._by_team, self._by_one = _Touched(), _Touched()
        self._forced = True

    def force(self) -> None:
        """The team meets before the next call, whatever it touches."""
        self._forced = True

    def needed(self, reads: list[Span], writes: list[Span], serial: bool) -> bool:
        """Whether the team meets before the next call, which touches this memory; a `serial` one is
        done by the first thread, in order with others of that kind."""
        meet = self._forced or self._by_team.conflicts(reads, writes)
        meet = meet or (not serial and self._by_one.conflicts(reads, writes))
        if meet:
            self._by_team, self._by_one, self._forced = _Touched(), _Touched(), False
        (self._by_one if serial else self._by_team).add(reads, writes)
        return meet
