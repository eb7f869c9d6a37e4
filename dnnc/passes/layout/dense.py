"""Small dense layers behind convolutions, as convolutions of an image one pixel wide.

    %0 = matmul %x, %w            →        %0 = reshape %x {shape = [1, n, 1, k]}
                                           %1 = pack_weights %w
                                           %2 = conv_last %0, %1

Products of matrices have kernels of their own, which networks like ResNet-20 would compile for
their last layer alone. Those of convolutions, which they compile anyway, serve as well where
weights are small.
"""

from __future__ import annotations

from collections.abc import Iterable

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import apply
from dnnc.ops.control import Scan
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution, ConvWeightGradient
from dnnc.ops.linear import MatMul
from dnnc.ops.shape import Reshape
from dnnc.passes.layout.convolutions import Packing
from dnnc.passes.trace import fired

__all__ = ["as_convolution", "has_small_products"]

#: Most elements of a weight.
_SMALL = 128 * 128
_ONE = dim(1)


def has_small_products(nodes: Iterable[Node]) -> bool:
    """Whether convolutions can take all products of a graph that has convolutions."""
    products, convolutions = 0, 0
    for node in nodes:
        if isinstance(node.op, Scan):
            return False
        if isinstance(node.op, Convolution):
            convolutions += 1
        if isinstance(node.op, MatMul):
            if not _is_small(node):
                return False
            products += 1
    return products > 0 and convolutions > 0


def as_convolution(op: MatMul, a: Value, b: Value, packing: Packing) -> Value:
    """A small product of two matrices; see `has_small_products`.

    That by a weight is the gradient by input of a convolution by it, that by its transpose the
    convolution, and that of rows of two images its gradient by weight.
    """
    fired("a small product as a convolution")
    x = _pixels(a)
    if op.transpose_a:
        shape = (a.shape[1], b.shape[1], _ONE, _ONE)
        y = packing.weight_gradient(ConvWeightGradient(shape=shape), _pixels(b), x)
        return apply(Reshape(shape[:2]), y)
    weight, rows = apply(Reshape((*b.shape, _ONE, _ONE)), b), a.shape[0]
    if op.transpose_b:
        y = packing.conv(Conv(), x, weight, (rows, _ONE))
    else:
        image = (_ONE, b.shape[1], rows, _ONE)
        y = packing.input_gradient(ConvInputGradient(shape=image), x, weight)
    return apply(Reshape((rows, y.shape[3])), y)


def _is_small(node: Node) -> bool:
    op, (a, b) = node.op, node.operands
    assert isinstance(op, MatMul)
    if a.type.rank != 2 or not a.type.dtype.is_float or (op.transpose_a and op.transpose_b):
        return False
    weight: tuple[Dim, ...] = node.results[0].shape if op.transpose_a else b.shape
    elements = product(weight).constant
    return elements is not None and elements <= _SMALL


def _pixels(rows: Value) -> Value:
    """Rows of a matrix as the pixels of an image [1, n, 1, channels]."""
    return apply(Reshape((_ONE, rows.shape[0], _ONE, rows.shape[1])), rows)
