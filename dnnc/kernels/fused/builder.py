"""Puts one kernel of a fused node together: buffers, loops, sweeps, and the call that results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.kernels.abi import Argument, Buffer, Call, Kernel, make_kernel
from dnnc.kernels.fused.formula import Source, Term
from dnnc.kernels.fused.plan import EXPENSIVE, Phases
from dnnc.kernels.fused.source import (
    STEPS,
    Arguments,
    Memory,
    Terms,
    Writer,
    identity,
    renumbered,
)
from dnnc.kernels.fused.space import Space, View
from dnnc.ops.control import Fused
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size

__all__ = ["Body", "Builder", "flops_of"]

#: Numbers in the widest vectors that loops over columns become.
_LANES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A fused body with the values outside that its inputs and outputs stand for.

    Inputs that are slices are read where they lie, in the tensor that they are cut from.
    """

    op: Fused
    space: Space
    phases: Phases
    inputs: dict[Value, Value]
    outputs: tuple[tuple[Value, Value], ...]

    @staticmethod
    def of(
        op: Fused,
        operands: Sequence[Value],
        results: Sequence[Value],
        parts: Mapping[Value, View] | None = None,
    ) -> Body:
        """`parts` are results that lie within larger tensors."""
        views: dict[Value, View] = {}
        for item, operand in zip(op.body.inputs, operands, strict=True):
            view = View.of(operand)
            if view is not None:
                views[item.value] = view
        for output, result in zip(op.body.outputs, results, strict=True):
            if parts and result in parts:
                views[output.value] = parts[result]
        space = Space(op, views)
        inputs = {
            item.value: operand for item, operand in zip(op.body.inputs, operands, strict=True)
        }
        outputs = tuple(
            (output.value, result) for output, result in zip(op.body.outputs, results, strict=True)
        )
        return Body(op, space, Phases(op, space), inputs, outputs)

    def in_place(self) -> tuple[tuple[Value, Value], ...]:
        """Pairs (result, operand) of one type and layout where no later sweep reads the operand."""
        pairs = []
        for inside, result in self.outputs:
            for value, operand in self.inputs.items():
                same = value.type.dtype is inside.type.dtype
                same = same and not {value, inside} & self.space.views.keys()
                same = same and self.space.strides(value) == self.space.strides(inside)
                if not same or not self.phases.depends(inside, value):
                    continue
                stored = self.phases.rank[inside]
                if inside in self.phases.kept:
                    stored = self.phases.count
                if self.phases.last_phase_that_loads(value) <= stored:
                    pairs.append((result, operand))
        return tuple(pairs)

    def examples(self) -> str | None:
        """The number of examples along the first axis of the space, if they are treated alike:
        nothing is added up over them or counts them, and what has as many has them along its first
        axis."""
        name = self.op.space[0].name if self.op.space else None
        if name is None or 0 in self.op.reduced:
            return None
        if any(isinstance(node.op, Iota | RandomUniform | Size) for node in self.op.body.nodes):
            return None
        for value, view in self.space.views.items():
            first = (value.shape[0].name, view.base.shape[0].name)
            sizes = (*value.shape, *view.base.shape, view.offset)
            if any(name in size.symbols for size in sizes) and (
                first != (name, name) or name in view.offset.symbols
            ):
                return None
        for value in (*self.inputs, *(value for value, _ in self.outputs)):
            for axis, size in enumerate(value.shape):
                if name in size.symbols and self.space.maps[value][axis] != 0:
                    return None
        return name


def flops_of(body: Body) -> Dim:
    """Operations of a body: one each, ten for elementary functions."""
    total = dim(0)
    for node in body.space.nodes:
        weight = 10 if node.op.name in EXPENSIVE else 1
        total = total + product(list((node.operands or node.results)[0].shape)) * weight
    return total


