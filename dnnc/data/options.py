"""The options of a data block: entries that say how to split and clean, and are no fields.

split       = [0.8, 0.1, 0.1]   fractions of train, validation and test (or of the first two)
validation  = 0.1               the fraction that validation takes from the training rows
stratify    = label             every class in every split in the same proportion
shuffle     = true              rows are drawn for the splits, false: taken in their order
seed        = 0                 of the draw
missing     = error             or drop, mean, median, zero, or a number to put in place
standardize = [features]        fields less their mean, over their deviation (of training rows)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dnnc.data.codes import DependencyError, fault
from dnnc.data.table import Column, Value
from dnnc.diagnostics import Collector, DnnError, Span, suggestion
from dnnc.syntax import tree

NAMES = ("split", "validation", "stratify", "shuffle", "seed", "missing", "standardize")

#: The splits, in the order in which `split` counts them.
SPLITS = ("train", "validation", "test")

_MISSING = ("error", "drop", "mean", "median", "zero")

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Options:
    """Options as given; `fractions` in the order of `SPLITS`, None where nothing was said."""

    fractions: tuple[float, ...] | None = None
    validation: float | None = None
    stratify: tree.Expr | None = None
    shuffle: bool | None = None
    seed: int = 0
    missing: str | float = "error"
    standardize: tuple[tree.Name, ...] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)

    def at(self, name: str, otherwise: Span) -> Span:
        return self.spans.get(name, otherwise)


def read_options(
    rules: Mapping[str, tree.Rule], evaluate: Callable[[tree.Expr], Value], errors: Collector
) -> Options:
    """Options from their rules; wrong ones are added to `errors` and left at their default."""
    readers: dict[str, tuple[str, Callable[[tree.Expr], object]]] = {
        "split": ("fractions", lambda expr: _split(expr, evaluate)),
        "validation": ("validation", lambda expr: _fraction(expr, evaluate)),
        "stratify": ("stratify", lambda expr: expr),
        "shuffle": ("shuffle", lambda expr: _flag(expr, evaluate)),
        "seed": ("seed", lambda expr: _seed(expr, evaluate)),
        "missing": ("missing", lambda expr: _missing(expr, evaluate)),
        "standardize": ("standardize", _fields),
    }
    given: dict[str, object] = {}
    for name, rule in rules.items():
        target, reader = readers[name]
        try:
            given[target] = reader(rule.value)
        except DnnError as error:
            errors.add(error)
        except DependencyError:
            continue
    if "split" in rules and "validation" in rules:
        errors.add(
            fault(
                "E517",
                "`split` and `validation` are both given",
                rules["validation"].span,
                help="`split` already says what validation takes",
            )
        )
    spans = {name: rule.value.span for name, rule in rules.items()}
    return Options(spans=spans, **given)  # type: ignore[arg-type]


def _wrong(name: str, needed: str, expr: tree.Expr, help: str | None = None) -> DnnError:
    return fault("E505", f"`{name}` must be {needed}", expr.span, help=help)


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _split(expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> tuple[float, ...]:
    values = evaluate(expr)
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise _wrong("split", "a list of fractions such as [0.8, 0.1, 0.1]", expr)
    if not 1 <= len(values) <= len(SPLITS):
        raise fault("E517", "`split` has one to three fractions", expr.span,
                    label="train, validation, test")  # fmt: skip
    if any(value < 0 for value in values) or values[0] == 0:
        raise fault("E517", "fractions are positive, and training needs rows", expr.span)
    if abs(sum(values) - 1) > _TOLERANCE:
        raise fault("E517", f"the fractions sum to {sum(values):g}, not to 1", expr.span)
    return tuple(float(value) for value in values)


def _fraction(expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> float:
    value = evaluate(expr)
    if isinstance(value, Column) or not _is_number(value):
        raise _wrong(
            "validation",
            "a fraction such as 0.1",
            expr,
            "validation rows of their own come from files(train = …, validation = …)",
        )
    if not 0 < value < 1:  # type: ignore[operator]
        raise fault("E517", f"`validation` lies between 0 and 1, got {value}", expr.span)
    return float(value)  # type: ignore[arg-type]


def _flag(expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> bool:
    value = evaluate(expr)
    if not isinstance(value, bool):
        raise _wrong("shuffle", "true or false", expr)
    return value


def _seed(expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> int:
    value = evaluate(expr)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise _wrong("seed", "an integer of 0 or more", expr)
    return value


def _missing(expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> str | float:
    named = expr.name if isinstance(expr, tree.Name) else None
    value = named if named in _MISSING else None
    given: Value = value if value is not None else (named or evaluate(expr))
    if named and value is None:
        given = _constant_or_name(named, expr, evaluate)
    if isinstance(given, str) and given in _MISSING:
        return given
    if _is_number(given):
        return given  # type: ignore[return-value]
    raise _wrong(
        "missing",
        "one of " + ", ".join(_MISSING) + ", or a number",
        expr,
        suggestion(given, _MISSING) if isinstance(given, str) else None,
    )


def _constant_or_name(name: str, expr: tree.Expr, evaluate: Callable[[tree.Expr], Value]) -> Value:
    try:
        return evaluate(expr)
    except DnnError:
        return name


def _fields(expr: tree.Expr) -> tuple[tree.Name, ...]:
    items = expr.items if isinstance(expr, tree.ListExpr) else (expr,)
    names = tuple(item for item in items if isinstance(item, tree.Name))
    if len(names) < len(items):
        raise _wrong("standardize", "the names of fields, such as [features]", expr)
    return names
