"""What an expression of the language may stand for while a file is elaborated.

Numbers, strings, booleans, lists and `none` are Python's own. A `Size` is a size with the axis it
was read from; a `Tensor` is a value of the graph with the axes it has. Everything else is something
that can be called, or a bag of names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dnnc.diagnostics import Span
from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.syntax import tree

__all__ = [
    "Axis",
    "BlockValue",
    "Bundle",
    "ChainValue",
    "Env",
    "FunctionValue",
    "Instance",
    "Namespace",
    "Partial",
    "Poison",
    "Ratio",
    "Size",
    "Tensor",
    "callable_value",
    "count_of",
    "describe",
    "is_number",
    "plain",
    "quoted",
    "size_of",
]


#: Longer expressions are not repeated in messages.
QUOTE_LIMIT = 30


class Axis:
    """The identity of an axis: two axes are the same when they are the same object.

    It is born where a shape names an axis, and follows the data through blocks, so that
    `axis = h` means the height although a convolution has changed its size.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<axis {self.name}>"


Axes = tuple[Axis | None, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A size, and the axis that it was read from where there is one."""

    dim: Dim
    axis: Axis | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A quotient of sizes that is not whole; `ceil` and `floor` make a size of it."""

    numerator: Dim
    denominator: Dim
    axis: Axis | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A value of the graph with its axes.

    `span` is where it was made, `declared` the shape that its declaration gives it.
    """

    value: Value
    axes: Axes
    span: Span | None = None
    declared: tree.Shape | None = None

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.value.type.shape

    @property
    def rank(self) -> int:
        return self.value.type.rank


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Several tensors that are worked on together, such as `weights`; `sum` adds them all up."""

    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FunctionValue:
    """A `fn`, with the environment that it was written in."""

    definition: tree.Function
    env: Env

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(frozen=True, slots=True, eq=False)
class BlockValue:
    """A `block`, `model` or `optimizer`, with the environment that it was written in."""

    definition: tree.Block
    env: Env

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A function, block or builtin with some of its arguments: the rest comes with the call."""

    callee: Any
    positional: tuple[Any, ...]
    named: dict[str, Any]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ChainValue:
    """A branch in braces: stages that wait for their input, in the scope of whoever wrote them."""

    chain: tree.Chain
    env: Env


@dataclass(slots=True, eq=False)
class Instance:
    """A layer: an application of a block, with its parameters, states and named layers."""

    path: str
    block: str
    members: dict[str, Any] = field(default_factory=dict)
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Namespace:
    """The names of an imported file."""

    name: str
    env: Env


class Poison:
    """Stands for a value that an error has prevented; whoever touches it stays silent."""


@dataclass(slots=True)
class Binding:
    value: Any
    span: Span | None
    rebindable: bool = False


class Env:
    """Names in scope. In a `round` of a loop, names of the body around it may be rebound."""

    __slots__ = ("ellipsis", "names", "parent", "round")

    def __init__(self, parent: Env | None = None, *, is_round: bool = False) -> None:
        self.parent = parent
        self.round = is_round
        self.names: dict[str, Binding] = {}
        self.ellipsis: tuple[tuple[Dim, ...], Axes] | None = None

    def find(self, name: str) -> Binding | None:
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return env.names[name]
            env = env.parent
        return None

    def meanings(self, name: str) -> Iterator[Any]:
        """Every value of that name, the nearest first."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                yield env.names[name].value
            env = env.parent

    def local(self, name: str) -> Binding | None:
        """The binding inside this body, rounds of loops around it included."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return env.names[name]
            if not env.round:
                return None
            env = env.parent
        return None

    def define(self, name: str, value: Any, span: Span | None, *, rebindable: bool = False) -> None:
        self.names[name] = Binding(value, span, rebindable)

    def find_ellipsis(self) -> tuple[tuple[Dim, ...], Axes] | None:
        env: Env | None = self
        while env is not None:
            if env.ellipsis is not None:
                return env.ellipsis
            env = env.parent if env.round else None
        return None

    def visible(self) -> Iterator[str]:
        env: Env | None = self
        while env is not None:
            yield from env.names
            env = env.parent


def callable_value(value: Any) -> bool:
    """Whether a value can be called."""
    kinds = (FunctionValue, BlockValue, Partial, ChainValue)
    return isinstance(value, kinds) or hasattr(value, "builtin")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Size) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A size that is known, as the integer it is; anything else as it is."""
    if isinstance(value, Size) and value.dim.constant is not None:
        return value.dim.constant
    return value


def count_of(count: int, what: str) -> str:
    """`1 argument`, `2 arguments`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def quoted(node: tree.Expr, otherwise: str = "this") -> str:
    """An expression as it is written, in backticks; another word where that is long."""
    text = node.span.text
    return f"`{text}`" if len(text) <= QUOTE_LIMIT and "\n" not in text else otherwise


def size_of(value: Any) -> Dim | None:
    """The size that a number stands for, or None where it is not a whole number."""
    if isinstance(value, Size):
        return value.dim
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return dim(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return dim(int(value))
    return None


def describe(value: Any) -> str:  # noqa: C901 - one line a kind of value
    """What a value is, in the user's words, for messages."""
    match value:
        case Tensor():
            return f"a tensor {value.type}"
        case Size():
            return f"the size {value.dim}"
        case Ratio():
            return f"the ratio {value.numerator} / {value.denominator}"
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the string "{value}"'
        case None:
            return "`none`"
        case list():
            return f"a list of {len(value)}"
        case DType():
            return f"the element type {value}"
        case FunctionValue():
            return f"the function `{value.name}`"
        case BlockValue():
            return f"the {value.definition.kind} `{value.name}`"
        case Partial():
            return f"{describe(value.callee)} that still waits for arguments"
        case ChainValue():
            return "a chain of blocks"
        case Instance():
            return f"the layer `{value.path}`"
        case Bundle():
            return f"a bundle of {len(value.tensors)} tensors"
        case Namespace():
            return f"the file `{value.name}`"
    return f"the function `{getattr(value, 'name', type(value).__name__)}`"
