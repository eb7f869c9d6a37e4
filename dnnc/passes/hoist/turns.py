"""What each value of a loop's body depends on, and what is worth moving out of the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from enum import Enum

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild
from dnnc.ops.base import Elementwise, apply
from dnnc.ops.control import Scan
from dnnc.ops.creation import Constant, Iota, Size
from dnnc.ops.elementwise import (
    Add,
    Cos,
    Erf,
    Exp,
    Log,
    Log1p,
    Power,
    Sigmoid,
    Sin,
    Sqrt,
    Tanh,
)
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes.hoist.batching import can_batch

__all__ = ["FREE", "Kind", "Turn", "gather_terms", "is_costly"]

_COSTLY = (Cos, Erf, Exp, Log, Log1p, Power, Sigmoid, Sin, Sqrt, Tanh)
#: Operators whose results are better made again than stored.
FREE = (Constant, Iota, Size, Broadcast, Reshape)


class Kind(Enum):
    """How a value changes from turn to turn."""

    SAME = "the same in every turn"
    STACKED = "known for all turns before the loop"
    CARRIED = "depends on turns before"


class Turn:
    """The body of a loop, with the kind of each value.

    `same` are inputs known to be the same in every turn. `worthwhile` are stacked values that are
    better computed for all turns at once.
    """

    def __init__(self, op: Scan, same: Collection[Value] = ()) -> None:
        self.op = op
        self.carried = [item.value for item in op.body.inputs[: op.carries]]
        self.following = [output.value for output in op.body.outputs[: op.carries]]
        self.kinds: dict[Value, Kind] = {}
        self.worthwhile: set[Value] = set()
        for i, item in enumerate(op.body.inputs):
            kind = Kind.CARRIED if i < op.carries else Kind.STACKED
            fixed = i >= op.carries + op.sequences or item.value in same
            self.kinds[item.value] = Kind.SAME if fixed else kind
        for value, after in zip(self.carried, self.following, strict=True):
            if value is after:
                self.kinds[value] = Kind.SAME
        for node in op.body.nodes:
            kind = self._kind(node)
            self.kinds.update(dict.fromkeys(node.results, kind))
            if kind is Kind.STACKED and self._is_worthwhile(node):
                self.worthwhile.add(node.results[0])

    def flags(self, node: Node) -> list[bool]:
        """For each operand whether it differs from turn to turn."""
        return [self.kinds[value] is not Kind.SAME for value in node.operands]

    def _kind(self, node: Node) -> Kind:
        kinds = {self.kinds[value] for value in node.operands}
        if not node.op.pure or Kind.CARRIED in kinds:
            return Kind.CARRIED
        if Kind.STACKED not in kinds:
            return Kind.SAME
        known = len(node.results) == 1 and can_batch(node, self.flags(node))
        return Kind.STACKED if known else Kind.CARRIED

    def _is_worthwhile(self, node: Node) -> bool:
        # Cheap arithmetic costs less in the loop than to store and load its result, and so does
        # what makes much out of little.
        if _is_much_larger(node):
            return False
        follows = any(value in self.worthwhile for value in node.operands)
        return is_costly(node) or (follows and not isinstance(node.op, FREE))


def _is_much_larger(node: Node) -> bool:
    """Whether a result is known to be much larger than all operands together."""
    sizes = [value.type.elements.constant for value in (*node.results, *node.operands)]
    if any(size is None for size in sizes):
        return False
    known = [size or 0 for size in sizes]
    return known[0] > 8 * sum(known[1:])


def is_costly(node: Node) -> bool:
    """Whether computing a node takes longer than loading its result."""
    if isinstance(node.op, FREE):
        return False
    return not isinstance(node.op, Elementwise) or isinstance(node.op, _COSTLY)


def gather_terms(op: Scan) -> Graph:
    """The body with sums ordered so that what does not depend on turns before is added first.

    (x @ w + h @ r) + b → (x @ w + b) + h @ r: only one addition stays in the loop.
    """
    kinds = Turn(op).kinds
    count = Counter(value for node in op.body.nodes for value in node.operands)
    count.update(output.value for output in op.body.outputs)
    # The early and the late term of sums that may be taken apart, by the old value.
    sums: dict[Value, tuple[Value, Value]] = {}

    def regroup(node: Node, operands: tuple[Value, ...]) -> list[Value] | None:
        if not isinstance(node.op, Add) or kinds[node.results[0]] is not Kind.CARRIED:
            return None
        early: list[Value] = []
        late: list[Value] = []
        for old, new in zip(node.operands, operands, strict=True):
            if old in sums and count[old] == 1:
                early.append(sums[old][0])
                late.append(sums[old][1])
            else:
                (late if kinds[old] is Kind.CARRIED else early).append(new)
        if not early or not late:
            return None
        first, second = _sum(early), _sum(late)
        if Add().infer(first.type, second.type)[0] != node.results[0].type:
            return None
        sums[node.results[0]] = first, second
        return [apply(Add(), first, second)] if len(early) > 1 else None

    return rebuild(op.body, regroup)


def _sum(terms: list[Value]) -> Value:
    total = terms[0]
    for term in terms[1:]:
        total = apply(Add(), total, term)
    return total
