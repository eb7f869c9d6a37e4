"""Take out of sums what is constant along them, so that fewer passes over a tensor do.

    sum(x * r) → sum(x) * r      sum(-x) → -sum(x)      sum(x + r * y) → sum(x) + r * sum(y)
    sum(max_pool_gradient(x, dy)) → sum(dy)

where `r` has size 1 along the axes of the sum. A sum is cut in two only where a term depends on
another sum along the same axes: the gradient of a normalization sums terms that contain an earlier
sum as a factor, and a kernel would have to finish that before it starts again. Cut in two, all
sums are taken in one pass. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import map_regions, rebuild
from dnnc.ops.base import Elementwise, apply, apply_all
from dnnc.ops.creation import Size
from dnnc.ops.elementwise import Add, Divide, Multiply, Negate, Subtract
from dnnc.ops.pool import MaxPoolGradient
from dnnc.ops.reduce import ReduceMax, ReduceMin, ReduceSum
from dnnc.ops.shape import Broadcast, Reshape
from dnnc.passes import cse
from dnnc.passes.simplify import make
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    result = rebuild(graph, _Cutting().rewrite)
    return graph if result is graph else cse.run(result)


class _Cutting:
    """One walk over a graph."""

    def __init__(self) -> None:
        # How many sums along one set of axes a value depends on, one after the other.
        self.depths: dict[tuple[Value, tuple[int, ...]], int] = {}
        self.totals: dict[tuple[Value, tuple[int, ...]], Value] = {}

    def rewrite(self, node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        op = map_regions(node.op, run)
        if op is not node.op:
            return apply_all(op, *operands)
        if isinstance(op, Reshape):
            joined = make(op, *operands)
            return None if joined.node is not None and joined.node.op == op else [joined]
        if not isinstance(op, ReduceSum | ReduceMax | ReduceMin) or not op.axes:
            return None
        total: Value | None = None
        if isinstance(op, ReduceSum) and operands[0].type.dtype.is_float:
            total = self._sum(operands[0], op.axes)
        if total is not None:
            fired("take a constant factor out of a sum")
        elif op.keep:
            return None
        else:
            # With its axes kept, a sum is seen by the sums that depend on it.
            total = apply(type(op)(op.axes, True), *operands)
        return [total if op.keep else make(Reshape(node.results[0].shape), total)]

    def _sum(self, x: Value, axes: tuple[int, ...]) -> Value | None:
        """The sum along axes, which are kept; None where it is best taken as it stands."""
        node = x.node
        if node is not None and isinstance(node.op, MaxPoolGradient) and _keeps_all(node.op, axes):
            return self._total(node.operands[1], axes)
        if node is None or not isinstance(node.op, Negate | Multiply | Divide | Add | Subtract):
            return None
        if isinstance(node.op, Negate):
            return make(node.op, self._total(node.operands[0], axes))
        a, b = node.operands
        if isinstance(node.op, Multiply | Divide):
            for y, r in ((a, b), (b, a)) if isinstance(node.op, Multiply) else ((a, b),):
                if y.shape == x.shape and _is_constant(r, x, axes):
                    return make(node.op, self._total(y, axes), r)
            return None
        if not self._depth(x, axes):
            return None
        parts = [self._term(v, x, axes) for v in (a, b)]
        return make(node.op, *parts)

    def _total(self, x: Value, axes: tuple[int, ...]) -> Value:
        if (x, axes) not in self.totals:
            total = self._sum(x, axes)
            self.totals[x, axes] = make(ReduceSum(axes, True), x) if total is None else total
        return self.totals[x, axes]

    def _term(self, v: Value, x: Value, axes: tuple[int, ...]) -> Value:
        """The sum of a term `v` of `x`, which may be smaller than `x`."""
        if v.shape == x.shape:
            return self._total(v, axes)
        if _is_constant(v, x, axes):
            count = product([x.shape[axis] for axis in axes])
            return make(Multiply(), v, make(Size(count, x.type.dtype)))
        return self._total(make(Broadcast(x.shape), v), axes)

    def _depth(self, value: Value, axes: tuple[int, ...]) -> int:
        """How many sums along `axes` the value depends on, through elementwise nodes alone."""
        stack = [value]
        while stack:
            top = stack[-1]
            node = top.node
            if (top, axes) in self.depths:
                stack.pop()
            elif node is None or not _passes_on(node, axes):
                self.depths[top, axes] = 0
            else:
                unknown = [v for v in node.operands if (v, axes) not in self.depths]
                if unknown:
                    stack.extend(unknown)
                    continue
                depth = max((self.depths[v, axes] for v in node.operands), default=0)
                self.depths[top, axes] = depth + isinstance(node.op, ReduceSum)
        return self.depths[value, axes]


def _keeps_all(op: MaxPoolGradient, axes: tuple[int, ...]) -> bool:
    """Whether each element of the gradient is one of a window, which lies along the axes."""
    return {2, 3}.issubset(axes) and not op.channels_last and all(pad == 0 for pad in op.pads)


def _is_constant(r: Value, x: Value, axes: tuple[int, ...]) -> bool:
    """Whether `r` does not vary along the axes of `x`."""
    padded: tuple[Dim, ...] = (dim(1),) * (x.type.rank - r.type.rank) + r.shape
    return all(padded[axis] == 1 for axis in axes)


def _passes_on(node: Node, axes: tuple[int, ...]) -> bool:
    """Whether a result depends on sums as its operands do, or is a sum along these axes itself."""
    if isinstance(node.op, ReduceSum):
        return node.op.axes == axes and node.op.keep
    return isinstance(node.op, Elementwise | Broadcast)
