"""The graph in which chosen values are computed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value, apply, apply_all, origin
from dnnc.ops.control import After
from dnnc.passes.recompute.choice import Choice
from dnnc.passes.recompute.footprint import Footprint
from dnnc.passes.recompute.lifetimes import sources
from dnnc.passes.recompute.part import Part
from dnnc.passes.trace import fired

__all__ = ["repeat"]


def repeat(graph: Graph, footprint: Footprint, choices: Sequence[Choice]) -> Graph:
    """The graph with the nodes of each choice run again, for its reader and for all later ones."""
    return _Rewrite(footprint, choices).result(graph)


class _Rewrite:
    """One walk over the nodes in the order of the program."""

    def __init__(self, footprint: Footprint, choices: Sequence[Choice]) -> None:
        self.footprint = footprint
        self.choices: dict[Node, list[Choice]] = {}
        for choice in choices:
            self.choices.setdefault(choice.reader, []).append(choice)
        #: What each value became where it is first made, and what stands for it now.
        self.made: dict[Value, Value] = {}
        self.now: dict[Value, Value] = {}
        self.moved: dict[tuple[Node, tuple[Value, ...]], tuple[Value, ...]] = {}
        self.event: Value | None = None

    def result(self, graph: Graph) -> Graph:
        spans = self.footprint.spans
        for node in sorted(spans, key=lambda node: spans[node][0]):
            for choice in self.choices.get(node, ()):
                self.run_again(choice)
            operands = tuple(self.current(value, self.now) for value in node.operands)
            results = node.results if operands == node.operands else _copied(node, operands)
            for old, new in zip(node.results, results, strict=True):
                self.made[old] = self.now[old] = new
            self.event = results[0]
        outputs = tuple(
            dataclasses.replace(output, value=self.current(output.value, self.made))
            for output in graph.outputs
        )
        return dataclasses.replace(graph, outputs=outputs)

    def run_again(self, choice: Choice) -> None:
        again: set[Value] = set()
        for part in choice.parts:
            operands = [self.current(value, self.now) for value in part.operands]
            read = {s for value in part.operands for s in sources(value, self.footprint)}
            if again.isdisjoint(read):
                operands = self.delayed(operands, part)
            fired(f"compute {part.op.name} again")
            with origin(part.node.origin):
                results = apply_all(part.op, *operands, hint=part.results[0].hint)
            again.update(part.results)
            self.now.update(zip(part.results, results, strict=True))

    def delayed(self, operands: list[Value], part: Part) -> list[Value]:
        """The operands, of which one waits for the node that is before in the program.

        So the copy stays where it belongs whatever the order is made by, and is another expression
        than the first one. What follows a copy needs no other reason to wait.
        """
        assert self.event is not None
        # A value that lies in memory: kernels may look through slices and the like.
        stored = [k for k, value in enumerate(part.operands) if value in self.made]
        k = (stored or [0])[0]
        x = operands[k]
        if x.node is not None and isinstance(x.node.op, After):
            x = x.node.operands[0]
        return [*operands[:k], apply(After(), x, self.event), *operands[k + 1 :]]

    def current(self, value: Value, known: dict[Value, Value]) -> Value:
        """What stands for a value; nodes that cost nothing are applied to what stands for
        their operands."""
        if value in known or value.node is None:
            return known.get(value, value)
        node = value.node
        delayed = isinstance(node.op, After)
        operands = tuple(
            self.current(operand, self.made if delayed and k else known)
            for k, operand in enumerate(node.operands)
        )
        if operands == node.operands:
            return value
        key = node, operands
        if key not in self.moved:
            self.moved[key] = _copied(node, operands)
        return self.moved[key][value.index]


def _copied(node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
    with origin(node.origin):
        return apply_all(node.op, *operands, hint=node.results[0].hint)
