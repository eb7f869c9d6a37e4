"""Loops of fused kernels that run along rows; see `dnnc.kernels.fused.lower`."""

from __future__ import annotations

from dnnc.ir.dims import Dim, ceil_div, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Call, Scratch
from dnnc.kernels.fused.builder import Body, Builder, flops_of
from dnnc.kernels.fused.formula import Term
from dnnc.kernels.fused.source import Memory, Terms
from dnnc.kernels.fused.tiles import rows_at_once, tiled_rows

__all__ = ["flat_calls", "row_calls", "split_calls"]

#: Elements of a row that are one unit of work, and the number of parts that a sum over everything
#: is split into: it decides the order of additions.
_ROW_BLOCK, _PARTS = 4096, 32
#: Rows up to this length are worked on several at a time.
_SHORT = 256


def flat_calls(body: Body) -> list[Call]:
    """Nothing is reduced."""
    b = Builder(body)
    last = len(b.space.axes) - 1
    rows = list(range(last))
    length = b.size(b.space.axes[last].size)
    outputs = list(dict.fromkeys(value for value, _ in body.outputs))
    if rows and _is_short(body):
        _flat_tiles(b, rows, outputs)
    elif rows:
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
    return [b.call("elementwise", flops_of(body), body.in_place(), body.examples())]


def _is_short(body: Body) -> bool:
    length = body.space.axes[-1].size.constant
    return length is not None and 0 < length <= _SHORT


def _flat_tiles(b: Builder, rows: list[int], outputs: list[Value]) -> None:
    """Short rows, several at a time: threads share runs of them along the last axis but one."""
    *outer, inner = rows
    last, size = inner + 1, b.space.axes[inner].size
    varies = _varying(b, inner)
    at_once = rows_at_once(outputs, lambda value: varies[value])
    each = lambda: b.store(b.terms(last), outputs)  # noqa: E731
    b.writer.add("low = 0", f"high = {b.columns()}")
    if not outer:
        b.writer.add(f"first, end = share({b.size(size)}, {at_once}, tid, threads)")
        tiled_rows(b, [inner], ("first", "end"), at_once, each)
        return
    length = b.space.axes[last].size
    rows_each = dim(_ROW_BLOCK) // (length * at_once) * at_once + at_once
    run, runs = b.size(rows_each), b.size(ceil_div(size, rows_each))
    b.writer.add(f"start, stop = share({b.extent(outer)} * {runs}, 1, tid, threads)")
    with b.writer.block("for unit in range(start, stop):"):
        b.writer.add(f"first = unit % {runs} * {run}", f"end = min(first + {run}, {b.size(size)})")
        b.writer.add(f"row = unit // {runs}")
        b.split_index("row", outer)
        with b.moved(outer):
            tiled_rows(b, [inner], ("first", "end"), at_once, each)


def _varying(b: Builder, axis: int) -> dict[Value, bool]:
    """Which values differ along an axis."""
    varies = {value: b.space.spread(value)[axis] for value in b.inputs}
    for node in b.space.nodes:
        result = node.results[0]
        made = not node.operands and b.space.spread(result)[axis]
        varies[result] = made or any(varies[v] for v in node.operands)
    return varies


def _flat_row(b: Builder, last: int, low: str, high: str, outputs: list[Value]) -> None:
    with b.writer.block(f"for i{last} in range({low}, {high}):"):
        b.store(b.terms(last), outputs)


# Rows: the last axis is reduced.


def row_calls(body: Body) -> list[Call]:
    """A unit of work for each kept element; sweeps follow one another."""
    b = Builder(body)
    kept = [k for k, axis in enumerate(b.space.axes) if not axis.reduced]
    saved = {value: _saved_row(b, value) for value in b.phases.saved()}
    b.writer.add(f"start, stop = share({b.extent(kept)}, 1, tid, threads)")
    with b.writer.block("for unit in range(start, stop):"):
        b.writer.add("row = unit")
        b.split_index("row", kept)
        with b.moved(kept):
            sweeps = _Sweeps(b, b.terms(), saved)
            for phase in range(b.phases.count):
                sweeps.write(phase)
            b.store(sweeps.outer, b.phases.kept)
    return [b.call("reduce_rows", flops_of(body), body.in_place())]


def _saved_row(b: Builder, value: Value, scratch: Scratch | None = None) -> Memory:
    """Memory for an expensive value of a row that later sweeps need again; by default of each
    thread's own."""
    strides: list[Dim | None] = [None] * len(b.space.axes)
    step = dim(1)
    for k in reversed(b.phases.reduced):
        strides[k] = step
        step = step * b.space.axes[k].size
    dtype = value.type.dtype
    return b.memory(dtype, scratch or Scratch(step * dtype.size, True), tuple(strides))


