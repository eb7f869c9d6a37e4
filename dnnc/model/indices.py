"""Which integers among the data look up rows or name classes, and whether they stay in range.

    %0 = reshape tokens;  %1 = gather table, %0     tokens are 0 .. (rows of table) - 1
    %2 = equal (reshape label), iota 10             labels are 0 .. 9

Kernels never follow an index that is out of range, but what they compute from one means nothing.
Indices that the program computes itself are not judged here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dnnc.diagnostics import Span
from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.operator import Operator
from dnnc.ops.control import Scan
from dnnc.ops.creation import Constant, Iota
from dnnc.ops.elementwise import Cast
from dnnc.ops.logic import Equal, NotEqual
from dnnc.ops.shape import Broadcast, Gather, Reshape, Reverse, ScatterAdd, Slice, Transpose

__all__ = ["IndexRange", "index_ranges"]

_MOVES = (Reshape, Transpose, Broadcast, Reverse)


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Elements of the data input `name` lie in 0 .. `size` - 1, or among `allowed`.

    `table` names what has the rows, and is empty where the elements are classes. `path` leads from
    the input to the elements that count, where those are only some.
    """

    name: str
    size: Dim
    table: str
    span: Span | None
    path: tuple[Operator, ...] = ()
    allowed: frozenset[int] = frozenset()

    @property
    def is_constant(self) -> bool:
        """Whether the range is the same for all sizes of the inputs."""
        return self.size.constant is not None and not self.path

    def includes(self, array: np.ndarray) -> bool:
        """Whether all elements are in a range of constant size."""
        limit = self.size.evaluate({})
        return not array.size or (int(array.min()) >= 0 and int(array.max()) < limit)

    def complaint(
        self, array: np.ndarray, sizes: Mapping[str, int], show_place: bool = True
    ) -> str | None:
        """What is wrong with an array for the input, in words; None where all is in range."""
        for op in self.path:
            (array,) = op.substitute(sizes).evaluate(array)
        limit = self.size.evaluate(sizes)
        if not array.size or (int(array.min()) >= 0 and int(array.max()) < limit):
            return None
        outside = (array < 0) | (array >= limit)
        for value in self.allowed:
            outside &= array != value
        if not outside.any():
            return None
        place = np.unravel_index(int(outside.argmax()), array.shape)
        where = f" at [{', '.join(map(str, place))}]" if show_place and not self.path else ""
        has = f"{self.table} has the rows" if self.table else "the classes are"
        return f"`{self.name}` holds {array[place]}{where}, but {has} 0 to {limit - 1}"


def index_ranges(graph: Graph, labels: Collection[str] = ()) -> list[IndexRange]:
    """The ranges of those data inputs whose elements are used as indices, as they come.

    Inputs in `labels` also where they are compared with every number of a class, and with nothing
    else but single numbers such as the label to ignore.
    """
    finder = _Finder(graph, frozenset(labels))
    carried = {
        item.value: _Carried(item.name)
        for item in graph.inputs
        if item.role == "data" and item.value.type.dtype.is_integer
    }
    finder.walk(graph, carried, inside=False)
    return finder.found()


@dataclass(frozen=True, slots=True)
class _Carried:
    """A value that holds elements of the input `name`, moved by the operators of `path`."""

    name: str
    path: tuple[Operator, ...] = ()

    @property
    def selection(self) -> tuple[Operator, ...]:
        """The path where it leaves elements out; else the input has the same elements."""
        return self.path if any(isinstance(op, Slice) for op in self.path) else ()


@dataclass(slots=True)
class _Finder:
    graph: Graph
    labels: frozenset[str]
    rows: dict[object, IndexRange] = field(default_factory=dict)
    classes: list[IndexRange] = field(default_factory=list)
    allowed: dict[str, set[int]] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)

    def found(self) -> list[IndexRange]:
        judged = [
            IndexRange(r.name, r.size, "", r.span, r.path, frozenset(self.allowed.get(r.name, ())))
            for r in self.classes
            if r.name in self.labels and r.name not in self.elsewhere
        ]
        return list(dict.fromkeys([*self.rows.values(), *judged]))

    def walk(self, graph: Graph, carried: dict[Value, _Carried], inside: bool) -> None:
        """Follow the elements through a graph; `inside` a loop, parts of them are not followed."""
        for node in graph.nodes:
            if not any(operand in carried for operand in node.operands):
                continue
            op = node.op
            if isinstance(op, Gather | ScatterAdd):
                self.looked_up(node, carried)
            elif isinstance(op, _MOVES) or (isinstance(op, Slice) and not inside):
                source = carried[node.operands[0]]
                path = source.path if inside else (*source.path, op)
                carried[node.results[0]] = _Carried(source.name, path)
            elif isinstance(op, Cast) and op.dtype.is_integer:
                carried[node.results[0]] = carried[node.operands[0]]
            elif isinstance(op, Scan):
                self.loop(op, node, carried)
            elif not (isinstance(op, Equal | NotEqual) and self.compared(node, carried)):
                self.use(node.operands, carried)

    def use(self, operands: Iterable[Value], carried: Mapping[Value, _Carried]) -> None:
        self.elsewhere.update(carried[v].name for v in operands if v in carried)

    def looked_up(self, node: Node, carried: Mapping[Value, _Carried]) -> None:
        if isinstance(node.op, ScatterAdd):
            (indices, other), table = node.operands, node.results[0]
        else:
            table, indices = node.operands
            other = table
        self.use((other,), carried)
        if indices not in carried:
            return
        name, path, size = carried[indices].name, carried[indices].selection, table.shape[0]
        # The gradient of a look-up adds by the same indices: one range for both.
        self.rows.setdefault(
            (name, size, path),
            IndexRange(name, size, self.title(node, table), node.origin.span, path),
        )

    def title(self, node: Node, table: Value) -> str:
        """What to call a table: the parameter it is, else the layer that looks up."""
        known = next((item.name for item in self.graph.inputs if item.value is table), "")
        return f"`{known or node.origin.path}`" if known or node.origin.path else "the table"

    def compared(self, node: Node, carried: Mapping[Value, _Carried]) -> bool:
        """Note a comparison with all classes or with a number; False for any other."""
        left, right = node.operands
        if left not in carried:
            left, right = right, left
        source, other = carried[left], _origin(right)
        if other is not None and isinstance(other.op, Constant):
            numbers = np.asarray(other.op.evaluate()[0]).ravel().tolist()
            self.allowed.setdefault(source.name, set()).update(int(n) for n in numbers)
            return True
        if other is not None and isinstance(other.op, Iota) and isinstance(node.op, Equal):
            size = other.op.shape[other.op.axis]
            span = node.origin.span
            self.classes.append(IndexRange(source.name, size, "", span, source.selection))
            return True
        return False

    def loop(self, op: Scan, node: Node, carried: Mapping[Value, _Carried]) -> None:
        """Over all turns a loop sees every element of its sequences."""
        body = {
            item.value: carried[operand]
            for k, (item, operand) in enumerate(zip(op.body.inputs, node.operands, strict=True))
            if k >= op.carries and operand in carried
        }
        self.use(node.operands[: op.carries], carried)
        self.walk(op.body, body, inside=True)


def _origin(value: Value) -> Node | None:
    """The node that makes the elements of a value, which others only move or convert."""
    node = value.node
    while node is not None and isinstance(node.op, (*_MOVES, Cast)):
        node = node.operands[0].node
    return node
