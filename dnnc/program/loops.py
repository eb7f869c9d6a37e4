"""Scans in the memory plan: sequences advance, carries alternate, emits go to their slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call
from dnnc.kernels.driver import copy_kernel
from dnnc.ops.control import Scan
from dnnc.ops.creation import Constant, Size
from dnnc.program.aliases import Alias, bytes_of
from dnnc.program.locations import (
    Both,
    CallItem,
    Item,
    Location,
    LoopItem,
    Moving,
    Place,
    shifted,
)
from dnnc.program.schedule import scheduled

if TYPE_CHECKING:
    from dnnc.program.plan import Planner

__all__ = ["plan_scan"]


def plan_scan(planner: Planner, node: Node, items: list[Item], parent: LoopItem | None) -> None:
    """Append the loop of a scan to `items`, and what has to follow it."""
    _ScanPlan(planner, node, parent).plan(items)


@dataclass(slots=True)
class _ScanPlan:
    """One scan. `slices` maps a value of the body that lies in a slice to the stack it lies in."""

    planner: Planner
    node: Node
    parent: LoopItem | None
    loop: LoopItem = field(init=False)
    op: Scan = field(init=False)
    made: set[int] = field(init=False)
    slices: dict[Value, int] = field(default_factory=dict)
    pending: list[tuple[Value, Value]] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert isinstance(self.node.op, Scan)
        self.op = self.node.op
        rounds = self.node.operands[self.op.carries].shape[0]
        self.loop = LoopItem(self.node, rounds, self.parent)
        self.made = {id(node) for node in self.op.body.nodes}

    def plan(self, items: list[Item]) -> None:
        planner, loop = self.planner, self.loop
        items.append(loop)
        loop.start = planner.position
        planner.position += 1
        self.bind_inputs()
        self.place_emits()
        for k in range(self.op.carries):
            self.place_carry(k)
        nodes, lowered = scheduled(self.op.body)
        planner.walk(nodes, loop.items, loop, lowered)
        for target, source in self.pending:
            planner.copy(loop.items, target, source, loop)
        loop.stop = planner.position
        planner.position += 1
        for k in range(self.op.carries):
            self.finish_carry(items, k)

    def bind_inputs(self) -> None:
        """Sequences move along; captures are aliases of what they capture."""
        op, operands = self.op, self.node.operands
        for k in range(op.carries, len(operands)):
            inside = op.body.inputs[k].value
            self.planner.loops[inside] = self.loop
            if k >= op.carries + op.sequences:
                self.planner.aliases[inside] = Alias(operands[k], dim(0))
            else:
                self.planner.locations[inside] = self.slice_of(operands[k], bytes_of(inside))
        for operand in operands:
            self.hold(operand)

    def hold(self, value: Value) -> None:
        """Note that the loop reads a value of an outer region."""
        reader = CallItem(
            Call(copy_kernel(), (Buffer(value),)), self.node, self.loop.start, self.parent
        )
        self.planner.reads.setdefault(self.planner.root(value), []).append(reader)

    def slice_of(self, stack: Value, size: Dim) -> Moving:
        """The slice of this round in a stack of slices of `size` bytes."""
        start, stride = self.course(size)
        base = shifted(self.planner.settled(stack), start)
        return Moving(self.loop, base, base, base, stride)

    def course(self, size: Dim) -> tuple[Dim, Dim]:
        """Offset of the slice of the first round and the stride, in bytes."""
        if self.op.reverse:
            return (self.loop.rounds - 1) * size, -size
        return dim(0), size

    def placeable(self, root: Value, offset: Dim) -> bool:
        """Whether a root is made by a call of this body and has no place yet."""
        if root.node is None or id(root.node) not in self.made or offset != 0:
            return False
        return not isinstance(root.node.op, Constant | Size) and root not in self.planner.locations

    def place_emits(self) -> None:
        """Emitted values made in the body are written straight into their slice."""
        for k, output in enumerate(self.op.body.outputs[self.op.carries :]):
            stack = self.op.carries + k
            root, offset = self.planner.resolve(output.value)
            place = self.slice_of(self.node.results[stack], bytes_of(output.value))
            if self.placeable(root, offset) and bytes_of(root) == bytes_of(output.value):
                self.planner.locations[root] = place
                self.slices[root] = stack
                continue
            target = Value(output.value.type)
            self.planner.locations[target] = place
            self.pending.append((target, output.value))

    def place_carry(self, k: int) -> None:
        """Where a carry is read and written.

        One that is emitted too is read from the slice of the round before. Others alternate between
        two buffers, of which the last one written is the result.
        """
        planner, before = self.planner, self.op.body.inputs[k].value
        planner.loops[before] = self.loop
        init = planner.settled(self.node.operands[k])
        root, offset = planner.resolve(self.op.body.outputs[k].value)
        if self.sliced(k):
            start, stride = self.course(bytes_of(root))
            stack = planner.settled(self.node.results[self.slices[root]])
            earlier = shifted(stack, start - stride)
            planner.locations[before] = Moving(self.loop, init, earlier, earlier, stride)
            return
        even, odd = self.alternating(k)
        planner.locations[before] = Moving(self.loop, init, odd, even, dim(0))
        written = Moving(self.loop, even, even, odd, dim(0))
        if self.placeable(root, offset) and bytes_of(root) == bytes_of(before):
            planner.locations[root] = written
            return
        target = Value(before.type)
        planner.locations[target] = written
        self.pending.append((target, self.op.body.outputs[k].value))

    def sliced(self, k: int) -> bool:
        root, offset = self.planner.resolve(self.op.body.outputs[k].value)
        return root in self.slices and offset == 0

    def alternating(self, k: int) -> tuple[Location, Location]:
        """The buffers that even and odd rounds write: the last round writes the result's."""
        last = self.planner.settled(self.node.results[k])
        other = Place(self.planner.storage("arena", bytes_of(self.node.results[k])))
        rounds = self.loop.rounds
        return Both(rounds, last, last, other), Both(rounds, last, other, last)

    def finish_carry(self, items: list[Item], k: int) -> None:
        """Final carries that no round wrote: from the last slice, or from the start."""
        planner, rounds = self.planner, self.loop.rounds
        result, init = self.node.results[k], self.node.operands[k]
        if result not in planner.used:
            return
        if not self.sliced(k):
            planner.copy(items, result, init, self.parent).only_if_empty = rounds
            return
        root = planner.root(self.op.body.outputs[k].value)
        start, stride = self.course(bytes_of(root))
        stack = planner.settled(self.node.results[self.slices[root]])
        last = shifted(stack, start + (rounds - 1) * stride)
        source = Value(result.type)
        planner.locations[source] = Both(rounds, planner.settled(init), last, last)
        planner.settled(result)
        planner.copy(items, result, source, self.parent)
