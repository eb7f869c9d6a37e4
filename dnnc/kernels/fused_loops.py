"""Loops of fused kernels that run along rows; see `dnnc.kernels.fused`."""

from __future__ import annotations

from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Call, Scratch
from dnnc.kernels.formula import Term
from dnnc.kernels.fused_builder import Body, Builder, flops_of
from dnnc.kernels.fused_source import Memory, Terms

__all__ = ["flat_calls", "row_calls", "split_calls"]

#: Elements of a row that are one unit of work, and the number of parts that a sum over everything
#: is split into: it decides the order of additions.
_ROW_BLOCK, _PARTS = 4096, 32


def flat_calls(body: Body) -> list[Call]:
    """Nothing is reduced."""
    b = Builder(body)
    last = len(b.space.axes) - 1
    rows = list(range(last))
    length = b.size(b.space.axes[last].size)
    outputs = list(dict.fromkeys(value for value, _ in body.outputs))
    if rows:
        block = b.size(ceil_div(b.space.axes[last].size, _ROW_BLOCK))
        b.writer.add(f"start, stop = share({b.extent(rows)} * {block}, 1, tid, threads)")
        with b.writer.block("for unit in range(start, stop):"):
            b.writer.add(
                f"low = unit % {block} * {_ROW_BLOCK}",
                f"high = min(low + {_ROW_BLOCK}, {length})",
                f"row = unit // {block}",
            )
            b.split_index("row", rows)
            with b.moved(rows):
                _flat_row(b, last, "low", "high", outputs)
    else:
        b.writer.add(f"low, high = share({length}, 64, tid, threads)")
        _flat_row(b, last, "low", "high", outputs)
    return [b.call("elementwise", flops_of(body), body.in_place())]


def _flat_row(b: Builder, last: int, low: str, high: str, outputs: list[Value]) -> None:
    with b.writer.block(f"for i{last} in range({low}, {high}):"):
        b.store(b.terms(last), outputs)


# Rows: the last axis is reduced.


def row_calls(body: Body) -> list[Call]:
    """A unit of work for each kept element; sweeps follow one another."""
    b = Builder(body)
    kept = [k for k, axis in enumerate(b.space.axes) if not axis.reduced]
    saved = _saved_rows(b, per_thread=True)
    b.writer.add(f"start, stop = share({b.extent(kept)}, 1, tid, threads)")
    with b.writer.block("for unit in range(start, stop):"):
        b.writer.add("row = unit")
        b.split_index("row", kept)
        with b.moved(kept):
            outer = b.terms()
            names = _reduction_names(b, outer)
            for phase in range(b.phases.count):
                _row_phase(b, outer, phase, saved, names)
            b.store(outer, b.phases.kept)
    return [b.call("reduce_rows", flops_of(body), body.in_place())]


def _reduction_names(b: Builder, outer: Terms) -> dict[Node, str]:
    names = {node: f"r{k}" for k, node in enumerate(b.phases.reductions)}
    for node, name in names.items():
        outer.given[node.results[0]] = Term(name, node.results[0].type.dtype)
    return names


def _saved_rows(b: Builder, per_thread: bool) -> dict[Value, Memory]:
    """Memory for expensive values of a row that later sweeps need again."""
    reduced = [k for k, axis in enumerate(b.space.axes) if axis.reduced]
    strides: list[Dim | None] = [None] * len(b.space.axes)
    step = dim(1)
    for k in reversed(reduced):
        strides[k] = step
        step = step * b.space.axes[k].size
    return {
        value: b.memory(
            value.type.dtype,
            Scratch(step * value.type.dtype.size, per_thread),
            tuple(strides),
        )
        for value in b.phases.saved()
    }


def _row_phase(
    b: Builder,
    outer: Terms,
    phase: int,
    saved: dict[Value, Memory],
    names: dict[Node, str],
    bounds: tuple[str, str] | None = None,
) -> None:
    """One sweep over the reduced axes; `bounds` restricts the first of them."""
    reductions, _ = b.phases.targets(phase)
    with b.aside() as sweep:
        _sweep(b, outer, phase, saved, names, bounds)
    # What the sweep needs of unvarying values is known only after it is written.
    b.flush(outer)
    b.writer.add(*(f"{names[node]} = {b.zero(node).name}" for node in reductions))
    b.insert(sweep)


def _sweep(
    b: Builder,
    outer: Terms,
    phase: int,
    saved: dict[Value, Memory],
    names: dict[Node, str],
    bounds: tuple[str, str] | None,
) -> None:
    reductions, _ = b.phases.targets(phase)
    axes = b.phases.reduced
    if len(axes) > 1:
        # Each innermost row is summed by itself, which is quicker and more accurate.
        low, high = bounds or ("0", b.size(b.space.axes[axes[0]].size))
        with b.loop(axes[0], low, high):
            _inner_rows(b, outer, phase, saved, names, axes[1:])
        return
    totals = {node: names[node] for node in reductions}
    _innermost(b, outer, phase, saved, totals, bounds)


