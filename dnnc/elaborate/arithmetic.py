"""Operators of the language on numbers, sizes, lists, tensors and bundles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

from dnnc import ops
from dnnc.elaborate.tensors import Tensors
from dnnc.elaborate.values import (
    Axis,
    Bundle,
    Ratio,
    Size,
    Tensor,
    describe,
    is_number,
    plain,
    size_of,
)
from dnnc.ir.dims import Compound, Dim, dim
from dnnc.ir.graph import Value
from dnnc.syntax.symbols import ARITHMETIC, ORDER

__all__ = ["Arithmetic"]

#: Elements of a list and characters of a string that expressions may build.
LENGTH_LIMIT = 100_000
#: Symbols and numbers in one size.
WEIGHT_LIMIT = 200

_NUMERIC = {**ARITHMETIC, **ORDER}
_OPERATORS: dict[str, Callable[..., Value]] = {
    "+": ops.add,
    "-": ops.subtract,
    "*": ops.multiply,
    "/": ops.divide,
    "//": ops.floor_divide,
    "%": ops.modulo,
    "**": ops.power,
    "==": ops.equal,
    "!=": ops.not_equal,
    "<": ops.less,
    "<=": ops.less_equal,
    ">": ops.greater,
    ">=": ops.greater_equal,
    "and": ops.logical_and,
    "or": ops.logical_or,
}


class Arithmetic(Tensors):
    """`left symbol right`, whatever the two are."""

    def graphic(self, value: Any) -> bool:
        return isinstance(value, Tensor | Bundle)

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        """`left symbol right`, on numbers, sizes, lists, tensors and bundles."""
        if symbol == "@":
            return self.matmul(left, right)
        if left is None or right is None or not (self.graphic(left) or self.graphic(right)):
            return self.static_binary(symbol, left, right)
        if isinstance(left, Bundle) or isinstance(right, Bundle):
            return self.bundle_binary(symbol, left, right)
        return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)

    def bundle_binary(self, symbol: str, left: Any, right: Any) -> Bundle:
        count = len(left.tensors if isinstance(left, Bundle) else right.tensors)
        lefts = left.tensors if isinstance(left, Bundle) else [left] * count
        rights = right.tensors if isinstance(right, Bundle) else [right] * count
        if len(lefts) != len(rights):
            self.session.fail("E203", "bundles of different lengths are combined")
        pairs = zip(lefts, rights, strict=True)
        return Bundle(tuple(self.binary(symbol, a, b) for a, b in pairs))

    def static_binary(self, symbol: str, left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        if symbol in ("==", "!="):
            same = self.same(left, right)
            return same if symbol == "==" else not same
        if symbol == "+" and isinstance(left, list) and isinstance(right, list):
            return self.joined(left, right, "list")
        if symbol == "+" and isinstance(left, str) and isinstance(right, str):
            return self.joined(left, right, "string")
        if isinstance(left, Size | Ratio) or isinstance(right, Size | Ratio):
            return self.size_binary(symbol, left, right)
        if not (is_number(left) and is_number(right)) or symbol not in _NUMERIC:
            self.session.fail(
                "E112", f"`{symbol}` does not apply to {describe(left)} and {describe(right)}"
            )
        return self.number_binary(symbol, left, right)

    def joined(self, left: Any, right: Any, what: str) -> Any:
        length = len(left) + len(right)
        if length > LENGTH_LIMIT:
            self.session.fail("E114", f"a {what} of {length:,} is longer than {LENGTH_LIMIT:,}")
        self.session.spend(length // 100)
        return left + right

    def number_binary(self, symbol: str, left: int | float, right: int | float) -> Any:
        if symbol == "**" and abs(right) > 1024 and isinstance(left, int):
            left = float(left)
        try:
            result = _NUMERIC[symbol](left, right)
        except ZeroDivisionError:
            self.session.fail("E113", "division by zero")
        except OverflowError:
            self.session.fail("E114", "the number is too large")
        if isinstance(result, complex):
            self.session.fail("E113", "a negative number has no such power")
        if isinstance(result, float) and not math.isfinite(result):
            if math.isnan(result):
                self.session.fail("E113", f"{left} {symbol} {right} is not a number")
            if math.isfinite(left) and math.isfinite(right):
                self.session.fail("E114", "the number is too large")
        if symbol == "/" and isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        if isinstance(result, int) and abs(result) >= 2**63:
            self.session.fail("E114", f"{left} {symbol} {right} does not fit 64 bits")
        return result

    def same(self, left: Any, right: Any) -> bool:
        """`left == right` where no tensor is compared."""
        if isinstance(left, list) and isinstance(right, list):
            pairs = zip(left, right, strict=False)
            return len(left) == len(right) and all(self.same(plain(a), plain(b)) for a, b in pairs)
        if isinstance(left, Size) or isinstance(right, Size):
            a, b = size_of(left), size_of(right)
            if a is None or b is None:
                return False
            if (a - b).constant is None:
                self.unknown(f"{a} equals {b}")
            return (a - b).constant == 0
        if isinstance(left, str | int | float | bool) or left is None or right is None:
            return bool(type(left) in (int, float) or type(left) is type(right)) and left == right
        return left is right

    def size_binary(self, symbol: str, left: Any, right: Any) -> Any:
        axis = getattr(left, "axis", None) or getattr(right, "axis", None)
        a, b = size_of(left), size_of(right)
        if a is None or b is None:
            # A symbolic size beside a fraction is a scalar of the running program.
            return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)
        if symbol in ("<", "<=", ">", ">="):
            return self.compare_sizes(symbol, a, b)
        if symbol in ("/", "//", "%") and b.constant == 0:
            self.session.fail("E113", "division by zero")
        match symbol:
            case "+" | "-" | "*" | "//" | "%":
                return self.sized(_NUMERIC[symbol](a, b), axis)
            case "/":
                whole = a // b
                return self.sized(whole, axis) if whole * b == a else Ratio(a, b, axis)
        return self.elementwise(_OPERATORS[symbol], left, right, symbol=symbol)

    def sized(self, size: Dim, axis: Axis | None) -> Size:
        """A size that was computed; E114 where it grows beyond what a shape can mean."""
        if any(abs(factor) >= 2**63 for _, factor in size.terms):
            self.session.fail("E114", "the size does not fit 64 bits")
        if _weight(size) > WEIGHT_LIMIT:
            self.session.fail(
                "E114", "the size is too complicated", help="give sizes of the input as numbers"
            )
        return Size(size, axis)

    def compare_sizes(self, symbol: str, a: Dim, b: Dim) -> bool:
        difference = (a - b).constant
        if difference is not None:
            return bool(_NUMERIC[symbol](difference, 0))
        bound = self.session.bounds.get(a.name or "")
        slack = (b - bound).constant if bound is not None else None
        if symbol == "<=" and slack is not None and slack >= 0:
            return True
        # Sizes are positive: `n > 0` and `n >= 1` hold.
        if (symbol == ">" and b.constant == 0 and a.name) or (symbol == ">=" and b.constant == 1):
            return True
        return self.unknown(f"{a} {symbol} {b}")

    def unknown(self, comparison: str) -> NoReturn:
        self.session.fail(
            "E213", f"whether {comparison} is not known when compiling",
            help="give the size as a number in the model's input, or as a setting",
        )  # fmt: skip

    def matmul(self, left: Any, right: Any) -> Tensor:
        for side in (left, right):
            if not isinstance(side, Tensor):
                self.session.fail("E112", f"`@` multiplies tensors, got {describe(side)}")
        left, right = self.promote(left, right)
        if left.rank < 2 or right.rank < 2:
            return self.vector_product(left, right)
        if right.rank == 2 and left.rank > 2:
            return self.flat_product(left, right)
        if left.rank != right.rank:
            self.session.fail(
                "E205", f"`@` needs equal ranks or a matrix on the right, got {left.type} "
                f"and {right.type}",
            )  # fmt: skip
        self.check_inner(left, right)
        value = self.emit(ops.matmul, left.value, right.value)
        return self.tensor(value, (*left.axes[:-1], right.axes[-1]))

    def check_inner(self, left: Tensor, right: Tensor) -> None:
        if left.shape[-1] != right.shape[-2]:
            self.session.fail(
                "E203", f"inner sizes differ: {left.shape[-1]} and {right.shape[-2]}",
                label=f"left is {left.type}, right is {right.type}",
            )  # fmt: skip

    def flat_product(self, left: Tensor, right: Tensor) -> Tensor:
        """`[..., m, k] @ [k, n]` as one product of matrices."""
        self.check_inner(left, right)
        rows = left.type.with_shape(left.shape[:-1]).elements
        flat = self.emit(ops.reshape, left.value, shape=(rows, left.shape[-1]))
        product = self.emit(ops.matmul, flat, right.value)
        value = self.emit(ops.reshape, product, shape=(*left.shape[:-1], right.shape[-1]))
        return self.tensor(value, (*left.axes[:-1], right.axes[-1]))

    def vector_product(self, left: Tensor, right: Tensor) -> Tensor:
        if left.rank == 0 or right.rank == 0:
            self.session.fail("E205", "`@` does not multiply scalars", help="use `*`")
        a = (
            left
            if left.rank > 1
            else self.reshaped(left, (dim(1), *left.shape), (None, *left.axes))
        )
        b = right
        if right.rank == 1:
            b = self.reshaped(right, (*right.shape, dim(1)), (*right.axes, None))
        product = self.matmul(a, b)
        shape, axes = list(product.shape), list(product.axes)
        if right.rank == 1:
            del shape[-1], axes[-1]
        if left.rank == 1:
            position = -1 if right.rank == 1 else -2
            del shape[position], axes[position]
        return self.reshaped(product, tuple(shape), tuple(axes))

    def negate(self, value: Any) -> Any:
        if isinstance(value, Bundle):
            return Bundle(tuple(self.negate(t) for t in value.tensors))
        return self.tensor(self.emit(ops.negate, value.value), value.axes)


def _weight(size: Dim) -> int:
    """How many symbols and numbers a size is made of."""
    return sum(
        1 + sum(_weight(a.left) + _weight(a.right) if isinstance(a, Compound) else 1 for a in atoms)
        for atoms, _ in size.terms
    )
