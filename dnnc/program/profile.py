"""What the steps of a program cost, one by one and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dnnc.ir.graph import Node

__all__ = ["ProfileEntry", "ProfileTotal", "total_by"]


@dataclass(frozen=True, slots=True, eq=False)
class ProfileEntry:
    """One step of a program: its kernels, the node it computes, and what it costs.

    `seconds` is the shortest of several runs; `flops` and `bytes` are counts for the whole step.
    """

    kernels: tuple[str, ...]
    node: Node | None
    seconds: float
    flops: int
    bytes: int


@dataclass(slots=True)
class ProfileTotal:
    """All steps of one name: how many, and what they cost together."""

    name: str
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0
    steps: int = 0


def total_by(
    name: Callable[[ProfileEntry], str], entries: Iterable[ProfileEntry]
) -> list[ProfileTotal]:
    """Totals of the steps of each name, those that take longest first."""
    totals: dict[str, ProfileTotal] = {}
    for entry in entries:
        total = totals.setdefault(key := name(entry), ProfileTotal(key))
        total.seconds += entry.seconds
        total.flops += entry.flops
        total.bytes += entry.bytes
        total.steps += 1
    return sorted(totals.values(), key=lambda total: -total.seconds)
