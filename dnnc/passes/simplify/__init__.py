"""Algebra: every node becomes the simplest one of the same meaning.

    %0 = transpose %w;  %1 = matmul %x, %0      →      %1 = matmul %x, %w {transpose_b = true}

The rules stand in `arithmetic` (elements), `movement` (shapes) and `sums` (reductions), each with
what it may and may not change. One walk suffices; see `rules`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild
from dnnc.passes.simplify import arithmetic, movement, sums
from dnnc.passes.simplify.rules import make, simplified

__all__ = ["arithmetic", "make", "movement", "run", "sums"]


def run(graph: Graph) -> Graph:
    return rebuild(graph, _simplify, regions=True)


def _simplify(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    value = simplified(node.op, operands)
    return None if value is None else [value]
