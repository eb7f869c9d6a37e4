"""Tensors of the graph: making them, bringing operands to one element type, and locating faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dnnc import ops
from dnnc.diagnostics import DnnError
from dnnc.elaborate.session import Session
from dnnc.elaborate.values import (
    Axes,
    Ratio,
    Size,
    Tensor,
    callable_value,
    describe,
    is_number,
    plain,
)
from dnnc.ir.graph import Value, origin
from dnnc.ir.types import DType
from dnnc.ops.base import TypeRuleError

__all__ = ["Tensors"]


#: What a node of the graph costs beside other steps of evaluation.
EMIT_WORK = 40
#: Axes of one tensor.
RANK_LIMIT = 32
_WIDENING = [DType.BOOL, DType.U8, DType.I8, DType.I32, DType.I64, DType.F32, DType.F64]
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}


class Tensors:
    """Makes tensors within a session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def emit(self, build: Callable[..., Any], *values: Value, **attributes: Any) -> Any:
        """Apply an operator here; a broken type rule becomes a located error."""
        self.session.spend(EMIT_WORK)
        try:
            with origin(self.session.origin()):
                return build(*values, **attributes)
        except TypeRuleError as error:
            raise self.session.error(error.code, error.message, label=error.label) from None

    def tensor(self, value: Value, axes: Axes) -> Tensor:
        assert len(axes) == value.type.rank, (axes, value.type)
        self.check_rank(value.type.rank)
        return Tensor(value, axes, self.session.user_span())

    def check_rank(self, rank: int) -> None:
        """E205 for more axes than NumPy's arrays can have."""
        if rank > RANK_LIMIT:
            self.session.fail("E205", f"a tensor has at most {RANK_LIMIT} axes, got {rank}")

    def call_by(self, x: Tensor, name: str) -> None:
        """Let dumps and reports call a computed value by its name in the user's text."""
        if x.value.node is not None:
            # A hint has no meaning: the value stays the same for all that computes with it.
            object.__setattr__(x.value, "hint", name)

    def lift(self, value: Any, dtype: DType) -> Tensor:
        """A number or size as a scalar tensor."""
        value = plain(value)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Size):
            return self.tensor(self.emit(ops.size, dim=value.dim, dtype=dtype), ())
        if isinstance(value, Ratio):
            a = self.lift(Size(value.numerator), dtype)
            b = self.lift(Size(value.denominator), dtype)
            return self.tensor(self.emit(ops.divide, a.value, b.value), ())
        if isinstance(value, bool | int | float):
            return self.tensor(self.emit(ops.constant, value=value, dtype=dtype), ())
        self.session.fail(
            "E112", f"a number or a tensor is needed, got {describe(value)}",
            help="apply it by `->`, as in `x -> relu`" if callable_value(value) else None,
        )  # fmt: skip
        return None

    def as_tensor(self, value: Any) -> Tensor:
        """Any number as a scalar of its natural element type; tensors as they are."""
        if isinstance(value, bool):
            return self.lift(value, DType.BOOL)
        whole = isinstance(plain(value), int | Size)
        return self.lift(value, DType.I64 if whole else self.session.dtype)

    def promote(self, *values: Any, true_division: bool = False) -> list[Tensor]:
        """Operands brought to one element type: tensors widen, numbers follow the tensors."""
        dtypes = [v.dtype for v in values if isinstance(v, Tensor)]
        dtype = max(dtypes, key=_WIDENING.index, default=self.session.dtype)
        fractional = any(isinstance(v, float | Ratio) for v in values) or true_division
        if fractional and not dtype.is_float:
            dtype = self.session.dtype
        if dtype is DType.BOOL and any(is_number(v) for v in values):
            dtype = DType.I64
        return [self.converted(self.lift(v, dtype), dtype) for v in values]

    def converted(self, x: Tensor, dtype: DType) -> Tensor:
        if x.dtype is dtype:
            return x
        return Tensor(self.emit(ops.cast, x.value, dtype=dtype), x.axes, x.span)

    def elementwise(
        self, build: Callable[..., Value], *values: Any, symbol: str = "", **attributes: Any
    ) -> Tensor:
        """Apply an elementwise operator after promotion."""
        tensors = self.promote(*values, true_division=symbol == "/")
        if symbol in ("and", "or"):
            for t in tensors:
                if t.dtype is not DType.BOOL:
                    self.session.fail("E202", f"`{symbol}` needs bool tensors, got {t.type}")
        elif tensors[0].dtype is DType.BOOL and symbol not in _COMPARISONS:
            tensors = [self.converted(t, DType.I64) for t in tensors]
        try:
            value = self.emit(build, *(t.value for t in tensors), **attributes)
        except DnnError as error:
            notes = () if symbol else self.session.made_at(*tensors)
            first = error.diagnostics[0]
            if not notes or first.notes:
                raise
            self.session.fail(
                first.code, first.message, label=first.label, help=first.help, notes=notes
            )
        return self.tensor(value, self.merged_axes(tensors, value.type.rank))

    def merged_axes(self, tensors: Sequence[Tensor], rank: int) -> Axes:
        axes: list[Any] = [None] * rank
        for t in tensors:
            for i, axis in enumerate(t.axes):
                position = rank - t.rank + i
                if axes[position] is None and t.shape[i] != 1:
                    axes[position] = axis
        for t in tensors:
            for i, axis in enumerate(t.axes):
                position = rank - t.rank + i
                axes[position] = axes[position] or axis
        return tuple(axes)

    def reshaped(self, x: Tensor, shape: Sequence[Any], axes: Axes) -> Tensor:
        return self.tensor(self.emit(ops.reshape, x.value, shape=tuple(shape)), axes)
