"""The tree of a `.dnn` file: what was written, nothing resolved.

Nodes are frozen and compare by content; every node knows its span. `parse` makes them,
`format` prints them, `elaborate` gives them meaning. No layer, activation or option has a node of
its own: they are names, and names are resolved later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from dnnc.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Node:
    """Anything with a place in the text."""

    span: Span = field(compare=False, repr=False)


# --- expressions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number(Node):
    """`3`, `8_000`, `1e-3`. Integers stay Python ints."""

    value: int | float


@dataclass(frozen=True, slots=True)
class String(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A plain name; `a.b` is an `Attribute` of a `Name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """`value.name`."""

    value: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`value[index]`: an element of a list, or a row of a tensor."""

    value: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-x` or `not x`; `operator` is as written."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`x + y` and the like: + - * / // % @ ** == != < <= > >= and or."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    """`if test then yes else no`."""

    test: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True, slots=True)
class ListExpr(Node):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """`value` or `name = value`."""

    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Stages without an input: one branch of a block of blocks, `a -> b(1) -> c`."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Stage(Node):
    """`callee(arguments) { branches } as name`: what stands to the right of `->`.

    `has_arguments` tells `relu()` from `relu`, for the formatter alone.
    """

    callee: Expr
    arguments: tuple[Argument, ...] = ()
    branches: tuple[Chain, ...] = ()
    name: str | None = None
    has_arguments: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Pipe(Node):
    """`value -> stage`; longer chains nest to the left.

    A chain may have a thousand stages, more than recursion bears: walk it with `unroll`.
    """

    value: Expr
    stage: Stage

    def unroll(self) -> tuple[Expr, tuple[Stage, ...]]:
        """What the chain begins with, and its stages in order."""
        stages = []
        value: Expr = self
        while isinstance(value, Pipe):
            stages.append(value.stage)
            value = value.value
        return value, tuple(reversed(stages))

    def __eq__(self, other: object) -> bool:
        return self.unroll() == other.unroll() if isinstance(other, Pipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.unroll())


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`callee(arguments)` outside a chain."""

    callee: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Group(Node):
    """Parentheses: `(a)`. Kept, so that the formatter gives back what was written."""

    value: Expr


Expr: TypeAlias = (
    Number
    | String
    | Boolean
    | Name
    | Attribute
    | Index
    | Unary
    | Binary
    | Conditional
    | ListExpr
    | Pipe
    | Call
    | Group
)

# --- shapes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dimension(Node):
    """One entry of a shape: a size, with an upper bound in `seq <= context`."""

    size: Expr
    bound: Expr | None = None


@dataclass(frozen=True, slots=True)
class Ellipsis_(Node):  # noqa: N801 - `Ellipsis` is Python's own
    """`...` in a shape: any further axes."""


@dataclass(frozen=True, slots=True)
class Shape(Node):
    """`i32[batch, seq <= context]`; `dtype` is None where it is left to the default."""

    dtype: str | None
    dims: tuple[Dimension | Ellipsis_, ...]


# --- statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Port(Node):
    """`in image: [...]`, `out y: [...]`, `in p, g, t`."""

    direction: str  # "in" or "out"
    names: tuple[str, ...]
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Require(Node):
    """`require test, "message with {name}"`."""

    test: Expr
    message: String | None


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """`param weight: [features, units] = start`."""

    name: str
    shape: Shape
    start: Expr


@dataclass(frozen=True, slots=True)
class State(Node):
    """`state mean: [channels] = zeros`, or `state m = 0` in an optimizer."""

    name: str
    shape: Shape | None
    start: Expr


@dataclass(frozen=True, slots=True)
class Carry(Node):
    """`carry h: [batch, units] = 0` inside a scan."""

    name: str
    shape: Shape
    start: Expr


@dataclass(frozen=True, slots=True)
class Bind(Node):
    """`a = value` or `a, b = value`."""

    names: tuple[str, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class Return(Node):
    """`return value` at the end of a function's body."""

    value: Expr


@dataclass(frozen=True, slots=True)
class Emit(Node):
    """`emit y = h` inside a scan."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Repeat(Node):
    count: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For(Node):
    """`for name in values { }`, or `for name in start .. stop { }` (stop excluded)."""

    name: str
    values: Expr
    stop: Expr | None
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """`scan xt in x along time { }`; several sequences: `scan xt, yt in x, y along time`."""

    names: tuple[str, ...]
    values: tuple[Expr, ...]
    axis: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If(Node):
    test: Expr
    body: tuple[Statement, ...]
    orelse: tuple[Statement, ...]


Statement: TypeAlias = (
    Port | Require | Parameter | State | Carry | Bind | Return | Emit | Repeat | For | Scan | If
)

# --- top level ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting(Node):
    """A formal setting of a definition: `width`, `stride = 1`."""

    name: str
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Import(Node):
    """`import "blocks.dnn" as blocks`."""

    path: String
    name: str | None


@dataclass(frozen=True, slots=True)
class Const(Node):
    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Function(Node):
    """`fn name(settings) = value` has one Return in its body."""

    name: str
    settings: tuple[Setting, ...]
    body: tuple[Statement, ...]
    short: bool = field(default=False, compare=False)  # written with `=`


@dataclass(frozen=True, slots=True)
class Block(Node):
    """`block`, `model` or `optimizer`: settings, ports, and a body. `kind` is that word."""

    kind: str
    name: str
    settings: tuple[Setting, ...]
    body: tuple[Statement, ...]
    name_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rule(Node):
    """`key = value` in a job; `key` may be dotted (`optimizer.lr`)."""

    key: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Step(Node):
    """`prune(channels, sparsity = 0.5)` in a job: done in the order written."""

    key: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Goal(Node):
    """`maximize accuracy`."""

    direction: str
    value: Expr


JobEntry: TypeAlias = Rule | Step | Goal | Require


@dataclass(frozen=True, slots=True)
class Data(Node):
    """`data Scans { source = ...; image = ... }`."""

    name: str
    entries: tuple[JobEntry, ...]
    name_span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Job(Node):
    """`train M on D { }`, `compress S = M on D { }`, `distill T from M on D { }`, `search …`.

    `kind` is the first word; `result` the name after it when one is bound by `=`; `model` and
    `data` the names worked on; `teacher` the name after `from`.
    """

    kind: str
    result: str | None
    model: Name
    teacher: Name | None
    data: Name
    entries: tuple[JobEntry, ...]


Item: TypeAlias = Import | Const | Function | Block | Data | Job


@dataclass(frozen=True, slots=True)
class File(Node):
    items: tuple[Item, ...]
