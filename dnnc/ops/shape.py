"""Operators that move elements without computing: reshaping, cutting, joining, looking up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim
from dnnc.ir.graph import Value
from dnnc.ir.types import TensorType, broadcast_shapes
from dnnc.ops.base import (
    INTEGERS,
    NUMBERS,
    Array,
    Gradients,
    OnnxOp,
    Operator,
    TypeRuleError,
    apply,
    check_axis,
    check_dtype,
    check_rank,
    check_same_dtype,
    from_start,
    operator,
)
from dnnc.ops.creation import constant

__all__ = [
    "Broadcast",
    "Concat",
    "Gather",
    "Pad",
    "Reshape",
    "Reverse",
    "ScatterAdd",
    "Slice",
    "Transpose",
    "broadcast",
    "concat",
    "gather",
    "pad",
    "reshape",
    "reverse",
    "scatter_add",
    "slice",
    "transpose",
    "zeros",
]


def _resized(x: TensorType, axis: int, size: Dim) -> TensorType:
    return TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :]))


@operator
@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in row-major order, in another shape."""

    name: ClassVar[str] = "reshape"
    onnx: ClassVar[OnnxOp] = OnnxOp("Reshape", since=14)
    shape: tuple[Dim, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        result = TensorType.make(x.dtype, self.shape)
        if result.elements != x.elements:
            raise TypeRuleError(
                f"{x} has {x.elements} elements, and shape [{', '.join(map(str, self.shape))}] "
                f"has {result.elements}",
                f"this is {x}",
                "E203",
            )
        return (result,)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (x.reshape(tuple(int(s) for s in self.shape)),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (reshape(dz, x.shape),)


@operator
@dataclass(frozen=True)
class Transpose(Operator):
    """Axes in another order: axis i of the result is axis `permutation[i]` of the operand."""

    name: ClassVar[str] = "transpose"
    onnx: ClassVar[OnnxOp] = OnnxOp("Transpose", since=13)
    permutation: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_rank(self.name, x, len(self.permutation))
        if sorted(self.permutation) != list(range(x.rank)):
            raise TypeRuleError(
                f"`{self.name}` needs every axis once, got {list(self.permutation)}", code="E204"
            )
        return (TensorType(x.dtype, tuple(x.shape[axis] for axis in self.permutation)),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (x.transpose(self.permutation),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        inverse = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return (transpose(dz, inverse),)


@operator
@dataclass(frozen=True)
class Broadcast(Operator):
    """The operand repeated along new leading axes and along axes of size 1, to fill `shape`."""

    name: ClassVar[str] = "broadcast"
    onnx: ClassVar[OnnxOp] = OnnxOp("Expand", since=13)
    shape: tuple[Dim, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        result = TensorType.make(x.dtype, self.shape)
        if broadcast_shapes(x.shape, result.shape) != result.shape:
            raise TypeRuleError(
                f"{x} does not broadcast to {result}", f"this is {x}", "E203"
            )  # fmt: skip
        return (result,)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (np.broadcast_to(x, tuple(int(s) for s in self.shape)).copy(),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (dz,)


@operator
@dataclass(frozen=True)
class Concat(Operator):
    """Tensors one after the other along `axis`; their other sizes are equal."""

    name: ClassVar[str] = "concat"
    onnx: ClassVar[OnnxOp] = OnnxOp("Concat", since=13)
    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not types:
            raise TypeRuleError(f"`{self.name}` needs at least one tensor", code="E208")
        first = types[0]
        check_axis(self.name, first, self.axis)
        check_same_dtype(self.name, *types)
        for operand, type in enumerate(types):
            check_rank(self.name, type, first.rank, operand)
            if _resized(type, self.axis, dim(1)) != _resized(first, self.axis, dim(1)):
                raise TypeRuleError(
                    f"`{self.name}` along axis {self.axis}: other sizes differ: {first} and {type}",
                    f"this is {type}",
                    "E203",
                    operand,
                )
        total = sum((t.shape[self.axis] for t in types), start=dim(0))
        return (_resized(first, self.axis, total),)

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.concatenate(arrays, self.axis),)

    def gradient(self, dz: Value, z: Value, *operands: Value) -> Gradients:
        parts: list[Value] = []
        start = dim(0)
        for operand in operands:
            stop = start + operand.shape[self.axis]
            parts.append(slice(dz, self.axis, start, stop))
            start = stop
        return tuple(parts)


@operator
@dataclass(frozen=True)
class Slice(Operator):
    """The part of a tensor from index `start` up to, without, `stop` along `axis`."""

    name: ClassVar[str] = "slice"
    onnx: ClassVar[OnnxOp] = OnnxOp("Slice", since=13)
    axis: int
    start: Dim
    stop: Dim

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_axis(self.name, x, self.axis)
        rest = x.shape[self.axis] - self.stop
        if any((part.constant or 0) < 0 for part in (self.start, self.stop - self.start, rest)):
            raise TypeRuleError(
                f"`{self.name}` from {self.start} to {self.stop} does not fit axis {self.axis} "
                f"of {x}",
                f"this is {x}",
                "E206",
            )
        return (_resized(x, self.axis, self.stop - self.start),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (np.take(x, range(int(self.start), int(self.stop)), self.axis),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (pad(dz, self.axis, self.start, x.shape[self.axis] - self.stop),)


@operator
@dataclass(frozen=True)
class Pad(Operator):
    """A tensor with zeros `before` and `after` it along `axis`."""

    name: ClassVar[str] = "pad"
    onnx: ClassVar[OnnxOp] = OnnxOp("Pad", since=13)
    axis: int
    before: Dim
    after: Dim

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_axis(self.name, x, self.axis)
        for size in (self.before, self.after):
            if (size.constant or 0) < 0:
                raise TypeRuleError(f"`{self.name}` by a negative size: {size}", code="E206")
        return (_resized(x, self.axis, x.shape[self.axis] + self.before + self.after),)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        widths = [(0, 0)] * x.ndim
        widths[self.axis] = (int(self.before), int(self.after))
        return (np.pad(x, widths),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (slice(dz, self.axis, self.before, self.before + x.shape[self.axis]),)


@operator
@dataclass(frozen=True)
class Reverse(Operator):
    """The elements along `axis` in the opposite order."""

    name: ClassVar[str] = "reverse"
    axis: int

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        check_axis(self.name, x, self.axis)
        return (x,)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return (np.flip(x, self.axis),)

    def gradient(self, dz: Value, z: Value, x: Value) -> Gradients:
        return (reverse(dz, self.axis),)


def _check_indices(indices: Array, rows: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= rows):
        raise IndexError(
            f"indices from {indices.min()} to {indices.max()} do not fit {rows} rows"
        )  # fmt: skip


@operator
class Gather(Operator):
    """Rows of a table [n, ...] by indices int[...], each in 0 .. n - 1."""

    name, onnx = "gather", OnnxOp("Gather", since=13)

    def infer(self, table: TensorType, indices: TensorType) -> tuple[TensorType, ...]:
        check_axis(self.name, table, 0)
        check_dtype(self.name, INTEGERS, indices, operand=1)
        return (TensorType(table.dtype, indices.shape + table.shape[1:]),)

    def evaluate(self, table: Array, indices: Array) -> tuple[Array, ...]:
        _check_indices(indices, table.shape[0])
        return (table[indices],)

    def gradient(self, dz: Value, z: Value, table: Value, indices: Value) -> Gradients:
        return scatter_add(indices, dz, table.shape[0]), None


@operator
@dataclass(frozen=True)
class ScatterAdd(Operator):
    """Sums of updates [*indices, ...] by row [rows, ...]; equal indices add in their order."""

    name: ClassVar[str] = "scatter_add"
    rows: Dim

    def infer(self, indices: TensorType, updates: TensorType) -> tuple[TensorType, ...]:
        check_dtype(self.name, INTEGERS, indices)
        check_dtype(self.name, NUMBERS, updates, operand=1)
        if updates.shape[: indices.rank] != indices.shape:
            raise TypeRuleError(
                f"`{self.name}` needs one update for each index, got {indices} and {updates}",
                f"this is {updates}",
                "E203",
                1,
            )
        return (TensorType(updates.dtype, (self.rows, *updates.shape[indices.rank :])),)

    def evaluate(self, indices: Array, updates: Array) -> tuple[Array, ...]:
        rows, row = int(self.rows), updates.shape[indices.ndim :]
        _check_indices(indices, rows)
        total = np.zeros((rows, *row), updates.dtype)
        np.add.at(total, indices.ravel(), updates.reshape(indices.size, *row))
        return (total,)

    def gradient(self, dz: Value, z: Value, indices: Value, updates: Value) -> Gradients:
        return None, gather(dz, indices)


def _axis(x: Value, axis: int) -> int:
    return from_start(axis, x.type.rank)


def reshape(x: Value, shape: Iterable[DimLike]) -> Value:
    """The elements in another shape; `x` itself where that is its shape."""
    sizes = tuple(dim(s) for s in shape)
    return x if sizes == x.shape else apply(Reshape(sizes), x)


def transpose(x: Value, permutation: Sequence[int]) -> Value:
    """The axes in another order; `x` itself where that is theirs."""
    order = tuple(_axis(x, axis) for axis in permutation)
    return x if order == tuple(range(x.type.rank)) else apply(Transpose(order), x)


def broadcast(x: Value, shape: Iterable[DimLike]) -> Value:
    """`x` repeated to fill a shape; itself where that is its shape."""
    sizes = tuple(dim(s) for s in shape)
    return x if sizes == x.shape else apply(Broadcast(sizes), x)


def zeros(type: TensorType) -> Value:
    """A tensor of zeros of that type."""
    return broadcast(constant(0, type.dtype), type.shape)


def concat(values: Sequence[Value], axis: int) -> Value:
    """Tensors one after the other along an axis; a single one is returned as it is."""
    if len(values) == 1:
        return values[0]
    return apply(Concat(_axis(values[0], axis) if values else axis), *values)


def slice(x: Value, axis: int, start: DimLike, stop: DimLike) -> Value:
    """Indices `start` up to `stop` along an axis; `x` itself where those are all."""
    axis, start, stop = _axis(x, axis), dim(start), dim(stop)
    if 0 <= axis < x.type.rank and start == 0 and stop == x.shape[axis]:
        return x
    return apply(Slice(axis, start, stop), x)


def pad(x: Value, axis: int, before: DimLike, after: DimLike) -> Value:
    """Zeros before and after `x` along an axis; `x` itself where there are none."""
    before, after = dim(before), dim(after)
    return x if before == 0 and after == 0 else apply(Pad(_axis(x, axis), before, after), x)


def reverse(x: Value, axis: int) -> Value:
    """The elements along an axis in the opposite order."""
    return apply(Reverse(_axis(x, axis)), x)


def gather(table: Value, indices: Value) -> Value:
    """Rows of `table` by `indices`; see `Gather`."""
    return apply(Gather(), table, indices)


def scatter_add(indices: Value, updates: Value, rows: DimLike) -> Value:
    """Sums of `updates` by row; see `ScatterAdd`."""
    return apply(ScatterAdd(dim(rows)), indices, updates)
