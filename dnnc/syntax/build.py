"""Rules → tree: one method for every rule of the grammar, named as the rule.

A method gets the parts that carry meaning (names and numbers as tokens, everything else already
built) and the span of the whole. Optional parts are told apart by their number or their type.
"""

from __future__ import annotations

import math
import re
from typing import Any

from dnnc.diagnostics import Diagnostic, DnnError, Source, Span
from dnnc.syntax import tree
from dnnc.syntax.machine import Entry
from dnnc.syntax.tokens import Token

__all__ = ["MAX_DEPTH", "MAX_OPERATORS", "MAX_STAGES", "TreeBuilder"]

#: How deep an expression or a nest of statements may be: what walks the tree recurses on it.
MAX_DEPTH = 100
#: How many operators in a row: they nest to the left, one step of recursion each.
MAX_OPERATORS = 200
#: How many stages a chain of `->` may have: it nests to the left, but is walked in a loop.
MAX_STAGES = 1000

#: What a rule adds to the depth, of which an expression may have `_LIMIT`; others add nothing.
_LIMIT = MAX_STAGES
_WEIGHTS = {
    "pipe": _LIMIT // MAX_STAGES,
    "binary": _LIMIT // MAX_OPERATORS,
    **dict.fromkeys(
        ("conditional", "unary", "group", "list", "attribute", "index", "call", "stage"),
        _LIMIT // MAX_DEPTH,
    ),
    **dict.fromkeys(("if_", "for_", "repeat", "scan"), _LIMIT // MAX_DEPTH),
}
#: Long digit strings take quadratic time to convert, and no size has this many digits.
_MAX_DIGITS = 300
_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}
_ESCAPE = re.compile(r"\\(.)")

Parts = list[Any]


class _Settings(tuple[tree.Setting, ...]):
    """The settings of a definition, to tell them from its body."""

    __slots__ = ()


class _Arguments(tuple[tree.Argument, ...]):
    """Arguments in parentheses, to tell them from branches."""

    __slots__ = ()


class _Branches(tuple[tree.Chain, ...]):
    """Branches in braces."""

    __slots__ = ()


