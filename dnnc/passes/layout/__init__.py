"""Convolve and pool images with channels last, [N, H, W, C], by packed weights.

    %0 = conv %x, %w                        %0 = transpose %x {permutation = [0, 2, 3, 1]}
    %1 = maximum %0, %zero                  %1 = pack_weights %w
    %2 = max_pool %1                  →     %2 = conv_last %0, %1
                                            %3 = maximum %2, %zero
                                            %4 = max_pool %3 {channels_last = true}
                                            %5 = transpose %4 {permutation = [0, 3, 1, 2]}

Programs are written with images [N, C, H, W]. Adjacent channels make vectors of any size of image,
and products of matrices of convolutions. What is elementwise, reduces or moves images follows them
into the new order, so that only images that come from or go to something else are transposed. A
product of flattened images by weights that do not change takes rows of the weights in another
order instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dnnc.ir.graph import Graph, Node, Value, apply_typed, origin
from dnnc.ir.rewrite import map_regions
from dnnc.ops.base import Elementwise, apply
from dnnc.ops.control import Scan
from dnnc.ops.conv import Conv, ConvInputGradient, ConvWeightGradient
from dnnc.ops.linear import MatMul
from dnnc.ops.pool import Pooling
from dnnc.ops.reduce import ArgMax, Reduction
from dnnc.ops.shape import Concat, Pad, Reshape, Reverse, Slice, Transpose
from dnnc.passes import hoist
from dnnc.passes.layout.convolutions import Packing, is_image_node
from dnnc.passes.layout.dense import as_convolution, has_small_products
from dnnc.passes.layout.images import FIRST, LAST, Images, last_axis
from dnnc.passes.layout.pools import Pools
from dnnc.passes.prepare import fixed_values
from dnnc.passes.simplify.rules import made_by, make
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    trains = any(output.updates is not None for output in graph.outputs)
    nodes = graph.nodes
    result = _run(graph, nodes, set() if trains else None)
    if result is not graph and any(isinstance(node.op, Scan) for node in nodes):
        # Weights that a loop reads in every turn are packed before it.
        return hoist.run(result)
    return result


def _run(graph: Graph, nodes: list[Node], fixed: set[Value] | None) -> Graph:
    return _Layout(graph, nodes, fixed).result() if any(map(_concerns, nodes)) else graph


def _concerns(node: Node) -> bool:
    if isinstance(node.op, Scan):
        return any(map(_concerns, node.op.body.nodes))
    return is_image_node(node)


class _Layout:
    """One walk over a graph. `fixed` are values that depend on weights that do not change; None to
    find them."""

    def __init__(self, graph: Graph, nodes: list[Node], fixed: set[Value] | None) -> None:
        self.graph, self.nodes = graph, nodes
        self.images, self.packing = Images(), Packing(once=fixed is None)
        self.pools = Pools(nodes)
        self.small_products = has_small_products(nodes)
        self.fixed = fixed
        # Flattened images, and weights by which they are multiplied, in the order of pixels.
        self.flat: dict[Value, Value] = {}
        self.permuted: dict[tuple[Value, Value], Value] = {}

    def result(self) -> Graph:
        for node in self.nodes:
            with origin(node.origin):
                if not self._rewrite(node):
                    self._keep(node)
        outputs = tuple(
            dataclasses.replace(output, value=self.images.first(output.value))
            for output in self.graph.outputs
        )
        return dataclasses.replace(self.graph, outputs=outputs)

    def _keep(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Scan):
            op = map_regions(op, lambda body: _run(body, body.nodes, set()))
        operands = tuple(map(self.images.first, node.operands))
        if op is node.op and operands == node.operands:
            return
        if isinstance(op, Reshape | Transpose):
            self.images.keep(node.results[0], make(op, *operands))
            return
        hint = node.results[0].hint if node.results else ""
        types = [result.type for result in node.results]
        for old, new in zip(node.results, apply_typed(op, types, operands, hint), strict=True):
            self.images.keep(old, new)

    def _rewrite(self, node: Node) -> bool:
        """Give the node's result in another way than by the same node; whether there is one."""
        if is_image_node(node):
            fired(f"{node.op.name} with channels last")
            self._image_node(node)
            return True
        for kinds, rule in _RULES:
            if isinstance(node.op, kinds):
                return rule(self, node)
        return False

    def _image_node(self, node: Node) -> None:
        op, result, images = node.op, node.results[0], self.images
        if isinstance(op, Pooling):
            new = self.pools.last(node, *map(images.last, node.operands))
        elif isinstance(op, ConvWeightGradient):
            images.keep(result, self.packing.weight_gradient(op, *map(images.last, node.operands)))
            return
        else:
            x, w = images.last(node.operands[0]), images.first(node.operands[1])
            if isinstance(op, Conv):
                new = self.packing.conv(op, x, w, result.shape[2:])
            else:
                assert isinstance(op, ConvInputGradient)
                new = self.packing.input_gradient(op, x, w)
        images.keep_last(result, new)

    def _elementwise(self, node: Node) -> bool:
        if node.results[0].type.rank != 4 or not any(map(self.images.is_last, node.operands)):
            return False
        self.images.keep_last(node.results[0], self.images.elementwise(node))
        return True

    def _reduction(self, node: Node) -> bool:
        op = node.op
        assert isinstance(op, Reduction)
        if not self._reads_image(node):
            return False
        axes = tuple(sorted(map(last_axis, op.axes)))
        total = apply(type(op)(axes, True), self.images.last(node.operands[0]))
        if op.keep:
            self._last(node, total)
        else:
            shape = node.results[0].shape
            self.images.keep(node.results[0], make(Reshape(shape), make(Transpose(FIRST), total)))
        return True

    def _argmax(self, node: Node) -> bool:
        assert isinstance(node.op, ArgMax)
        if not self._reads_image(node) or node.op.axis != 1:
            return False
        index = apply(ArgMax(3), self.images.last(node.operands[0]))
        self.images.keep(node.results[0], index)
        return True

    def _movement(self, node: Node) -> bool:
        op = node.op
        assert isinstance(op, Concat | Slice | Pad | Reverse)
        if node.results[0].type.rank != 4 or not any(map(self.images.is_last, node.operands)):
            return False
        moved = dataclasses.replace(op, axis=last_axis(op.axis))
        self._last(node, apply(moved, *map(self.images.last, node.operands)))
        return True

    def _transpose(self, node: Node) -> bool:
        assert isinstance(node.op, Transpose)
        x, order = node.operands[0], node.op.permutation
        if self._reads_image(node):
            joined = tuple(last_axis(axis) for axis in order)
            self.images.keep(node.results[0], make(Transpose(joined), self.images.last(x)))
            return True
        rows = self.images.rows(x, order)
        if rows is not None:
            self.images.keep(node.results[0], rows)
        return rows is not None

    def _matmul(self, node: Node) -> bool:
        """The product of flattened images by a weight, with the rows of the weight in the order
        [H, W, C]; a small product as a convolution."""
        op, (x, w) = node.op, node.operands
        assert isinstance(op, MatMul)
        permuted = self._permuted_operands(op, x, w)
        if permuted is None and not self.small_products:
            return False
        a, b = permuted or map(self.images.first, (x, w))
        small = self.small_products
        result = as_convolution(op, a, b, self.packing) if small else apply(op, a, b)
        self.images.keep(node.results[0], result)
        return True

    def _permuted_operands(self, op: MatMul, x: Value, w: Value) -> tuple[Value, Value] | None:
        """Flattened images with channels last and the weight for them; None for other products."""
        flat = made_by(x, Reshape)
        if flat is None or op.transpose_a or x.type.rank != 2 or w.type.rank != 2:
            return None
        image = flat[1][0]
        if image.type.rank != 4 or not self.images.is_last(image):
            return None
        if image.shape[0] != x.shape[0] or not self._is_fixed(w):
            return None
        fired("order the rows of a weight as pixels lie")
        if x not in self.flat:
            self.flat[x] = make(Reshape(x.shape), self.images.last(image))
        return self.flat[x], self._permuted(w, image, op.transpose_b)

    def _permuted(self, w: Value, image: Value, transposed: bool) -> Value:
        key = w, image
        if key not in self.permuted:
            inputs = image.shape[1:]
            order = [axis - 1 for axis in LAST[1:]]
            if transposed:
                shape, permutation = (w.shape[0], *inputs), (0, *(axis + 1 for axis in order))
            else:
                shape, permutation = (*inputs, w.shape[1]), (*order, 3)
            split = make(Reshape(shape), self.images.first(w))
            moved = make(Transpose(permutation), split)
            self.permuted[key] = make(Reshape(w.shape), moved)
        return self.permuted[key]

    def _is_fixed(self, w: Value) -> bool:
        if self.fixed is None:
            self.fixed = fixed_values(self.graph)
        return w in self.fixed

    def _reads_image(self, node: Node) -> bool:
        x = node.operands[0]
        return x.type.rank == 4 and self.images.is_last(x)

    def _last(self, node: Node, image: Value) -> None:
        self.images.keep_last(node.results[0], image)


#: How nodes follow images into the other order: a rule returns whether it has done so.
_RULES: Sequence[tuple[type | tuple[type, ...], Callable[[_Layout, Node], bool]]] = (
    (Elementwise, _Layout._elementwise),
    (Reduction, _Layout._reduction),
    (ArgMax, _Layout._argmax),
    ((Concat, Slice, Pad, Reverse), _Layout._movement),
    (Transpose, _Layout._transpose),
    (MatMul, _Layout._matmul),
)
