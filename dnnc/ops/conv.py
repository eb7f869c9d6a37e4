"""Convolution in two dimensions and its two gradients, each of which is the gradient of the others.

x is [N, C, H, W], the weight w [O, C / groups, kh, kw] and y [N, O, Ho, Wo], with `Ho = floor((H
+ top + bottom - dilation * (kh - 1) - 1) / stride) + 1` and Wo alike. As in all neural networks
the kernel is not flipped. Negative padding cuts off instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim
from dnnc.ir.graph import Value
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    NUMBERS,
    Array,
    Gradients,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply,
    check_dtype,
    check_positive,
    check_rank,
    check_same_dtype,
    check_type,
    operator,
)
from dnnc.ops.windows import (
    NO_PADDING,
    ONES,
    Padding,
    embed,
    output_size,
    padding,
    pair,
    spread,
    windows,
)

__all__ = [
    "Conv",
    "ConvInputGradient",
    "ConvWeightGradient",
    "Convolution",
    "Movement",
    "conv",
    "conv_input_gradient",
    "conv_weight_gradient",
]


class Movement(TypedDict):
    """How a kernel moves over an image: attributes of every convolution."""

    strides: tuple[Dim, Dim]
    pads: Padding
    dilations: tuple[Dim, Dim]
    groups: int


@dataclass(frozen=True, kw_only=True)
class Convolution(Operator):
    """Base of the three: how the kernel moves. `pads` are top, left, bottom, right."""

    strides: tuple[Dim, Dim] = ONES
    pads: Padding = NO_PADDING
    dilations: tuple[Dim, Dim] = ONES
    groups: int = 1

    @property
    def movement(self) -> Movement:
        """The attributes that the three operators share."""
        return {
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
            "groups": self.groups,
        }

    def _result(self, x: TensorType, w: TensorType) -> TensorType:
        """The type of y; raises TypeRuleError where x (operand 0) and w (operand 1) do not fit."""
        check_rank(self.name, x, 4)
        check_rank(self.name, w, 4, operand=1)
        check_positive(self.name, "a stride", *self.strides)
        check_positive(self.name, "a dilation", *self.dilations)
        check_positive(self.name, "groups", dim(self.groups))
        outputs = w.shape[0]
        if w.shape[1] * self.groups != x.shape[1]:
            raise TypeRuleError(
                f"channels differ: the input has {x.shape[1]}, the weight takes "
                f"{w.shape[1] * self.groups}",
                f"input is {x}, weight is {w}, groups = {self.groups}",
                "E203",
                1,
            )
        if outputs % self.groups != 0:
            raise TypeRuleError(
                f"{self.groups} groups do not divide {outputs} output channels", "", "E206", 1
            )
        size = [
            output_size(self.name, x.shape[2 + i], w.shape[2 + i], self.strides[i],
                        (self.pads[i], self.pads[2 + i]), self.dilations[i])
            for i in range(2)
        ]  # fmt: skip
        return TensorType(x.dtype, (x.shape[0], outputs, *size))

    def _check(self, *types: TensorType) -> None:
        check_dtype(self.name, NUMBERS, types[0])
        check_same_dtype(self.name, *types)

    def _windows(self, x: Array, kernel: tuple[int, ...]) -> Array:
        """Windows [groups, N, C / groups, Ho, Wo, kh, kw] of x."""
        seen = windows(embed(x, self.pads), kernel, self.strides, self.dilations)
        split = seen.reshape(
            seen.shape[0], self.groups, seen.shape[1] // self.groups, *seen.shape[2:]
        )
        return split.swapaxes(0, 1)

    def _grouped(self, y: Array) -> Array:
        """[groups, N, O / groups, Ho, Wo] of y."""
        return y.reshape(y.shape[0], self.groups, y.shape[1] // self.groups, *y.shape[2:]).swapaxes(
            0, 1
        )


@operator
class Conv(Convolution):
    """Convolution of images: (x, w) -> y."""

    name, onnx = "conv", OnnxOp("Conv", since=11)

    def infer(self, x: TensorType, w: TensorType) -> tuple[TensorType, ...]:
        self._check(x, w)
        return (self._result(x, w),)

    def evaluate(self, x: Array, w: Array) -> tuple[Array, ...]:
        kernels = w.reshape(self.groups, -1, *w.shape[1:])
        parts = [
            np.tensordot(seen, kernel, axes=((1, 4, 5), (1, 2, 3)))
            for seen, kernel in zip(self._windows(x, w.shape[2:]), kernels, strict=True)
        ]
        return (np.concatenate(parts, -1).transpose(0, 3, 1, 2),)

    def gradient(self, dz: Value, z: Value, x: Value, w: Value) -> Gradients:
        dx = apply(ConvInputGradient(**self.movement, shape=x.shape), dz, w)
        dw = apply(ConvWeightGradient(**self.movement, shape=w.shape), x, dz)
        return dx, dw


@operator
@dataclass(frozen=True, kw_only=True)
class ConvInputGradient(Convolution):
    """The gradient of a convolution's input, whose `shape` it has: (dy, w) -> dx."""

    name: ClassVar[str] = "conv_input_gradient"
    shape: tuple[Dim, ...]

    def infer(self, dy: TensorType, w: TensorType) -> tuple[TensorType, ...]:
        self._check(dy, w)
        x = TensorType.make(dy.dtype, self.shape)
        check_type(self.name, "a gradient", self._result(x, w), dy, 0)
        return (x,)

    def evaluate(self, dy: Array, w: Array) -> tuple[Array, ...]:
        kernels = w.reshape(self.groups, -1, *w.shape[1:])
        parts = [
            np.tensordot(part, kernel, axes=((1,), (0,))).transpose(0, 3, 1, 2, 4, 5)
            for part, kernel in zip(self._grouped(dy), kernels, strict=True)
        ]
        size = tuple(int(s) for s in self.shape)
        seen = np.concatenate(parts, 1)
        return (spread(seen, size, self.strides, self.pads, self.dilations),)

    def gradient(self, dz: Value, z: Value, dy: Value, w: Value) -> Gradients:
        dw = apply(ConvWeightGradient(**self.movement, shape=w.shape), dz, dy)
        return apply(Conv(**self.movement), dz, w), dw


