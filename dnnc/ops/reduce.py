"""Operators that combine the elements along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import (
    NUMBERS,
    Array,
    Gradients,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply,
    check_axis,
    check_dtype,
    from_start,
    lowest,
    operator,
)
from dnnc.ops.elementwise import cast, divide, multiply
from dnnc.ops.logic import equal
from dnnc.ops.shape import broadcast, reshape

__all__ = [
    "ArgMax",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "Reduction",
    "argmax",
    "reduce_max",
    "reduce_min",
    "reduce_sum",
    "sum_to",
]


@dataclass(frozen=True)
class Reduction(Operator):
    """Base of reductions along `axes` (ascending); with `keep`, those stay as axes of size 1."""

    compute: ClassVar[Callable[..., Any] | None] = None
    facets: ClassVar[tuple[str, ...]] = (*Operator.facets, "compute")
    axes: tuple[int, ...]
    keep: bool = False

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, NUMBERS, x)
        for axis in self.axes:
            check_axis(self.name, x, axis)
        if list(self.axes) != sorted(set(self.axes)):
            raise TypeRuleError(
                f"`{self.name}` needs each axis once, ascending, got {list(self.axes)}",
                code="E204",
            )
        return (TensorType(x.dtype, self.kept_shape(x) if self.keep else self._shape(x)),)

    def kept_shape(self, x: TensorType) -> tuple[Dim, ...]:
        """The shape of the result with `keep`."""
        return tuple(dim(1) if i in self.axes else size for i, size in enumerate(x.shape))

    def _shape(self, x: TensorType) -> tuple[Dim, ...]:
        return tuple(size for i, size in enumerate(x.shape) if i not in self.axes)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            result = type(self).compute(x, axis=self.axes, keepdims=self.keep)  # type: ignore[misc]
        return (np.asarray(result, x.dtype),)


@operator
class ReduceSum(Reduction):
    """The sum of the elements along axes."""

    name, onnx = "reduce_sum", OnnxOp("ReduceSum", since=13)
    compute = np.sum

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        if self.axes != tuple(range(len(self.axes))):
            dz = reshape(dz, self.kept_shape(x.type))
        return (broadcast(dz, x.shape),)


def _largest(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.max(x, axis=axis, keepdims=keepdims, initial=lowest(x))


def _smallest(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    highest = np.inf if DType.of(x).is_float else np.iinfo(x.dtype).max
    return np.min(x, axis=axis, keepdims=keepdims, initial=highest)


@dataclass(frozen=True)
class Extremum(Reduction):
    """Base of the largest and the smallest element: equal ones share the gradient evenly."""

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        kept = self.kept_shape(x.type)
        chosen = cast(equal(x, reshape(z, kept)), x.type.dtype)
        share = divide(reshape(dz, kept), reduce_sum(chosen, self.axes, keep=True))
        return (multiply(chosen, share),)


@operator
class ReduceMax(Extremum):
    """The largest element along axes; equal ones share the gradient evenly. NaN wins.

    Of no elements it is the smallest number of the element type.
    """

    name, onnx = "reduce_max", OnnxOp("ReduceMax", since=13)
    compute = _largest


@operator
class ReduceMin(Extremum):
    """The smallest element along axes; equal ones share the gradient evenly. NaN wins.

    Of no elements it is the largest number of the element type.
    """

    name, onnx = "reduce_min", OnnxOp("ReduceMin", since=13)
    compute = _smallest


@operator
@dataclass(frozen=True)
class ArgMax(Operator):
    """The index i64 of the largest element along `axis`, which goes; of equals the first."""

    name: ClassVar[str] = "argmax"
    onnx: ClassVar[OnnxOp] = OnnxOp("ArgMax", since=13)
    axis: int

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, NUMBERS, x)
        check_axis(self.name, x, self.axis)
        return (TensorType(DType.I64, x.shape[: self.axis] + x.shape[self.axis + 1 :]),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (np.asarray(np.argmax(x, self.axis), np.int64),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (None,)


def _axes(x: Value, axes: int | Sequence[int]) -> tuple[int, ...]:
    listed = [axes] if isinstance(axes, int) else axes
    return tuple(sorted(from_start(axis, x.type.rank) for axis in listed))


def reduce_sum(x: Value, axes: int | Sequence[int], keep: bool = False) -> Value:
    """The sum along axes (negative ones count from the end)."""
    return apply(ReduceSum(_axes(x, axes), keep), x)


def reduce_max(x: Value, axes: int | Sequence[int], keep: bool = False) -> Value:
    """The largest element along axes (negative ones count from the end)."""
    return apply(ReduceMax(_axes(x, axes), keep), x)


def reduce_min(x: Value, axes: int | Sequence[int], keep: bool = False) -> Value:
    """The smallest element along axes (negative ones count from the end)."""
    return apply(ReduceMin(_axes(x, axes), keep), x)


def argmax(x: Value, axis: int) -> Value:
    """The index of the first largest element along an axis."""
    return apply(ArgMax(from_start(axis, x.type.rank)), x)


def sum_to(x: Value, shape: tuple[Dim, ...]) -> Value:
    """The opposite of broadcasting: `x` summed along the axes that broadcasting added or filled."""
    extra = x.type.rank - len(shape)
    axes = [
        axis
        for axis, size in enumerate(x.shape)
        if axis < extra or (shape[axis - extra] == 1 and size != 1)
    ]
    return reshape(reduce_sum(x, axes), shape) if axes else x
