"""Fold affine steps after a product into its weights, in programs that only predict.

    %0 = conv %x, %w;  %1 = subtract %0, %mean;  %2 = multiply %1, %scale;  %3 = add %2, %b
                                         →
    %4 = multiply %w, %scale;  %5 = subtract %b, (%mean * %scale);  %3 = add (conv %x, %4), %5

A batch norm that predicts is such a chain of factors and terms, each computed from parameters and
states only and constant along every axis but that of the output channels. What is computed from
parameters only is done once for all predictions (`dnnc.passes.prepare`). A program with updates
trains: it needs the gradient of every step, and stays as it is. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild, uses
from dnnc.ops.conv import Conv
from dnnc.ops.elementwise import Add, Divide, Multiply, Negate, Subtract
from dnnc.ops.linear import MatMul
from dnnc.ops.shape import Reshape
from dnnc.passes.simplify.rules import fill, made_by, make
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    if any(output.updates is not None for output in graph.outputs):
        return graph
    if not any(item.is_variable for item in graph.inputs):
        return graph
    return rebuild(graph, _Folding(graph).fold)


class _Folding:
    """One walk over a graph. Knows which values depend on parameters and states only."""

    def __init__(self, graph: Graph) -> None:
        self.fixed: dict[Value, bool] = {item.value: item.is_variable for item in graph.inputs}
        self.users = {value: len(nodes) for value, nodes in uses(graph).items()}
        for output in graph.outputs:
            self.users[output.value] = self.users.get(output.value, 0) + 1
        # Products and chains after them that nobody else needs, by their rewritten value.
        self.open: set[Value] = set()

    def fold(self, node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        result = self._affine(node, operands)
        if result is None:
            return None
        single = self.users.get(node.results[0], 0) == 1
        if single:
            self.open.add(result)
        return [result]

    def _affine(self, node: Node, operands: tuple[Value, ...]) -> Value | None:
        op = node.op
        if isinstance(op, Conv | MatMul):
            # A product of weights alone is prepared as it stands.
            fixed = [self._is_fixed(value) for value in operands]
            return self._kept(node, operands) if fixed == [False, True] else None
        if isinstance(op, Add | Subtract | Multiply | Divide):
            for i, (y, other) in enumerate((operands, operands[::-1])):
                if y in self.open and self._fits(y, other):
                    folded = self._step(op, y, other, flipped=i == 1)
                    if folded is not None:
                        fired(f"fold {op.name} into the product before it")
                        return folded
        return None

    def _kept(self, node: Node, operands: tuple[Value, ...]) -> Value:
        return node.results[0] if operands == node.operands else make(node.op, *operands)

    def _step(self, op: object, y: Value, other: Value, flipped: bool) -> Value | None:
        if isinstance(op, Multiply):
            return self._scaled(y, other)
        if isinstance(op, Divide):
            if flipped:
                return None
            one = fill(1, other.type.with_shape(()))
            return self._scaled(y, make(Divide(), one, other))
        if isinstance(op, Add):
            return self._shifted(y, other)
        if flipped:
            return None
        return self._shifted(y, make(Negate(), other))

    def _scaled(self, y: Value, factor: Value) -> Value | None:
        """`y * factor`, with the factor in the weights."""
        chain = made_by(y, Add, Subtract)
        if chain is not None:
            product, term = chain[1]
            scaled = self._scaled(product, factor)
            return (
                None if scaled is None else make(chain[0], scaled, make(Multiply(), term, factor))
            )
        assert y.node is not None
        op, (x, w) = y.node.op, y.node.operands
        if isinstance(op, Conv):
            shape = (dim(1),) if factor.type.elements == 1 else (w.shape[0],)
            aligned = make(Reshape((*shape, dim(1), dim(1), dim(1))), factor)
        else:
            assert isinstance(op, MatMul)
            size = dim(1) if factor.type.elements == 1 else y.shape[-1]
            axes = (size, dim(1)) if op.transpose_b else (dim(1), size)
            lead = (dim(1),) * (w.type.rank - 2)
            aligned = make(Reshape((*lead, *axes)), factor)
        return make(op, x, make(Multiply(), w, aligned))

    def _shifted(self, y: Value, term: Value) -> Value:
        """`y + term`, as a product and one term."""
        chain = made_by(y, Add, Subtract)
        if chain is None:
            return make(Add(), y, term)
        product, first = chain[1]
        if isinstance(chain[0], Add):
            return make(Add(), product, make(Add(), first, term))
        return make(Add(), product, make(Subtract(), term, first))

    def _fits(self, y: Value, other: Value) -> bool:
        """Whether `other` depends on parameters only, and varies along `y`'s channels only."""
        if other.type.rank > y.type.rank or not self._is_fixed(other):
            return False
        channel = 1 if self._is_conv(y) else y.type.rank - 1
        missing = y.type.rank - other.type.rank
        return all(
            size == 1 or (axis + missing == channel and size == y.shape[channel])
            for axis, size in enumerate(other.shape)
        )

    def _is_conv(self, y: Value) -> bool:
        while y.node is not None and isinstance(y.node.op, Add | Subtract):
            y = y.node.operands[0]
        return y.node is not None and isinstance(y.node.op, Conv)

    def _is_fixed(self, value: Value) -> bool:
        """Whether a value depends on parameters, states and constants only."""
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self.fixed:
                stack.pop()
                continue
            assert top.node is not None
            unknown = [v for v in top.node.operands if v not in self.fixed]
            if unknown:
                stack.extend(unknown)
                continue
            self.fixed[top] = all(self.fixed[v] for v in top.node.operands)
            stack.pop()
        return self.fixed[value]
