"""From the formulas of operators to lines of kernel source over typed operations.

Generated source holds names chosen here and constants by name; what the names stand for is in
`Source`: typed operations of `dnnc.kernels.scalar`, loads, stores and NumPy scalars.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from dnnc.ir.types import DType

__all__ = ["Scope", "Source", "Term", "translate"]


@dataclass(frozen=True, slots=True)
class Term:
    """A name in the source with its element type; `value` where it is a constant."""

    name: str
    dtype: DType
    value: int | float | bool | None = None


@dataclass(slots=True)
class Source:
    """Tables behind generated source: operations, memory accesses and constants by name."""

    operations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accesses: dict[str, tuple[str, str, int | None]] = field(default_factory=dict)
    constants: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def constant(self, dtype: DType, value: Any) -> Term:
        number = dtype.numpy.type(value)
        text = number.tobytes().hex()
        name = f"c_{dtype}_{text}"
        self.constants[name] = (dtype.value, number)
        return Term(name, dtype, number.item())

    def operation(self, name: str, result: DType, *operands: DType) -> str:
        dtypes = [dtype.value for dtype in (result, *operands)]
        function = "_".join([f"f_{name}", *dtypes])
        self.operations[function] = (name, *dtypes)
        return function

    def access(self, kind: str, dtype: DType, buffer: int | None) -> str:
        name = f"{kind}_{dtype}_{'any' if buffer is None else buffer}"
        self.accesses[name] = (kind, dtype.value, buffer)
        return name

    def renamed(self, names: Mapping[str, str]) -> Source:
        """The same with the memory accesses that have a new name, under that name."""
        accesses: dict[str, tuple[str, str, int | None]] = {}
        for name, (kind, dtype, buffer) in self.accesses.items():
            if buffer is None:
                accesses[name] = (kind, dtype, buffer)
            elif name in names:
                accesses[names[name]] = (kind, dtype, int(names[name].rsplit("_", 1)[-1]))
        return Source(self.operations, accesses, self.constants)

    def key(self, text: str) -> str:
        """All that decides the code, as text."""
        constants = sorted((name, dtype) for name, (dtype, _) in self.constants.items())
        return f"{text}\n{sorted(self.operations)}\n{sorted(self.accesses)}\n{constants}"

    def namespace(self) -> dict[str, Any]:
        """What the names stand for. Imports numba."""
        from dnnc.kernels import intrinsics
        from dnnc.kernels.product.lines import build_list_lines
        from dnnc.kernels.scalar import scalar
        from dnnc.kernels.subroutine import shared

        names: dict[str, Any] = {"slot": intrinsics.slot, "share": intrinsics.share}
        names["list_lines"] = shared(build_list_lines)
        for name, (operation, *dtypes) in self.operations.items():
            names[name] = scalar(operation, *dtypes)
        for name, (kind, dtype, buffer) in self.accesses.items():
            names[name] = getattr(intrinsics, kind)(dtype, buffer)
        for name, (_, number) in self.constants.items():
            names[name] = number
        return names


class Scope:
    """Lines of straight-line code. A computation that stands there already is not repeated."""

    def __init__(self, source: Source, prefix: str) -> None:
        self.source, self.prefix = source, prefix
        self.lines: list[str] = []
        self._known: dict[str, Term] = {}

    def assign(self, text: str, dtype: DType) -> Term:
        known = self._known.get(text)
        if known is None:
            known = Term(f"{self.prefix}{len(self._known)}", dtype)
            self._known[text] = known
            self.lines.append(f"{known.name} = {text}")
        return known

    def apply(self, name: str, result: DType, *operands: Term) -> Term:
        function = self.source.operation(name, result, *(term.dtype for term in operands))
        return self.assign(f"{function}({', '.join(term.name for term in operands)})", result)

    def cast(self, term: Term, dtype: DType) -> Term:
        if term.dtype is dtype:
            return term
        if term.value is not None and not (term.dtype.is_float and not dtype.is_float):
            return self.source.constant(dtype, term.value)
        return self.apply("cast", dtype, term)


def translate(scope: Scope, formula: str, operands: list[Term], result: DType) -> Term:
    """Lines for a formula over operands a, b, c; the term of its result."""
    names = dict(zip("abc", operands, strict=False))
    return scope.cast(_Translation(scope, names).term(_parsed(formula), result), result)


@cache
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


_BINARY = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "power",
}
_COMPARE = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
#: Where the second operand is a number that is not NaN, one comparison is enough.
_WITH_NUMBER = {"maximum": "above", "minimum": "below"}


class _Translation:
    def __init__(self, scope: Scope, names: dict[str, Term]) -> None:
        self.scope, self.names = scope, names

    def term(self, node: ast.expr, hint: DType) -> Term:
        """The term of an expression; a number alone takes the type `hint`."""
        match node:
            case ast.Name(id=name):
                return self.names[name]
            case ast.Constant(value=value):
                return self.scope.source.constant(hint, value)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(_BINARY[type(op)], left, right, hint)
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, operand, hint)
            case ast.BoolOp(op=op, values=[left, right]):
                name = "and" if isinstance(op, ast.And) else "or"
                return self.scope.apply(name, DType.BOOL, self.truth(left), self.truth(right))
            case ast.Compare(left=left, ops=[compare], comparators=[right]):
                x, y = self.pair(left, right, hint)
                return self.scope.apply(_COMPARE[type(compare)], DType.BOOL, x, y)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                x, y = self.pair(body, orelse, hint)
                return self.scope.apply("select", x.dtype, self.truth(test), x, y)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.call(name, args, hint)
        raise AssertionError(f"formula with {ast.dump(node)}")

    def unary(self, op: ast.unaryop, operand: ast.expr, hint: DType) -> Term:
        if isinstance(op, ast.Not):
            return self.scope.apply("not", DType.BOOL, self.truth(operand))
        x = self.term(operand, hint)
        if x.value is not None:
            return self.scope.source.constant(x.dtype, -x.value)
        return self.scope.apply("neg", x.dtype, x)

    def truth(self, node: ast.expr) -> Term:
        return self.scope.cast(self.term(node, DType.BOOL), DType.BOOL)

    def pair(self, left: ast.expr, right: ast.expr, hint: DType) -> tuple[Term, Term]:
        if isinstance(left, ast.Constant):
            y = self.term(right, hint)
            return self.term(left, y.dtype), y
        x = self.term(left, hint)
        return x, self.term(right, x.dtype)

    def binary(self, name: str, left: ast.expr, right: ast.expr, hint: DType) -> Term:
        x, y = self.pair(left, right, hint)
        if name in _WITH_NUMBER:
            if x.value is not None and y.value is None:
                x, y = y, x
            if y.value is not None and not np.isnan(y.value):
                name = _WITH_NUMBER[name]
        if name == "power" and y.value == 2:
            return self.scope.apply("mul", x.dtype, x, x)
        return self.scope.apply(name, x.dtype, x, y)

    def call(self, name: str, args: list[ast.expr], hint: DType) -> Term:
        if name.startswith("cast_"):
            return self.scope.cast(self.term(args[0], hint), DType(name[5:]))
        if len(args) == 2:
            return self.binary(name, args[0], args[1], hint)
        x = self.term(args[0], hint)
        return self.scope.apply(name, DType.BOOL if name == "is_finite" else x.dtype, x)
