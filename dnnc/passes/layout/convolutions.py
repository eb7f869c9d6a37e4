"""Convolutions and pooling with channels last."""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType
from dnnc.ops.base import Operator, apply
from dnnc.ops.channels_last import (
    ConvLast,
    ConvLastInputGradient,
    ConvLastWeightGradient,
    PackWeights,
)
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution, ConvWeightGradient, Movement
from dnnc.ops.linear import MatMul
from dnnc.ops.pool import Pooling
from dnnc.ops.shape import Reshape
from dnnc.ops.windows import Padding
from dnnc.passes.fast_convolution import Step, winograd_tile
from dnnc.passes.layout.images import last_shape
from dnnc.tuning.processor import matrix_unit

__all__ = ["Packing", "is_image_node"]

_ONES = (dim(1), dim(1))
#: Least elements of a weight whose gradient is a product: a partial result for each chunk of images
#: leaves the second-level cache.
_LARGE = 128 * 1024
#: Least elements of a weight, and least depth, of a convolution that is a product on a matrix unit;
#: for the gradient by weight least channels, which are the columns of its product.
_LEAST, _LEAST_DEPTH = 128 * 128, 128


def is_image_node(node: Node) -> bool:
    """Whether a node is a convolution of floating-point numbers or pooling, of [N, C, H, W]."""
    if isinstance(node.op, Pooling):
        return not node.op.channels_last
    return (
        isinstance(node.op, Conv | ConvInputGradient | ConvWeightGradient)
        and node.results[0].type.dtype.is_float
    )


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
        if _is_product(op, x, w.shape, w.shape[1]):
            return _product(x, w, transpose=True)
        tile = winograd_tile(self._forward, x, op.movement, kernel, w.shape[0], size)
        packed = self._pack(w, PackWeights(groups=op.groups, tile=tile))
        last = ConvLast(**op.movement, outputs=w.shape[0], kernel=kernel, tile=tile)
        return apply(last, x, packed)

    def input_gradient(self, op: ConvInputGradient, dy: Value, w: Value) -> Value:
        """dx [N, H, W, C] of dy [N, Ho, Wo, O] and the weight."""
        kernel, shape = _kernel(w), last_shape(op.shape)
        if _is_product(op, dy, w.shape, w.shape[0]):
            return _product(dy, w, transpose=False)
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
        if _is_product(op, x, op.shape, op.shape[1]) or _is_plain_product(op, op.shape, _LARGE):
            return apply(Reshape(op.shape), apply(MatMul(transpose_a=True), _rows(dy), _rows(x)))
        tile = winograd_tile("weight", x, op.movement, kernel, dy.shape[3], size)
        return apply(ConvLastWeightGradient(**op.movement, tile=tile, shape=op.shape), x, dy)

    def _pack(self, w: Value, op: PackWeights) -> Value:
        key = w, op
        if key not in self._packed:
            self._packed[key] = apply(op, w)
        return self._packed[key]


def _is_product(op: Convolution, x: Value, weight: tuple[Dim, ...], depth: Dim) -> bool:
    """Whether a convolution of x, by a weight of that shape, is better computed as a product of
    matrices: on a matrix unit, which convolutions do not use."""
    deep = (depth.constant or 0) >= _LEAST_DEPTH
    on_unit = x.type.dtype is DType.F32 and matrix_unit()
    return deep and on_unit and _is_plain_product(op, weight, _LEAST)


def _is_plain_product(op: Convolution, weight: tuple[Dim, ...], least: int) -> bool:
    """Whether a convolution of single taps is a product of matrices, by a weight [O, C, 1, 1] of at
    least so many elements."""
    kernel, elements = weight[2:], product(weight).constant
    single = (*kernel, *op.strides) == _ONES * 2 and all(pad == 0 for pad in op.pads)
    return single and op.groups == 1 and elements is not None and elements >= least


def _product(x: Value, w: Value, transpose: bool) -> Value:
    """The images [N, H, W, O] of a product of pixels by a weight [O, C, 1, 1], or its transpose."""
    matrix = apply(Reshape(w.shape[:2]), w)
    y = apply(MatMul(transpose_b=transpose), _rows(x), matrix)
    return apply(Reshape((*x.shape[:3], y.shape[1])), y)


def _rows(images: Value) -> Value:
    """Images with channels last as a matrix of pixels."""
    return apply(Reshape((product(images.shape[:3]), images.shape[3])), images)


def _kernel(w: Value) -> tuple[Dim, Dim]:
    return w.shape[2], w.shape[3]


def _backward_pads(op: Convolution, kernel: tuple[Dim, Dim]) -> Padding:
    """Padding of the gradients that makes their convolution the gradient by input."""
    high, wide = (
        dilation * (taps - 1) for dilation, taps in zip(op.dilations, kernel, strict=True)
    )
    top, left, bottom, right = op.pads
    return high - top, wide - left, high - bottom, wide - right
