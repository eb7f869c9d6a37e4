"""Kernel source for fused bodies: the values of a body as terms, and the loops around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.kernels.abi import Argument, Integer
from dnnc.kernels.fused.formula import Scope, Source, Term, translate
from dnnc.kernels.fused.space import Space
from dnnc.ops.base import Elementwise
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.reduce import Reduction
from dnnc.ops.shape import Broadcast, Reshape

__all__ = ["STEPS", "Arguments", "Memory", "Terms", "Writer", "identity", "renumbered"]

#: For each reduction the operation of one step, and the one that joins two parts in a fixed order.
STEPS = {
    "reduce_sum": ("accumulate", "add"),
    "reduce_max": ("highest", "highest"),
    "reduce_min": ("lowest", "lowest"),
}

#: Memory that a kernel tells apart by number (`intrinsics.load`); the rest may overlap.
_NUMBERED = 48


def identity(node: Node) -> Any:
    """What a reduction over nothing gives."""
    dtype = node.results[0].type.dtype
    if node.op.name == "reduce_sum":
        return 0
    highest = node.op.name == "reduce_min"
    if dtype.is_float:
        return np.inf if highest else -np.inf
    if dtype is DType.BOOL:
        return highest
    limits = np.iinfo(dtype.value.replace("i", "int").replace("u", "uint"))
    return limits.max if highest else limits.min


class Writer:
    """Indented lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def add(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.add(head)
        self.depth += 1
        yield
        self.depth -= 1

    def drop_unused_bases(self) -> None:
        """Remove offsets that nothing reads, such as those of buffers that this call leaves
        alone."""
        while True:
            used = self.names()
            kept = [line for line in self.lines if not _is_unused_base(line, used)]
            if len(kept) == len(self.lines):
                return
            self.lines = kept

    def names(self) -> set[str]:
        """Names that some line reads."""
        read = (line.split(" = ", 1)[-1] for line in self.lines)
        return set(_NAME.findall("\n".join(read)))

    def text(self, prologue: list[str]) -> str:
        lines = ["def kernel(args, tid, threads):"]
        lines += ["    " + line for line in prologue]
        return "\n".join([*lines, *self.lines, "    return 0"])


def renumbered(lines: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Lines with buffers and sizes numbered by where they come up, and the new name of each.

    So calls that compute the same are one kernel, whatever else their bodies hold.
    """
    names: dict[str, str] = {}
    buffers: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def new_name(match: re.Match[str]) -> str:
        kind, number, rest = match.groups()
        counts = sizes if kind == "n" else buffers
        found = f"{kind}{counts.setdefault(number, len(counts))}{rest}"
        return names.setdefault(match[0], found)

    return [_NUMBER.sub(new_name, line) for line in lines], names


#: Names of addresses, sizes, offsets and accesses, with the number of the buffer or size.
_NUMBER = re.compile(r"\b(a|n|b|(?:load|store)_[a-z0-9]+_)(\d+)((?:_\d+)?)\b")
_NAME = re.compile(r"[A-Za-z_]\w*")
_BASE = re.compile(r"\s*(b\d+_\d+) = ")


def _is_unused_base(line: str, used: set[str]) -> bool:
    match = _BASE.match(line)
    return match is not None and match[1] not in used


@dataclass(slots=True, eq=False)
class Memory:
    """One buffer of a kernel; `strides` in elements by axis of the space, None for missing ones."""

    number: int
    dtype: DType
    strides: tuple[Dim | None, ...]

    @property
    def address(self) -> str:
        return f"a{self.number}"

    def load(self, source: Source, index: str) -> str:
        return f"{source.access('load', self.dtype, self.alias)}({self.address}, {index})"

    def store(self, source: Source, index: str, term: Term) -> str:
        access = source.access("store", self.dtype, self.alias)
        return f"{access}({self.address}, {index}, {term.name})"

    @property
    def alias(self) -> int | None:
        return self.number if self.number < _NUMBERED else None


class Arguments:
    """The arguments of a call and the names that the source gives them."""

    def __init__(self) -> None:
        self.list: list[Argument] = []
        self.names: list[str] = []
        self._sizes: dict[Dim, str] = {}

    def add(self, name: str, argument: Argument) -> None:
        self.names.append(name)
        self.list.append(argument)

    def used(self, names: Mapping[str, str]) -> tuple[list[str], tuple[Argument, ...]]:
        """Lines that read the slots of those arguments that have a new name, in the order of these
        names, and the arguments."""
        found = dict(zip(self.names, self.list, strict=True))
        kept = [(new, found[old]) for old, new in names.items() if old in found]
        lines = [f"{name} = slot(args, {k})" for k, (name, _) in enumerate(kept)]
        return lines, tuple(argument for _, argument in kept)

    def size(self, size: Dim) -> str:
        """A name for a size; a literal where it is 0 or 1."""
        if size == 0 or size == 1:
            return str(size)
        if size not in self._sizes:
            self._sizes[size] = f"n{len(self._sizes)}"
            self.add(self._sizes[size], Integer(size))
        return self._sizes[size]


class Terms:
    """Turns values of a body into terms of one scope.

    `bases` names, by number of buffer, the offset that the loops around have reached; a buffer is
    indexed by its base and, along `inner_axis`, by the counter `i<axis>`. `stored` holds values
    that lie in temporary memory, with their index; `given` holds terms from outside, such as
    finished reductions.
    """

    def __init__(
        self,
        space: Space,
        source: Source,
        arguments: Arguments,
        memory: dict[Value, Memory],
        bases: dict[int, str],
        prefix: str,
        inner_axis: int | None = None,
    ) -> None:
        self.space, self.source, self.arguments = space, source, arguments
        self.memory, self.bases, self.inner_axis = memory, dict(bases), inner_axis
        self.scope = Scope(source, prefix)
        self.given: dict[Value, Term] = {}
        self.stored: dict[Value, tuple[Memory, str]] = {}
        #: Another scope, which runs before this one, and the values that it can give.
        self.outer: Terms | None = None
        self.outer_values: frozenset[Value] = frozenset()

    def term(self, value: Value) -> Term:
        """The term of a value, adding the lines that compute it. Iterates to any depth."""
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self.given:
                pending.pop()
                continue
            missing = [v for v in self._needs(current) if v not in self.given]
            if missing:
                pending += missing
                continue
            self.given[current] = self._compute(current)
            pending.pop()
        return self.given[value]

    def _needs(self, value: Value) -> tuple[Value, ...]:
        elsewhere = value in self.outer_values or value in self.stored or value in self.memory
        return () if elsewhere or value.node is None else value.node.operands

    def _compute(self, value: Value) -> Term:
        if value in self.stored:
            memory, index = self.stored[value]
            return self.scope.assign(memory.load(self.source, index), memory.dtype)
        if value in self.outer_values:
            assert self.outer is not None
            return self.outer.term(value)
        if value in self.memory:
            return self.load(self.memory[value])
        node = value.node
        assert node is not None
        operands = [self.given[v] for v in node.operands]
        dtype = value.type.dtype
        match node.op:
            case Elementwise():
                return translate(self.scope, node.op.scalar, operands, dtype)
            case Constant(values=values):
                return self.source.constant(dtype, values[0])
            case Size(dim=size):
                name = self.arguments.size(size)
                return self._from_index(name, dtype)
            case Iota(axis=axis):
                return self._from_index(self._counter(value, axis), dtype)
            case RandomUniform(place=place):
                return self._random(value, place, *operands)
            case Broadcast() | Reshape() | Reduction():
                return operands[0]
        raise AssertionError(f"{node.op.name} cannot be part of a fused kernel")

    def load(self, memory: Memory) -> Term:
        return self.scope.assign(memory.load(self.source, self.index(memory)), memory.dtype)

    def index(self, memory: Memory) -> str:
        last, base = self.inner_axis, self.bases[memory.number]
        stride = None if last is None else memory.strides[last]
        if stride is None:
            return base
        # Only a slice may have a stride other than one along the innermost axis.
        return f"{base} + i{last}" if stride == 1 else f"{base} + i{last} * {self._size(stride)}"

    def _size(self, size: Dim) -> str:
        return self.arguments.size(size)

    def _from_index(self, name: str, dtype: DType) -> Term:
        if name.isdigit():
            return self.source.constant(dtype, int(name))
        return self.scope.cast(Term(name, DType.I64), dtype)

    def _counter(self, value: Value, axis: int) -> str:
        where = self.space.index_axis(value, axis)
        return "0" if where is None else f"i{where}"

    def _random(self, value: Value, place: int, seed: Term, step: Term) -> Term:
        key = self.scope.apply("key", DType.I64, seed, self.source.constant(DType.I64, place))
        parts = []
        for k, stride in enumerate(self.space.strides(value)):
            if stride is not None:
                size = self.arguments.size(stride)
                parts.append(f"i{k}" if size == "1" else f"i{k} * {size}")
        index = self.scope.assign(" + ".join(parts) or "0", DType.I64)
        return self.scope.apply("uniform", value.type.dtype, key, step, index)
