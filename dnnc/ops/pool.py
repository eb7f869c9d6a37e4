"""The largest element and the sum of windows that move over the last two axes of [N, C, H, W].

Training keeps, instead of an image, which element of each window is the largest one: a byte for
a window (`MaxPoolIndexed`).

The result has `floor((H + top + bottom - window) / stride) + 1` rows, and columns alike. With
`channels_last`, which programs do not write but passes choose, images are [N, H, W, C].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypedDict

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim, product
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import (
    NUMBERS,
    Array,
    Gradients,
    NoGradientError,
    NonDifferentiable,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply,
    check_dtype,
    check_positive,
    check_rank,
    check_type,
    lowest,
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
    "MaxPool",
    "MaxPoolGradient",
    "MaxPoolIndexed",
    "MaxPoolIndexedGradient",
    "Movement",
    "Pooling",
    "SumPool",
    "SumPoolGradient",
    "max_pool",
    "max_pool_gradient",
    "sum_pool",
    "sum_pool_gradient",
]


class Movement(TypedDict):
    """How a window moves over an image: attributes of every pooling operator."""

    window: tuple[Dim, Dim]
    strides: tuple[Dim, Dim]
    pads: Padding
    channels_last: bool


@dataclass(frozen=True, kw_only=True)
class Pooling(Operator):
    """Base of pooling and its gradients.

    `pads` are top, left, bottom, right; images are [N, H, W, C] where `channels_last`.
    """

    window: tuple[Dim, Dim]
    strides: tuple[Dim, Dim]
    pads: Padding = NO_PADDING
    channels_last: bool = False

    @property
    def movement(self) -> Movement:
        """The attributes that a pooling operator and its gradient share."""
        return {
            "window": self.window,
            "strides": self.strides,
            "pads": self.pads,
            "channels_last": self.channels_last,
        }

    def _result(self, x: TensorType) -> TensorType:
        check_dtype(self.name, NUMBERS, x)
        check_rank(self.name, x, 4)
        check_positive(self.name, "the window", *self.window)
        check_positive(self.name, "a stride", *self.strides)
        first = 1 if self.channels_last else 2
        size = [
            output_size(self.name, x.shape[first + i], self.window[i], self.strides[i],
                        (self.pads[i], self.pads[2 + i]), dim(1))
            for i in range(2)
        ]  # fmt: skip
        return TensorType(x.dtype, (*x.shape[:first], *size, *x.shape[first + 2 :]))

    def _first(self, x: Array) -> Array:
        """An image, or the result for one, as [N, C, H, W]."""
        return x.transpose(0, 3, 1, 2) if self.channels_last else x

    def _back(self, x: Array) -> Array:
        """The inverse of `_first`."""
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if self.channels_last else x

    def _windows(self, x: Array, fill: float = 0) -> Array:
        """Every window of an image [N, C, H, W]."""
        return windows(embed(x, self.pads, fill), self.window, self.strides, ONES)

    def _check_indexed(self) -> None:
        """That a byte tells which element of a window is meant, and kernels know the order."""
        elements = product(self.window).constant
        if elements is None or elements > 256:
            raise TypeRuleError(
                f"`{self.name}` numbers windows of at most 256 elements", "", "E206"
            )
        if not self.channels_last:
            raise TypeRuleError(f"`{self.name}` takes images [N, H, W, C]", "", "E206")

    def _indices(self, x: Array) -> Array:
        """Where in each window of an image [N, C, H, W] the first largest element is."""
        seen = self._windows(x, lowest(x))
        inside = self._windows(np.ones_like(x, bool))
        largest = seen.max((-2, -1), keepdims=True)
        candidates = inside & ((seen == largest) | np.isnan(seen))
        flat = candidates.reshape(*candidates.shape[:-2], prod(candidates.shape[-2:]))
        found: Array = np.argmax(flat, -1)
        return found

    def _give(self, indices: Array, dy: Array, shape: tuple[int, ...]) -> Array:
        """The image [N, C, H, W] to whose elements dy goes."""
        size = tuple(int(s) for s in self.window)
        hits = np.arange(prod(size)) == indices[..., None]
        parts = np.where(hits, dy[..., None], 0).reshape(*dy.shape, *size).astype(dy.dtype)
        return spread(parts, shape, self.strides, self.pads, ONES)


@operator
class MaxPool(Pooling):
    """The largest element of each window; padding counts as smaller than any number."""

    name, onnx = "max_pool", OnnxOp("MaxPool", since=12)

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        return (self._result(x),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (self._back(self._windows(self._first(x), lowest(x)).max((-2, -1))),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (apply(MaxPoolGradient(**self.movement), x, dz),)


@operator
class MaxPoolGradient(Pooling):
    """The gradient of max pooling: (x, dy) -> dx. Each dy goes to the first maximum."""

    name = "max_pool_gradient"

    def infer(self, x: TensorType, dy: TensorType) -> tuple[TensorType, ...]:
        check_type(self.name, "a gradient", self._result(x), dy, 1)
        return (x,)

    def evaluate(self, x: Array, dy: Array) -> tuple[Array, ...]:
        x, dy = self._first(x), self._first(dy)
        return (self._back(self._give(self._indices(x), dy, x.shape)),)

    def gradient(self, dz: Value, z: Value, x: Value, dy: Value) -> Gradients:
        raise NoGradientError("max pooling has no second derivative")


@operator
@dataclass(frozen=True, kw_only=True)
class MaxPoolIndexed(NonDifferentiable, Pooling):
    """Max pooling that tells where: x -> (y, indices), for windows of at most 256 elements.

    An index counts the elements of a window along its lines. The layout pass makes it, of images
    [N, H, W, C], so that the gradient need not keep x.
    """

    name: ClassVar[str] = "max_pool_indexed"
    multiple: ClassVar[bool] = True
    channels_last: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        self._check_indexed()
        y = self._result(x)
        return y, TensorType(DType.U8, y.shape)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        first = self._first(x)
        y = self._windows(first, lowest(x)).max((-2, -1))
        return self._back(y), self._back(self._indices(first).astype(np.uint8))


@operator
@dataclass(frozen=True, kw_only=True)
class MaxPoolIndexedGradient(NonDifferentiable, Pooling):
    """The gradient of the image, whose `shape` it has, of `MaxPoolIndexed`: (indices, dy) -> dx."""

    name: ClassVar[str] = "max_pool_indexed_gradient"
    channels_last: bool = True
    shape: tuple[Dim, ...]

    def infer(self, indices: TensorType, dy: TensorType) -> tuple[TensorType, ...]:
        self._check_indexed()
        x = TensorType.make(dy.dtype, self.shape)
        check_type(self.name, "a gradient", self._result(x), dy, 1)
        check_type(self.name, "indices", TensorType(DType.U8, dy.shape), indices, 0)
        return (x,)

    def evaluate(self, indices: Array, dy: Array) -> tuple[Array, ...]:
        n, *rest = (int(s) for s in self.shape)
        shape = (n, rest[2], *rest[:2]) if self.channels_last else (n, *rest)
        return (self._back(self._give(self._first(indices), self._first(dy), shape)),)


@operator
class SumPool(Pooling):
    """The sum of each window; padding counts as 0."""

    name = "sum_pool"

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        return (self._result(x),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (self._back(self._windows(self._first(x)).sum((-2, -1), dtype=x.dtype)),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (apply(SumPoolGradient(**self.movement, shape=x.shape), dz),)


@operator
@dataclass(frozen=True, kw_only=True)
class SumPoolGradient(Pooling):
    """The gradient of sum pooling's input, whose `shape` it has: dy -> dx."""

    name: ClassVar[str] = "sum_pool_gradient"
    shape: tuple[Dim, ...]

    def infer(self, dy: TensorType) -> tuple[TensorType, ...]:
        x = TensorType.make(dy.dtype, self.shape)
        check_type(self.name, "a gradient", self._result(x), dy, 0)
        return (x,)

    def evaluate(self, dy: Array) -> tuple[Array, ...]:
        dy, kernel = self._first(dy), tuple(int(s) for s in self.window)
        parts = np.broadcast_to(dy[..., None, None], (*dy.shape, *kernel))
        n, *rest = (int(s) for s in self.shape)
        shape = (n, rest[2], *rest[:2]) if self.channels_last else (n, *rest)
        return (self._back(spread(parts, shape, self.strides, self.pads, ONES)),)

    def gradient(self, dz: Value, z: Value, dy: Value) -> Gradients:
        return (apply(SumPool(**self.movement), dz),)


