"""Which values a kernel has to read for a node, and which are computed again where they are used.

A value is *stored* when some kernel writes it, else *virtual*: its few operations are repeated in
every kernel that needs it. Constants, sizes, indices, broadcasts and reshapes are virtual unless
something that cannot be fused needs them; so is cheap arithmetic on at most one stored value of
its own size. What is expensive (exponentials, random numbers, divisions by a tensor of full size)
is never computed twice.

Axes are named by place: the `i`-th axis of a value that is not of size 1 lies on axis `place[i]`
of a frame. The frame of a node is its result, or the operand of a reduction, without axes of size
1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Elementwise
from dnnc.ops.channels_last import ConvLast, ConvLastInputGradient, ConvLastWeightGradient
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.elementwise import (
    Cos,
    Divide,
    Erf,
    Exp,
    FloorDivide,
    Log,
    Log1p,
    Modulo,
    Power,
    Sigmoid,
    Sin,
    Sqrt,
    Tanh,
)
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import PackedMatMul
from dnnc.ops.reduce import ReduceMax, ReduceMin, ReduceSum
from dnnc.ops.shape import Broadcast, Reshape

__all__ = [
    "ANCHORS",
    "REDUCTIONS",
    "Place",
    "Reads",
    "frame",
    "is_expensive",
    "is_free",
    "is_fusable",
    "is_inner_reshape",
    "strip_reshapes",
]

#: Axes of a frame on which the axes of a value lie, in order, without axes of size 1.
Place = tuple[int, ...]

ANCHORS = (MatMul, PackedMatMul, ConvLast, ConvLastInputGradient, ConvLastWeightGradient)
REDUCTIONS = (ReduceSum, ReduceMax, ReduceMin)
_EXPENSIVE = (
    Cos,
    Erf,
    Exp,
    FloorDivide,
    Log,
    Log1p,
    Modulo,
    Power,
    Sigmoid,
    Sin,
    Sqrt,
    Tanh,
)

#: Most operations that are repeated for one virtual value, and most stored values that it reads.
MOST_REPEATED = 8
MOST_READ = 4


def _whole(value: Value) -> tuple[Dim, ...]:
    """The sizes of a value's axes, without those of size 1."""
    return tuple(size for size in value.shape if size != 1)


def frame(node: Node) -> tuple[Dim, ...]:
    """The sizes over which a fusable node iterates."""
    return _whole(node.operands[0] if isinstance(node.op, REDUCTIONS) else node.results[0])


def is_inner_reshape(node: Node) -> bool:
    """Whether a node only adds or drops axes of size 1."""
    return isinstance(node.op, Reshape) and _whole(node.operands[0]) == _whole(node.results[0])


def is_free(node: Node) -> bool:
    """Whether the values of a node cost nothing where they are used."""
    if isinstance(node.op, Constant):
        return len(node.op.values) == 1
    return isinstance(node.op, Size | Iota | Broadcast) or is_inner_reshape(node)


def is_fusable(node: Node) -> bool:
    """Whether a node without an anchor may be part of a kernel of its own kind."""
    if isinstance(node.op, REDUCTIONS):
        return any(node.operands[0].shape[axis] != 1 for axis in node.op.axes)
    if isinstance(node.op, Constant):
        return False
    return isinstance(node.op, Elementwise | RandomUniform | Broadcast | Iota | Size)


def is_expensive(node: Node) -> bool:
    """Whether an elementwise node takes longer than loading its result."""
    if isinstance(node.op, Divide):
        return len(_whole(node.operands[1])) == len(_whole(node.results[0]))
    return isinstance(node.op, _EXPENSIVE)


def strip_reshapes(value: Value) -> Value:
    """The value whose memory a value shares."""
    while value.node is not None and isinstance(value.node.op, Reshape):
        value = value.node.operands[0]
    return value


@dataclass(slots=True)
class _Cost:
    """What repeating a virtual value takes: operations, and stored values with their places."""

    operations: int
    stored: dict[tuple[Value, Place], None]


@dataclass
class Reads:
    """What every value of a graph reads. Values that are asked for are virtual or not for good."""

    #: Values that a kernel writes for another reason, so that reading them costs no store.
    written: set[Value] = field(default_factory=set)
    virtual: set[Value] = field(default_factory=set)
    _costs: dict[Value, _Cost] = field(default_factory=dict)
    _joined_costs: dict[Node, _Cost] = field(default_factory=dict)
    _axes: dict[Value, tuple[int, ...]] = field(default_factory=dict)

    def classify(self, nodes: Iterable[Node], absorbed: set[Node]) -> None:
        """Decide which results of `nodes`, given with operands first, are virtual."""
        for node in nodes:
            if len(node.results) != 1:
                continue
            value = node.results[0]
            if isinstance(node.op, Constant) and is_free(node):
                self.virtual.add(value)
            if node in absorbed or value in self.written:
                continue
            if is_free(node) or self._is_cheap(node):
                self.virtual.add(value)

    def of_node(self, node: Node) -> dict[tuple[Value, Place], None]:
        """The stored values that computing a node reads, with places in its frame."""
        if isinstance(node.op, REDUCTIONS):
            return self._cost(node.operands[0]).stored
        return self._joined(node).stored

    def axes(self, value: Value) -> tuple[int, ...]:
        """The axes of a value that are not of size 1."""
        if value not in self._axes:
            self._axes[value] = tuple(i for i, size in enumerate(value.shape) if size != 1)
        return self._axes[value]

    def rank(self, node: Node) -> int:
        """The number of axes over which a fusable node iterates."""
        reduces = isinstance(node.op, REDUCTIONS)
        return len(self.axes(node.operands[0] if reduces else node.results[0]))

    def operand_place(self, node: Node, operand: Value, place: Place) -> Place:
        """Where an operand lies when the result of a node, no reduction, lies at `place`."""
        result = node.results[0]
        if isinstance(node.op, Reshape) or self.axes(operand) == self.axes(result):
            return place
        missing = result.type.rank - operand.type.rank
        lies = dict(zip(self.axes(result), place, strict=True))
        return tuple(lies[axis + missing] for axis in self.axes(operand))

    def _cost(self, value: Value) -> _Cost:
        if value not in self._costs:
            if value in self.virtual and value.node is not None:
                self._costs[value] = self._joined(value.node)
            else:
                place = tuple(range(len(self.axes(value))))
                self._costs[value] = _Cost(0, {(value, place): None})
        return self._costs[value]

    def _joined(self, node: Node) -> _Cost:
        if node in self._joined_costs:
            return self._joined_costs[node]
        total = _Cost(0 if is_free(node) else 1, {})
        place = tuple(range(len(self.axes(node.results[0]))))
        for operand in node.operands:
            cost = self._cost(operand)
            total.operations += cost.operations
            lies = self.operand_place(node, operand, place)
            for value, inner in cost.stored:
                total.stored[value, tuple(lies[axis] for axis in inner)] = None
        self._joined_costs[node] = total
        return total

    def _is_cheap(self, node: Node) -> bool:
        op, value = node.op, node.results[0]
        if not isinstance(op, Elementwise):
            return False
        cost = self._joined(node)
        if is_expensive(node) and not (isinstance(op, Divide) and not cost.stored):
            return False
        if cost.operations > MOST_REPEATED or len(cost.stored) > MOST_READ:
            return False
        size = len(self.axes(value))
        large = {stored for stored, place in cost.stored if len(place) == size}
        return len(large) <= 1 and all(strip_reshapes(stored) in self.written for stored in large)