class TreeBuilder:
    """The actions that make a `tree.File` or a `tree.Expr`.

    Faults inside a token (a number or a string that means nothing) are gathered in `faults`; a
    depth beyond the limits raises DnnError.
    """

    wants_all_tokens = False

    def __init__(self, source: Source) -> None:
        self.source = source
        self.faults: list[Diagnostic] = []

    def token(self, token: Token) -> Token:
        return token

    def reduce(self, action: str, parts: Parts, entry: Entry) -> tuple[Any, int]:
        span = Span(self.source, entry.start, entry.end)
        depth = entry.depth + _WEIGHTS.get(action, 0)
        if action == "path":
            depth += _WEIGHTS["attribute"] * (len(parts) - 1)
        # The innermost stage of the longest chain has a depth of its own.
        if depth > _LIMIT + _WEIGHTS["stage"]:
            raise DnnError(_too_deep(action, span))
        return getattr(self, action)(parts, span), depth

    # --- top level --------------------------------------------------------------------------------

    def start(self, parts: Parts, span: Span) -> tree.File:
        return tree.File(Span(self.source, 0, len(self.source.text)), tuple(parts))

    def expression(self, parts: Parts, span: Span) -> tree.Expr:
        value: tree.Expr = parts[0]
        return value

    def import_(self, parts: Parts, span: Span) -> tree.Import:
        return tree.Import(span, self._string(parts[0]), parts[1].text if parts[1:] else None)

    def const(self, parts: Parts, span: Span) -> tree.Const:
        return tree.Const(span, parts[0].text, parts[1])

    def function(self, parts: Parts, span: Span) -> tree.Function:
        name, settings, body = parts
        return tree.Function(span, name.text, tuple(settings), body)

    def short_function(self, parts: Parts, span: Span) -> tree.Function:
        name, settings, value = parts
        body = (tree.Return(value.span, value),)
        return tree.Function(span, name.text, tuple(settings), body, short=True)

    def block(self, parts: Parts, span: Span) -> tree.Block:
        kind, name, *settings, body = parts
        return tree.Block(
            span, kind.text, name.text, tuple(settings[0] if settings else ()), body, self._at(name)
        )

    def settings(self, parts: Parts, span: Span) -> _Settings:
        return _Settings(parts)

    def setting(self, parts: Parts, span: Span) -> tree.Setting:
        return tree.Setting(span, parts[0].text, parts[1] if parts[1:] else None)

    def data(self, parts: Parts, span: Span) -> tree.Data:
        return tree.Data(span, parts[0].text, parts[1], self._at(parts[0]))

    def train(self, parts: Parts, span: Span) -> tree.Job:
        kind, model, data, entries = parts
        return tree.Job(span, kind.text, None, self._name(model), None, self._name(data), entries)

    def derive(self, parts: Parts, span: Span) -> tree.Job:
        kind, result, model, data, entries = parts
        return tree.Job(
            span, kind.text, result.text, self._name(model), None, self._name(data), entries
        )

    def distill(self, parts: Parts, span: Span) -> tree.Job:
        kind, model, teacher, data, entries = parts
        return tree.Job(
            span,
            kind.text,
            None,
            self._name(model),
            self._name(teacher),
            self._name(data),
            entries,
        )

    def entries(self, parts: Parts, span: Span) -> tuple[tree.JobEntry, ...]:
        return tuple(parts)

    def rule(self, parts: Parts, span: Span) -> tree.Rule:
        return tree.Rule(span, parts[0], parts[1])

    def step(self, parts: Parts, span: Span) -> tree.Step:
        return tree.Step(span, parts[0], tuple(parts[1]))

    def goal(self, parts: Parts, span: Span) -> tree.Goal:
        return tree.Goal(span, parts[0].text, parts[1])

    def key(self, parts: Parts, span: Span) -> str:
        return ".".join(part.text for part in parts)

    # --- statements -------------------------------------------------------------------------------

    def body(self, parts: Parts, span: Span) -> tuple[tree.Statement, ...]:
        return tuple(parts)

    def port(self, parts: Parts, span: Span) -> tree.Port:
        direction, names, *shape = parts
        return tree.Port(span, direction.text, names, shape[0] if shape else None)

    def require(self, parts: Parts, span: Span) -> tree.Require:
        return tree.Require(span, parts[0], self._string(parts[1]) if parts[1:] else None)

    def parameter(self, parts: Parts, span: Span) -> tree.Parameter:
        name, shape, start = parts
        return tree.Parameter(span, name.text, shape, start)

    def state(self, parts: Parts, span: Span) -> tree.State:
        name, *shape, start = parts
        return tree.State(span, name.text, shape[0] if shape else None, start)

    def carry(self, parts: Parts, span: Span) -> tree.Carry:
        name, shape, start = parts
        return tree.Carry(span, name.text, shape, start)

    def bind(self, parts: Parts, span: Span) -> tree.Bind:
        return tree.Bind(span, parts[0], parts[1])

    def return_(self, parts: Parts, span: Span) -> tree.Return:
        return tree.Return(span, parts[0])

    def emit(self, parts: Parts, span: Span) -> tree.Emit:
        return tree.Emit(span, parts[0].text, parts[1])

    def repeat(self, parts: Parts, span: Span) -> tree.Repeat:
        return tree.Repeat(span, parts[0], parts[1])

    def for_(self, parts: Parts, span: Span) -> tree.For:
        name, values, *stop, body = parts
        return tree.For(span, name.text, values, stop[0] if stop else None, body)

    def scan(self, parts: Parts, span: Span) -> tree.Scan:
        names, values, axis, body = parts
        return tree.Scan(span, names, values, axis, body)

    def if_(self, parts: Parts, span: Span) -> tree.If:
        test, body, *rest = parts
        if not rest:
            return tree.If(span, test, body, ())
        orelse = (rest[0],) if isinstance(rest[0], tree.If) else rest[0]
        return tree.If(span, test, body, orelse)

    def names(self, parts: Parts, span: Span) -> tuple[str, ...]:
        return tuple(part.text for part in parts)

    def values(self, parts: Parts, span: Span) -> tuple[tree.Expr, ...]:
        return tuple(parts)

    # --- shapes -----------------------------------------------------------------------------------

    def shape(self, parts: Parts, span: Span) -> tree.Shape:
        dtype = parts[0].text if parts and isinstance(parts[0], Token) else None
        return tree.Shape(span, dtype, tuple(parts if dtype is None else parts[1:]))

    def dimension(self, parts: Parts, span: Span) -> tree.Dimension:
        return tree.Dimension(span, parts[0], parts[1] if parts[1:] else None)

    def ellipsis(self, parts: Parts, span: Span) -> tree.Ellipsis_:
        return tree.Ellipsis_(span)

    # --- expressions ------------------------------------------------------------------------------

    def conditional(self, parts: Parts, span: Span) -> tree.Conditional:
        return tree.Conditional(span, *parts)

    def pipe(self, parts: Parts, span: Span) -> tree.Pipe:
        return tree.Pipe(span, *parts)

    def stage(self, parts: Parts, span: Span) -> tree.Stage:
        callee, *rest = parts
        arguments = next((part for part in rest if isinstance(part, _Arguments)), None)
        branches = next((part for part in rest if isinstance(part, _Branches)), ())
        name = rest[-1].text if rest and isinstance(rest[-1], Token) else None
        return tree.Stage(
            span, callee, tuple(arguments or ()), tuple(branches), name, arguments is not None
        )

    def branches(self, parts: Parts, span: Span) -> _Branches:
        return _Branches(parts)

    def chain(self, parts: Parts, span: Span) -> tree.Chain:
        return tree.Chain(span, tuple(parts))

    def path(self, parts: Parts, span: Span) -> tree.Expr:
        value: tree.Expr = self._name(parts[0])
        for part in parts[1:]:
            value = tree.Attribute(Span(self.source, span.start, part.end), value, part.text)
        return value

    def arguments(self, parts: Parts, span: Span) -> _Arguments:
        return _Arguments(parts)

    def argument(self, parts: Parts, span: Span) -> tree.Argument:
        *name, value = parts
        return tree.Argument(span, name[0].text if name else None, value)

    def binary(self, parts: Parts, span: Span) -> tree.Binary:
        left, operator, right = parts
        return tree.Binary(span, operator.text, left, right)

    def unary(self, parts: Parts, span: Span) -> tree.Unary:
        return tree.Unary(span, parts[0].text, parts[1])

    def name(self, parts: Parts, span: Span) -> tree.Name:
        return tree.Name(span, parts[0].text)

    def number(self, parts: Parts, span: Span) -> tree.Number:
        return tree.Number(span, self._number(parts[0].text, span))

    def string(self, parts: Parts, span: Span) -> tree.String:
        return self._string(parts[0])

    def boolean(self, parts: Parts, span: Span) -> tree.Boolean:
        return tree.Boolean(span, parts[0].text == "true")

    def group(self, parts: Parts, span: Span) -> tree.Group:
        return tree.Group(span, parts[0])

    def list(self, parts: Parts, span: Span) -> tree.ListExpr:
        return tree.ListExpr(span, tuple(parts))

    def attribute(self, parts: Parts, span: Span) -> tree.Attribute:
        return tree.Attribute(span, parts[0], parts[1].text)

    def index(self, parts: Parts, span: Span) -> tree.Index:
        return tree.Index(span, parts[0], parts[1])

    def call(self, parts: Parts, span: Span) -> tree.Call:
        return tree.Call(span, parts[0], tuple(parts[1]))

    # --- tokens -----------------------------------------------------------------------------------

    def _at(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    def _name(self, token: Token) -> tree.Name:
        return tree.Name(self._at(token), token.text)

    def _number(self, text: str, span: Span) -> int | float:
        digits = text.replace("_", "")
        if len(digits) > _MAX_DIGITS:
            self._fault("E011", f"the number has {len(digits)} digits", span, "too long")
            return 0
        if digits.isdigit():
            return int(digits)
        value = float(digits)
        if math.isinf(value):
            self._fault("E011", "the number is larger than any float64", span, "too large")
        return value

    def _string(self, token: Token) -> tree.String:
        def unescape(match: re.Match[str]) -> str:
            if match[1] not in _ESCAPES:
                start = token.start + 1 + match.start()
                self._fault(
                    "E012",
                    f"unknown escape `{match[0]}` in a string",
                    Span(self.source, start, start + 2),
                    "",
                    'a string knows `\\"`, `\\\\`, `\\n` and `\\t`; a plain backslash is `\\\\`',
                )
            return _ESCAPES.get(match[1], "")

        return tree.String(self._at(token), _ESCAPE.sub(unescape, token.text[1:-1]))

    def _fault(
        self, code: str, message: str, span: Span, label: str, help: str | None = None
    ) -> None:
        self.faults.append(Diagnostic(code, message, span, label, help=help))


def _too_deep(action: str, span: Span) -> Diagnostic:
    start = Span(span.source, span.start, span.start + 1)
    if action == "pipe":
        return Diagnostic(
            "E009",
            f"a chain of more than {MAX_STAGES} stages",
            start,
            "begins here",
            help="name the tensor in between: `x = x -> ...`, or use `repeat`",
        )
    if action == "binary":
        return Diagnostic(
            "E009",
            f"more than {MAX_OPERATORS} operators in one expression",
            start,
            "begins here",
            help="give parts of it a name of their own",
        )
    return Diagnostic(
        "E009",
        f"the expression is more than {MAX_DEPTH} levels deep",
        start,
        "begins here",
        help="give parts of it a name of their own",
    )