class _Sweeps:
    """Writes the sweeps of one kept element.

    `outer` is the scope around them, `saved` the memory of values that several sweeps need.
    """

    def __init__(self, b: Builder, outer: Terms, saved: dict[Value, Memory]) -> None:
        self.b, self.outer, self.saved = b, outer, saved
        self.last = b.phases.reduced[-1]
        self.names = {node: f"r{k}" for k, node in enumerate(b.phases.reductions)}
        for node, name in self.names.items():
            outer.given.setdefault(node.results[0], Term(name, node.results[0].type.dtype))

    def write(self, phase: int, bounds: tuple[str, str] | None = None) -> None:
        """One sweep over the reduced axes; `bounds` restricts the first of them."""
        b = self.b
        reductions, _ = b.phases.targets(phase)
        with b.aside() as sweep:
            self.sweep(phase, bounds)
        # What the sweep needs of unvarying values is known only after it is written.
        b.flush(self.outer)
        b.writer.add(*(f"{self.names[node]} = {b.zero(node).name}" for node in reductions))
        b.insert(sweep)

    def length(self) -> str:
        return self.b.size(self.b.space.axes[self.last].size)

    def sweep(self, phase: int, bounds: tuple[str, str] | None) -> None:
        axes = self.b.phases.reduced
        if len(axes) == 1:
            self.innermost(phase, self.names, bounds)
            return
        low, high = bounds or ("0", self.b.size(self.b.space.axes[axes[0]].size))
        with self.b.loop(axes[0], low, high):
            self.rows(phase, axes[1:])

    def rows(self, phase: int, axes: list[int]) -> None:
        b = self.b
        if len(axes) > 1:
            with b.loop(axes[0]):
                self.rows(phase, axes[1:])
            return
        # Each innermost row is summed by itself, which is quicker and more accurate.
        reductions, _ = b.phases.targets(phase)
        parts = {node: f"p{self.names[node]}" for node in reductions}
        b.writer.add(*(f"{parts[node]} = {b.zero(node).name}" for node in reductions))
        self.innermost(phase, parts, None)
        for node, part in parts.items():
            name = self.names[node]
            b.writer.add(f"{name} = {b.step(node, name, part, joins=True)}")

    def innermost(
        self, phase: int, totals: dict[Node, str], bounds: tuple[str, str] | None
    ) -> None:
        b, made = self.b, self.b.phases.saved()
        reductions, outputs = b.phases.targets(phase)
        low, high = bounds or ("0", self.length())
        with b.writer.block(f"for i{self.last} in range({low}, {high}):"):
            inner = b.terms(self.last)
            inner.outer = self.outer
            varying = b.phases.varying
            inner.outer_values = frozenset(v for v, varies in varying.items() if not varies)
            for value, memory in self.saved.items():
                if made[value] < phase:
                    inner.stored[value] = (memory, inner.index(memory))
            terms = [(node, inner.term(node.operands[0])) for node in reductions]
            for value, memory in self.saved.items():
                if made[value] == phase:
                    term = inner.term(value)
                    b.flush(inner)
                    b.writer.add(memory.store(b.source, inner.index(memory), term))
            b.store(inner, outputs)
            for node, term in terms:
                b.writer.add(f"{totals[node]} = {b.step(node, totals[node], term.name)}")


# Split: everything is reduced to one element.


def split_calls(body: Body) -> list[Call]:
    """A call for each sweep, over a fixed number of parts; each begins by joining earlier ones."""
    parts = {
        node: Scratch(dim(_PARTS * node.results[0].type.dtype.size))
        for node in body.phases.reductions
    }
    elements = product([axis.size for axis in body.space.axes])
    saved = {value: Scratch(elements * value.type.dtype.size) for value in body.phases.saved()}
    calls = [_split_phase(body, k, parts, saved) for k in range(body.phases.count)]
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
    rows = {value: _saved_row(b, value, scratch) for value, scratch in saved.items()}
    sweeps = _Sweeps(b, outer, rows)
    first = b.space.axes[b.phases.reduced[0]].size
    size, block = b.size(first), b.size(ceil_div(first, _PARTS))
    b.writer.add(f"start, stop = share({_PARTS}, 1, tid, threads)")
    with b.writer.block("for part in range(start, stop):"):
        b.writer.add(f"low = min(part * {block}, {size})", f"high = min(low + {block}, {size})")
        sweeps.write(phase, ("low", "high"))
        for node, memory in memories.items():
            term = Term(sweeps.names[node], memory.dtype)
            b.writer.add(memory.store(b.source, "part", term))
    return b.call("reduce_all", flops_of(body))


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
