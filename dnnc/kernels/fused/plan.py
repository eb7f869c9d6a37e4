"""What a fused body computes when: phases over the reduced axes, and what lies between them.

A value *varies* where it differs along the reduced axes. A reduction needs one phase, a sweep over
the reduced axes; the *rank* of a value is the number of phases that must be over before it can be
computed. Phase p computes the reductions whose operand has rank p, and the varying outputs of rank
p.
"""

from __future__ import annotations

from dnnc.ir.graph import Node, Value
from dnnc.kernels.fused.space import Space
from dnnc.ops.control import Fused
from dnnc.ops.creation import Constant, Iota, RandomUniform
from dnnc.ops.reduce import Reduction

__all__ = ["EXPENSIVE", "Phases"]

#: Operators whose results are kept for the next phase rather than computed again.
EXPENSIVE = frozenset(
    ("exp", "log", "log1p", "tanh", "erf", "sigmoid", "sin", "cos", "power", "random_uniform")
)


class Phases:
    """Ranks, phases and the values worth keeping between phases."""

    def __init__(self, op: Fused, space: Space) -> None:
        self.op, self.space = op, space
        self.reduced = [k for k, axis in enumerate(space.axes) if axis.reduced]
        self.varying: dict[Value, bool] = {}
        self.rank: dict[Value, int] = {}
        self.reductions: list[Node] = []
        for item in op.body.inputs:
            self._note(item.value, self._has_reduced(item.value), 0)
        for node in space.nodes:
            self._note_node(node)
        outputs = list(dict.fromkeys(output.value for output in op.body.outputs))
        self.full = [v for v in outputs if self.varies(v)]
        self.kept = [v for v in outputs if not self.varies(v)]
        last = [self.rank[v] for v in self.full]
        last += [self.rank[node.operands[0]] for node in self.reductions]
        self.count = max(last, default=-1) + 1

    def varies(self, value: Value) -> bool:
        """Whether an output is stored within a phase: it has a reduced axis."""
        return self._has_reduced(value)

    def targets(self, phase: int) -> tuple[list[Node], list[Value]]:
        """Reductions and varying outputs of a phase."""
        reductions = [n for n in self.reductions if self.rank[n.operands[0]] == phase]
        return reductions, [v for v in self.full if self.rank[v] == phase]

    def saved(self) -> dict[Value, int]:
        """Expensive varying values that later phases need again, with the phase that makes them."""
        first: dict[Value, int] = {}
        saved: dict[Value, int] = {}
        for phase in range(self.count):
            reductions, outputs = self.targets(phase)
            pending = [n.operands[0] for n in reductions] + outputs
            seen: set[Value] = set()
            while pending:
                value = pending.pop()
                if value in seen or not self.varying[value] or value.node is None:
                    continue
                seen.add(value)
                costly = value.node.op.name in EXPENSIVE
                if costly and first.setdefault(value, phase) < phase:
                    saved[value] = first[value]
                    continue
                if not self.is_reduction(value):
                    pending += value.node.operands
        return saved

    def is_reduction(self, value: Value) -> bool:
        """Whether a value is the result of a sweep."""
        return value.node is not None and any(value.node is n for n in self.reductions)

    def depends(self, value: Value, on: Value) -> bool:
        pending, seen = [value], {value}
        while pending:
            current = pending.pop()
            if current is on:
                return True
            for operand in current.node.operands if current.node else ():
                if operand not in seen:
                    seen.add(operand)
                    pending.append(operand)
        return False

    def last_phase_that_loads(self, value: Value) -> int:
        """The last phase in which an input is read; -1 where only unvarying values need it."""
        last = -1
        for phase in range(self.count):
            reductions, outputs = self.targets(phase)
            for target in [n.operands[0] for n in reductions] + outputs:
                if self.depends(target, value):
                    last = phase
        return last

    def _note(self, value: Value, varying: bool, rank: int) -> None:
        self.varying[value], self.rank[value] = varying, rank

    def _note_node(self, node: Node) -> None:
        result = node.results[0]
        rank = max((self.rank[v] for v in node.operands), default=0)
        if isinstance(node.op, Reduction):
            if self._has_reduced(node.operands[0]):
                self.reductions.append(node)
                self._note(result, False, rank + 1)
            else:
                self._note(result, False, rank)
        elif isinstance(node.op, Constant | Iota | RandomUniform):
            self._note(result, self._has_reduced(result), rank)
        else:
            self._note(result, any(self.varying[v] for v in node.operands), rank)

    def _has_reduced(self, value: Value) -> bool:
        spread = self.space.spread(value)
        return any(spread[k] for k in self.reduced)
