"""Read the mask of a rectifier's gradient from its result.

    %a = maximum %z, 0;  %m = greater %z, 0      →      %a = maximum %z, 0;  %m = greater %a, 0

For `a = maximum(z, 0)`, and for `a = select(z > 0, z, slope * z)` with a slope that is not
negative, `a` is positive exactly where `z` is, NaN included. The next layer needs `a` anyway, so
`z` need not outlive the product that makes it: the rectifier joins that product, and `z` is never
stored.

Where `a` is pooled next, the mask moves to the smaller side of the gradient of that:

    %y = max_pool %a;  %m = less_equal %a, 0;  %g = max_pool_gradient %a, %dy;  select %m, 0, %g
                                         →
    %y = max_pool %a;  %m = less_equal %y, 0;  %d = select %m, 0, %dy;  max_pool_gradient %a, %d

A gradient goes to the largest element of its window, which is positive exactly where `y` is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dnnc.ir.graph import Graph, Node, Value
from dnnc.ir.rewrite import map_regions, rebuild, uses
from dnnc.ops.base import apply, apply_all
from dnnc.ops.control import Scan
from dnnc.ops.elementwise import Maximum, Multiply
from dnnc.ops.logic import Greater, LessEqual, Select
from dnnc.ops.pool import MaxPool, MaxPoolGradient
from dnnc.passes.simplify.rules import fill, made_by, uniform
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
    outputs = {output.value for output in graph.outputs}
    pooled: dict[tuple[MaxPool, Value], Value] = {}

    def read_result(node: Node, operands: tuple[Value, ...]) -> Sequence[Value] | None:
        z = _rectified(node)
        if z is not None and rectifiers.get(z) is node:
            return [_make(node, operands[node.operands.index(z)], made)]
        if isinstance(node.op, _MASKS) and node.operands[0] in rectifiers and _is_mask(node):
            fired("read the mask of a rectifier from its result")
            a = _make(rectifiers[node.operands[0]], operands[0], made)
            return [apply(node.op, a, operands[1])]
        if isinstance(node.op, MaxPool):
            same = operands == node.operands
            y = node.results[0] if same else apply(node.op, *operands, hint=node.results[0].hint)
            return [pooled.setdefault((node.op, operands[0]), y)]
        if isinstance(node.op, Select):
            full = [v for v in node.operands[1:] if made_by(v, MaxPoolGradient) is not None]
            if len(full) == 1 and len(used[full[0]]) == 1 and full[0] not in outputs:
                moved = _mask_before(node.op, operands, pooled)
                return None if moved is None else [moved]
        op = map_regions(node.op, run)
        return None if op is node.op else apply_all(op, *operands)

    concerned = any(isinstance(node.op, Scan | MaxPoolGradient) for node in graph.nodes)
    return rebuild(graph, read_result) if rectifiers or concerned else graph


def _mask_before(
    op: Select, operands: tuple[Value, ...], pooled: Mapping[tuple[MaxPool, Value], Value]
) -> Value | None:
    """A masked gradient of max pooling as the gradient of what is masked."""
    condition, *choices = operands
    mask = made_by(condition, *_MASKS)
    if mask is None or uniform(mask[1][1]) != 0:
        return None
    place = 1 if isinstance(mask[0], LessEqual) else 0
    gradient, zero = made_by(choices[place], MaxPoolGradient), choices[1 - place]
    if gradient is None or gradient[1][0] is not mask[1][0] or uniform(zero) != 0:
        return None
    x, dy = gradient[1]
    y = pooled.get((MaxPool(**gradient[0].movement), x))
    if y is None:
        return None
    fired("mask before the gradient of pooling")
    none = fill(0, dy.type.with_shape(()))
    choices[place], choices[1 - place] = dy, none
    kept = apply(op, apply(mask[0], y, none), *choices)
    return apply(gradient[0], x, kept)


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
