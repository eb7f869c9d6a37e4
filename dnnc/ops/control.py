"""Operators with a region (the loop over a sequence, and the group of operators in one kernel), and
the one that delays a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, Value, apply_all
from dnnc.ir.interpret import evaluate
from dnnc.ir.types import TensorType
from dnnc.ops.base import (
    Array,
    Gradients,
    NonDifferentiable,
    Operator,
    TypeRuleError,
    operator,
)
from dnnc.ops.scan_gradient import Walk, scan_gradient

__all__ = ["After", "Fused", "Scan", "Sweep", "scan"]

T = TypeVar("T")


@operator
@dataclass(frozen=True)
class Scan(Operator):
    """A loop over axis 0 of sequences, from the last element to the first with `reverse`.

    Operands are the first carries, the sequences (at least one) and captures, which stay the same.
    The inputs of `body` are those of one turn in that order, with sequences lacking axis 0; its
    outputs are the next carries, then what the turn emits. Results are the last carries, then the
    emitted values stacked along a first axis, in the order of the sequences also with `reverse`.
    """

    name: ClassVar[str] = "scan"
    multiple: ClassVar[bool] = True
    body: Graph
    carries: int
    sequences: int = 1
    reverse: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        inputs = [item.value.type for item in self.body.inputs]
        if len(types) != len(inputs) or self.sequences < 1:
            raise TypeRuleError(
                f"`{self.name}` of a body with {len(inputs)} inputs got {len(types)} operands, "
                f"{self.sequences} of them sequences",
                code="E208",
            )
        end = self.carries + self.sequences
        length = self._length(types[self.carries : end])
        for operand, (type, expected) in enumerate(zip(types, inputs, strict=True)):
            turn = type
            if self.carries <= operand < end:
                turn = TensorType(type.dtype, type.shape[1:])
            self._agree(self.body.inputs[operand].name, turn, expected, operand)
        outputs = [output.value.type for output in self.body.outputs]
        for i in range(self.carries):
            self._agree(self.body.inputs[i].name, outputs[i], inputs[i], i)
        emitted = (TensorType(t.dtype, (length, *t.shape)) for t in outputs[self.carries :])
        return (*outputs[: self.carries], *emitted)

    def _length(self, sequences: Sequence[TensorType]) -> Dim:
        for operand, type in enumerate(sequences, self.carries):
            if type.rank < 1:
                raise TypeRuleError(
                    f"`{self.name}` along {type}, which has no axes", "", "E205", operand
                )
            if type.shape[0] != sequences[0].shape[0]:
                raise TypeRuleError(
                    f"`{self.name}` along sequences of different lengths: "
                    f"{sequences[0].shape[0]} and {type.shape[0]}",
                    f"this is {type}",
                    "E203",
                    operand,
                )
        return sequences[0].shape[0]

    def _agree(self, name: str, given: TensorType, expected: TensorType, operand: int) -> None:
        if given != expected:
            raise TypeRuleError(
                f"`{name}` is {expected} in the loop, but gets {given}",
                f"this is {given}",
                "E203",
                operand,
            )

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        end = self.carries + self.sequences
        state, sequences, captures = (
            arrays[: self.carries],
            arrays[self.carries : end],
            arrays[end:],
        )
        inputs = [item.value for item in self.body.inputs]
        outputs = [output.value for output in self.body.outputs]
        length = len(sequences[0])
        stacked = [
            np.zeros((length, *value.type.concrete({})), value.type.dtype.numpy)
            for value in outputs[self.carries :]
        ]
        for turn in reversed(range(length)) if self.reverse else range(length):
            now = (*state, *(np.asarray(s[turn]) for s in sequences), *captures)
            values = dict(zip(inputs, now, strict=True))
            evaluate(self.body, values, {})
            state = tuple(values[v] for v in outputs[: self.carries])
            for stack, value in zip(stacked, outputs[self.carries :], strict=True):
                stack[turn] = values[value]
        return (*state, *stacked)

    def gradient(
        self,
        dz: Sequence[Value | None],
        z: Sequence[Value],
        *operands: Value,
        walk: Walk,
        needed: Sequence[bool],
    ) -> Gradients:
        return scan_gradient(self, dz, z, operands, needed, walk)


@operator
@dataclass(frozen=True)
class Fused(NonDifferentiable):
    """Operators that run as one kernel; made by the fusion pass.

    Operands are the inputs of `body`, results its outputs. The values of the body align with the
    iteration `space`; its reductions run along the axes `reduced` of that.
    """

    name: ClassVar[str] = "fused"
    multiple: ClassVar[bool] = True
    body: Graph
    space: tuple[Dim, ...]
    reduced: tuple[int, ...] = ()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        inputs = [item.value.type for item in self.body.inputs]
        if list(types) != inputs:
            raise TypeRuleError(
                f"`{self.name}` takes {', '.join(map(str, inputs))}, "
                f"got {', '.join(map(str, types))}",
                code="E203",
            )
        return tuple(output.value.type for output in self.body.outputs)

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        inputs = [item.value for item in self.body.inputs]
        values = dict(zip(inputs, arrays, strict=True))
        evaluate(self.body, values, {})
        return tuple(values[output.value] for output in self.body.outputs)


@operator
@dataclass(frozen=True)
class Sweep(NonDifferentiable):
    """One formula on the elements of several groups of tensors; made by the pass `sweep`.

    The inputs of `body` are numbers, and so are its outputs. Operands are the first `shared` of
    them, then for each group a tensor for every other one, all of one shape. Results are those of
    the first group, of the second, and so on.
    """

    name: ClassVar[str] = "sweep"
    multiple: ClassVar[bool] = True
    body: Graph
    shared: int = 0

    def groups(self, operands: Sequence[T]) -> list[Sequence[T]]:
        """The operands that each group has for itself."""
        each = len(self.body.inputs) - self.shared
        return [operands[i : i + each] for i in range(self.shared, len(operands), each)]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        inputs = [item.value.type for item in self.body.inputs]
        each = len(inputs) - self.shared
        if each < 1 or len(types) < len(inputs) or (len(types) - self.shared) % each:
            raise TypeRuleError(
                f"`{self.name}` of {self.shared} numbers and groups of {each} got {len(types)} "
                "operands",
                code="E208",
            )
        results: list[TensorType] = []
        for group in self.groups(types):
            wanted = [TensorType(t.dtype, group[0].shape) for t in inputs[self.shared :]]
            if [*types[: self.shared], *group] != [*inputs[: self.shared], *wanted]:
                raise TypeRuleError(
                    f"`{self.name}` takes numbers and groups of one shape as "
                    f"{', '.join(map(str, inputs))}, got {', '.join(map(str, group))}",
                    code="E203",
                )
            outputs = (output.value.type.dtype for output in self.body.outputs)
            results += [TensorType(dtype, group[0].shape) for dtype in outputs]
        return tuple(results)

    def evaluate(self, *arrays: Array) -> tuple[Array, ...]:
        inputs = [item.value for item in self.body.inputs]
        results: list[Array] = []
        for group in self.groups(arrays):
            values = dict(zip(inputs, (*arrays[: self.shared], *group), strict=True))
            evaluate(self.body, values, {})
            results += [values[output.value] for output in self.body.outputs]
        return tuple(results)


@operator
@dataclass(frozen=True)
class After(Operator):
    """The value `x` itself, for readers that must run after `event` has been computed.

    It costs nothing and reads nothing of `event`.
    """

    name: ClassVar[str] = "after"

    def infer(self, x: TensorType, event: TensorType) -> tuple[TensorType, ...]:
        return (x,)

    def evaluate(self, x: Array, event: Array) -> tuple[Array, ...]:
        return (x,)

    def gradient(self, dz: Value, z: Value, x: Value, event: Value) -> Gradients:
        return dz, None


def scan(
    body: Graph,
    init: Sequence[Value],
    sequences: Sequence[Value],
    captures: Sequence[Value] = (),
    reverse: bool = False,
) -> tuple[list[Value], list[Value]]:
    """The last carries and the stacked emits of a loop; see `Scan`."""
    op = Scan(body, len(init), len(sequences), reverse)
    results = apply_all(op, *init, *sequences, *captures)
    return list(results[: len(init)]), list(results[len(init) :])
