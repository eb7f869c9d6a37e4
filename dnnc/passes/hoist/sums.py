"""Sums over all turns, taken after the loop.

    in every turn   dw ← dw + transpose(x) @ dz      after the loop   dw + transpose(xs) @ dzs

A carry that only gathers a sum need not be carried. Where a term is itself a sum over
a batch (a product of two values of the turn, the gradient of a convolution's weight, a reduction, a
scatter), the turns are one longer batch. The order of the additions changes, as in any such sum.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Node, Value
from dnnc.ops.control import Scan
from dnnc.ops.conv import ConvWeightGradient
from dnnc.ops.creation import Size
from dnnc.ops.elementwise import Add, Multiply, Negate, Subtract
from dnnc.ops.linear import MatMul
from dnnc.ops.reduce import ReduceSum
from dnnc.ops.shape import Pad, Reshape, ScatterAdd, Transpose
from dnnc.passes.hoist.batching import repeated
from dnnc.passes.hoist.turns import Kind
from dnnc.passes.simplify import make

__all__ = ["TimeSum", "terms_of_carry"]

_OVER_BATCH = (MatMul, ConvWeightGradient, ScatterAdd)
_LINEAR = (Negate, Reshape, Transpose, Pad)
#: Most elements of a term that is stacked only to be summed.
_SMALL = 4096


def terms_of_carry(op: Scan, index: int, users: dict[Value, list[Node]]) -> list[Value] | None:
    """What a turn adds to a carry that does nothing but gather a sum; None for another carry."""
    outputs = [output.value for output in op.body.outputs]
    current = op.body.inputs[index].value
    terms: list[Value] = []
    while current is not outputs[index] or not terms:
        nodes = users.get(current, [])
        if len(nodes) != 1 or current in outputs or not isinstance(nodes[0].op, Add):
            return None
        node = nodes[0]
        x, y = node.operands
        term = y if x is current else x
        if x is y or term.type != current.type:
            return None
        terms.append(term)
        current = node.results[0]
    return terms if outputs.count(current) == 1 and not users.get(current) else None


class TimeSum:
    """Sums of values of the body over all turns.

    `stack` gives a value in all turns, `same` one that does not change.
    """

    def __init__(
        self,
        kinds: dict[Value, Kind],
        length: Dim,
        stack: Callable[[Value], Value],
        same: Callable[[Value], Value],
    ) -> None:
        self.kinds, self.length, self.stack, self.same = kinds, length, stack, same

    def can(self, value: Value) -> bool:
        """Whether the sum over all turns is cheap."""
        node = value.node
        if self.kinds[value] is Kind.SAME:
            return value.type.dtype.is_float
        if node is not None and isinstance(node.op, (*_OVER_BATCH, ReduceSum)):
            return True
        if node is not None and isinstance(node.op, _LINEAR):
            return self.can(node.operands[0])
        if node is not None and isinstance(node.op, Add | Subtract):
            fits = all(operand.type == value.type for operand in node.operands)
            return fits and all(map(self.can, node.operands))
        if node is not None and isinstance(node.op, Multiply):
            factors = self._factors(node)
            if factors is not None:
                return self.can(factors[0])
        elements = value.type.elements.constant
        return elements is not None and elements <= _SMALL

    def leaves(self, value: Value) -> tuple[list[Value], list[Value]]:
        """Values that have to be stacked, and small reductions that may be instead of their
        operand."""
        node = value.node
        if self.kinds[value] is Kind.SAME:
            return [], []
        if node is not None and isinstance(node.op, ReduceSum):
            return [], [value]
        if node is not None and isinstance(node.op, _OVER_BATCH):
            return [v for v in node.operands if self.kinds[v] is not Kind.SAME], []
        if node is None or not self._is_linear(node):
            return [value], []
        parts = [self.leaves(operand) for operand in self._linear_operands(node)]
        return [v for part in parts for v in part[0]], [v for part in parts for v in part[1]]

    def total(self, value: Value, available: Callable[[Value], bool]) -> Value:
        """The sum; `available` tells whether the operand of a small reduction was stacked."""
        node = value.node
        if self.kinds[value] is Kind.SAME:
            return make(Multiply(), self.same(value), make(Size(self.length, value.type.dtype)))
        if node is not None and isinstance(node.op, MatMul):
            return self._product(node.op, *node.operands)
        if node is not None and isinstance(node.op, ConvWeightGradient):
            x, dy = (self._joined_images(v) for v in node.operands)
            return make(node.op, x, dy)
        if node is not None and isinstance(node.op, ScatterAdd):
            return make(node.op, *(self._stacked(v) for v in node.operands))
        if node is not None and isinstance(node.op, ReduceSum) and available(node.operands[0]):
            axes = (0, *(axis + 1 for axis in node.op.axes))
            total = make(ReduceSum(axes), self.stack(node.operands[0]))
            return make(Reshape(value.shape), total)
        if node is not None and self._is_linear(node):
            sums = [self.total(v, available) for v in self._linear_operands(node)]
            factors = self._factors(node)
            return make(node.op, *sums, *([] if factors is None else [self.same(factors[1])]))
        return make(ReduceSum((0,)), self.stack(value))

    def _is_linear(self, node: Node) -> bool:
        """Whether the sum of the results is the result of sums."""
        value = node.results[0]
        if isinstance(node.op, Add | Subtract):
            return all(v.type == value.type and self.can(v) for v in node.operands)
        if self._factors(node) is not None:
            return self.can(node.operands[0]) or self.can(node.operands[1])
        return isinstance(node.op, _LINEAR) and self.can(node.operands[0])

    def _linear_operands(self, node: Node) -> list[Value]:
        factors = self._factors(node)
        return list(node.operands) if factors is None else [factors[0]]

    def _factors(self, node: Node) -> tuple[Value, Value] | None:
        """A factor of the size of the product that changes, and one that is the same every turn."""
        if not isinstance(node.op, Multiply):
            return None
        for x, y in (node.operands, node.operands[::-1]):
            changes = self.kinds[x] is not Kind.SAME and self.kinds[y] is Kind.SAME
            if changes and x.type == node.results[0].type and self.can(x):
                return x, y
        return None

    def _stacked(self, value: Value) -> Value:
        if self.kinds[value] is Kind.SAME:
            return repeated(self.same(value), self.length)
        return self.stack(value)

    def _product(self, op: MatMul, a: Value, b: Value) -> Value:
        """The sum of all turns' products: one product along time and the inner axis together."""
        rank = a.type.rank
        left = self._long(a, rank - 2 if op.transpose_a else rank - 1)
        right = self._long(b, rank - 1 if op.transpose_b else rank - 2)
        return make(op, left, right)

    def _long(self, value: Value, axis: int) -> Value:
        """A matrix in all turns, one after the other along `axis`."""
        stacked = self._stacked(value)
        order = (*range(1, axis + 1), 0, *range(axis + 1, value.type.rank + 1))
        shape = (*value.shape[:axis], self.length * value.shape[axis], *value.shape[axis + 1 :])
        return make(Reshape(shape), make(Transpose(order), stacked))

    def _joined_images(self, value: Value) -> Value:
        stacked = self._stacked(value)
        return make(Reshape((self.length * value.shape[0], *value.shape[1:])), stacked)