class Builder:
    """One kernel under construction: its lines, its arguments, and the buffers that they name."""

    def __init__(self, body: Body) -> None:
        self.body, self.space, self.phases = body, body.space, body.phases
        self.source, self.arguments, self.writer = Source(), Arguments(), Writer()
        self.memories: list[Memory] = []
        self.bases: dict[int, str] = {}
        self.inputs: dict[Value, Memory] = {}
        self.targets: dict[Value, list[Memory]] = {}
        self._scopes = 0
        self._depth = 0
        for value, operand in body.inputs.items():
            self.inputs[value] = self.shaped(value, operand)
        for node in self.space.nodes:
            if isinstance(node.op, Constant) and len(node.op.values) != 1:
                self.inputs[node.results[0]] = self.shaped(node.results[0], node.results[0])
        for value, result in body.outputs:
            memory = self.shaped(value, result, written=True)
            self.targets.setdefault(value, []).append(memory)

    # Buffers.

    def shaped(self, value: Value, outside: Value, written: bool = False) -> Memory:
        """The buffer of a value of the body, or the part of a larger one that it lies in."""
        view = self.space.views.get(value)
        buffer = Buffer(view.base if view else outside, written)
        memory = self.memory(value.type.dtype, buffer, self.space.strides(value))
        if view:
            self.bases[memory.number] = self.size(view.offset)
        return memory

    def memory(
        self, dtype: DType, argument: Argument, strides: tuple[Dim | None, ...] = ()
    ) -> Memory:
        """A buffer; without `strides` it is indexed by hand."""
        memory = Memory(len(self.memories), dtype, strides)
        self.memories.append(memory)
        self.arguments.add(memory.address, argument)
        self.bases[memory.number] = "0"
        return memory

    def size(self, size: Dim) -> str:
        return self.arguments.size(size)

    def columns(self) -> str:
        """The length of the last axis, written so that LLVM sees where it is one of whole vectors:
        it then leaves out what would work off the rest of a row."""
        size = self.space.axes[-1].size
        name = self.size(size)
        return f"{name} // {_LANES} * {_LANES}" if size % _LANES == 0 else name

    # Loops.

    @contextmanager
    def loop(self, axis: int, start: str = "0", stop: str | None = None) -> Iterator[None]:
        """A loop over an axis that is not the innermost."""
        end = stop or self.size(self.space.axes[axis].size)
        with self.writer.block(f"for i{axis} in range({start}, {end}):"), self.moved([axis]):
            yield

    @contextmanager
    def moved(self, axes: Sequence[int]) -> Iterator[None]:
        """Inside, bases include the counters of these axes."""
        before = dict(self.bases)
        self._depth += 1
        for memory in self.memories:
            steps = []
            for axis in axes:
                stride = memory.strides[axis] if memory.strides else None
                if stride is not None:
                    steps.append(f"i{axis} * {self.size(stride)}")
            if steps:
                name = f"b{memory.number}_{self._depth}"
                base = before[memory.number]
                parts = steps if base == "0" else [base, *steps]
                self.writer.add(f"{name} = {' + '.join(parts)}")
                self.bases[memory.number] = name
        yield
        self.bases = before

    def split_index(self, name: str, axes: Sequence[int]) -> None:
        """Counters of `axes` from the linear index in variable `name`."""
        for axis in reversed(axes[1:]):
            size = self.size(self.space.axes[axis].size)
            self.writer.add(f"i{axis} = {name} % {size}", f"{name} = {name} // {size}")
        if axes:
            self.writer.add(f"i{axes[0]} = {name}")

    def extent(self, axes: Sequence[int]) -> str:
        """A name for the number of elements along some axes."""
        return self.size(product([self.space.axes[axis].size for axis in axes]))

    # Scopes.

    def terms(self, inner_axis: int | None = None) -> Terms:
        """A scope whose buffers begin at the present bases."""
        self._scopes += 1
        prefix = f"v{self._scopes}_"
        return Terms(
            self.space,
            self.source,
            self.arguments,
            self.inputs,
            self.bases,
            prefix,
            inner_axis,
        )

    def flush(self, terms: Terms) -> None:
        """Write the lines of a scope here."""
        self.writer.add(*terms.scope.lines)
        terms.scope.lines = []

    @contextmanager
    def aside(self) -> Iterator[Writer]:
        """Lines written inside go to a writer of their own, to be put in later by `insert`."""
        outer = self.writer
        self.writer = Writer()
        self.writer.depth = outer.depth
        yield self.writer
        self.writer = outer

    def insert(self, writer: Writer) -> None:
        self.writer.lines += writer.lines

    def store(self, terms: Terms, values: Sequence[Value]) -> None:
        """Compute values, then store them to the outputs: loads come before stores."""
        found = [(value, terms.term(value)) for value in values]
        self.flush(terms)
        for value, term in found:
            for memory in self.targets[value]:
                self.writer.add(memory.store(self.source, terms.index(memory), term))

    # Reductions.

    def step(self, node: Node, total: str, term: str, joins: bool = False) -> str:
        """One more element, or another part, of a reduction."""
        dtype = node.results[0].type.dtype
        name = STEPS[node.op.name][joins]
        return f"{self.source.operation(name, dtype, dtype, dtype)}({total}, {term})"

    def zero(self, node: Node) -> Term:
        return self.source.constant(node.results[0].type.dtype, identity(node))

    # The call.

    def call(
        self,
        name: str,
        flops: Dim | None = None,
        in_place: tuple[tuple[Value, Value], ...] = (),
        examples: str | None = None,
    ) -> Call:
        self.writer.drop_unused_bases()
        self.writer.lines, names = renumbered(self.writer.lines)
        prologue, arguments = self.arguments.used(names)
        text = self.writer.text(prologue)
        source = self.source.renamed(names)
        kernel: Kernel = make_kernel(name, lambda: _function(text, source), source.key(text))
        kernel = replace(kernel, source=text)
        return Call(kernel, arguments, flops or dim(0), in_place, examples)


def _function(text: str, source: Source) -> Callable[[int, int, int], int]:
    """The Python function of generated source, which holds no text of users."""
    names: dict[str, Any] = source.namespace()
    exec(compile(text, "<dnnc kernel>", "exec"), names)
    function: Callable[[int, int, int], int] = names["kernel"]
    return function
