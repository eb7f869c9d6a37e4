"""Move out of loops what need not be in them.

    each turn: h = tanh(x @ w + h @ r)     →     before: xw = xs @ w;  turn: h = tanh(xw + h @ r)
    each turn: dw = dw + transpose(x) @ dz →     turn: emit dz;  after: dw = transpose(xs) @ dzs
    each turn: emit h @ v                  →     turn: emit h;   after: hs @ v

What is the same in every turn is computed once before the loop. What depends on sequences only is
computed before it for all turns at once, where it costs more than to store and to load it; a
product becomes one of all turns' rows. What nothing in later turns needs is computed after the
loop, and so are carries that only gather a sum. Carries, emits and captures that nothing needs
disappear. Sums are reordered, so their last bits change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import map_regions, rebuild
from dnnc.ops.control import Scan
from dnnc.ops.shape import Reshape, Slice
from dnnc.passes import cse
from dnnc.passes.hoist.first_turn import start_from_first_turn
from dnnc.passes.hoist.loop import Loop
from dnnc.passes.hoist.turns import gather_terms
from dnnc.passes.simplify import make
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph
    graph = rebuild(graph, _last_turn)
    needed = {value for node in graph.nodes for value in node.operands}
    needed.update(output.value for output in graph.outputs)

    def hoist(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        if not isinstance(node.op, Scan):
            return None
        op = map_regions(node.op, run)
        assert isinstance(op, Scan)
        op, operands = start_from_first_turn(op, operands)
        op = dataclasses.replace(op, body=gather_terms(op))
        return Loop(op, operands, [value in needed for value in node.results]).rewritten()

    # Loops of a gradient compute in part what others do: once it is outside, it is the same.
    return cse.run(rebuild(graph, hoist))


def _last_turn(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
    """What the last turn emits, where that is also carried on, is the last value of the carry."""
    scan = operands[0].node if isinstance(node.op, Slice) else None
    if scan is None or not isinstance(scan.op, Scan):
        return None
    assert isinstance(node.op, Slice)
    outputs = [output.value for output in scan.op.body.outputs]
    emitted = outputs[operands[0].index]
    length = operands[0].shape[0]
    last = dim(0) if scan.op.reverse else length - 1
    if node.op.axis != 0 or (node.op.start, node.op.stop) != (last, last + 1):
        return None
    if emitted not in outputs[: scan.op.carries]:
        return None
    fired("take the last turn from the carry")
    carry = scan.results[outputs.index(emitted)]
    return [make(Reshape(node.results[0].shape), carry)]
