"""Sizes of axes: integers, symbols, and expressions over them, in a normal form.

A `Dim` is a polynomial with integer coefficients over atoms. An atom is a symbol (`batch`) or a
quotient or remainder of two sizes that does not simplify. Two sizes are equal exactly when their
normal forms are: `2 * (h + 1) == 2 * h + 2`. `ceil(h / 2)` is the quotient `(h + 1) // 2`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, Union

__all__ = ["Dim", "DimLike", "ceil_div", "dim", "product"]

DimLike: TypeAlias = Union["Dim", int]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size not known when compiling."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Quotient:
    """`floor(numerator / denominator)` where that does not simplify."""

    numerator: Dim
    denominator: Dim

    def __str__(self) -> str:
        return f"{_wrap(self.numerator)} // {_wrap(self.denominator)}"


@dataclass(frozen=True, slots=True)
class Remainder:
    """`numerator % denominator` where that does not simplify."""

    numerator: Dim
    denominator: Dim

    def __str__(self) -> str:
        return f"{_wrap(self.numerator)} % {_wrap(self.denominator)}"


Atom: TypeAlias = Symbol | Quotient | Remainder
Monomial: TypeAlias = tuple[Atom, ...]  # sorted by text, repeated for powers


@dataclass(frozen=True)
class Dim:
    """A size in normal form: `terms` holds monomials and coefficients, sorted, without zeros."""

    terms: tuple[tuple[Monomial, int], ...]

    @property
    def constant(self) -> int | None:
        """The integer that this size is, or None where it depends on a symbol."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and self.terms[0][0] == ():
            return self.terms[0][1]
        return None

    @property
    def name(self) -> str | None:
        """The name of the symbol that this size is, or None where it is anything else."""
        if len(self.terms) == 1:
            monomial, factor = self.terms[0]
            if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
                return monomial[0].name
        return None

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols in this size."""
        return frozenset(name for monomial, _ in self.terms for a in monomial for name in _names(a))

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The integer for given symbols; KeyError names the first one that is missing."""
        total = 0
        for monomial, factor in self.terms:
            for atom in monomial:
                factor *= _evaluate(atom, sizes)
            total += factor
        return total

    def substitute(self, sizes: Mapping[str, DimLike]) -> Dim:
        """This size with symbols replaced by other sizes."""
        if not self.symbols & sizes.keys():
            return self
        total = dim(0)
        for monomial, factor in self.terms:
            value = dim(factor)
            for atom in monomial:
                value = value * _substitute(atom, sizes)
            total = total + value
        return total

    def __add__(self, other: DimLike) -> Dim:
        return _collect([*self.terms, *dim(other).terms])

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Dim(tuple((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: DimLike) -> Dim:
        return self + -dim(other)

    def __rsub__(self, other: DimLike) -> Dim:
        return dim(other) - self

    def __mul__(self, other: DimLike) -> Dim:
        return _collect(
            [
                (tuple(sorted((*a, *b), key=str)), x * y)
                for a, x in self.terms
                for b, y in dim(other).terms
            ]
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> Dim:
        return _quotient(self, dim(other))

    def __rfloordiv__(self, other: DimLike) -> Dim:
        return dim(other) // self

    def __mod__(self, other: DimLike) -> Dim:
        divisor = dim(other)
        if self.constant is not None and divisor.constant:
            return dim(self.constant % divisor.constant)
        exact = _divide_exactly(self, divisor)
        return dim(0) if exact is not None else _atom(Remainder(self, divisor))

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = " + ".join(_term(monomial, factor) for monomial, factor in self.terms)
        return text.replace("+ -", "- ")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.constant == other
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.constant if self.constant is not None else self.terms)

    def __index__(self) -> int:
        """The integer; TypeError where the size is symbolic."""
        if self.constant is None:
            raise TypeError(f"size {self} is not known when compiling")
        return self.constant


def dim(value: DimLike | str) -> Dim:
    """A size from an integer, or a symbol from its name."""
    if isinstance(value, Dim):
        return value
    if isinstance(value, str):
        return _atom(Symbol(value))
    return Dim((((), int(value)),) if value else ())


def product(dims: Iterator[DimLike] | tuple[DimLike, ...] | list[DimLike]) -> Dim:
    """The product of sizes; 1 for none."""
    total = dim(1)
    for size in dims:
        total = total * size
    return total


def ceil_div(a: DimLike, b: DimLike) -> Dim:
    """`ceil(a / b)` for positive `b`."""
    return (dim(a) + dim(b) - 1) // b


def _atom(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def _collect(terms: list[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    kept = [(m, f) for m, f in total.items() if f]
    # Constants last, as people write them; longer products first.
    kept.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
    return Dim(tuple(kept))


def _quotient(a: Dim, b: Dim) -> Dim:
    if b.constant == 0:
        raise ZeroDivisionError("a size is divided by zero")
    if a.constant is not None and b.constant is not None:
        return dim(a.constant // b.constant)
    exact = _divide_exactly(a, b)
    if exact is not None:
        return exact
    if b.constant is not None and b.constant > 0:
        # Whole multiples leave the quotient: (2n + 3) // 2 = n + 1 + 1 // 2.
        whole = _collect([(m, f // b.constant) for m, f in a.terms])
        rest = _collect([(m, f % b.constant) for m, f in a.terms])
        if rest.constant is not None:
            return whole + rest.constant // b.constant
        inner = _nested(rest, b)
        return whole + (inner if inner is not None else _atom(Quotient(rest, b)))
    return _atom(Quotient(a, b))


def _nested(a: Dim, b: Dim) -> Dim | None:
    """`((x + p) // q + r) // s` as `(x + p + q r) // (q s)`, for integers q and s."""
    if len(a.terms) == 0 or len(a.terms) > 2 or b.constant is None:
        return None
    monomial, factor = a.terms[0]
    rest = a.terms[1:]
    if factor != 1 or len(monomial) != 1 or (rest and rest[0][0] != ()):
        return None
    atom = monomial[0]
    if not isinstance(atom, Quotient) or atom.denominator.constant is None:
        return None
    shift = rest[0][1] if rest else 0
    return (atom.numerator + atom.denominator * shift) // (atom.denominator * b)


def _divide_exactly(a: Dim, b: Dim) -> Dim | None:
    """`a / b` where it is a polynomial; `b` is one term."""
    if len(b.terms) != 1:
        return dim(1) if a == b else None
    (divisor, factor) = b.terms[0]
    terms = []
    for monomial, coefficient in a.terms:
        left = list(monomial)
        for atom in divisor:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % factor:
            return None
        terms.append((tuple(left), coefficient // factor))
    return _collect(terms)


def _names(atom: Atom) -> frozenset[str]:
    if isinstance(atom, Symbol):
        return frozenset((atom.name,))
    return atom.numerator.symbols | atom.denominator.symbols


def _evaluate(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return sizes[atom.name]
    a, b = atom.numerator.evaluate(sizes), atom.denominator.evaluate(sizes)
    return a // b if isinstance(atom, Quotient) else a % b


def _substitute(atom: Atom, sizes: Mapping[str, DimLike]) -> Dim:
    if isinstance(atom, Symbol):
        return dim(sizes.get(atom.name, _atom(atom)))
    a, b = atom.numerator.substitute(sizes), atom.denominator.substitute(sizes)
    return a // b if isinstance(atom, Quotient) else a % b


def _term(monomial: Monomial, factor: int) -> str:
    if not monomial:
        return str(factor)
    text = " * ".join(
        f"({atom})" if isinstance(atom, Quotient | Remainder) and (len(monomial) > 1 or factor != 1)
        else str(atom)
        for atom in monomial
    )  # fmt: skip
    if factor == 1:
        return text
    return f"-{text}" if factor == -1 else f"{factor} * {text}"


def _wrap(size: Dim) -> str:
    text = str(size)
    return text if size.constant is not None or size.name is not None else f"({text})"
