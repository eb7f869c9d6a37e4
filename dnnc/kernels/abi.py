"""What a kernel is to a program: its code, its arguments, and one call of it.

A kernel is a Python function `kernel(args, tid, threads)` that Numba compiles for three int64.
`args` is the address of a table of int64 slots, one for each argument of the call, in order; every
thread has its own copy of the table. Thread `tid` of `threads` does its share: the partition is
over independent outputs and every sum is taken in an order that does not depend on `threads`, so
that any number of threads gives the same bits. The calls of a program run one after the other, with
a barrier in between, or one after the other on a piece of the batch in each thread
(`dnnc.program.pieces`).

A lowering turns one node of the graph into calls, which name values, sizes and scratch memory;
where those lie is decided by the memory plan (`dnnc.program.plan`). Modules with lowerings are
imported in a warm start, so they import numba (and `dnnc.kernels.intrinsics`) only inside
`Kernel.build`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Operator

__all__ = [
    "ANCHORED",
    "LOWERINGS",
    "Argument",
    "Buffer",
    "Call",
    "Integer",
    "Kernel",
    "Scratch",
    "anchored",
    "examples_of",
    "lower",
    "lowering",
    "make_kernel",
]

KernelFunction: TypeAlias = Callable[[int, int, int], int]


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Code that programs share. Two kernels with one `key` are the same code.

    `build` returns the Python function; it is called only where the machine code is not in the
    cache. `source` is its text where it was generated. Loops may be `unrolled`;
    drivers, whose loops lead from block to block, compile sooner without, and by fewer passes.
    """

    name: str
    key: str
    build: Callable[[], Callable[[int, int, int], int]]
    source: str = ""
    unrolled: bool = True

    def __repr__(self) -> str:
        return f"<kernel {self.name} {self.key[:8]}>"


def make_kernel(
    name: str, build: Callable[[], KernelFunction], *parameters: object, unrolled: bool = True
) -> Kernel:
    """A kernel whose code is determined by its name and the `repr` of its parameters."""
    text = f"{name}{parameters!r}"
    return Kernel(name, hashlib.sha256(text.encode()).hexdigest(), build, unrolled=unrolled)


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """The slot holds the address of a value: dense, row-major; `written` where the call stores to
    it.
    """

    value: Value
    written: bool = False

    def __reduce__(self) -> tuple[object, ...]:
        return Buffer, (self.value, self.written)


@dataclass(frozen=True, slots=True)
class Integer:
    """The slot holds a size."""

    size: Dim

    def __reduce__(self) -> tuple[object, ...]:
        return Integer, (self.size,)

    @staticmethod
    def of(value: Dim | int) -> Integer:
        return Integer(dim(value))


@dataclass(frozen=True, slots=True, eq=False)
class Scratch:
    """The slot holds the address of temporary memory, 64-byte aligned and not initialized.

    `bytes` is its size; with `per_thread` every thread has as much of its own, and so it has of any
    where calls run on pieces of a batch. Calls of one node that hold the same `Scratch` object see
    the same memory, so the first may leave partial results to the next.
    """

    bytes: Dim
    per_thread: bool = False


Argument: TypeAlias = Buffer | Integer | Scratch


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One line of a program.

    `in_place` lists (result, operand) pairs that may share memory: every element of the operand is
    read, by the thread that overwrites it, before the element of the result at the same position is
    written, and the stored element depends on the loaded one. `flops` counts floating-point
    operations (a fused multiply-add is two).

    Where `examples` names the size that counts examples, the call treats each of them, along axis 0
    of the buffers that have one of that size, alike and by itself: calls for some of them, with
    sizes of as many, give the same bits.
    """

    kernel: Kernel
    arguments: tuple[Argument, ...]
    flops: Dim = field(default_factory=lambda: dim(0))
    in_place: tuple[tuple[Value, Value], ...] = ()
    examples: str | None = None

    @property
    def buffers(self) -> list[Buffer]:
        """The arguments that are values."""
        return [argument for argument in self.arguments if isinstance(argument, Buffer)]


def examples_of(value: Value, *attributes: Dim) -> str | None:
    """The name of a value's number of examples, if none of the attributes of what is done depends
    on it."""
    name = value.shape[0].name
    return None if any(name in size.symbols for size in attributes) else name


Lowering: TypeAlias = Callable[[Node], list[Call]]

#: How each operator becomes calls.
LOWERINGS: dict[type[Operator], Lowering] = {}


def lowering(*operators: type[Operator]) -> Callable[[Lowering], Lowering]:
    """Function decorator: register how nodes of these operators become calls."""

    def register(function: Lowering) -> Lowering:
        for cls in operators:
            if cls in LOWERINGS:
                raise TypeError(f"operator {cls.name} has two lowerings")
            LOWERINGS[cls] = function
        return function

    return register


def lower(node: Node) -> list[Call]:
    """The calls of one node; KeyError where its operator has no lowering."""
    return LOWERINGS[type(node.op)](node)


#: How a fused node is lowered whose body is built around one operator: (fused node, that node).
ANCHORED: dict[type[Operator], Callable[[Node, Node], list[Call]]] = {}


def anchored(
    *operators: type[Operator],
) -> Callable[[Callable[[Node, Node], list[Call]]], Callable[[Node, Node], list[Call]]]:
    """Function decorator: register how fused nodes around these operators become calls."""

    def register(
        function: Callable[[Node, Node], list[Call]],
    ) -> Callable[[Node, Node], list[Call]]:
        for cls in operators:
            if cls in ANCHORED:
                raise TypeError(f"operator {cls.name} has two lowerings as an anchor")
            ANCHORED[cls] = function
        return function

    return register
