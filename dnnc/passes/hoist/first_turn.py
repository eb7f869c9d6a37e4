"""A sequence that is zero but for the first turn belongs into the first carry.

    scan h, pad(x)   turn: add h, xt …         →         scan h + x   turn: h …

The gradient of the last element of a sequence is such a sequence, for the loop that runs backwards.
"""

from __future__ import annotations

import dataclasses

from dnnc.ir.graph import Node, Value
from dnnc.ir.rewrite import replace, uses
from dnnc.ops.control import Scan
from dnnc.ops.elementwise import Add
from dnnc.ops.shape import Pad, Reshape
from dnnc.passes.simplify import make
from dnnc.passes.simplify.rules import made_by
from dnnc.passes.trace import fired

__all__ = ["start_from_first_turn"]


def start_from_first_turn(op: Scan, operands: tuple[Value, ...]) -> tuple[Scan, tuple[Value, ...]]:
    """The same loop, with such sequences added to the carries to which every turn adds them."""
    position = op.carries
    # A loop needs one sequence, which tells its length.
    while position < op.carries + op.sequences and op.sequences > 1:
        only = _only_turn(op, operands[position])
        target = None if only is None else _carry(op, op.body.inputs[position].value)
        if only is None or target is None:
            position += 1
            continue
        fired("start a loop from its first turn")
        carry, total = target
        outputs = replace((o.value for o in op.body.outputs), {total: op.body.inputs[carry].value})
        body = dataclasses.replace(
            op.body,
            inputs=(*op.body.inputs[:position], *op.body.inputs[position + 1 :]),
            outputs=tuple(
                dataclasses.replace(output, value=value)
                for output, value in zip(op.body.outputs, outputs, strict=True)
            ),
        )
        op = Scan(body, op.carries, op.sequences - 1, op.reverse)
        first = make(Add(), operands[carry], make(Reshape(only.shape[1:]), only))
        rest = (*operands[:position], *operands[position + 1 :])
        operands = (*rest[:carry], first, *rest[carry + 1 :])
    return op, operands


def _only_turn(op: Scan, sequence: Value) -> Value | None:
    """The element [1, …] of the first turn, where all others are zero."""
    pad = made_by(sequence, Pad)
    if pad is None or pad[0].axis != 0 or pad[1][0].shape[0] != 1:
        return None
    zeros_before_first = pad[0].after if op.reverse else pad[0].before
    return pad[1][0] if zeros_before_first == 0 else None


def _carry(op: Scan, element: Value) -> tuple[int, Value] | None:
    """The carry to which every turn adds an element, before it does anything else, and the sum."""
    used: dict[Value, list[Node]] = uses(op.body)
    outputs = {output.value for output in op.body.outputs}
    nodes = used.get(element, [])
    if len(nodes) != 1 or element in outputs or not isinstance(nodes[0].op, Add):
        return None
    other = next((v for v in nodes[0].operands if v is not element), element)
    for i, item in enumerate(op.body.inputs[: op.carries]):
        alone = item.value is other and used[other] == nodes and other not in outputs
        if alone and other.type == element.type:
            return i, nodes[0].results[0]
    return None
