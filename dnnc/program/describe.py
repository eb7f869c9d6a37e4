"""The memory plan for given sizes as text: where each buffer lies, how long, and what shares it."""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Value
from dnnc.program.binding import Binding
from dnnc.program.locations import Place
from dnnc.program.memory import ALIGNMENT, round_up
from dnnc.program.plan import Plan

__all__ = ["describe_memory"]

_COLUMNS = ("offset", "bytes", "calls", "values")


def describe_memory(plan: Plan, binding: Binding, threads: int) -> str:
    """A summary, and a line for each buffer of the arena in the order in which they are first used.

    Calls count from 0; `3..9` means that calls 3 to 9 need the buffer. Values that stand after each
    other in one buffer (`a > b`) are written over one another in place.
    """
    inside = [storage for storage in plan.storages if storage.kind == "arena"]
    rooms = binding.arrangement.rooms
    held = _held(plan)
    rows: list[tuple[str, ...]] = []
    naive = 0
    for storage in sorted(inside, key=lambda s: (s.first, binding.places[id(s)][1])):
        room = rooms[id(storage)]
        size = round_up(room.bytes) * threads if room.stride else room.bytes
        values = held.get(id(storage), [])
        # Pieces of values stand for the whole of them.
        whole = max(size, storage.bytes.evaluate(binding.sizes)) if values else size
        naive += max(1, len(values)) * round_up(whole)
        if size:
            calls = f"{storage.first}..{storage.last}"
            what = " > ".join(map(_name, values)) or "scratch"
            if room.stride:
                what += f" ({threads} threads)"
            rows.append((str(binding.places[id(storage)][1]), str(size), calls, what))
    sizes = ", ".join(f"{name} = {size}" for name, size in sorted(binding.sizes.items()))
    reused = sum(len(values) - 1 for values in held.values() if values)
    lines = [
        f"memory of `{plan.graph.name}`" + (f" for {sizes}" if sizes else ""),
        f"arena: {binding.arena_bytes} bytes at the peak; "
        f"all values by themselves would take {naive}",
        f"{len(rows)} buffers, aligned to {ALIGNMENT} bytes; "
        f"{reused} values are written over another in place",
    ]
    return "\n".join([*lines, "", *_table(rows)] if rows else lines)


def _held(plan: Plan) -> dict[int, list[Value]]:
    """The values that lie in each storage of the arena, in the order in which they are made."""
    held: dict[int, list[Value]] = {}
    for value, location in plan.locations.items():
        if isinstance(location, Place) and location.storage.kind == "arena":
            held.setdefault(id(location.storage), []).append(value)
    return held


def _name(value: Value) -> str:
    """A value by its name in the text or by its operator, with its type."""
    made_by = value.node.op.name if value.node is not None else ""
    words = [word for word in (made_by, value.hint) if word]
    return f"{' '.join(words)}: {value.type}" if words else str(value.type)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in (_COLUMNS, *rows)) for k in range(3)]
    lines = []
    for row in (_COLUMNS, *rows):
        numbers = [cell.rjust(width) for cell, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join((*numbers, row[3])))
    return lines
