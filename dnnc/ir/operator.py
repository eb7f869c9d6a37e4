"""What an operator is.

An operator is defined once, as one class: a type rule (`infer`), a meaning (`evaluate`, in NumPy,
and for elementwise operators a scalar formula), a gradient in terms of other operators, an ONNX
name and documentation. Attributes are dataclass fields, so printing, parsing, hashing and common-
subexpression elimination derive from them. `@operator` registers the class and fails at once when
a facet is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy.typing as npt

from dnnc.diagnostics import register_codes
from dnnc.ir.dims import Dim, DimLike
from dnnc.ir.graph import Graph, Value
from dnnc.ir.rewrite import substitute_graph
from dnnc.ir.types import TensorType

__all__ = [
    "OPERATORS",
    "Array",
    "Gradients",
    "NoGradientError",
    "OnnxOp",
    "Operator",
    "TypeRuleError",
    "operator",
]

Array: TypeAlias = npt.NDArray[Any]
#: One gradient for each operand; None where the results do not depend on it smoothly.
Gradients: TypeAlias = tuple[Value | None, ...]

register_codes(
    {
        "E201": "an operator does not accept this element type",
        "E202": "element types differ",
        "E203": "shapes do not fit together",
        "E204": "an axis is out of range",
        "E205": "a tensor has the wrong number of axes",
        "E206": "a size does not suit the operator",
        "E207": "a number does not fit its element type",
        "E208": "an operator has the wrong number of operands",
    }
)


class TypeRuleError(Exception):
    """Operands do not fit an operator. The elaborator turns it into a located diagnostic.

    `code` is a diagnostic code of the E2xx family, `operand` the index of the one at fault.
    """

    def __init__(self, message: str, label: str = "", code: str = "E201", operand: int = 0) -> None:
        super().__init__(message)
        self.message, self.label, self.code, self.operand = message, label, code, operand


class NoGradientError(Exception):
    """An operator has no gradient (for instance a second derivative of pooling)."""


@dataclass(frozen=True, slots=True)
class OnnxOp:
    """The ONNX operator of the same meaning, and the opset in which it took that meaning."""

    name: str
    since: int = 1


@dataclass(frozen=True)
class Operator:
    """Base of all operators. Instances are immutable and compare by their attributes.

    Subclasses name the operands of `infer`, `evaluate` and `gradient`; the open signatures here
    let them.
    """

    name: ClassVar[str]
    onnx: ClassVar[OnnxOp | None] = None
    #: Equal operands give equal results; False for operators that must not be merged or moved.
    pure: ClassVar[bool] = True
    #: The operator has a list of results, and `gradient` takes tuples; else it has exactly one.
    multiple: ClassVar[bool] = False
    #: What a subclass must define.
    facets: ClassVar[tuple[str, ...]] = ("infer", "evaluate", "gradient")

    def infer(self, *types: Any, **_: Any) -> tuple[TensorType, ...]:
        """Types of the results from those of the operands; raises TypeRuleError."""
        raise NotImplementedError

    def evaluate(self, *arrays: Any, **_: Any) -> tuple[Array, ...]:
        """The results, in NumPy: the reference for every kernel.

        Attributes hold no symbols here: the caller binds them by `substitute`.
        """
        raise NotImplementedError

    def gradient(self, dz: Any, z: Any, *operands: Any, **_: Any) -> Gradients:
        """Gradient for each operand, from the gradient `dz` of the result `z`.

        A returned gradient may have the shape of the result where the operand was broadcast: the
        reverse walk sums it down, and drops gradients of operands that are not floating point.
        Operators with `multiple` results get tuples `dz` (None: unused result) and `z`, and
        the keywords `walk` (see `dnnc.autodiff.pullback`) and `needed` (a flag for each operand).
        Raises NoGradientError.
        """
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        """Attributes in the order of their declaration."""
        kind: type = type(self)
        return {name: getattr(self, name) for name in _attribute_names(kind)}

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols in the attributes, apart from those of regions."""
        return _symbols(tuple(self.attributes().values()))

    def substitute(self, sizes: Mapping[str, DimLike]) -> Operator:
        """The same operator with symbols replaced in every size, also inside its regions."""
        changed = {}
        for name, value in self.attributes().items():
            bound = _substitute(value, sizes)
            if bound is not value:
                changed[name] = bound
        return dataclasses.replace(self, **changed) if changed else self


@cache
def _attribute_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _symbols(value: Any) -> frozenset[str]:
    if isinstance(value, Dim):
        return value.symbols
    if isinstance(value, tuple):
        return frozenset().union(*map(_symbols, value))
    return frozenset()


def _substitute(value: Any, sizes: Mapping[str, DimLike]) -> Any:
    if isinstance(value, Dim):
        return value.substitute(sizes)
    if isinstance(value, Graph):
        return substitute_graph(value, sizes)
    if isinstance(value, tuple):
        bound = tuple(_substitute(item, sizes) for item in value)
        return bound if any(a is not b for a, b in zip(bound, value, strict=True)) else value
    return value


#: All operators by name.
OPERATORS: dict[str, type[Operator]] = {}

OperatorClass = TypeVar("OperatorClass", bound=type[Operator])


def operator(cls: OperatorClass) -> OperatorClass:
    """Class decorator: check that every facet is there, and register the operator."""
    for facet in cls.facets:
        meaning = getattr(cls, facet, None)
        if not meaning or meaning is getattr(Operator, facet, None):
            raise TypeError(f"operator {cls.__name__} lacks `{facet}`")
    if not vars(cls).get("__doc__") or not getattr(cls, "name", ""):
        raise TypeError(f"operator {cls.__name__} lacks a name or a docstring")
    if cls.name in OPERATORS:
        raise TypeError(f"operator {cls.name} is defined twice")
    OPERATORS[cls.name] = cls
    return cls
