"""One value for each expression.

    %0 = exp %x;  %1 = exp %x;  %2 = add %0, %1      →      %0 = exp %x;  %2 = add %0, %0

Two nodes are the same when their operators (with all attributes) and their operands are; operands
of commutative operators may stand in either order. Random numbers are the same for the same place,
seed and step. Bodies of scans are worked on by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value, apply_typed
from dnnc.ir.operator import Operator
from dnnc.ir.rewrite import map_regions, rebuild
from dnnc.ops.elementwise import Add, Multiply
from dnnc.ops.logic import Equal, LogicalAnd, LogicalOr, NotEqual
from dnnc.passes.trace import fired

__all__ = ["expression_key", "run"]

Key = tuple[Operator, tuple[int, ...]]

# Not Maximum and Minimum: their results for 0.0 and -0.0 depend on the order.
_COMMUTATIVE = (Add, Multiply, Equal, NotEqual, LogicalAnd, LogicalOr)


def run(graph: Graph) -> Graph:
    known: dict[Key, tuple[Value, ...]] = {}
    # Keys hold identities: their values must stay alive as long as the table.
    alive: list[tuple[Value, ...]] = []

    def merge(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        op = map_regions(node.op, run)
        if not op.pure:
            return None
        key = expression_key(op, operands)
        if key in known:
            fired(f"merge {op.name}")
            return known[key]
        if op is node.op and operands == node.operands:
            results = node.results
        else:
            # Values that are merged have one type, and bodies keep theirs.
            types = [result.type for result in node.results]
            hint = node.results[0].hint if node.results else ""
            results = apply_typed(op, types, operands, hint)
        known[key] = results
        alive.append(operands)
        return results

    return rebuild(graph, merge)


def expression_key(op: Operator, operands: tuple[Value, ...]) -> Key:
    """Equal for nodes that compute the same."""
    identities = tuple(map(id, operands))
    return op, tuple(sorted(identities)) if isinstance(op, _COMMUTATIVE) else identities
