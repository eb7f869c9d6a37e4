"""Calls in data blocks: parameters are declared, arguments are bound to them and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from dnnc.data.codes import fault
from dnnc.data.reader import Reader
from dnnc.data.statistics import Fit
from dnnc.data.table import Cells, Column, Parts, Value
from dnnc.diagnostics import Collector, DnnError, Span, listing, suggestion
from dnnc.syntax import tree

Kind: TypeAlias = Literal[
    "column",
    "operand",
    "string",
    "strings",
    "integer",
    "number",
    "flag",
    "sizes",
    "choice",
    "source",
]

_MEANING: dict[str, str] = {
    "column": "a column",
    "operand": "a column or a number",
    "string": "a text in quotes",
    "strings": "texts in quotes",
    "integer": "an integer",
    "number": "a number",
    "flag": "true or false",
    "sizes": "a list of sizes such as [1, 28, 28]",
    "source": "a source such as csv(…)",
}

#: The default of parameters that must be given.
REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A formal parameter; `none` is accepted where it is the default, or where `optional`."""

    name: str
    kind: Kind
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    optional: bool = False
    many: bool = False  # takes all further positional arguments, as a list


@dataclass(frozen=True, slots=True)
class Bound:
    """A call with its arguments in place."""

    name: str
    span: Span
    values: dict[str, Any]
    spans: dict[str, Span]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def at(self, name: str) -> Span:
        """Where an argument is written; the whole call when it was left out."""
        return self.spans.get(name, self.span)


class Scope(Protocol):
    """What a function may ask of the evaluation it runs in."""

    @property
    def reader(self) -> Reader: ...

    def standardized(self, column: Column, over: str, span: Span) -> Column:
        """The column less its mean, over its deviation, both of the training rows."""

    def fitted(self, kind: str, compute: Callable[[], Fit]) -> Fit:
        """What `compute` learns from the data, or what was learned before."""

    def need_all(self) -> None:
        """Say that the answer depends on every row, which ends a look at a sample."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of data blocks."""

    name: str
    parameters: tuple[Parameter, ...]
    run: Callable[[Bound, Scope], Value | Cells]


def bind(
    name: str,
    span: Span,
    arguments: tuple[tree.Argument, ...],
    parameters: tuple[Parameter, ...],
    evaluate: Callable[[tree.Expr], Any],
) -> Bound:
    """Match arguments with parameters and check their kinds; reports all that is wrong."""
    errors = Collector()
    bound = Bound(name, span, {}, {})
    by_name = {parameter.name: parameter for parameter in parameters}
    positional = iter(parameters)
    many: Parameter | None = None
    for argument in arguments:
        try:
            if argument.name is not None:
                parameter = _named(name, argument, by_name, bound)
            else:
                many = parameter = many or _next(name, argument, positional, bound, parameters)
                many = many if many.many else None
            value = _value(parameter, argument.value, evaluate)
            if parameter.many:
                bound.values.setdefault(parameter.name, []).append(value)
            else:
                bound.values[parameter.name] = value
            bound.spans[parameter.name] = argument.value.span
        except DnnError as error:
            errors.add(error)
    errors.raise_if_any()
    for parameter in parameters:
        if parameter.name in bound.values:
            continue
        if parameter.default is REQUIRED:
            raise fault("E503", f"`{name}` needs `{parameter.name}`", span, label=_usage(parameter))
        bound.values[parameter.name] = parameter.default
    return bound


def _usage(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        return "one of " + ", ".join(parameter.choices)
    return _MEANING[parameter.kind]


def _named(
    name: str, argument: tree.Argument, by_name: dict[str, Parameter], bound: Bound
) -> Parameter:
    given = argument.name or ""
    if given not in by_name:
        known = f"it takes {listing(by_name)}" if by_name else "it takes no options"
        raise fault(
            "E503",
            f"`{name}` has no option `{given}`",
            argument.span,
            help=suggestion(given, by_name, known),
        )
    if given in bound.values:
        raise fault("E503", f"`{given}` of `{name}` is given twice", argument.span)
    return by_name[given]


def _next(
    name: str,
    argument: tree.Argument,
    positional: Any,
    bound: Bound,
    parameters: tuple[Parameter, ...],
) -> Parameter:
    for parameter in positional:
        if parameter.name not in bound.values:
            found: Parameter = parameter
            return found
    raise fault(
        "E503",
        f"`{name}` takes at most {len(parameters)} arguments",
        argument.span,
        help=f"they are {listing(p.name for p in parameters)}",
    )


def _value(parameter: Parameter, expr: tree.Expr, evaluate: Callable[[tree.Expr], Any]) -> Any:
    if parameter.kind == "choice":
        return _choice(parameter, expr, evaluate)
    value = evaluate(expr)
    if value is None and (parameter.optional or parameter.default is None):
        return None
    if parameter.kind == "strings" and isinstance(value, str):
        return [value]
    if not _fits(parameter.kind, value):
        raise fault(
            "E503",
            f"`{parameter.name}` must be {_MEANING[parameter.kind]}",
            expr.span,
            label=f"this is {describe_value(value)}",
        )
    return value


def _choice(parameter: Parameter, expr: tree.Expr, evaluate: Callable[[tree.Expr], Any]) -> str:
    """A bare name or a text that is one of the choices; otherwise a constant that holds one."""
    if isinstance(expr, tree.Name) and expr.name in parameter.choices:
        return expr.name
    given = evaluate(expr) if not isinstance(expr, tree.Name) else expr.name
    if isinstance(given, str) and given in parameter.choices:
        return given
    shown = f"`{given}`" if isinstance(given, str) else describe_value(given)
    raise fault(
        "E503",
        f"`{parameter.name}` must be {_usage(parameter)}, not {shown}",
        expr.span,
        help=suggestion(given, parameter.choices) if isinstance(given, str) else None,
    )


def _fits(kind: Kind, value: Value) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match kind:
        case "column":
            return isinstance(value, Column)
        case "operand":
            return isinstance(value, Column) or number
        case "string":
            return isinstance(value, str)
        case "strings":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "integer":
            return number and isinstance(value, int)
        case "number":
            return number
        case "flag":
            return isinstance(value, bool)
        case "sizes":
            return isinstance(value, list) and all(
                isinstance(item, int) and not isinstance(item, bool) for item in value
            )
        case _:
            return not isinstance(value, (int, float, str, list, type(None)))


def describe_value(value: Value | Cells) -> str:
    """What a value is, in words."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a text"
        case list():
            return "a list"
        case Column():
            return f"a column, {value.dtype}{list(value.shape) if value.shape else ''}"
        case Parts():
            return "a source in parts"
        case Cells():
            return "a source of one array"
        case _:
            return f"the source {value.what}"
