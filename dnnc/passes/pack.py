"""Products by weights that are read again and again read them packed.

    %0 = matmul x, w          →          %1 = pack_columns w
                                         %0 = packed_matmul x, %1

Packed panels are read from front to back. As the weight lies, rows of a panel are far apart: few of
them fit into the cache at a time, and little of each page is used. A weight with few and long
columns is transposed instead: a panel would hold little more than zeros, and sums along its rows
need none. For a processor with a matrix unit the panels, which products of few rows still read, are
followed by the pieces that the unit multiplies by.

A loop captures the packed weight in the place of one that it uses for products alone. In programs
that only predict all weights are packed, and `dnnc.passes.prepare` moves that to where it is done
once after weights have changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import rebuild, uses
from dnnc.ir.types import DType
from dnnc.ops.base import apply, apply_all
from dnnc.ops.control import Scan
from dnnc.ops.linear import MatMul
from dnnc.ops.packed import FEWEST_ROWS, PackColumns, PackedMatMul
from dnnc.ops.shape import Transpose
from dnnc.passes.prepare import fixed_values
from dnnc.passes.trace import fired
from dnnc.tuning.processor import matrix_unit

__all__ = ["run", "run_prepared"]

#: Most columns, and least rows, of a weight that is transposed.
_FEW, _LONG = 16, 128
#: Least columns and rows of a weight that is split for the matrix unit of the processor.
_LEAST = 32


def run(graph: Graph) -> Graph:
    """Pack what loops multiply by in every turn."""
    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph

    def read_packed(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        return _of_loop(node, operands) if isinstance(node.op, Scan) else None

    return rebuild(graph, read_packed)


def run_prepared(graph: Graph) -> Graph:
    """Pack the weights of products outside of loops, in a program that only predicts."""
    fixed = fixed_values(graph)

    def read_packed(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        pack = _pack(node, fixed)
        if pack is None:
            return None
        fired("pack the weight of a product")
        x, w = operands
        return [_product(node, pack, x, apply(pack, w))]

    return rebuild(graph, read_packed)


def _of_loop(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    """The results of a loop with packed captures; None where nothing is to be packed."""
    op = node.op
    assert isinstance(op, Scan)
    inputs, given, used = list(op.body.inputs), list(operands), uses(op.body)
    packed: dict[Value, tuple[PackColumns | Transpose, Value]] = {}
    for k in range(op.carries + op.sequences, len(inputs)):
        weight = inputs[k].value
        packs = {_pack(user, {weight}) for user in used.get(weight, ())}
        pack = packs.pop() if len(packs) == 1 else None
        if pack is not None:
            given[k] = apply(pack, given[k])
            inside = Value(given[k].type, hint=weight.hint)
            packed[weight] = pack, inside
            inputs[k] = dataclasses.replace(inputs[k], value=inside)
    if not packed:
        return None
    fired("pack the weight of products in a loop")

    def read_packed(user: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        found = packed.get(operands[-1]) if operands else None
        if found is None:
            return None
        pack, weight = found
        return [_product(user, pack, operands[0], weight)]

    outputs = rebuild(op.body, read_packed).outputs
    body = dataclasses.replace(op.body, inputs=tuple(inputs), outputs=outputs)
    return apply_all(dataclasses.replace(op, body=body), *given)


def _product(node: Node, pack: PackColumns | Transpose, x: Value, packed: Value) -> Value:
    if isinstance(pack, Transpose):
        return apply(MatMul(transpose_b=True), x, packed)
    return apply(PackedMatMul(node.results[0].shape[1], pack.pieces), x, packed)


def _pack(node: Node, fixed: Collection[Value]) -> PackColumns | Transpose | None:
    """How to pack the weight of a product; None where it stays as it is."""
    op = node.op
    if not isinstance(op, MatMul) or op.transpose_a:
        return None
    x, w = node.operands
    if not w.type.dtype.is_float or w.type.rank != 2 or w not in fixed or x in fixed:
        return None
    columns = node.results[0].shape[1].constant
    if columns is None or columns < 2:
        return None
    depth = x.shape[1].constant
    if columns <= _FEW and depth is not None and depth >= _LONG:
        return None if op.transpose_b else Transpose((1, 0))
    return PackColumns(op.transpose_b, _has_pieces(x, w, columns))


def _has_pieces(x: Value, w: Value, columns: int) -> bool:
    """Whether a packed weight is split for the matrix unit: it takes half as much memory again as
    the panels and is worth it where enough rows are multiplied by it, or may be."""
    rows, depth = (size.constant for size in x.shape)
    if w.type.dtype is not DType.F32 or (rows is not None and rows < FEWEST_ROWS):
        return False
    return columns >= _LEAST and depth is not None and depth >= _LEAST and matrix_unit()
