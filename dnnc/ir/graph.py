"""Values and graphs.

A program is a directed acyclic graph of immutable values. A `Value` is one result of a `Node`,
which is an operator applied to operand values; a value without a node is an input. Identity is
equality: a rewrite makes new values (`dnnc.ir.rewrite`) and never changes one. A `Graph` names
inputs and outputs; its nodes are whatever the outputs need, in an order where operands come
first.

Every value made inside `with origin(...)` remembers the place in the text and the path of blocks
it came from, so that an error, a profile and a dump can point at the user's line.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dnnc.diagnostics import Span
from dnnc.ir.dims import Dim
from dnnc.ir.types import TensorType

if TYPE_CHECKING:
    from dnnc.ir.operator import Operator

__all__ = [
    "Graph",
    "Input",
    "Node",
    "Origin",
    "Output",
    "Role",
    "Value",
    "apply",
    "apply_all",
    "apply_typed",
    "current_origin",
    "move_origin",
    "nodes_between",
    "origin",
    "sorted_nodes",
    "uncollected",
]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: a place in the text, and the path of blocks (`layer_2.dense_1`)."""

    span: Span | None = None
    path: str = ""


_NOWHERE = Origin()
_ORIGIN: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


class origin:  # noqa: N801 - reads as a statement
    """`with origin(place):` values made inside carry this origin."""

    __slots__ = ("_place", "_token")

    def __init__(self, place: Origin) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._token = _ORIGIN.set(self._place)

    def __exit__(self, *_: object) -> None:
        _ORIGIN.reset(self._token)


def move_origin(place: Origin) -> None:
    """Give values this origin from here on, until the `origin` around ends."""
    _ORIGIN.set(place)


class uncollected:  # noqa: N801 - reads as a statement
    """`with uncollected():` many nodes are made inside, and hardly any garbage in cycles.

    Going through all of them again and again would take the collector a fifth of the time.
    """

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()