@operator
@dataclass(frozen=True, kw_only=True)
class ConvWeightGradient(Convolution):
    """The gradient of a convolution's weight, whose `shape` it has: (x, dy) -> dw."""

    name: ClassVar[str] = "conv_weight_gradient"
    shape: tuple[Dim, ...]

    def infer(self, x: TensorType, dy: TensorType) -> tuple[TensorType, ...]:
        self._check(x, dy)
        w = TensorType.make(x.dtype, self.shape)
        check_type(self.name, "a gradient", self._result(x, w), dy, 1)
        return (w,)

    def evaluate(self, x: Array, dy: Array) -> tuple[Array, ...]:
        size = tuple(int(s) for s in self.shape)
        parts = [
            np.tensordot(part, seen, axes=((0, 2, 3), (0, 2, 3)))
            for part, seen in zip(self._grouped(dy), self._windows(x, size[2:]), strict=True)
        ]
        return (np.concatenate(parts, 0),)

    def gradient(self, dz: Value, z: Value, x: Value, dy: Value) -> Gradients:
        dx = apply(ConvInputGradient(**self.movement, shape=x.shape), dy, dz)
        return dx, apply(Conv(**self.movement), x, dz)


def conv(
    x: Value,
    w: Value,
    strides: Iterable[DimLike] = (1, 1),
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    dilations: Iterable[DimLike] = (1, 1),
    groups: int = 1,
) -> Value:
    """Convolution; `pads` are top, left, bottom, right."""
    return apply(Conv(**_movement(strides, pads, dilations, groups)), x, w)


def conv_input_gradient(
    dy: Value,
    w: Value,
    shape: Iterable[DimLike],
    strides: Iterable[DimLike] = (1, 1),
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    dilations: Iterable[DimLike] = (1, 1),
    groups: int = 1,
) -> Value:
    """The gradient of a convolution's input of that shape; a transposed convolution."""
    movement = _movement(strides, pads, dilations, groups)
    return apply(ConvInputGradient(**movement, shape=tuple(dim(s) for s in shape)), dy, w)


def conv_weight_gradient(
    x: Value,
    dy: Value,
    shape: Iterable[DimLike],
    strides: Iterable[DimLike] = (1, 1),
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    dilations: Iterable[DimLike] = (1, 1),
    groups: int = 1,
) -> Value:
    """The gradient of a convolution's weight of that shape."""
    movement = _movement(strides, pads, dilations, groups)
    return apply(ConvWeightGradient(**movement, shape=tuple(dim(s) for s in shape)), x, dy)


def _movement(
    strides: Iterable[DimLike], pads: Iterable[DimLike], dilations: Iterable[DimLike], groups: int
) -> Movement:
    return {
        "strides": pair(strides),
        "pads": padding(pads),
        "dilations": pair(dilations),
        "groups": groups,
    }
