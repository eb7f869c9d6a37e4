"""Element types and tensor types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim, product

__all__ = ["DType", "TensorType", "broadcast_shapes"]


class DType(Enum):
    """An element type; the value is its name in the language and in the IR."""

    F32 = "f32"
    F64 = "f64"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    I8 = "i8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return np.dtype(_NUMPY[self.value])

    @property
    def size(self) -> int:
        """Bytes an element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.F32, DType.F64)

    @property
    def is_integer(self) -> bool:
        return self in (DType.I32, DType.I64, DType.U8, DType.I8)

    @staticmethod
    def of(array: np.ndarray) -> DType:
        """The element type of an array; ValueError where the language has none for it."""
        for name, numpy_name in _NUMPY.items():
            if array.dtype == np.dtype(numpy_name):
                return DType(name)
        raise ValueError(f"no element type for {array.dtype}")

    def __str__(self) -> str:
        return self.value


_NUMPY = {
    "f32": "float32",
    "f64": "float64",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "i8": "int8",
    "bool": "bool",
}


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and a shape, printed as `f32[batch, 64]`; a scalar is `f32[]`."""

    dtype: DType
    shape: tuple[Dim, ...] = ()

    @staticmethod
    def make(dtype: DType, shape: Iterable[DimLike]) -> TensorType:
        return TensorType(dtype, tuple(dim(size) for size in shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        """Number of elements."""
        return product(list(self.shape))

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(size.symbols for size in self.shape))

    def with_shape(self, shape: Iterable[DimLike]) -> TensorType:
        return TensorType.make(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def substitute(self, sizes: Mapping[str, DimLike]) -> TensorType:
        return TensorType(self.dtype, tuple(size.substitute(sizes) for size in self.shape))

    def concrete(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape in integers for given symbols."""
        return tuple(size.evaluate(sizes) for size in self.shape)

    def __reduce__(self) -> tuple[object, ...]:
        return TensorType, (self.dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def broadcast_shapes(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...] | None:
    """The common shape under NumPy's rule, or None; symbolic sizes agree only when equal."""
    if shapes and all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = []
    for axis in range(rank):
        sizes = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0}
        sizes.discard(dim(1))
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else dim(1))
    return tuple(result)
