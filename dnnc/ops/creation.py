"""Operators that make tensors out of nothing: constants, counts, sizes and random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, TypeAlias

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim
from dnnc.ir.graph import Value
from dnnc.ir.random import uniform
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import (
    FLOATS,
    NUMBERS,
    Array,
    Gradients,
    Operator,
    TypeRuleError,
    apply,
    check_axis,
    check_dtype,
    from_start,
    operator,
)

__all__ = [
    "Constant",
    "Iota",
    "Number",
    "Operand",
    "RandomUniform",
    "Size",
    "as_values",
    "constant",
    "iota",
    "random_uniform",
    "size",
]

Number: TypeAlias = int | float | bool
#: What a builder takes for an elementwise operand.
Operand: TypeAlias = Value | Number


@operator
@dataclass(frozen=True, eq=False)
class Constant(Operator):
    """A tensor known when compiling; `values` in row-major order, one for a scalar.

    Values are rounded to the element type.
    """

    name: ClassVar[str] = "constant"
    dtype: DType
    shape: tuple[int, ...]
    values: tuple[Number, ...]

    def __post_init__(self) -> None:
        if math.prod(self.shape) == len(self.values):
            object.__setattr__(self, "values", tuple(self.array.ravel().tolist()))

    def __reduce__(self) -> tuple[object, ...]:
        return _constant, (self.array, self.dtype)

    @cached_property
    def array(self) -> Array:
        """The values as an array of this shape and element type, which cannot be written to."""
        array = np.array(self.values, self.dtype.numpy).reshape(self.shape)
        array.flags.writeable = False
        return array

    def infer(self) -> tuple[TensorType, ...]:
        if math.prod(self.shape) != len(self.values):
            raise TypeRuleError(
                f"a constant of shape {list(self.shape)} has {len(self.values)} values", code="E206"
            )
        return (TensorType.make(self.dtype, self.shape),)

    def evaluate(self) -> tuple[Array, ...]:
        return (self.array,)

    def gradient(self, dz: Value, z: Value) -> Gradients:
        return ()

    def _identity(self) -> tuple[Any, ...]:
        # By bits: 0.0 and -0.0 are different constants, and a NaN equals itself.
        return self.dtype, self.shape, self.array.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


@operator
@dataclass(frozen=True)
class Iota(Operator):
    """Indices along `axis`, the same along all others: 0, 1, 2, ..."""

    name: ClassVar[str] = "iota"
    shape: tuple[Dim, ...]
    axis: int = 0
    dtype: DType = DType.I64

    def infer(self) -> tuple[TensorType, ...]:
        result = TensorType.make(self.dtype, self.shape)
        check_dtype(self.name, NUMBERS, result)
        check_axis(self.name, result, self.axis)
        return (result,)

    def evaluate(self) -> tuple[Array, ...]:
        shape = tuple(int(s) for s in self.shape)
        along = [1] * len(shape)
        along[self.axis] = shape[self.axis]
        index = np.arange(shape[self.axis]).astype(self.dtype.numpy).reshape(along)
        return (np.broadcast_to(index, shape).copy(),)

    def gradient(self, dz: Value, z: Value) -> Gradients:
        return ()


@operator
@dataclass(frozen=True)
class Size(Operator):
    """A size as a number: a scalar that is known when the shapes of the inputs are."""

    name: ClassVar[str] = "size"
    dim: Dim
    dtype: DType = DType.I64

    def infer(self) -> tuple[TensorType, ...]:
        result = TensorType(self.dtype)
        check_dtype(self.name, NUMBERS, result)
        return (result,)

    def evaluate(self) -> tuple[Array, ...]:
        return (np.array(int(self.dim), self.dtype.numpy),)

    def gradient(self, dz: Value, z: Value) -> Gradients:
        return ()


@operator
@dataclass(frozen=True)
class RandomUniform(Operator):
    """Independent numbers, uniform in [0, 1), from operands seed i64[] and step i64[].

    `place` tells apart the random operators of a program; equal seed, step and place give equal
    numbers (`dnnc.ir.random`).
    """

    name: ClassVar[str] = "random_uniform"
    shape: tuple[Dim, ...]
    place: int = 0
    dtype: DType = DType.F32

    def infer(self, seed: TensorType, step: TensorType) -> tuple[TensorType, ...]:
        for operand, type in enumerate((seed, step)):
            if type != TensorType(DType.I64):
                raise TypeRuleError(
                    f"`{self.name}` needs i64[] for seed and step, got {type}",
                    f"this is {type}",
                    "E201",
                    operand,
                )
        result = TensorType.make(self.dtype, self.shape)
        check_dtype(self.name, FLOATS, result)
        return (result,)

    def evaluate(self, seed: Array, step: Array) -> tuple[Array, ...]:
        shape = tuple(int(s) for s in self.shape)
        return (uniform(int(seed), int(step), self.place, shape, self.dtype),)

    def gradient(self, dz: Value, z: Value, seed: Value, step: Value) -> Gradients:
        return None, None


def constant(value: Number | Array | list[Any], dtype: DType) -> Value:
    """A constant from a number, nested lists or an array; raises E207 where it does not fit."""
    if type(value) is float:
        # Told apart by their bits: zeros of both signs are equal.
        return apply(_number(value.hex(), dtype))
    return apply(_constant(value, dtype))


@lru_cache(maxsize=1024)
def _number(digits: str, dtype: DType) -> Constant:
    return _constant(float.fromhex(digits), dtype)


def _constant(value: Number | Array | list[Any], dtype: DType) -> Constant:
    given = np.asarray(value)
    try:
        with np.errstate(all="ignore"):
            array = given.astype(dtype.numpy)
    except OverflowError:
        array = None
    if array is None or (not dtype.is_float and not np.array_equal(array, given)):
        raise TypeRuleError(f"{value} is no number of type {dtype}", code="E207")
    return Constant(dtype, array.shape, tuple(array.ravel().tolist()))


def iota(shape: Iterable[DimLike], axis: int = 0, dtype: DType = DType.I64) -> Value:
    """Indices along `axis`; see `Iota`."""
    sizes = tuple(dim(s) for s in shape)
    return apply(Iota(sizes, from_start(axis, len(sizes)), dtype))


def size(dim: DimLike, dtype: DType = DType.I64) -> Value:
    """A size as a scalar; a constant where it is known."""
    known = dim if isinstance(dim, int) else dim.constant
    if known is not None:
        return constant(known, dtype)
    assert isinstance(dim, Dim)
    return apply(Size(dim, dtype))


def random_uniform(
    seed: Value, step: Value, shape: Iterable[DimLike], place: int, dtype: DType = DType.F32
) -> Value:
    """Numbers in [0, 1); see `RandomUniform`."""
    return apply(RandomUniform(tuple(dim(s) for s in shape), place, dtype), seed, step)


def as_values(*operands: Operand) -> tuple[Value, ...]:
    """The operands, with Python numbers made constants of the first tensor's element type."""
    dtype = next((x.type.dtype for x in operands if isinstance(x, Value)), None)
    if dtype is None:
        raise TypeError("at least one operand must be a tensor")
    return tuple(x if isinstance(x, Value) else constant(x, dtype) for x in operands)
