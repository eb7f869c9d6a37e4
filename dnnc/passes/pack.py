"""In programs that only predict: products by weights read them packed.

    %0 = matmul x, w          →          %1 = pack_columns w
                                         %0 = packed_matmul x, %1

Packed panels are read from front to back. As the weight lies, rows of a panel are far apart: few of
them fit into the cache at a time, and little of each page is used. `dnnc.passes.prepare` moves the
packing to where it is done once after weights have changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild
from dnnc.ir.types import DType
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import packed_matmul
from dnnc.passes.prepare import fixed_values
from dnnc.passes.trace import fired

__all__ = ["run"]

#: Columns of a panel: two of the widest vector registers, or one where that holds all columns.
_WIDTHS = {DType.F32: (16, 32), DType.F64: (8, 16)}


def run(graph: Graph) -> Graph:
    if any(output.updates is not None for output in graph.outputs):
        return graph
    fixed = fixed_values(graph)

    def read_packed(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        width = _width(node, fixed)
        if width is None:
            return None
        fired("pack the weight of a product")
        assert isinstance(node.op, MatMul)
        x, w = operands
        return [packed_matmul(x, w, width, node.op.transpose_b)]

    return rebuild(graph, read_packed)


def _width(node: Node, fixed: set[Value]) -> int | None:
    """Columns of a panel; None where nothing is to be packed."""
    op = node.op
    if not isinstance(op, MatMul) or op.transpose_a:
        return None
    x, w = node.operands
    widths = _WIDTHS.get(w.type.dtype)
    if widths is None or w.type.rank != 2 or w not in fixed or x in fixed:
        return None
    columns = w.shape[0 if op.transpose_b else 1].constant
    if columns is None or columns < 2:
        return None
    return widths[columns > widths[0]]
