"""Reductions to few columns: every sweep is a call, spread over threads by parts of the rows.

A sweep begins by joining the parts of earlier ones; that every thread does for itself. How rows are
cut into parts depends on sizes alone, and so does the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dnnc.ir.dims import ceil_div, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Call, Scratch
from dnnc.kernels.fused.builder import Body, Builder, flops_of
from dnnc.kernels.fused.formula import Term
from dnnc.kernels.fused.source import Memory
from dnnc.kernels.fused.tiles import rows_at_once, tiled_rows

__all__ = ["part_calls"]

#: At most this many parts, of at least and at most so many rows each (the last comes first). Parts
#: bound the rounding errors of sums.
_PARTS, _FEWEST_ROWS, _MOST_ROWS = 16, 64, 2048


def part_calls(body: Body) -> list[Call]:
    """A call for each sweep, and one for what is known after the last."""
    axes, phases = body.space.axes, body.phases
    rows = axes[phases.reduced[0]].size
    most = product([axis.size for axis in axes if not axis.reduced])
    most = most * (ceil_div(rows, _MOST_ROWS) + _PARTS)
    parts = {n: Scratch(most * n.results[0].type.dtype.size) for n in phases.reductions}
    pairs = body.in_place()
    calls = [_Sweep(body, parts, pairs).write(phase) for phase in range(phases.count)]
    if phases.kept:
        calls.append(_Sweep(body, parts, pairs).join())
    return calls


class _Sweep:
    """One call being written. In its source `row` counts the elements of the kept axes but the
    last, which `low` and `high` bound."""

    def __init__(
        self, body: Body, parts: dict[Node, Scratch], pairs: Sequence[tuple[Value, Value]]
    ) -> None:
        self.body, self.parts, self.pairs = body, parts, pairs
        self.b = b = Builder(body)
        self.last = len(b.space.axes) - 1
        self.outer = [k for k, a in enumerate(b.space.axes) if not a.reduced and k != self.last]
        self.length = b.size(b.space.axes[self.last].size)
        self.rows = b.space.axes[b.phases.reduced[0]].size
        self.stored: dict[Value, tuple[Memory, str]] = {}

    def write(self, phase: int) -> Call:
        b = self.b
        reductions, outputs = b.phases.targets(phase)
        targets = [n.operands[0] for n in reductions] + outputs
        at_once = rows_at_once(targets, lambda value: b.phases.varying[value])
        joined, values = self.needs(targets)
        outer = b.extent(self.outer)
        b.writer.add("low = 0", f"high = {b.columns()}", *self.count_parts())
        b.writer.add(f"start, stop = share({outer} * parts, 1, tid, threads)")
        if not self.outer:
            b.writer.add("row = 0")
            self.prepare(joined, values)
        with b.writer.block("for turn in range(start, stop):"):
            # Every other sweep goes back, and finds in the cache what was read or written last.
            b.writer.add("unit = turn" if phase % 2 else "unit = start + stop - 1 - turn")
            size = b.size(self.rows)
            b.writer.add("part = unit % parts", f"first = min(part * block, {size})")
            b.writer.add(f"end = min(first + block, {size})")
            if self.outer:
                b.writer.add("row = unit // parts", "place = row")
                b.split_index("place", self.outer)
            b.writer.add(f"base = (part * {outer} + row) * {self.length}")
            with b.moved(self.outer):
                if self.outer:
                    self.prepare(joined, values)
                self.reduce(phase, reductions, outputs, at_once)
        return b.call("reduce_columns", flops_of(self.body), self.in_place(outputs))

    def join(self) -> Call:
        """What is known after the last sweep."""
        b = self.b
        b.writer.add("low = 0", f"high = {b.columns()}", *self.count_parts())
        b.writer.add(f"start, stop = share({b.extent(self.outer)}, 1, tid, threads)")
        with b.writer.block("for row in range(start, stop):"):
            b.writer.add("place = row")
            b.split_index("place", self.outer)
            with b.moved(self.outer):
                self.prepare(self.needs(b.phases.kept)[0], [])
                with b.writer.block(f"for i{self.last} in range(low, high):"):
                    terms = b.terms(self.last)
                    terms.stored = dict(self.stored)
                    b.store(terms, b.phases.kept)
        return b.call("reduce_join", in_place=self.in_place(b.phases.kept))

    def in_place(self, stored: Sequence[Value]) -> tuple[tuple[Value, Value], ...]:
        """Those pairs whose result this call stores."""
        here = {result for inside, result in self.body.outputs if inside in stored}
        return tuple(pair for pair in self.pairs if pair[0] in here)

    def count_parts(self) -> tuple[str, ...]:
        """Lines that set the number of parts and the rows of each."""
        size = self.b.size(self.rows)
        return (
            f"parts = min({_PARTS}, max(1, {size} // {_FEWEST_ROWS}))",
            f"parts = max(parts, ({size} + {_MOST_ROWS - 1}) // {_MOST_ROWS})",
            # Whole tiles of rows, so that only the last part may end with single ones.
            f"block = (({size} + parts - 1) // parts + 7) // 8 * 8",
        )

    def needs(self, targets: Sequence[Value]) -> tuple[list[Node], list[Value]]:
        """What values take from earlier sweeps: finished reductions, and values that are made of
        them and do not vary from row to row."""
        phases = self.b.phases
        border = _reached(targets, lambda v: not phases.varying[v] and phases.rank[v] > 0)
        reductions = [v.node for v in _reached(border, phases.is_reduction) if v.node]
        return reductions, [value for value in border if not phases.is_reduction(value)]

    def prepare(self, reductions: list[Node], values: list[Value]) -> None:
        """Join the parts of reductions, and compute values that depend on them alone."""
        b, last = self.b, self.last
        over = f"for i{last} in range(low, high):"
        here = f"row * {self.length} + i{last}"
        places = []
        for node in reductions:
            parts = b.memory(node.results[0].type.dtype, self.parts[node])
            total = self.columns(node.results[0])
            places.append((node, parts, total))
            self.stored[node.results[0]] = (total, f"i{last}")
        if places:
            with b.writer.block(over):
                for _, parts, total in places:
                    first = Term(parts.load(b.source, here), total.dtype)
                    b.writer.add(total.store(b.source, f"i{last}", first))
            with b.writer.block("for other in range(1, parts):"), b.writer.block(over):
                place = f"other * {b.extent(self.outer)} * {self.length} + {here}"
                for node, parts, total in places:
                    so_far, part = total.load(b.source, f"i{last}"), parts.load(b.source, place)
                    joined = b.step(node, so_far, part, joins=True)
                    b.writer.add(total.store(b.source, f"i{last}", Term(joined, total.dtype)))
        if values:
            with b.writer.block(over):
                terms = b.terms(last)
                terms.stored = dict(self.stored)
                found = [(value, terms.term(value)) for value in values]
                b.flush(terms)
                for value, term in found:
                    memory = self.columns(value)
                    b.writer.add(memory.store(b.source, f"i{last}", term))
                    self.stored[value] = (memory, f"i{last}")

    def columns(self, value: Value) -> Memory:
        """Memory of a thread's own for a number for each column."""
        dtype, size = value.type.dtype, self.b.space.axes[self.last].size
        return self.b.memory(dtype, Scratch(size * dtype.size, per_thread=True))

    def reduce(
        self, phase: int, reductions: list[Node], outputs: list[Value], at_once: int
    ) -> None:
        b, last, here = self.b, self.last, f"base + i{self.last}"
        totals = {n: b.memory(n.results[0].type.dtype, self.parts[n]) for n in reductions}
        if reductions:
            with b.writer.block(f"for i{last} in range(low, high):"):
                for node, memory in totals.items():
                    b.writer.add(memory.store(b.source, here, b.zero(node)))
        names = {node: f"p{k}" for k, node in enumerate(reductions)}

        def before() -> None:
            b.writer.add(*(f"{names[node]} = {b.zero(node).name}" for node in reductions))

        def each() -> None:
            terms = b.terms(last)
            terms.stored = dict(self.stored)
            found = [(node, terms.term(node.operands[0])) for node in reductions]
            b.store(terms, outputs)
            for node, term in found:
                b.writer.add(f"{names[node]} = {b.step(node, names[node], term.name)}")

        def after() -> None:
            for node, memory in totals.items():
                total = b.step(node, memory.load(b.source, here), names[node], joins=True)
                b.writer.add(memory.store(b.source, here, Term(total, memory.dtype)))

        tiled_rows(b, b.phases.reduced, ("first", "end"), at_once, each, before, after)


def _reached(targets: Sequence[Value], stops: Callable[[Value], bool]) -> list[Value]:
    """Where a walk from values to what they are made of stops."""
    found, pending, seen = [], list(targets), set(targets)
    while pending:
        value = pending.pop()
        if stops(value):
            found.append(value)
            continue
        fresh = [v for v in (value.node.operands if value.node else ()) if v not in seen]
        seen.update(fresh)
        pending += fresh
    return found