def max_pool(
    x: Value,
    window: Iterable[DimLike],
    strides: Iterable[DimLike] | None = None,
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    *,
    channels_last: bool = False,
) -> Value:
    """The largest element of each window; strides are the window where not given."""
    return apply(MaxPool(**_movement(window, strides, pads, channels_last)), x)


def max_pool_gradient(
    x: Value,
    dy: Value,
    window: Iterable[DimLike],
    strides: Iterable[DimLike] | None = None,
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    *,
    channels_last: bool = False,
) -> Value:
    """The gradient of `max_pool`."""
    return apply(MaxPoolGradient(**_movement(window, strides, pads, channels_last)), x, dy)


def sum_pool(
    x: Value,
    window: Iterable[DimLike],
    strides: Iterable[DimLike] | None = None,
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    *,
    channels_last: bool = False,
) -> Value:
    """The sum of each window; strides are the window where not given."""
    return apply(SumPool(**_movement(window, strides, pads, channels_last)), x)


def sum_pool_gradient(
    dy: Value,
    shape: Iterable[DimLike],
    window: Iterable[DimLike],
    strides: Iterable[DimLike] | None = None,
    pads: Iterable[DimLike] = (0, 0, 0, 0),
    *,
    channels_last: bool = False,
) -> Value:
    """The gradient of `sum_pool` for an input of that shape."""
    movement = _movement(window, strides, pads, channels_last)
    return apply(SumPoolGradient(**movement, shape=tuple(dim(s) for s in shape)), dy)


def _movement(
    window: Iterable[DimLike],
    strides: Iterable[DimLike] | None,
    pads: Iterable[DimLike],
    channels_last: bool,
) -> Movement:
    size = pair(window)
    return {
        "window": size,
        "strides": size if strides is None else pair(strides),
        "pads": padding(pads),
        "channels_last": channels_last,
    }
