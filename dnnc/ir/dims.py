"""Sizes of axes: integers, symbols, and expressions over them, in a normal form.

A `Dim` is a polynomial with integer coefficients over atoms. An atom is a symbol (`batch`), or a
quotient, a remainder or the larger of two sizes where that does not simplify. Two sizes are equal
exactly when their normal forms are: `2 * (h + 1) == 2 * h + 2`. `ceil(h / 2)` is the quotient
`(h + 1) // 2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, Union

__all__ = ["Dim", "DimLike", "ceil_div", "dim", "larger", "product"]

DimLike: TypeAlias = Union["Dim", int]

#: Results that are kept of each operation: programs have few sizes, and compute with them often.
_REMEMBERED = 1 << 14
_NO_NAMES: frozenset[str] = frozenset()
_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Symbol:
    """A size not known when compiling."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Compound:
    """Two sizes joined in a way that does not simplify."""

    left: Dim
    right: Dim


class Quotient(Compound):
    """`floor(left / right)`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{_wrap(self.left)} // {_wrap(self.right)}"


class Remainder(Compound):
    """`left % right`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{_wrap(self.left)} % {_wrap(self.right)}"


class Larger(Compound):
    """The larger of two sizes; `left` comes first by text."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"max({self.left}, {self.right})"


Atom: TypeAlias = Symbol | Quotient | Remainder | Larger
Monomial: TypeAlias = tuple[Atom, ...]  # sorted by text, repeated for powers


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Dim:
    """A size in normal form: `terms` holds monomials and coefficients, sorted, without zeros.

    `constant` is the integer that this size is, or None where it depends on a symbol.
    """

    terms: tuple[tuple[Monomial, int], ...]
    constant: int | None
    _hash: int

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        constant = None
        if not terms:
            constant = 0
        elif len(terms) == 1 and not terms[0][0]:
            constant = terms[0][1]
        # Sizes are hashed and compared far more often than they are made.
        _set(self, "terms", terms)
        _set(self, "constant", constant)
        _set(self, "_hash", hash(terms if constant is None else constant))

    def __reduce__(self) -> tuple[object, ...]:
        # Hashes of names differ from process to process, so that of a pickled size is made anew.
        return (Dim, (self.terms,)) if self.constant is None else (dim, (self.constant,))

    @property
    def name(self) -> str | None:
        """The name of the symbol that this size is, or None where it is anything else."""
        if len(self.terms) == 1:
            monomial, factor = self.terms[0]
            if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
                return monomial[0].name
        return None

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols in this size."""
        if self.constant is not None:
            return _NO_NAMES
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
        a, b = self.constant, other if isinstance(other, int) else other.constant
        if a is not None and b is not None:
            return dim(a + b)
        return _sum(self, dim(other))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Dim(tuple((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: DimLike) -> Dim:
        return self + -dim(other)

    def __rsub__(self, other: DimLike) -> Dim:
        return dim(other) - self

    def __mul__(self, other: DimLike) -> Dim:
        a, b = self.constant, other if isinstance(other, int) else other.constant
        if a is not None and b is not None:
            return dim(a * b)
        return _product(self, dim(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> Dim:
        return _quotient(self, dim(other))

    def __rfloordiv__(self, other: DimLike) -> Dim:
        return dim(other) // self

    def __mod__(self, other: DimLike) -> Dim:
        return _remainder(self, dim(other))

    def __rmod__(self, other: DimLike) -> Dim:
        return dim(other) % self

    def __str__(self) -> str:
        if self.constant is not None:
            return str(self.constant)
        text = " + ".join(_term(monomial, factor) for monomial, factor in self.terms)
        return text.replace("+ -", "- ")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, Dim):
            return self._hash == other._hash and self.terms == other.terms
        return isinstance(other, int) and self.constant == other

    def __hash__(self) -> int:
        return self._hash

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
    return _integer(int(value))


@lru_cache(maxsize=_REMEMBERED)
def _integer(value: int) -> Dim:
    return Dim((((), value),) if value else ())


def product(dims: Iterable[DimLike]) -> Dim:
    """The product of sizes; 1 for none."""
    total: DimLike = 1
    for size in dims:
        total = size * total
    return dim(total)


def ceil_div(a: DimLike, b: DimLike) -> Dim:
    """`ceil(a / b)` for positive `b`."""
    return (dim(a) + dim(b) - 1) // b


def larger(a: DimLike, b: DimLike) -> Dim:
    """The larger of two sizes; symbols count as not negative."""
    a, b = dim(a), dim(b)
    if _is_natural(a - b):
        return a
    if _is_natural(b - a):
        return b
    first, second = sorted((a, b), key=str)
    return _atom(Larger(first, second))


def _atom(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


@lru_cache(maxsize=_REMEMBERED)
def _sum(a: Dim, b: Dim) -> Dim:
    return _collect([*a.terms, *b.terms])


@lru_cache(maxsize=_REMEMBERED)
def _product(a: Dim, b: Dim) -> Dim:
    return _collect(
        [(tuple(sorted((*m, *n), key=str)), x * y) for m, x in a.terms for n, y in b.terms]
    )


def _collect(terms: list[tuple[Monomial, int]]) -> Dim:
    total: dict[Monomial, int] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    kept = [(m, f) for m, f in total.items() if f]
    # Constants last, as people write them; longer products first.
    kept.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
    return Dim(tuple(kept))


def _quotient(a: Dim, b: Dim) -> Dim:
    exact = _divide_exactly(a, b)
    if exact is not None:
        return exact
    if b.constant is None or b.constant < 0:
        return dim(a.constant // b.constant) if a.constant and b.constant else _atom(Quotient(a, b))
    # Whole multiples leave the quotient: (2n + 3) // 2 = n + 1 + 1 // 2.
    whole = _collect([(m, f // b.constant) for m, f in a.terms])
    rest = _collect([(m, f % b.constant) for m, f in a.terms])
    if rest.constant is not None:
        return whole + rest.constant // b.constant
    inner = _nested(rest, b)
    return whole + (inner if inner is not None else _atom(Quotient(rest, b)))


def _remainder(a: Dim, b: Dim) -> Dim:
    if _divide_exactly(a, b) is not None:
        return dim(0)
    if b.constant is None:
        return _atom(Remainder(a, b))
    if a.constant is not None:
        return dim(a.constant % b.constant)
    # Whole multiples do not matter: (2n + 3) % 2 = 1.
    rest = _collect([(m, f % b.constant) for m, f in a.terms])
    return rest % b if rest.constant is not None else _atom(Remainder(rest, b))


def _nested(a: Dim, b: Dim) -> Dim | None:
    """`((x + p) // q + r) // s` as `(x + p + q r) // (q s)`, for positive integers q and s."""
    if len(a.terms) > 2:
        return None
    monomial, factor = a.terms[0]
    rest = a.terms[1:]
    if factor != 1 or len(monomial) != 1 or (rest and rest[0][0] != ()):
        return None
    atom = monomial[0]
    if not isinstance(atom, Quotient) or (atom.right.constant or 0) < 1:
        return None
    shift = rest[0][1] if rest else 0
    return (atom.left + atom.right * shift) // (atom.right * b)


def _divide_exactly(a: Dim, b: Dim) -> Dim | None:
    """`a / b` where it is a polynomial with integer coefficients; long division."""
    if not b.terms:
        raise ZeroDivisionError("a size is divided by zero")
    divisor, factor = b.terms[0]
    quotient = dim(0)
    # The order of terms is one of monomials, so each step removes the leading term for good.
    while a.terms:
        monomial, coefficient = a.terms[0]
        left = _without(monomial, divisor)
        if left is None or coefficient % factor:
            return None
        step = Dim(((left, coefficient // factor),))
        quotient = quotient + step
        a = a - step * b
    return quotient


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _is_natural(size: Dim) -> bool:
    """Whether a size is certainly not negative."""
    return all(
        factor > 0 and all(_is_natural_atom(atom) for atom in monomial)
        for monomial, factor in size.terms
    )


def _is_natural_atom(atom: Atom) -> bool:
    match atom:
        case Symbol():
            return True
        case Larger(left, right):
            return _is_natural(left) or _is_natural(right)
        case Quotient(left, right):
            return _is_natural(left) and _is_natural(right)
        case Remainder(_, right):
            return _is_natural(right)


def _names(atom: Atom) -> frozenset[str]:
    if isinstance(atom, Symbol):
        return frozenset((atom.name,))
    return atom.left.symbols | atom.right.symbols


def _evaluate(atom: Atom, sizes: Mapping[str, int]) -> int:
    match atom:
        case Symbol(name):
            return sizes[name]
        case Quotient(left, right):
            return left.evaluate(sizes) // right.evaluate(sizes)
        case Remainder(left, right):
            return left.evaluate(sizes) % right.evaluate(sizes)
        case Larger(left, right):
            return max(left.evaluate(sizes), right.evaluate(sizes))


def _substitute(atom: Atom, sizes: Mapping[str, DimLike]) -> Dim:
    if isinstance(atom, Symbol):
        return dim(sizes.get(atom.name, _atom(atom)))
    left, right = atom.left.substitute(sizes), atom.right.substitute(sizes)
    match atom:
        case Quotient():
            return left // right
        case Remainder():
            return left % right
        case Larger():
            return larger(left, right)


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
    plain = size.name is not None or (size.constant is not None and size.constant >= 0)
    return str(size) if plain else f"({size})"
