"""Multiply-accumulate operations of each layer, counted in the program that predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dnnc.ir.binding import bind_symbols
from dnnc.ir.dims import product
from dnnc.ir.graph import Graph, Node
from dnnc.ops.control import Scan
from dnnc.ops.conv import Conv
from dnnc.ops.linear import MatMul

__all__ = ["count_macs"]


def count_macs(graph: Graph, examples: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Operations for one example by the instance path that they come from ("" for the model's own).

    `examples` gives the shapes of the data inputs, with 1 as the first size. Only products of
    matrices and convolutions count, as is usual.
    """
    sizes = bind_symbols(graph, examples)
    found: Counter[str] = Counter()
    _count(graph, sizes, 1, found, "")
    return dict(found)


def _count(
    graph: Graph, sizes: Mapping[str, int], times: int, found: Counter[str], path: str
) -> None:
    for node in graph.nodes:
        place = node.origin.path or path
        if isinstance(node.op, Scan):
            length = node.operands[node.op.carries].shape[0].evaluate(sizes)
            _count(node.op.body, sizes, times * length, found, place)
        macs = _macs(node, sizes)
        if macs:
            found[place] += macs * times


def _macs(node: Node, sizes: Mapping[str, int]) -> int:
    if isinstance(node.op, MatMul):
        shape = node.operands[0].shape
        inner = shape[-2] if node.op.transpose_a else shape[-1]
    elif isinstance(node.op, Conv):
        inner = product(node.operands[1].shape[1:])
    else:
        return 0
    return (product(node.results[0].shape) * inner).evaluate(sizes)
