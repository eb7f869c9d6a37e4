"""Evaluation of the expressions of a data block.

Entries are evaluated when they are asked for, each once. An entry that fails is reported once, and
what depends on it is passed over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dnnc.data import arithmetic
from dnnc.data.codes import DependencyError, IncompleteError, fault
from dnnc.data.columns import METHODS, check_member, select
from dnnc.data.functions import FUNCTIONS, element
from dnnc.data.options import NAMES, SPLITS
from dnnc.data.plan import Plan
from dnnc.data.reader import Reader
from dnnc.data.signature import Bound, Parameter, bind, describe_value
from dnnc.data.sources import SOURCES
from dnnc.data.statistics import Fit
from dnnc.data.table import POOL, Cells, Column, Parts, Value, is_table
from dnnc.diagnostics import Collector, DnnError, Span, suggestion
from dnnc.syntax import tree

#: Names that mean a value wherever no entry and no constant bears them.
_BUILTIN: dict[str, Value] = {"none": None, "pi": math.pi}

_FILES = tuple(Parameter(name, "source", None) for name in SPLITS)


class Evaluator:
    """The values of a block's entries."""

    def __init__(self, block: tree.Data, constants: Mapping[str, object], reader: Reader) -> None:
        self.block = block
        self.constants = constants
        self.reader = reader
        self.errors = Collector()
        self.rules: dict[str, tree.Rule] = {}
        self.options: dict[str, tree.Rule] = {}
        self._sort_entries()
        self.plan = Plan(self)
        self._entries: dict[str, Value | DependencyError] = {}
        self._active: list[str] = []
        #: Entries of one array that `files` takes as a part: they are rows of one split alone.
        self.parts: set[str] = set()
        # By the identity of nodes, which live as long as the block.
        self._members: dict[int, Any] = {}
        self._settled: dict[int, tuple[Cells, Column]] = {}

    def _sort_entries(self) -> None:
        for item in self.block.entries:
            if not isinstance(item, tree.Rule) or "." in item.key:
                self.errors.add(_misplaced(item))
                continue
            target = self.options if item.key in NAMES else self.rules
            if item.key in target:
                self.errors.add(fault("E524", f"`{item.key}` is given twice", item.span))
                continue
            target[item.key] = item

    # --- what functions may ask (signature.Scope) -------------------------------------------------

    def need_all(self) -> None:
        if self.reader.sampling:
            raise IncompleteError

    def fitted(self, kind: str, compute: Callable[[], Fit]) -> Fit:
        return self.plan.fitted(f"{self.active}.{kind}", compute)

    def standardized(self, column: Column, over: str, span: Span) -> Column:
        return self.plan.standardize(column, over == "all", self.active, span)

    @property
    def active(self) -> str:
        """The entry that is being evaluated."""
        return self._active[-1] if self._active else ""

    # --- entries and names ------------------------------------------------------------------------

    def entry(self, name: str) -> Value:
        """The value of an entry; its errors are collected, and raised as `DependencyError`."""
        if name not in self._entries:
            if name in self._active:
                raise fault(
                    "E501", f"`{name}` depends on itself", self.rules[name].span,
                    label=" → ".join([*self._active, name]),
                )  # fmt: skip
            self._active.append(name)
            try:
                self._entries[name] = self.evaluate(self.rules[name].value)
            except DnnError as error:
                self.errors.add(error)
                self._entries[name] = DependencyError(name)
            except DependencyError as error:
                self._entries[name] = error
            finally:
                self._active.pop()
        value = self._entries[name]
        if isinstance(value, DependencyError):
            raise value
        return value

    def option(self, name: str, expr: tree.Expr) -> Value:
        """The value of an option; what it learns is not counted to the entry that needs it."""
        self._active.append(name)
        try:
            return self.evaluate(expr)
        finally:
            self._active.pop()

    def _name(self, expr: tree.Name) -> Value:
        name = expr.name
        if name in self.rules:
            return self.entry(name)
        if name in self.constants:
            return _constant(name, self.constants[name], expr.span)
        if name in _BUILTIN:
            return _BUILTIN[name]
        if name in FUNCTIONS or name in SOURCES:
            raise fault("E501", f"`{name}` is a function", expr.span, help=f"call it: `{name}(…)`")
        known = [*self.rules, *self.constants]
        raise fault("E501", f"unknown name `{name}`", expr.span, help=suggestion(name, known))

    # --- expressions ------------------------------------------------------------------------------

    def evaluate(self, expr: tree.Expr) -> Value:
        """The value of an expression; arrays of sources have their missing values settled."""
        value = self.raw(expr)
        if isinstance(value, Cells):
            key = id(value)
            if key not in self._settled:
                column = self.plan.settle({POOL: value}, value.what, expr.span)
                self._settled[key] = (value, column)
            return self._settled[key][1]
        return value

    def raw(self, expr: tree.Expr) -> Value | Cells:
        """Like `evaluate`, but a source of one array stays as it was read."""
        match expr:
            case tree.Number() | tree.String() | tree.Boolean():
                return expr.value
            case tree.Group():
                return self.raw(expr.value)
            case tree.Name():
                return self._name(expr)
            case tree.Call():
                return self._call(expr, expr.callee, expr.arguments)
            case tree.Pipe():
                return self._pipe(expr)
            case _:
                return self._operation(expr)

    def _operation(self, expr: tree.Expr) -> Value:
        match expr:
            case tree.ListExpr():
                return [self.evaluate(item) for item in expr.items]
            case tree.Attribute():
                return self._attribute(expr)
            case tree.Index():
                return self._index(expr)
            case tree.Unary():
                operand = self.evaluate(expr.operand)
                act = arithmetic.invert if expr.operator == "not" else arithmetic.negate
                return act(operand, expr.span)
            case tree.Binary():
                left, right = self.evaluate(expr.left), self.evaluate(expr.right)
                return arithmetic.binary(expr.operator, left, right, expr.span)
            case tree.Conditional():
                return self._conditional(expr)
            case _:
                raise TypeError(f"no expression: {expr!r}")

    def _conditional(self, expr: tree.Conditional) -> Value:
        test = self.evaluate(expr.test)
        if isinstance(test, bool):
            return self.evaluate(expr.yes if test else expr.no)
        if not isinstance(test, Column):
            raise fault(
                "E522",
                "the test must be true or false",
                expr.test.span,
                label=f"this is {describe_value(test)}",
            )
        yes, no = self.evaluate(expr.yes), self.evaluate(expr.no)
        return arithmetic.select(test, yes, no, expr.span)

    def _index(self, expr: tree.Index) -> Value:
        value, index = self.evaluate(expr.value), self.evaluate(expr.index)
        if not isinstance(index, int) or isinstance(index, bool):
            raise fault("E522", "an index must be an integer", expr.index.span)
        if isinstance(value, Column):
            return element(value, index, expr.span)
        if not isinstance(value, list):
            raise fault("E522", f"{describe_value(value)} has no elements", expr.value.span)
        if not -len(value) <= index < len(value):
            raise fault("E521", f"a list of {len(value)} has no element {index}", expr.span)
        item: Value = value[index]
        return item

    def _pipe(self, expr: tree.Pipe) -> Value | Cells:
        stage = expr.stage
        if stage.branches or stage.name:
            raise fault("E522", "data have no blocks of blocks and no layer names", stage.span)
        first = tree.Argument(expr.value.span, None, expr.value)
        return self._call(expr, stage.callee, (first, *stage.arguments))

    # --- members ----------------------------------------------------------------------------------

    def _attribute(self, expr: tree.Attribute) -> Value:
        key = id(expr)
        if key not in self._members:
            base = self.evaluate(expr.value)
            if not is_table(base):
                raise fault(
                    "E504",
                    f"{describe_value(base)} has no `{expr.name}`",
                    expr.span,
                    help="members belong to sources such as csv(…) and npz(…)",
                )
            if expr.name in METHODS and expr.name not in base.names:
                raise fault(
                    "E504",
                    f"`{expr.name}` of {base.what} needs arguments",
                    expr.span,
                    help=f'such as `{expr.name}("a*")`',
                )
            check_member(base, expr.name, expr.span)
            self._members[key] = self._read(base, (expr.name,), False, expr.span)
        column: Column = self._members[key]
        return column

    def _method(self, expr: tree.Expr, callee: tree.Attribute, arguments: Any) -> Value:
        key = id(expr)
        if key in self._members:
            column: Column = self._members[key]
            return column
        base = self.evaluate(callee.value)
        if not is_table(base) or callee.name not in METHODS:
            known = METHODS if is_table(base) else ()
            raise fault(
                "E502",
                f"{describe_value(base)} has no function `{callee.name}`",
                callee.span,
                help=suggestion(callee.name, known),
            )
        bound = bind(callee.name, expr.span, arguments, METHODS[callee.name], self.evaluate)
        if callee.name == "column":
            check_member(base, bound["name"], bound.at("name"))
            column = self._read(base, (bound["name"],), False, expr.span)
        else:
            names = select(base, _flat(bound["patterns"]), bound["without"], bound.at("patterns"))
            column = self._read(base, names, True, expr.span)
        self._members[key] = column
        return column

    def _read(self, table: Any, names: tuple[str, ...], stack: bool, span: Span) -> Column:
        parts = table.parts if isinstance(table, Parts) else {POOL: table}
        cells = {
            part: each.stack(names, span) if stack else each.member(names[0], span)
            for part, each in parts.items()
        }
        what = next(iter(cells.values())).what if len(cells) == 1 else f"`{names[0]}`"
        return self.plan.settle(cells, what, span, span.text)

    # --- calls ------------------------------------------------------------------------------------

    def _call(
        self, expr: tree.Expr, callee: tree.Expr, arguments: tuple[tree.Argument, ...]
    ) -> Value | Cells:
        if isinstance(callee, tree.Attribute):
            return self._method(expr, callee, arguments)
        if not isinstance(callee, tree.Name):
            raise fault("E502", "only functions can be called", callee.span)
        name = callee.name
        if name == "files":
            return self._files(bind(name, expr.span, arguments, _FILES, self._part))
        if name in SOURCES:
            key = id(expr)
            if key not in self._members:
                bound = bind(name, expr.span, arguments, SOURCES[name].parameters, self.evaluate)
                self._members[key] = SOURCES[name].run(bound, self)
            return self._members[key]  # type: ignore[no-any-return]
        if name in FUNCTIONS:
            bound = bind(name, expr.span, arguments, FUNCTIONS[name].parameters, self.evaluate)
            return FUNCTIONS[name].run(bound, self)
        known = [*FUNCTIONS, *SOURCES, "files"]
        if name in self.rules or name in self.constants:
            raise fault("E502", f"`{name}` is an entry and cannot be called", callee.span)
        raise fault("E502", f"unknown function `{name}`", callee.span, help=suggestion(name, known))

    def _part(self, expr: tree.Expr) -> Value | Cells:
        """An argument of `files`; the name of an entry stands for its source."""
        rule = self.rules.get(expr.name) if isinstance(expr, tree.Name) else None
        if rule is None or not _calls_source(rule.value):
            return self.raw(expr)
        if isinstance(value := self.raw(rule.value), Cells):
            self.parts.add(rule.key)
        return value

    def _files(self, bound: Bound) -> Value:
        given = {name: value for name, value in bound.values.items() if value is not None}
        if "train" not in given:
            raise fault("E503", "`files` needs `train`", bound.span)
        if all(isinstance(value, Cells) for value in given.values()):
            return self.plan.settle(given, "files(…)", bound.span)
        for name, value in given.items():
            if isinstance(value, (Cells, Parts)):
                raise fault(
                    "E503",
                    f"`{name}` is {describe_value(value)}, and others are not",
                    bound.at(name),
                    help="the files of all splits are of the same kind",
                )
        return Parts("files(…)", given)

    # --- walking ----------------------------------------------------------------------------------

    def touch_members(self) -> None:
        """Read every member that any entry names; errors are left to the entries themselves."""
        for rule in [*self.rules.values(), *self.options.values()]:
            for node in walk(rule.value, _is_member):
                if _is_member(node):
                    with contextlib.suppress(DnnError, DependencyError):
                        self.evaluate(node)  # type: ignore[arg-type]


