"""How the values of a fused body lie in its iteration space.

Axes of size 1 are dropped, and adjacent axes that every value either has or lacks together, and
that are all kept or all reduced, are one axis: a formula over equal shapes becomes one flat loop,
whatever their rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Elementwise
from dnnc.ops.control import Fused
from dnnc.ops.creation import Constant, Iota, RandomUniform, Size
from dnnc.ops.reduce import Reduction
from dnnc.ops.shape import Broadcast, Reshape, Slice

__all__ = ["Axis", "Space", "View"]

#: Axis of the space of each axis of a value; None for an axis of size 1 that has none.
AxisMap = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the collapsed space."""

    axes: tuple[int, ...]
    size: Dim
    reduced: bool


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Part of a larger tensor: `strides` by axis and `offset`, in elements of `base`."""

    base: Value
    strides: tuple[Dim, ...]
    offset: Dim

    @staticmethod
    def of(value: Value) -> View | None:
        """A slice seen as part of its operand; None for all other values."""
        node = value.node
        if node is None or not isinstance(node.op, Slice):
            return None
        base, axis = node.operands[0], node.op.axis
        strides = tuple(product(base.shape[k + 1 :]) for k in range(base.type.rank))
        return View(base, strides, node.op.start * strides[axis])


class Space:
    """The collapsed axes of a fused operator and which of them each value has.

    `views` are inputs that lie in larger tensors; all else is dense and row-major.
    """

    def __init__(self, op: Fused, views: Mapping[Value, View] | None = None) -> None:
        self.op = op
        self.views = dict(views or {})
        self._strides: dict[Value, tuple[Dim | None, ...]] = {}
        self.nodes: list[Node] = op.body.nodes
        self.maps: dict[Value, AxisMap] = {}
        self._map_values()
        self.axes = self._collapse()

    def spread(self, value: Value) -> tuple[bool, ...]:
        """For each collapsed axis whether the value has it."""
        has = self._presence(value)
        return tuple(axis.axes[0] in has for axis in self.axes)

    def strides(self, value: Value) -> tuple[Dim | None, ...]:
        """Distance in elements along each collapsed axis; None where the value lacks it."""
        known = self._strides.get(value)
        if known is None:
            dense = value not in self.views
            known = self._dense_strides(value) if dense else self._view_strides(value)
            self._strides[value] = known
        return known

    def _dense_strides(self, value: Value) -> tuple[Dim | None, ...]:
        result: list[Dim | None] = []
        step = dim(1)
        for axis, has in zip(reversed(self.axes), reversed(self.spread(value)), strict=True):
            result.append(step if has else None)
            if has:
                step = step * axis.size
        return tuple(reversed(result))

    def _view_strides(self, value: Value) -> tuple[Dim | None, ...]:
        places = dict(zip(self.maps[value], self.views[value].strides, strict=True))
        return tuple(
            places[axis.axes[-1]] if has else None
            for axis, has in zip(self.axes, self.spread(value), strict=True)
        )

    def index_axis(self, value: Value, axis: int) -> int | None:
        """The collapsed axis along which an axis of a value lies; None for one of size 1."""
        where = self.maps[value][axis]
        for k, collapsed in enumerate(self.axes):
            if where in collapsed.axes:
                return k
        return None

    def _presence(self, value: Value) -> frozenset[int]:
        places = zip(self.maps[value], value.shape, strict=True)
        has = {where for where, size in places if where is not None and size != 1}
        if value.node is not None and isinstance(value.node.op, Iota):
            # Counts are the same along all other axes.
            has &= {self.maps[value][value.node.op.axis]}
        return frozenset(has)

    def _map_values(self) -> None:
        """From the outputs up: which axis of the space each axis of a value is."""
        rank = len(self.op.space)
        for output in self.op.body.outputs:
            self._set(output.value, tuple(range(rank)))
        for node in reversed(self.nodes):
            result = node.results[0]
            for operand in node.operands:
                self._set(operand, self._operand_map(node, self.maps[result], operand))
        for item in self.op.body.inputs:
            self._set(item.value, tuple(range(rank)))

    def _operand_map(self, node: Node, result: AxisMap, operand: Value) -> AxisMap:
        if isinstance(node.op, Reshape):
            places = iter(
                where for where, size in zip(result, node.op.shape, strict=True) if size != 1
            )
            return tuple(None if size == 1 else next(places) for size in operand.shape)
        if not isinstance(node.op, Elementwise | Broadcast | Reduction | RandomUniform):
            raise AssertionError(f"{node.op.name} cannot be part of a fused kernel")
        return result[len(result) - operand.type.rank :]

    def _set(self, value: Value, found: AxisMap) -> None:
        found = found[len(found) - value.type.rank :] if len(found) > value.type.rank else found
        known = self.maps.get(value)
        if known is None:
            self.maps[value] = found
            return
        for a, b, size in zip(known, found, value.shape, strict=True):
            if a != b and size != 1:
                raise AssertionError("a value of a fused body is used along different axes")

    def _collapse(self) -> list[Axis]:
        """Merge adjacent axes; at least one axis remains."""
        space, reduced = self.op.space, set(self.op.reduced)
        long = [axis for axis in range(len(space)) if space[axis] != 1]
        touching = [self._presence(value) for value in self._indexed()]
        groups: list[list[int]] = []
        for axis in long:
            if groups and self._together(groups[-1][-1], axis, touching, reduced):
                groups[-1].append(axis)
            else:
                groups.append([axis])
        axes = [
            Axis(tuple(group), product([space[axis] for axis in group]), group[0] in reduced)
            for group in groups
        ]
        return axes or [Axis((-1,), dim(1), False)]

    def _together(self, a: int, b: int, touching: list[frozenset[int]], reduced: set[int]) -> bool:
        if (a in reduced) != (b in reduced):
            return False
        for value, view in self.views.items():
            places = dict(zip(self.maps[value], view.strides, strict=True))
            if {a, b} <= self._presence(value) and places[a] != places[b] * self.op.space[b]:
                return False
        return all((a in has) == (b in has) for has in touching)

    def _indexed(self) -> list[Value]:
        """Values whose elements depend on an index: memory, counts, random numbers, reductions."""
        body = self.op.body
        values = [item.value for item in body.inputs] + [out.value for out in body.outputs]
        for node in self.nodes:
            if isinstance(node.op, Reduction):
                values += [*node.operands, *node.results]
            elif isinstance(node.op, Constant | RandomUniform | Iota):
                values.append(node.results[0])
        return values

    @staticmethod
    def is_number(value: Value) -> bool:
        """A constant or a size: one number, the same everywhere."""
        if value.node is None:
            return False
        if isinstance(value.node.op, Size):
            return True
        return isinstance(value.node.op, Constant) and len(value.node.op.values) == 1