def _inner_rows(
    b: Builder,
    outer: Terms,
    phase: int,
    saved: dict[Value, Memory],
    names: dict[Node, str],
    axes: list[int],
) -> None:
    if len(axes) > 1:
        with b.loop(axes[0]):
            _inner_rows(b, outer, phase, saved, names, axes[1:])
        return
    reductions, _ = b.phases.targets(phase)
    parts = {node: f"p{names[node]}" for node in reductions}
    b.writer.add(*(f"{parts[node]} = {b.zero(node).name}" for node in reductions))
    _innermost(b, outer, phase, saved, parts, None)
    for node in reductions:
        b.writer.add(f"{names[node]} = {b.step(node, names[node], parts[node], joins=True)}")


def _innermost(
    b: Builder,
    outer: Terms,
    phase: int,
    saved: dict[Value, Memory],
    totals: dict[Node, str],
    bounds: tuple[str, str] | None,
) -> None:
    reductions, outputs = b.phases.targets(phase)
    last = b.phases.reduced[-1]
    low, high = bounds or ("0", b.size(b.space.axes[last].size))
    with b.writer.block(f"for i{last} in range({low}, {high}):"):
        inner = b.terms(last)
        inner.outer = outer
        inner.outer_values = frozenset(v for v, varies in b.phases.varying.items() if not varies)
        made = b.phases.saved()
        for value, memory in saved.items():
            if made[value] < phase:
                inner.stored[value] = (memory, inner.index(memory))
        terms = [(node, inner.term(node.operands[0])) for node in reductions]
        for value, memory in saved.items():
            if made[value] == phase:
                term = inner.term(value)
                b.flush(inner)
                b.writer.add(memory.store(b.source, inner.index(memory), term))
        b.store(inner, outputs)
        for node, term in terms:
            b.writer.add(f"{totals[node]} = {b.step(node, totals[node], term.name)}")


# Split: everything is reduced to one element.


def split_calls(body: Body) -> list[Call]:
    """A call for each sweep, over a fixed number of blocks; each begins by joining what came
    before.
    """
    parts = {
        node: Scratch(dim(_PARTS * node.results[0].type.dtype.size))
        for node in body.phases.reductions
    }
    saved: dict[Value, Scratch] = {}
    calls = []
    for phase in range(body.phases.count):
        calls.append(_split_phase(body, phase, parts, saved))
    if body.phases.kept:
        b = Builder(body)
        outer = _joined(b, parts, body.phases.count)
        with b.writer.block("if tid == 0:"):
            b.store(outer, b.phases.kept)
        calls.append(b.call("reduce_join", in_place=body.in_place()))
    return calls


def _split_phase(
    body: Body, phase: int, parts: dict[Node, Scratch], saved: dict[Value, Scratch]
) -> Call:
    b = Builder(body)
    outer = _joined(b, parts, phase)
    reductions, _ = b.phases.targets(phase)
    memories = {n: b.memory(n.results[0].type.dtype, parts[n]) for n in reductions}
    names = _reduction_names(b, outer)
    first = b.phases.reduced[0]
    size = b.size(b.space.axes[first].size)
    block = b.size(ceil_div(b.space.axes[first].size, _PARTS))
    rows = _shared_rows(b, saved)
    # Unvarying values are the same for all blocks.
    with b.aside() as blocks, b.writer.block("for part in range(start, stop):"):
        b.writer.add(f"low = min(part * {block}, {size})", f"high = min(low + {block}, {size})")
        with b.aside() as sweep:
            _sweep(b, outer, phase, rows, names, ("low", "high"))
        b.writer.add(*(f"{names[node]} = {b.zero(node).name}" for node in reductions))
        b.insert(sweep)
        for node, memory in memories.items():
            term = Term(names[node], memory.dtype)
            b.writer.add(memory.store(b.source, "part", term))
    b.flush(outer)
    b.writer.add(f"start, stop = share({_PARTS}, 1, tid, threads)")
    b.insert(blocks)
    return b.call("reduce_all", flops_of(body))


def _shared_rows(b: Builder, saved: dict[Value, Scratch]) -> dict[Value, Memory]:
    """Memory for saved values that the calls of one node share."""
    before = b.arguments.list[:]
    rows = _saved_rows(b, per_thread=False)
    for value, memory in rows.items():
        k = len(before) + list(rows).index(value)
        found = b.arguments.list[k]
        assert isinstance(found, Scratch)
        b.arguments.list[k] = saved.setdefault(value, found)
        assert memory.strides
    return rows


def _joined(b: Builder, parts: dict[Node, Scratch], phase: int) -> Terms:
    """The reductions of earlier sweeps, joined in the order of their parts."""
    outer = b.terms()
    for k, node in enumerate(b.phases.reductions):
        if b.phases.rank[node.operands[0]] >= phase:
            continue
        dtype = node.results[0].type.dtype
        memory = b.memory(dtype, parts[node])
        b.writer.add(f"r{k} = {b.zero(node).name}")
        with b.writer.block(f"for part in range({_PARTS}):"):
            load = memory.load(b.source, "part")
            b.writer.add(f"r{k} = {b.step(node, f'r{k}', load, joins=True)}")
        outer.given[node.results[0]] = Term(f"r{k}", dtype)
    return outer
