"""Floating-point operations of the products and convolutions of a case; a multiply-add is two.

Counted before any rewriting, which may compute less, or some things twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.cases import Case
from benchmarks.frameworks.with_dnnc import graph_of
from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, Node
from dnnc.ops.control import Scan
from dnnc.ops.conv import Conv, ConvInputGradient, ConvWeightGradient
from dnnc.ops.linear import MatMul
from dnnc.passes.pipeline import optimize

__all__ = ["graph_flops", "product_flops"]


def product_flops(case: Case) -> int:
    """Operations of one prediction, or of one step of training."""
    # Before, a loop and the copy of it that a gradient extends both stand there.
    return graph_flops(optimize(graph_of(case), after="share"), {"batch": case.batch})


def graph_flops(graph: Graph, sizes: Mapping[str, int]) -> int:
    """Operations of the products in a graph and in the bodies of its loops."""
    return sum(_flops(node, sizes) for node in graph.nodes)


def _flops(node: Node, sizes: Mapping[str, int]) -> int:
    match node.op:
        case Scan() as loop:
            length = node.operands[loop.carries].shape[0].evaluate(sizes)
            return length * graph_flops(loop.body, sizes)
        case MatMul() as op:
            a = node.operands[0]
            depth = a.shape[-2 if op.transpose_a else -1].evaluate(sizes)
            return 2 * depth * _count(node.results[0].shape, sizes)
        case Conv():
            y, w = node.results[0], node.operands[1]
        case ConvInputGradient():
            y, w = node.operands
        case ConvWeightGradient():
            y, w = node.operands[1], node.results[0]
        case _:
            return 0
    return 2 * _count(y.shape, sizes) * _count(w.shape[1:], sizes)


def _count(shape: Sequence[Dim], sizes: Mapping[str, int]) -> int:
    return math.prod(size.evaluate(sizes) for size in shape)
