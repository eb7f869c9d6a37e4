"""Convolutions of images [N, H, W, C] by packed weights.

Programs are written with images [N, C, H, W] (`dnnc.ops.conv`); `dnnc.passes.layout` rewrites them
to these operators, whose operands lie in memory as kernels want them. Weights are packed by an
operator of its own, so that a program that only predicts packs them once. The operators are made
after differentiation and have no gradients.

A weight [O, C / groups, kh, kw] is packed as the matrix that a group multiplies by, cut into panels
of columns: [groups, panels, depth, width], the depth being the taps (ky, kx, channel) and the
columns the outputs of the group, with zeros up to `width`, which is `panel_width` of them. Where
every group has one channel and one output (depthwise), it is [1, 1, taps, groups] instead.

By Winograd's method (`dnnc.ops.winograd`), `tile` by `tile` outputs are computed at a time; then
the weight is packed as one matrix for each product, [n * n, panels, channels, width], where `n =
tile + k - 1` and channels are filled up with zeros to a multiple of 16. That takes one group, a
square kernel, and strides of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    FLOATS,
    Array,
    NonDifferentiable,
    check_dtype,
    check_rank,
    check_type,
    operator,
)
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution, ConvWeightGradient
from dnnc.ops.windows import ONES, embed, windows
from dnnc.ops.winograd import winograd

__all__ = [
    "ConvLast",
    "ConvLastInputGradient",
    "ConvLastWeightGradient",
    "PackWeights",
    "is_depthwise",
    "panel_width",
]

#: Channels come in whole blocks of so many where a product by Winograd's method sums over them.
_BLOCK = 16


def panel_width(outputs: Dim) -> int:
    """Columns of a panel, for so many outputs of a group."""
    return 16 if outputs.constant is not None and outputs.constant <= 16 else 32


def is_depthwise(weight: tuple[Dim, ...], groups: int) -> bool:
    """Whether every group of a weight of that shape has one channel and one output."""
    return groups > 1 and weight[0] == groups and weight[1] == 1


@operator
@dataclass(frozen=True, kw_only=True)
class PackWeights(NonDifferentiable):
    """A weight [O, C / groups, kh, kw] as panels; see the head of the file.

    With `backward`, the weight is packed for the gradient by input: inputs and outputs change
    places and taps come in falling order. With strides it is then cut into classes: outputs at `h`
    with `(h + top) mod stride = r`, and columns alike with s, use those taps with `ky * dilation
    mod stride = r`, and the depth is one class (r, s) after the other.
    """

    name: ClassVar[str] = "pack_weights"
    groups: int = 1
    tile: int = 0
    backward: bool = False
    strides: tuple[Dim, Dim] = ONES
    dilations: tuple[Dim, Dim] = ONES

    def infer(self, w: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, FLOATS, w)
        check_rank(self.name, w, 4)
        inputs, outputs = w.shape[1], w.shape[0] // self.groups
        if self.backward:
            inputs, outputs = outputs, inputs
        kh, kw = w.shape[2:]
        if is_depthwise(w.shape, self.groups):
            return (TensorType(w.dtype, (*ONES, kh * kw, dim(self.groups))),)
        width = panel_width(outputs)
        panels = ceil_div(outputs, width)
        lead, depth = dim(self.groups), kh * kw * inputs
        if self.tile:
            lead = (kh + self.tile - 1) * (kw + self.tile - 1)
            depth = ceil_div(inputs, _BLOCK) * _BLOCK
        return (TensorType(w.dtype, (lead, panels, depth, dim(width))),)

    def evaluate(self, w: Array) -> tuple[Array, ...]:
        grouped = w.reshape(self.groups, -1, *w.shape[1:])
        if self.backward:
            grouped = grouped.swapaxes(1, 2)[..., ::-1, ::-1]
        # [groups, kh, kw, channels, outputs]
        taps = grouped.transpose(0, 3, 4, 2, 1)
        if self.tile:
            _, g, _ = winograd(self.tile, w.shape[2]).arrays()
            matrices = np.einsum("ia,abco,jb->ijco", g, taps[0], g)
            matrices = matrices.reshape(-1, *matrices.shape[2:])
            matrices = np.pad(matrices, ((0, 0), (0, -matrices.shape[1] % _BLOCK), (0, 0)))
        else:
            ordered = [taps[:, y, x] for y, x in self._order(*w.shape[2:])]
            matrices = np.concatenate(ordered, 1)
        if is_depthwise(tuple(map(dim, w.shape)), self.groups):
            return (np.ascontiguousarray(matrices.T[:, None]),)
        width = panel_width(dim(matrices.shape[-1]))
        rest = -matrices.shape[-1] % width
        padded = np.pad(matrices, ((0, 0), (0, 0), (0, rest)))
        split = padded.reshape(*padded.shape[:2], -1, width)
        return (np.ascontiguousarray(split.swapaxes(1, 2)).astype(w.dtype, copy=False),)

    def _order(self, kh: int, kw: int) -> list[tuple[int, int]]:
        """Taps of `taps` (falling where `backward`) in the order of the depth."""
        (sh, sw), (dh, dw) = map(_ints, (self.strides, self.dilations))
        if not self.backward:
            sh, sw = 1, 1
        return [
            (y, x)
            for r in range(sh)
            for s in range(sw)
            for y in range(kh)
            for x in range(kw)
            if (kh - 1 - y) * dh % sh == r and (kw - 1 - x) * dw % sw == s
        ]


@dataclass(frozen=True, kw_only=True)
class _Last(Convolution, NonDifferentiable):
    """Base of the three: `kernel` is the size of the kernel."""

    tile: int = 0

    def _image_type(self, x: TensorType, w: tuple[Dim, ...]) -> TensorType:
        """The type of y for x [N, H, W, C] and a weight of shape `w`."""
        check_dtype(self.name, FLOATS, x)
        check_rank(self.name, x, 4)
        return _last_type(self._result(_first_type(x), TensorType(x.dtype, w)))

    def _check_packed(self, packed: TensorType, w: tuple[Dim, ...], **how: Any) -> None:
        pack = PackWeights(groups=self.groups, tile=self.tile, **how)
        expected = pack.infer(TensorType(packed.dtype, w))[0]
        check_type(self.name, "weights", expected, packed, 1)


@operator
@dataclass(frozen=True, kw_only=True)
class ConvLast(_Last):
    """Convolution: (x [N, H, W, C], packed) -> y [N, Ho, Wo, outputs]."""

    name: ClassVar[str] = "conv_last"
    outputs: Dim
    kernel: tuple[Dim, Dim]

    def weight_shape(self, x: TensorType) -> tuple[Dim, ...]:
        """The shape of the weight that was packed."""
        return (self.outputs, x.shape[3] // self.groups, *self.kernel)

    def infer(self, x: TensorType, packed: TensorType) -> tuple[TensorType, ...]:
        y = self._image_type(x, self.weight_shape(x))
        self._check_packed(packed, self.weight_shape(x))
        return (y,)

    def evaluate(self, x: Array, packed: Array) -> tuple[Array, ...]:
        channels, (kh, kw), outputs = (
            x.shape[3] // self.groups,
            _ints(self.kernel),
            int(self.outputs),
        )
        matrices = _unpacked(packed, outputs // self.groups, self.groups)
        if self.tile:
            return (self._by_pictures(x, matrices),)
        taps = matrices.reshape(self.groups, kh, kw, channels, -1)
        w = taps.transpose(0, 4, 3, 1, 2).reshape(outputs, channels, kh, kw)
        return (_last(Conv(**self.movement).evaluate(_first(x), w)[0]),)

    def _by_pictures(self, x: Array, matrices: Array) -> Array:
        """Every dilation-th line and column make a picture, whose taps are adjacent."""
        padded, taps, (dy, dx) = embed(_first(x), self.pads), self.kernel[0], _ints(self.dilations)
        high, wide = padded.shape[2] - dy * (int(taps) - 1), padded.shape[3] - dx * (int(taps) - 1)
        y = np.empty((x.shape[0], high, wide, int(self.outputs)), x.dtype)
        for i in range(min(dy, high)):
            for j in range(min(dx, wide)):
                picture = padded[:, :, i::dy, j::dx]
                y[:, i::dy, j::dx] = self._by_products(picture, matrices)
        return y

    def _by_products(self, padded: Array, matrices: Array) -> Array:
        """Of images [N, C, H, W] that have their padding."""
        tile, taps = self.tile, int(self.kernel[0])
        bt, _, at = (matrix.astype(padded.dtype) for matrix in winograd(tile, taps).arrays())
        high, wide = (size - taps + 1 for size in padded.shape[2:])
        rest = ((0, 0), (0, 0), (0, -high % tile), (0, -wide % tile))
        count = tile + taps - 1
        seen = windows(np.pad(padded, rest), (count, count), (tile, tile), (1, 1))
        values = np.einsum("ia,nchwab,jb->nhwijc", bt, seen, bt, optimize=True)
        channels = padded.shape[1]
        weights = matrices[:, :channels].reshape(count, count, channels, -1)
        products = np.einsum("nhwijc,ijco->nhwijo", values, weights, optimize=True)
        y = np.einsum("pi,nhwijo,qj->nhpwqo", at, products, at, optimize=True)
        shape = (y.shape[0], y.shape[1] * tile, y.shape[3] * tile, y.shape[5])
        whole: Array = y.reshape(shape)
        return whole[:, :high, :wide]


@operator
@dataclass(frozen=True, kw_only=True)
class ConvLastInputGradient(_Last):
    """The gradient by input of a convolution with strides: (dy [N, Ho, Wo, O], packed) -> dx.

    `shape` is that of dx [N, H, W, C]; weights are packed with `backward` and the strides and
    dilations of the convolution. Without strides the gradient is a convolution, too: `ConvLast`.
    """

    name: ClassVar[str] = "conv_last_input_gradient"
    kernel: tuple[Dim, Dim]
    shape: tuple[Dim, ...]

    def infer(self, dy: TensorType, packed: TensorType) -> tuple[TensorType, ...]:
        x = TensorType(dy.dtype, self.shape)
        w = (dy.shape[3], self.shape[3] // self.groups, *self.kernel)
        check_type(self.name, "a gradient", self._image_type(x, w), dy, 0)
        self._check_packed(packed, w, backward=True, strides=self.strides, dilations=self.dilations)
        return (x,)

    def evaluate(self, dy: Array, packed: Array) -> tuple[Array, ...]:
        n, h, w, c = (int(size) for size in self.shape)
        (kh, kw), groups = _ints(self.kernel), self.groups
        # [groups, taps in order, outputs, channels]
        matrices = _unpacked(packed, c // groups, groups).reshape(groups, kh * kw, -1, c // groups)
        pack = PackWeights(backward=True, strides=self.strides, dilations=self.dilations)
        taps = np.empty((groups, kh, kw, *matrices.shape[2:]), dy.dtype)
        for i, (y, x) in enumerate(pack._order(kh, kw)):
            taps[:, kh - 1 - y, kw - 1 - x] = matrices[:, i]
        weight = taps.transpose(0, 3, 4, 1, 2).reshape(dy.shape[3], c // groups, kh, kw)
        shape = tuple(map(dim, (n, c, h, w)))
        op = ConvInputGradient(**self.movement, shape=shape)
        return (_last(op.evaluate(_first(dy), weight)[0]),)


@operator
@dataclass(frozen=True, kw_only=True)
class ConvLastWeightGradient(_Last):
    """The gradient by weight: (x [N, H, W, C], dy [N, Ho, Wo, O]) -> dw of that `shape`, unpacked:
    [O, C / groups, kh, kw]."""

    name: ClassVar[str] = "conv_last_weight_gradient"
    shape: tuple[Dim, ...]

    def infer(self, x: TensorType, dy: TensorType) -> tuple[TensorType, ...]:
        check_type(self.name, "a gradient", self._image_type(x, self.shape), dy, 1)
        return (TensorType(x.dtype, self.shape),)

    def evaluate(self, x: Array, dy: Array) -> tuple[Array, ...]:
        op = ConvWeightGradient(**self.movement, shape=self.shape)
        return op.evaluate(_first(x), _first(dy))


def _unpacked(packed: Array, columns: int, groups: int) -> Array:
    """[lead, depth, columns] of [lead, panels, depth, width]."""
    if len(packed) < groups:
        return packed.transpose(3, 2, 0, 1)[..., 0]
    joined = packed.swapaxes(1, 2)
    return joined.reshape(*joined.shape[:2], -1)[..., :columns]


def _first(x: Array) -> Array:
    return x.transpose(0, 3, 1, 2)


def _last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def _first_type(x: TensorType) -> TensorType:
    n, h, w, c = x.shape
    return x.with_shape((n, c, h, w))


def _last_type(x: TensorType) -> TensorType:
    n, c, h, w = x.shape
    return x.with_shape((n, h, w, c))


def _ints(sizes: tuple[Dim, Dim]) -> tuple[int, int]:
    return int(sizes[0]), int(sizes[1])