def walk(
    node: object, stop: Callable[[tree.Node], bool] = lambda node: False
) -> Iterator[tree.Node]:
    """Every node of an expression, but for what lies within the nodes where `stop` holds."""
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item, stop)
    if not isinstance(node, tree.Node):
        return
    yield node
    if not stop(node):
        for item in dataclasses.fields(node):
            yield from walk(getattr(node, item.name), stop)


def _calls_source(expr: tree.Node) -> bool:
    callee = expr.callee if isinstance(expr, tree.Call) else None
    return isinstance(callee, tree.Name) and callee.name in SOURCES


def _is_member(node: tree.Node) -> bool:
    """Whether a node reads rows: `source.x`, `source.columns(…)`, `idx(…)` or `files(…)`."""
    if isinstance(node, tree.Attribute) or _calls_source(node):
        return True
    callee = node.callee if isinstance(node, tree.Call) else None
    return isinstance(callee, tree.Attribute) or (
        isinstance(callee, tree.Name) and callee.name == "files"
    )


def _flat(patterns: list[Any]) -> list[str]:
    return [name for item in patterns for name in (item if isinstance(item, list) else [item])]


def _constant(name: str, value: object, span: Span) -> Value:
    if isinstance(value, tuple):
        value = list(value)
    if value is None or isinstance(value, (int, float, str, list)):
        return value
    raise fault("E522", f"`{name}` is no number, text or list", span)


def _misplaced(item: tree.JobEntry) -> DnnError:
    if isinstance(item, tree.Rule):
        return fault("E524", f"`{item.key}` is no name of a field or an option", item.span)
    return fault(
        "E524",
        "a data block holds entries `name = value` only",
        item.span,
        help="`standardize = [features]` is an option, and `standardize(x)` stands in an entry"
        if isinstance(item, tree.Step) and item.key == "standardize"
        else None,
    )
