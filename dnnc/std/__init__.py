"""The standard library: layers, activations, losses, optimizers and schedules, in the language."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from dnnc.diagnostics import Source

__all__ = ["library_sources"]


@lru_cache(maxsize=1)
def library_sources() -> tuple[Source, ...]:
    """Every file of the library, by name; errors show them as `std/layers.dnn`."""
    folder = Path(__file__).parent
    return tuple(
        Source(f"std/{path.name}", path.read_text("utf-8")) for path in sorted(folder.glob("*.dnn"))
    )
