"""Read the mask of a rectifier's gradient from its result.

    %a = maximum %z, 0;  %m = greater %z, 0      →      %a = maximum %z, 0;  %m = greater %a, 0

For `a = maximum(z, 0)`, and for `a = select(z > 0, z, slope * z)` with a slope that is not
negative, `a` is positive exactly where `z` is, NaN included. The next layer needs `a` anyway, so
`z` need not outlive the product that makes it: the rectifier joins that product, and `z` is never
stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import map_regions, rebuild, uses
from dnnc.ops.base import apply, apply_all
from dnnc.ops.elementwise import Maximum, Multiply
from dnnc.ops.logic import Greater, LessEqual, Select
from dnnc.passes.simplify.rules import made_by, uniform
from dnnc.passes.trace import fired

__all__ = ["run"]

_MASKS = (Greater, LessEqual)


def run(graph: Graph) -> Graph:
    used = uses(graph)
    rectifiers: dict[Value, Node] = {}
    for node in graph.nodes:
        z = _rectified(node)
        if z is not None and z not in rectifiers and _only_masks(z, node, used[z]):
            rectifiers[z] = node
    made: dict[Value, Value] = {}

    def read_result(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        z = _rectified(node)
        if z is not None and rectifiers.get(z) is node:
            return [_make(node, operands[node.operands.index(z)], made)]
        if isinstance(node.op, _MASKS) and node.operands[0] in rectifiers and _is_mask(node):
            fired("read the mask of a rectifier from its result")
            a = _make(rectifiers[node.operands[0]], operands[0], made)
            return [apply(node.op, a, operands[1])]
        op = map_regions(node.op, run)
        return None if op is node.op else apply_all(op, *operands)

    return rebuild(graph, read_result) if rectifiers or _has_regions(graph) else graph


def _has_regions(graph: Graph) -> bool:
    return any(isinstance(v, Graph) for n in graph.nodes for v in n.op.attributes().values())


def _rectified(node: Node) -> Value | None:
    """`z` where the node is a rectifier of it."""
    if isinstance(node.op, Maximum):
        for z, other in (node.operands, node.operands[::-1]):
            if uniform(other) == 0 and node.results[0].type == z.type:
                return z
        return None
    if not isinstance(node.op, Select):
        return None
    condition, z, below = node.operands
    mask = made_by(condition, Greater)
    if mask is None or mask[1][0] is not z or uniform(mask[1][1]) != 0:
        return None
    if node.results[0].type != z.type:
        return None
    return z if uniform(below) == 0 or _slope(below, z) is not None else None


def _slope(below: Value, z: Value) -> Value | None:
    """The constant slope, not negative, of `below` as a multiple of `z`."""
    scaled = made_by(below, Multiply)
    if scaled is None:
        return None
    for x, factor in (scaled[1], scaled[1][::-1]):
        number = uniform(factor)
        if x is z and number is not None and number >= 0:
            return factor
    return None


def _is_mask(node: Node) -> bool:
    return isinstance(node.op, _MASKS) and uniform(node.operands[1]) == 0


def _only_masks(z: Value, rectifier: Node, users: list[Node]) -> bool:
    """Whether nothing but the rectifier and masks, one of them not its own, needs `z`."""
    condition = rectifier.operands[0].node if isinstance(rectifier.op, Select) else None
    below = rectifier.operands[2].node if isinstance(rectifier.op, Select) else None
    own = {id(node) for node in (rectifier, condition, below) if node is not None}
    return all(id(user) in own or _is_mask(user) for user in users)


def _make(node: Node, z: Value, made: dict[Value, Value]) -> Value:
    """The rectifier of the rewritten `z`, once. Its other operands are constants or depend on
    `z`."""
    if z not in made:
        if isinstance(node.op, Maximum):
            original = _rectified(node)
            operands = tuple(z if v is original else v for v in node.operands)
            made[z] = apply(node.op, *operands)
        else:
            condition, original, below = node.operands
            mask = made_by(condition, Greater)
            assert mask is not None
            slope = _slope(below, original)
            low = below if slope is None else apply(Multiply(), z, slope)
            made[z] = apply(node.op, apply(mask[0], z, mask[1][1]), z, low)
    return made[z]
