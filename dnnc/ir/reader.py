"""Reading a graph from its text; `dnnc.ir.text` describes the form.

Every node is made by applying its operator, so a graph that was read has passed the type rules.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from dnnc.diagnostics import Diagnostic, DnnError, Source, Span, closest, register_codes
from dnnc.ir.dims import Dim, dim, larger
from dnnc.ir.graph import ROLES, Graph, Input, Output, Value, apply_all
from dnnc.ir.operator import OPERATORS, Operator, TypeRuleError
from dnnc.ir.types import DType, TensorType

__all__ = ["parse_graph"]

register_codes({"E290": "the text of a graph is malformed"})

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<value>%\d+)
  | (?P<float>-?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?)
  | (?P<int>\d+)
  | (?P<name>[^\W\d][\w.]*)
  | (?P<string>"(\\.|[^"\\\n])*")
  | (?P<sign><-|<=|//|[-+*%(){}\[\],:=])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    line: int


def parse_graph(text: str, name: str = "<ir>") -> Graph:
    """The graph that `text` describes; raises DnnError E290, or the type rule's code."""
    # The families of operators register themselves when imported.
    importlib.import_module("dnnc.ops")
    reader = _Reader(Source(name, text))
    graph = reader.graph("graph")
    reader.expect("end")
    return graph


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = list(self._scan())
        self.position = 0

    def _scan(self) -> Iterator[_Token]:
        start, line, text = 0, 1, self.source.text
        while start < len(text):
            match = _TOKEN.match(text, start)
            if match is None:
                self.fail(f"unexpected character {text[start]!r}", start, start + 1)
            if match.lastgroup != "space":
                kind = match.lastgroup or ""
                yield _Token(match.group() if kind == "sign" else kind, match.group(), start, line)
            line += match.group().count("\n")
            start = match.end()
        yield _Token("end", "end of text", len(text), line)

    # Tokens

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.next
        self.position += token.kind != "end"
        return token

    def accept(self, kind: str, text: str | None = None) -> bool:
        found = self.next.kind == kind and text in (None, self.next.text)
        self.position += found
        return found

    def expect(self, kind: str, text: str | None = None) -> str:
        token = self.next
        if token.kind != kind or text not in (None, token.text):
            self.wrong(token, f"expected {text or kind}, got {token.text}")
        return self.take().text

    def name(self) -> str:
        if self.next.kind == "string":
            return str(json.loads(self.take().text))
        return self.expect("name")

    def wrong(self, token: _Token, message: str, code: str = "E290") -> NoReturn:
        self.fail(message, token.start, token.start + len(token.text), code)

    def fail(self, message: str, start: int, end: int, code: str = "E290") -> NoReturn:
        span = Span(self.source, start, min(end, len(self.source.text)))
        raise DnnError(Diagnostic(code, message, span))

    # Graphs

    def graph(self, keyword: str) -> Graph:
        self.expect("name", keyword)
        name = self.name()
        self.expect("(")
        inputs: list[Input] = []
        while not self.accept(")"):
            inputs.append(self.input())
            if self.next.kind != ")":
                self.expect(",")
        bounds: dict[str, Dim] = {}
        if self.accept("name", "where"):
            while not bounds or self.accept(","):
                symbol = self.expect("name")
                self.expect("<=")
                bounds[symbol] = self.size()
        self.expect("{")
        values = {item.name: item.value for item in inputs}
        while not self.accept("name", "return"):
            self.node(values)
        outputs: list[Output] = []
        while not self.accept("}"):
            outputs.append(self.output(values))
            if self.next.kind != "}":
                self.expect(",")
        return Graph(name, tuple(inputs), tuple(outputs), bounds)

    def input(self) -> Input:
        name = self.name()
        self.expect(":")
        role = self.take().text if self.next.text in ROLES else "value"
        return Input(name, Value(self.type(), hint=name), role)

    def output(self, values: dict[str, Value]) -> Output:
        name = self.name()
        if self.accept("<-"):
            return Output(name, self.value(values), updates=name)
        self.expect("=")
        if self.tokens[self.position + 1].kind == "<-":
            updates = self.name()
            self.expect("<-")
            return Output(name, self.value(values), updates)
        return Output(name, self.value(values))

    def value(self, values: dict[str, Value]) -> Value:
        token = self.next
        name = self.take().text if token.kind == "value" else self.name()
        if name not in values:
            self.wrong(token, f"there is no value {name}")
        return values[name]

    def node(self, values: dict[str, Value]) -> None:
        results = [self.result()]
        while self.accept(","):
            results.append(self.result())
        self.expect("=")
        token = self.next
        op_class = self.operator()
        operands: list[Value] = []
        if self.next.kind in ("value", "name", "string") and self.next.line == token.line:
            if self.next.text not in _regions(op_class):
                operands.append(self.value(values))
            while self.accept(","):
                operands.append(self.value(values))
        attributes = self.attributes(op_class, results[0][1])
        for region in _regions(op_class):
            attributes[region] = self.graph(region)
        made = self.apply(token, op_class, attributes, operands)
        expected = [type for _, type in results]
        if [value.type for value in made] != expected:
            types = ", ".join(str(value.type) for value in made)
            self.wrong(token, f"`{op_class.name}` makes {types}")
        values.update(zip((name for name, _ in results), made, strict=True))

    def result(self) -> tuple[str, TensorType]:
        name = self.expect("value")
        self.expect(":")
        return name, self.type()

    def operator(self) -> type[Operator]:
        token = self.next
        name = self.expect("name")
        if name not in OPERATORS:
            near = closest(name, OPERATORS)
            self.wrong(token, f"there is no operator {name}" + (f"; {near}?" if near else ""))
        return OPERATORS[name]

    def apply(
        self,
        token: _Token,
        op_class: type[Operator],
        attributes: dict[str, Any],
        operands: list[Value],
    ) -> tuple[Value, ...]:
        try:
            return apply_all(op_class(**attributes), *operands)
        except TypeRuleError as error:
            self.wrong(token, error.message, error.code)
        except TypeError as error:
            # Of the constructor or the type rule: the number of attributes or operands is wrong.
            self.wrong(token, f"`{op_class.name}`: {error}")

    # Attributes, types and sizes

    def attributes(self, op_class: type[Operator], result: TensorType) -> dict[str, Any]:
        fields = _fields(op_class.name)
        found: dict[str, Any] = {}
        if "dtype" in fields:
            found["dtype"] = result.dtype
        if "shape" in fields:
            found["shape"] = _convert(result.shape, fields["shape"])
        if not self.accept("{"):
            return found
        while not self.accept("}"):
            token = self.next
            name = self.expect("name")
            if name not in fields:
                self.wrong(token, f"`{op_class.name}` has no attribute {name}")
            self.expect("=")
            token = self.next
            try:
                found[name] = _convert(self.attribute(), fields[name])
            except (TypeError, ValueError):
                self.wrong(token, f"attribute {name} of `{op_class.name}` has the wrong type")
            if self.next.kind != "}":
                self.expect(",")
        return found

    def attribute(self) -> Any:
        if self.accept("["):
            items = []
            while not self.accept("]"):
                items.append(self.attribute())
                if self.next.kind != "]":
                    self.expect(",")
            return tuple(items)
        if self.next.kind == "float":
            return float(self.take().text)
        return self.size()

    def type(self) -> TensorType:
        token = self.next
        name = self.expect("name")
        if name not in [dtype.value for dtype in DType]:
            self.wrong(token, f"there is no element type {name}")
        self.expect("[")
        shape = []
        while not self.accept("]"):
            shape.append(self.size())
            if self.next.kind != "]":
                self.expect(",")
        return TensorType(DType(name), tuple(shape))

    def size(self) -> Dim:
        total = -self.product() if self.accept("-") else self.product()
        while self.next.kind in ("+", "-"):
            total = total + self.product() if self.take().kind == "+" else total - self.product()
        return total

    def product(self) -> Dim:
        total = self.atom()
        while self.next.kind in ("*", "//", "%"):
            sign = self.take().kind
            factor = self.atom()
            if sign == "*":
                total = total * factor
            else:
                total = total // factor if sign == "//" else total % factor
        return total

    def atom(self) -> Dim:
        if self.accept("("):
            size = self.size()
            self.expect(")")
            return size
        if self.next.kind == "int":
            return dim(int(self.take().text))
        name = self.expect("name")
        if name == "max" and self.accept("("):
            left = self.size()
            self.expect(",")
            right = self.size()
            self.expect(")")
            return larger(left, right)
        return dim(name)


@cache
def _fields(name: str) -> dict[str, Any]:
    """Types of an operator's attributes, by name."""
    op_class = OPERATORS[name]
    hints = get_type_hints(op_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(op_class)}


def _regions(op_class: type[Operator]) -> list[str]:
    return [name for name, kind in _fields(op_class.name).items() if kind is Graph]


def _convert(value: Any, kind: Any) -> Any:
    """An attribute as its declared type, from a size, a number or a tuple of such."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            return tuple(_convert(item, kinds[0]) for item in value)
        return tuple(_convert(item, k) for item, k in zip(value, kinds, strict=True))
    if kind is Dim:
        return dim(value)
    if kind is DType:
        return DType(value.name)
    if kind is int:
        return operator.index(value)
    return _number(value)


def _number(value: Dim | float) -> float | bool:
    if isinstance(value, float):
        return value
    text = str(value)
    if text in ("true", "false"):
        return text == "true"
    return float(text) if text in ("nan", "inf", "-inf") else int(value)
