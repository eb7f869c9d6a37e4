"""What the operator families share: element types, checks of operands, base classes.

`Operator` itself is defined in `dnnc.ir.operator`; its names are offered here too, since a family
of operators needs all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dnnc.ir.dims import Dim
from dnnc.ir.graph import apply, apply_all
from dnnc.ir.operator import (
    OPERATORS,
    Array,
    Gradients,
    NoGradientError,
    OnnxOp,
    Operator,
    TypeRuleError,
    operator,
)
from dnnc.ir.types import DType, TensorType, broadcast_shapes

__all__ = [
    "ANY",
    "BOOLS",
    "FLOATS",
    "INTEGERS",
    "NUMBERS",
    "OPERATORS",
    "Array",
    "Elementwise",
    "Gradients",
    "NoGradientError",
    "NonDifferentiable",
    "OnnxOp",
    "Operator",
    "TypeRuleError",
    "apply",
    "apply_all",
    "check_axis",
    "check_dtype",
    "check_positive",
    "check_rank",
    "check_same_dtype",
    "check_type",
    "from_start",
    "lowest",
    "operator",
]

FLOATS = frozenset(d for d in DType if d.is_float)
INTEGERS = frozenset(d for d in DType if d.is_integer)
NUMBERS = FLOATS | INTEGERS
BOOLS = frozenset({DType.BOOL})
ANY = NUMBERS | BOOLS

_KINDS = {FLOATS: "floating-point numbers", INTEGERS: "integers", NUMBERS: "numbers"}


def check_dtype(name: str, accepts: frozenset[DType], type: TensorType, operand: int = 0) -> None:
    """Raise E201 where operator `name` does not accept the element type of an operand."""
    if type.dtype not in accepts:
        kind = _KINDS.get(accepts, "bool")
        raise TypeRuleError(
            f"`{name}` needs {kind}, got {type}", f"this is {type}", "E201", operand
        )


def check_same_dtype(name: str, *types: TensorType) -> None:
    """Raise E202 where element types differ; at fault is the first that differs from operand 0."""
    for operand, type in enumerate(types):
        if type.dtype is not types[0].dtype:
            raise TypeRuleError(
                f"`{name}` needs operands of one element type, got {_list(types)}",
                f"this is {type}",
                "E202",
                operand,
            )


def check_type(
    name: str, what: str, expected: TensorType, given: TensorType, operand: int = 0
) -> None:
    """Raise E203 where an operand (`what` in words) is not of the type that the others ask for."""
    if given != expected:
        raise TypeRuleError(
            f"`{name}` needs {what} {expected}, got {given}", f"this is {given}", "E203", operand
        )


def check_rank(name: str, type: TensorType, rank: int, operand: int = 0) -> None:
    """Raise E205 unless an operand has `rank` axes."""
    if type.rank != rank:
        raise TypeRuleError(
            f"`{name}` needs a tensor with {rank} axes, got {type}",
            f"this is {type}",
            "E205",
            operand,
        )


def check_axis(name: str, type: TensorType, axis: int, operand: int = 0) -> None:
    """Raise E204 unless `axis` counts an axis of an operand from 0."""
    if not 0 <= axis < type.rank:
        raise TypeRuleError(
            f"`{name}` along axis {axis}, but {type} has {type.rank} axes",
            f"this is {type}",
            "E204",
            operand,
        )


def from_start(axis: int, rank: int) -> int:
    """An axis counted from 0, where negative ones count from the end; others are left alone."""
    return axis + rank if -rank <= axis < 0 else axis


def check_positive(name: str, what: str, *sizes: Dim) -> None:
    """Raise E206 where a size (`what` in words) is known to be less than 1."""
    for size in sizes:
        known = size.constant
        if known is not None and known < 1:
            raise TypeRuleError(f"`{name}`: {what} must be positive, got {size}", "", "E206")


def lowest(x: Array) -> float:
    """The smallest number of an array's element type."""
    return -np.inf if DType.of(x).is_float else int(np.iinfo(x.dtype).min)


def _list(types: tuple[TensorType, ...]) -> str:
    return " and ".join(map(str, types))


@dataclass(frozen=True)
class Elementwise(Operator):
    """An operator that acts element by element, under NumPy's broadcasting.

    `scalar` is its formula on one element in Python syntax over the operand names a, b, c and the
    functions listed in `dnnc.kernels.scalar`; fusion composes these formulas. `compute` is the same
    on NumPy arrays. `accepts` are the element types of the operands, all of which must be the same.
    """

    arity: ClassVar[int] = 1
    accepts: ClassVar[frozenset[DType]] = NUMBERS
    scalar: ClassVar[str] = ""
    compute: ClassVar[Callable[..., Any] | None] = None
    facets: ClassVar[tuple[str, ...]] = (*Operator.facets, "scalar", "compute")

    def result_dtype(self, *types: TensorType) -> DType:
        """Element type of the result; raises TypeRuleError. By default that of all operands."""
        for operand, type in enumerate(types):
            check_dtype(self.name, self.accepts, type, operand)
        check_same_dtype(self.name, *types)
        return types[0].dtype

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if len(types) != self.arity:
            raise TypeRuleError(
                f"`{self.name}` takes {self.arity} operands, got {len(types)}", code="E208"
            )
        dtype = self.result_dtype(*types)
        shape = broadcast_shapes(*(t.shape for t in types))
        if shape is None:
            operand = next(
                i for i in range(len(types)) if not _fit(types[: i + 1])
            )  # fmt: skip
            raise TypeRuleError(
                f"shapes do not broadcast: {_list(types)}",
                f"this is {types[operand]}",
                "E203",
                operand,
            )
        return (TensorType(dtype, shape),)

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        assert self.compute is not None
        types = [TensorType.make(DType.of(a), a.shape) for a in arrays]
        # The reference follows IEEE 754 without complaint, as the kernels do.
        with np.errstate(all="ignore"):
            result = type(self).compute(*arrays)  # type: ignore[misc]
            return (np.asarray(result).astype(self.result_dtype(*types).numpy, copy=False),)


@dataclass(frozen=True)
class NonDifferentiable(Operator):
    """Base of the operators that passes make, once gradients have been taken."""

    def gradient(self, dz: Any, z: Any, *operands: Any, **_: Any) -> Gradients:
        raise NoGradientError(f"`{self.name}` is made after gradients are taken")


def _fit(types: tuple[TensorType, ...]) -> bool:
    return broadcast_shapes(*(t.shape for t in types)) is not None
