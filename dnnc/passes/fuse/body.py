"""From a unit to one `Fused` node: its values in the shapes of the space that the kernel iterates
over.

Within the body every value has as many axes as the space, each of full size or of size 1; a value
of one element has no axes. Reshapes at the border, which cost nothing, turn operands and results
into these shapes and back.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Input, Node, Output, Value
from dnnc.ops.base import apply
from dnnc.ops.control import Fused
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.fuse.reads import ANCHORS, REDUCTIONS, Place, Reads
from dnnc.passes.fuse.units import Unit

__all__ = ["Body"]


class Body:
    """The body of one unit, built value by value."""

    def __init__(self, unit: Unit, reads: Reads, outputs: list[Value]) -> None:
        self.unit, self.reads = unit, reads
        #: Stored values that the body reads, with the shape in which it does.
        self.operands: list[tuple[Value, tuple[Dim, ...]]] = []
        self._inputs: dict[tuple[Value, tuple[Dim, ...]], Value] = {}
        self._values: dict[tuple[Value, Place], Value] = {}
        self._members: dict[Value, Value] = {}
        members = set(unit.nodes)
        for node in unit.nodes:
            self._members[node.results[0]] = self._member(node)
        assert all(value.node in members for value in outputs)
        results = [self._output(value) for value in outputs]
        inputs = self._inputs.values()
        self.op = Fused(
            Graph(
                "fused",
                tuple(Input(f"x{i}", v) for i, v in enumerate(inputs)),
                tuple(Output(f"y{i}", v) for i, v in enumerate(results)),
            ),
            unit.space,
            unit.reduced,
        )

    def _member(self, node: Node) -> Value:
        op = node.op
        if isinstance(op, ANCHORS):
            return apply(op, *(self._input(v, v.shape) for v in node.operands))
        place = self.unit.places[node]
        if isinstance(op, REDUCTIONS):
            x = self._widened(self._value(node.operands[0], place), place)
            return apply(type(op)(self.unit.reduced, True), x)
        if isinstance(op, RandomUniform):
            seed = [self._value(v, ()) for v in node.operands]
            return apply(RandomUniform(self._shape(place), op.place, op.dtype), *seed)
        return self._computed(node, place)

    def _output(self, value: Value) -> Value:
        node = value.node
        assert node is not None
        if node is self.unit.anchor:
            return self._members[value]
        place = self.unit.places[node]
        if isinstance(node.op, REDUCTIONS):
            place = tuple(axis for axis in place if axis not in self.unit.reduced)
        return self._widened(self._members[value], place)

    def _value(self, value: Value, place: Place) -> Value:
        """The value on axes `place` of the space, or what broadcasts to it."""
        if value in self._members:
            return self._members[value]
        if value not in self.reads.virtual:
            return self._input(value, self._shape(place) if place else ())
        key = value, place
        if key not in self._values:
            assert value.node is not None
            self._values[key] = self._computed(value.node, place)
        return self._values[key]

    def _computed(self, node: Node, place: Place) -> Value:
        op = node.op
        if isinstance(op, Constant):
            return apply(Constant(op.dtype, (), op.values))
        if isinstance(op, Size):
            return apply(op)
        if isinstance(op, Iota):
            return self._iota(node, op, place)
        operands = [self._value(v, self.reads.operand_place(node, v, place)) for v in node.operands]
        return operands[0] if isinstance(op, Broadcast | Reshape) else apply(op, *operands)

    def _iota(self, node: Node, op: Iota, place: Place) -> Value:
        shape = node.results[0].shape
        if shape[op.axis] == 1:
            return apply(Constant(op.dtype, (), (0,)))
        axis = place[len([size for size in shape[: op.axis] if size != 1])]
        return apply(Iota(self._shape((axis,)), axis, op.dtype))

    def _input(self, value: Value, shape: tuple[Dim, ...]) -> Value:
        key = value, shape
        if key not in self._inputs:
            self._inputs[key] = Value(value.type.with_shape(shape), hint=value.hint)
            self.operands.append(key)
        return self._inputs[key]

    def _shape(self, place: Place) -> tuple[Dim, ...]:
        """The shape of a value that fills the axes `place` of the space."""
        return tuple(size if axis in place else dim(1) for axis, size in enumerate(self.unit.space))

    def _widened(self, value: Value, place: Place) -> Value:
        shape = self._shape(place)
        return value if value.shape == shape else apply(Broadcast(shape), value)
