"""Convolutions and pooling with channels last."""

from __future__ import annotations

from dataclasses import replace

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.ops.base import Operator, apply
from dnnc.ops.channels_last import (
    ConvLast,
    ConvLastInputGradient,
    ConvLastWeightGradient,
    PackWeights,
)
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution, ConvWeightGradient, Movement
from dnnc.ops.linear import MatMul
from dnnc.ops.pool import Pooling, SumPoolGradient
from dnnc.ops.shape import Reshape
from dnnc.ops.windows import Padding
from dnnc.passes.fast_convolution import Step, winograd_tile
from dnnc.passes.layout.images import last_shape

__all__ = ["Packing", "is_image_node", "pool_last"]

_ONES = (dim(1), dim(1))
#: Least elements of a weight that leaves the second-level cache.
_LARGE = 128 * 1024


def is_image_node(node: Node) -> bool:
    """Whether a node is a convolution of floating-point numbers or pooling, of [N, C, H, W]."""
    if isinstance(node.op, Pooling):
        return not node.op.channels_last
    return (
        isinstance(node.op, Conv | ConvInputGradient | ConvWeightGradient)
        and node.results[0].type.dtype.is_float
    )


def pool_last(op: Pooling, *operands: Value) -> Value:
    """The result [N, H, W, C] of pooling, or of its gradient, of images [N, H, W, C]."""
    if isinstance(op, SumPoolGradient):
        op = replace(op, shape=last_shape(op.shape))
    return apply(replace(op, channels_last=True), *operands)


class Packing:
    """Convolutions of one graph; a weight is packed once for all that need it alike.

    `once` says that weights do not change, so that packing them costs nothing.
    """

    def __init__(self, once: bool) -> None:
        self._forward: Step = "predict" if once else "forward"
        self._packed: dict[tuple[Value, Operator], Value] = {}

    def conv(self, op: Conv, x: Value, w: Value, size: tuple[Dim, ...]) -> Value:
        """y [N, Ho, Wo, O], of that `size` [Ho, Wo], of x [N, H, W, C] and the weight w [O, C /
        groups, kh, kw]."""
        kernel = _kernel(w)
        tile = winograd_tile(self._forward, x, op.movement, kernel, w.shape[0], size)
        packed = self._pack(w, PackWeights(groups=op.groups, tile=tile))
        last = ConvLast(**op.movement, outputs=w.shape[0], kernel=kernel, tile=tile)
        return apply(last, x, packed)

    def input_gradient(self, op: ConvInputGradient, dy: Value, w: Value) -> Value:
        """dx [N, H, W, C] of dy [N, Ho, Wo, O] and the weight."""
        kernel, shape = _kernel(w), last_shape(op.shape)
        if op.strides != _ONES:
            pack = PackWeights(
                groups=op.groups, backward=True, strides=op.strides, dilations=op.dilations
            )
            strided = ConvLastInputGradient(**op.movement, kernel=kernel, shape=shape)
            return apply(strided, dy, self._pack(w, pack))
        movement: Movement = {**op.movement, "pads": _backward_pads(op, kernel)}
        tile = winograd_tile("input", dy, movement, kernel, shape[3], shape[1:3])
        packed = self._pack(w, PackWeights(groups=op.groups, tile=tile, backward=True))
        plain = ConvLast(**movement, outputs=shape[3], kernel=kernel, tile=tile)
        return apply(plain, dy, packed)

    def weight_gradient(self, op: ConvWeightGradient, x: Value, dy: Value) -> Value:
        """dw [O, C / groups, kh, kw] of x [N, H, W, C] and dy [N, Ho, Wo, O]."""
        kernel, size = (op.shape[2], op.shape[3]), dy.shape[1:3]
        if _is_product(op, kernel):
            x, dy = (apply(Reshape((product(v.shape[:3]), v.shape[3])), v) for v in (x, dy))
            return apply(Reshape(op.shape), apply(MatMul(transpose_a=True), dy, x))
        tile = winograd_tile("weight", x, op.movement, kernel, dy.shape[3], size)
        return apply(ConvLastWeightGradient(**op.movement, tile=tile, shape=op.shape), x, dy)

    def _pack(self, w: Value, op: PackWeights) -> Value:
        key = w, op
        if key not in self._packed:
            self._packed[key] = apply(op, w)
        return self._packed[key]


def _is_product(op: ConvWeightGradient, kernel: tuple[Dim, Dim]) -> bool:
    """Whether a gradient by weight is better computed as a product of matrices: of single taps, and
    so large that a partial result for each chunk of images would cost more than it gives."""
    single = (*kernel, *op.strides) == _ONES * 2 and all(pad == 0 for pad in op.pads)
    elements = product(op.shape).constant
    return single and op.groups == 1 and elements is not None and elements >= _LARGE


def _kernel(w: Value) -> tuple[Dim, Dim]:
    return w.shape[2], w.shape[3]


def _backward_pads(op: Convolution, kernel: tuple[Dim, Dim]) -> Padding:
    """Padding of the gradients that makes their convolution the gradient by input."""
    high, wide = (
        dilation * (taps - 1) for dilation, taps in zip(op.dilations, kernel, strict=True)
    )
    top, left, bottom, right = op.pads
    return high - top, wide - left, high - bottom, wide - right
