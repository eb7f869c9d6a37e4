"""Loops of fused kernels whose last axis is kept while others are reduced.

Accumulators of a block of columns lie in temporary memory; rows are walked from first to last, so
that memory is read in order. Threads share the blocks; where there are too few,
`dnnc.kernels.fused.parts` cuts the rows.
"""

from __future__ import annotations

from dnnc.ir.dims import ceil_div, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Call, Scratch
from dnnc.kernels.fused.builder import Body, Builder, flops_of
from dnnc.kernels.fused.formula import Term
from dnnc.kernels.fused.parts import part_calls
from dnnc.kernels.fused.source import Memory

__all__ = ["column_calls"]

#: Columns that a thread sums at a time.
_COLUMN_BLOCK = 256
#: Sums to at most this many elements are split by rows.
_FEW = 8192


def column_calls(body: Body) -> list[Call]:
    """The calls of a body whose last axis is kept while others are reduced."""
    kept = product([axis.size for axis in body.space.axes if not axis.reduced])
    if kept.constant is not None and kept.constant <= _FEW:
        return part_calls(body)
    return [_columns(body)]


def _columns(body: Body) -> Call:
    b = Builder(body)
    last = len(b.space.axes) - 1
    outer_axes = [k for k, a in enumerate(b.space.axes) if not a.reduced and k != last]
    width = _COLUMN_BLOCK
    stored: dict[Value, tuple[Memory, str]] = {}
    totals = {node: _column_memory(b, node.results[0]) for node in b.phases.reductions}
    boundaries = _boundaries(b)
    for value in (v for values in boundaries for v in values):
        if not b.phases.is_reduction(value):
            stored[value] = (_column_memory(b, value), f"i{last} - low")
    for node, memory in totals.items():
        stored[node.results[0]] = (memory, f"i{last} - low")
    length = b.size(b.space.axes[last].size)
    blocks = b.size(ceil_div(b.space.axes[last].size, width))
    b.writer.add(f"start, stop = share({b.extent(outer_axes)} * {blocks}, 1, tid, threads)")
    with b.writer.block("for unit in range(start, stop):"):
        b.writer.add(
            f"low = unit % {blocks} * {width}",
            f"high = min(low + {width}, {length})",
            f"row = unit // {blocks}",
        )
        b.split_index("row", outer_axes)
        with b.moved(outer_axes):
            for phase in range(b.phases.count):
                _between(b, last, boundaries[phase], stored, phase)
                _column_phase(b, last, phase, totals, stored)
            if b.phases.kept:
                _column_outputs(b, last, stored)
    return b.call("reduce_columns", flops_of(body), body.in_place())


def _column_memory(b: Builder, value: Value) -> Memory:
    dtype = value.type.dtype
    return b.memory(dtype, Scratch(dim(_COLUMN_BLOCK * dtype.size), per_thread=True))


def _boundaries(b: Builder) -> list[list[Value]]:
    """For each sweep the unvarying values it needs that depend on earlier sweeps."""
    done: set[Value] = set()
    found: list[list[Value]] = []
    for phase in range(b.phases.count):
        reductions, outputs = b.phases.targets(phase)
        pending = [n.operands[0] for n in reductions] + outputs
        here: list[Value] = []
        seen: set[Value] = set()
        while pending:
            value = pending.pop()
            if value in seen or value.node is None:
                continue
            seen.add(value)
            if not b.phases.varying[value] and b.phases.rank[value] > 0:
                if value not in done:
                    done.add(value)
                    here.append(value)
                continue
            pending += value.node.operands
        found.append(here)
    return found


def _between(
    b: Builder,
    last: int,
    values: list[Value],
    stored: dict[Value, tuple[Memory, str]],
    phase: int,
) -> None:
    """Compute unvarying values for the columns before the sweep that needs them."""
    values = [value for value in values if not b.phases.is_reduction(value)]
    if not values:
        return
    with b.writer.block(f"for i{last} in range(low, high):"):
        terms = b.terms(last)
        pending = set(values)
        terms.stored = {v: place for v, place in stored.items() if v not in pending}
        found = [(value, terms.term(value)) for value in values]
        b.flush(terms)
        for value, term in found:
            memory, index = stored[value]
            b.writer.add(memory.store(b.source, index, term))


def _column_phase(
    b: Builder,
    last: int,
    phase: int,
    totals: dict[Node, Memory],
    stored: dict[Value, tuple[Memory, str]],
) -> None:
    reductions, _ = b.phases.targets(phase)
    if reductions:
        with b.writer.block(f"for i{last} in range(low, high):"):
            for node in reductions:
                b.writer.add(totals[node].store(b.source, f"i{last} - low", b.zero(node)))
    _column_rows(b, last, phase, b.phases.reduced, totals, stored)


def _column_rows(
    b: Builder,
    last: int,
    phase: int,
    axes: list[int],
    totals: dict[Node, Memory],
    stored: dict[Value, tuple[Memory, str]],
) -> None:
    if axes:
        with b.loop(axes[0]):
            _column_rows(b, last, phase, axes[1:], totals, stored)
        return
    reductions, outputs = b.phases.targets(phase)
    with b.writer.block(f"for i{last} in range(low, high):"):
        terms = b.terms(last)
        terms.stored = dict(stored)
        found = [(node, terms.term(node.operands[0])) for node in reductions]
        b.store(terms, outputs)
        for node, term in found:
            memory = totals[node]
            index = f"i{last} - low"
            total = b.step(node, memory.load(b.source, index), term.name)
            b.writer.add(memory.store(b.source, index, Term(total, memory.dtype)))


def _column_outputs(b: Builder, last: int, stored: dict[Value, tuple[Memory, str]]) -> None:
    with b.writer.block(f"for i{last} in range(low, high):"):
        terms = b.terms(last)
        terms.stored = dict(stored)
        b.store(terms, b.phases.kept)