def current_origin() -> Origin:
    """The origin that values get at this point."""
    return _ORIGIN.get()


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor: an input where `node` is None, else result `index` of `node`.

    `hint` is the name in the text, for dumps; it has no meaning.
    """

    type: TensorType
    node: Node | None = None
    index: int = 0
    hint: str = ""

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    def __reduce__(self) -> tuple[object, ...]:
        # A node is pickled with its results, and makes them when it is restored.
        if self.node is not None:
            return _result, (self.node, self.index)
        return Value, (self.type, None, 0, self.hint)

    def __repr__(self) -> str:
        made_by = self.node.op.name if self.node else "input"
        return f"<{self.hint or 'value'}: {self.type} of {made_by}>"


@dataclass(slots=True, eq=False)
class Node:
    """An operator applied to operands. Frozen after `apply` has filled `results`."""

    op: Operator
    operands: tuple[Value, ...]
    results: tuple[Value, ...] = ()
    origin: Origin = field(default_factory=current_origin)

    def __reduce__(self) -> tuple[object, ...]:
        results = tuple((result.type, result.hint) for result in self.results)
        return _restored_node, (self.op, self.operands, self.origin, results)

    def __repr__(self) -> str:
        return f"<node {self.op.name}>"


def apply_all(op: Operator, *operands: Value, hint: str = "") -> tuple[Value, ...]:
    """Apply an operator; all results. Raises TypeRuleError."""
    return apply_typed(op, op.infer(*(value.type for value in operands)), operands, hint)


def apply_typed(
    op: Operator, types: Iterable[TensorType], operands: tuple[Value, ...], hint: str = ""
) -> tuple[Value, ...]:
    """Apply an operator whose results are known to have those types; all results."""
    node = Node(op, operands)
    node.results = tuple(Value(t, node, i, hint) for i, t in enumerate(types))
    return node.results


def apply(op: Operator, *operands: Value, hint: str = "") -> Value:
    """Apply an operator that has one result."""
    return apply_all(op, *operands, hint=hint)[0]


#: What an input is: a batch of "data", a trained "parameter", a "state" that the program itself
#: updates (running statistics, an optimizer's moments), a "scalar" such as the step or the seed,
#: or a plain "value" (inputs of regions).
Role = str
ROLES: tuple[Role, ...] = ("data", "parameter", "state", "scalar", "value")


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """A named input and its role."""

    name: str
    value: Value
    role: Role = "value"

    @property
    def is_variable(self) -> bool:
        """Whether a model holds its value from one call to the next."""
        return self.role in ("parameter", "state")


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A result. With `updates`, it is the next value of the input of that name (same type)."""

    name: str
    value: Value
    updates: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A named function from inputs to outputs.

    `bounds` holds upper bounds of symbols (`seq <= context`).
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    bounds: dict[str, Dim] = field(default_factory=dict)
    _nodes: list[Node] = field(default_factory=list, init=False, repr=False)

    @property
    def nodes(self) -> list[Node]:
        """Every node that an output needs, operands first, in a stable order."""
        if not self._nodes:
            self._nodes.extend(sorted_nodes(output.value for output in self.outputs))
        return self._nodes.copy()

    def __reduce__(self) -> tuple[object, ...]:
        # Operands come before their users, so that pickling a deep network does not go deep.
        return _restored_graph, (self.name, self.inputs, self.nodes, self.outputs, self.bounds)

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(item.value.type.symbols for item in self.inputs))

    def sizes(self, batch: int, other: int) -> dict[str, int]:
        """A size for each symbol: `batch` for that of the examples, and for others their bound, or
        `other` where that is not a number."""
        sizes = dict.fromkeys(self.symbols, other)
        for symbol, bound in self.bounds.items():
            sizes[symbol] = bound.constant or other
        for item in self.inputs:
            if item.role == "data" and item.value.shape:
                sizes.update(dict.fromkeys(item.value.shape[0].symbols, batch))
        return sizes

    def input(self, name: str) -> Input:
        """The input of that name; KeyError where there is none."""
        for item in self.inputs:
            if item.name == name:
                return item
        raise KeyError(name)


def _restored_node(
    op: Operator,
    operands: tuple[Value, ...],
    origin: Origin,
    results: tuple[tuple[TensorType, str], ...],
) -> Node:
    node = Node(op, operands, (), origin)
    node.results = tuple(Value(t, node, k, hint) for k, (t, hint) in enumerate(results))
    return node


def _result(node: Node, index: int) -> Value:
    return node.results[index]


def _restored_graph(
    name: str,
    inputs: tuple[Input, ...],
    nodes: list[Node],
    outputs: tuple[Output, ...],
    bounds: dict[str, Dim],
) -> Graph:
    graph = Graph(name, inputs, outputs, bounds)
    graph._nodes.extend(nodes)
    return graph


def sorted_nodes(values: Iterable[Value]) -> list[Node]:
    """The nodes that `values` need, operands before users, depth first from the left."""
    order: list[Node] = []
    done: set[int] = set()
    # An explicit stack: a network may be deeper than Python's recursion allows.
    for value in values:
        if value.node is None:
            continue
        stack: list[tuple[Node, int]] = [(value.node, 0)]
        while stack:
            node, position = stack.pop()
            if id(node) in done:
                continue
            while position < len(node.operands):
                producer = node.operands[position].node
                position += 1
                if producer is not None and id(producer) not in done:
                    stack.append((node, position))
                    stack.append((producer, 0))
                    break
            else:
                done.add(id(node))
                order.append(node)
    return order


def nodes_between(values: Iterable[Value], known: Callable[[Value], bool]) -> set[Node]:
    """The nodes that make `values` from those that are known, and from inputs."""
    found: set[Node] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        node = value.node
        if node is not None and node not in found and not known(value):
            found.add(node)
            waiting.extend(node.operands)
    return found
