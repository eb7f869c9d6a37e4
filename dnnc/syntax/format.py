"""`.dnn` text in its one standard layout.

The parser's automaton runs with actions of another kind: each rule gives a piece of a document
(`pieces`, `layout`) instead of a node. Every token is printed where it stood, with the comments
around it, so that nothing can get lost; only white space and the comma at the end of a list are the
formatter's to choose. Breaks before `->`, bodies on one line and single empty lines are kept as
they were written: they tell how the author groups the text. Settings of a job, ports and parameters
are aligned with their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnnc.diagnostics import Diagnostic, Source
from dnnc.syntax.layout import (
    COLUMNS,
    Concat,
    Doc,
    Fill,
    Group,
    Hard,
    Indent,
    Line,
    Pad,
    Text,
    render,
)
from dnnc.syntax.machine import Entry
from dnnc.syntax.parse import parse, parse_with
from dnnc.syntax.pieces import (
    Body,
    Chain,
    Choice,
    Leaf,
    Piece,
    Pipe,
    bracketed,
    comments_before,
    full,
    lines,
    spaced,
    tight,
)
from dnnc.syntax.tokens import Token

__all__ = ["format_source"]

#: Operators that may stand at the beginning of a broken line, by precedence.
_LEVELS = {"or": 1, "and": 2, "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5, "@": 5}

Parts = list[Any]


def format_source(source: Source) -> str:
    """The text of a file in standard layout; raises DnnError where it has syntax errors.

    The result parses to an equal tree, has the same comments in the same order, and is its own
    standard layout.
    """
    parse(source)
    actions = _Layout()
    docs = lines(parse_with(source, actions), separate=True)
    if actions.last is not None and actions.last.comments:
        docs += [Hard(actions.last.comments[0].blank), *comments_before(actions.last)]
    return render(Concat(docs))


class _Layout:
    """The actions that lay out: one method for every rule that is more than its parts in a row."""

    wants_all_tokens = True

    def __init__(self) -> None:
        self.faults: list[Diagnostic] = []
        self.last: Token | None = None

    def token(self, token: Token) -> Leaf:
        self.last = token
        return Leaf(token)

    def reduce(self, action: str, parts: Parts, entry: Entry) -> tuple[Any, int]:
        return getattr(self, action)(parts), entry.depth

    # --- top level --------------------------------------------------------------------------------

    def start(self, parts: Parts) -> Parts:
        return parts

    def import_(self, parts: Parts) -> Piece:
        return spaced("import", parts)

    def const(self, parts: Parts) -> Piece:
        return _assigned("const", parts)

    def function(self, parts: Parts) -> Piece:
        return _headed("definition", parts)

    def short_function(self, parts: Parts) -> Piece:
        word, name, settings, sign, value = parts
        head = [word.doc, Text(" "), full(name), full(settings), Text(" "), full(sign)]
        docs = [*head, Group(Indent(Concat([Line(), *value.lead, _value(value)])))]
        return Piece("function", word.first, word.lead, Concat(docs))

    def block(self, parts: Parts) -> Piece:
        return _headed("definition", parts)

    def settings(self, parts: Parts) -> Piece:
        return bracketed("settings", parts)

    def setting(self, parts: Parts) -> Piece:
        return _assigned("setting", parts)

    def data(self, parts: Parts) -> Piece:
        return spaced("definition", parts)

    train = derive = distill = data

    def entries(self, parts: Parts) -> Piece:
        return self.body(parts)

    def rule(self, parts: Parts) -> Piece:
        return _assigned("rule", parts, align=True)

    def step(self, parts: Parts) -> Piece:
        return tight("step", parts)

    def goal(self, parts: Parts) -> Piece:
        return spaced("goal", parts)

    def key(self, parts: Parts) -> Piece:
        return tight("key", parts)

    # --- statements -------------------------------------------------------------------------------

    def body(self, parts: Parts) -> Body:
        opener, *statements, closer = parts
        if not statements and not closer.lead and not opener.trailing:
            empty = Concat([opener.doc, closer.doc])
            return Body(opener, empty, empty)
        docs: list[Doc] = [Hard(), *lines(statements, separate=False)] if statements else []
        if closer.lead:
            docs += [Hard(closer.first.comments[0].blank), *closer.lead]
        broken = Concat([opener.doc, Indent(Concat(docs)), Hard(), closer.doc])
        return Body(opener, broken, _inline(opener, statements, closer))

    def port(self, parts: Parts) -> Piece:
        direction, names, *shape = parts
        pad = Pad()
        docs = [direction.doc, Text(" "), pad, full(names)]
        columns = [(pad, direction.doc.width)]
        if shape:
            colon, value = shape
            pad = Pad()
            docs += [full(colon), Text(" "), pad, full(value)]
            columns.append((pad, full(names).width))
        piece = Piece("port", direction.first, direction.lead, Concat(docs))
        piece.columns = columns if len(columns) == 2 else []
        return piece

    def require(self, parts: Parts) -> Piece:
        word, test, *message = parts
        docs = [full(test)]
        if message:
            docs += [full(message[0]), Line(), full(message[1])]
        group = Group(Indent(Concat(docs)))
        return Piece("require", word.first, word.lead, Concat([word.doc, Text(" "), group]))

    def parameter(self, parts: Parts) -> Piece:
        word, name, *shape, sign, value = parts
        docs = [word.doc, Text(" "), full(name)]
        columns = []
        if shape:
            before, behind = Pad(), Pad()
            docs += [full(shape[0]), Text(" "), before, full(shape[1]), behind]
            columns = [
                (before, word.doc.width + full(name).width),
                (behind, full(shape[1]).width),
            ]
        docs += [Text(" "), full(sign), Text(" "), *_value_after(value)]
        piece = Piece("parameter", word.first, word.lead, Concat(docs))
        piece.columns = columns
        return piece

    state = carry = parameter

    def bind(self, parts: Parts) -> Piece:
        return _assigned("bind", parts)

    def emit(self, parts: Parts) -> Piece:
        return _assigned("emit", parts)

    def return_(self, parts: Parts) -> Piece:
        word, value = parts
        docs = [word.doc, Text(" "), *_value_after(value)]
        return Piece("return", word.first, word.lead, Concat(docs))

    def repeat(self, parts: Parts) -> Piece:
        return _headed("repeat", parts)

    def for_(self, parts: Parts) -> Piece:
        return _headed("for", parts)

    def scan(self, parts: Parts) -> Piece:
        return _headed("scan", parts)

    def if_(self, parts: Parts) -> Piece:
        return _headed("if", parts)

    def names(self, parts: Parts) -> Piece:
        return _listed("names", parts)

    def values(self, parts: Parts) -> Piece:
        return _listed("values", parts)

    # --- shapes -----------------------------------------------------------------------------------

    def shape(self, parts: Parts) -> Piece:
        if parts[0].token.kind == "LSQB":
            return bracketed("shape", parts)
        return tight("shape", [parts[0], bracketed("shape", parts[1:])])

    def dimension(self, parts: Parts) -> Piece:
        return spaced("dimension", parts)

    def ellipsis(self, parts: Parts) -> Piece:
        return tight("ellipsis", parts)

    # --- expressions ------------------------------------------------------------------------------

    def conditional(self, parts: Parts) -> Choice:
        word, test, then, yes, other, no = parts
        head = [word.doc, *_after_spaces(test, then), Text(" "), Indent(full(yes))]
        cases: list[Doc] = [Concat(head)]
        start = [full(other), Text(" ")]
        if isinstance(no, Choice) and not no.lead:
            cases += [Concat([*start, no.cases[0]]), *no.cases[1:]]
        else:
            cases.append(Concat([*start, Indent(full(no))]))
        return Choice(word, cases)

    def pipe(self, parts: Parts) -> Pipe:
        head, arrow, stage = parts
        pipe = head if isinstance(head, Pipe) else Pipe(head)
        pipe.links.append((arrow, stage))
        return pipe

    def stage(self, parts: Parts) -> Piece:
        docs = [parts[0].doc]
        for part in parts[1:]:
            docs += [full(part)] if part.rule == "arguments" else [Text(" "), full(part)]
        return Piece("stage", parts[0].first, parts[0].lead, Concat(docs))

    def branches(self, parts: Parts) -> Piece:
        opener, *inner, closer = parts
        docs: list[Doc] = [Line(), full(inner[0])]
        for bar, chain in zip(inner[1::2], inner[2::2], strict=True):
            docs += [Line(), full(bar), Text(" "), full(chain)]
        docs += [*closer.lead]
        body = Concat([opener.doc, Indent(Concat(docs)), Line(), closer.doc])
        return Piece("branches", opener.first, opener.lead, Group(body))

    def chain(self, parts: Parts) -> Piece:
        first, *rest = parts
        docs: list[Doc] = []
        for arrow, stage in zip(rest[::2], rest[1::2], strict=True):
            link = Concat([full(arrow), Text(" "), full(stage)])
            docs += [Fill(link), link]
        return Piece("chain", first.first, first.lead, Concat([first.doc, Indent(Concat(docs))]))

    def path(self, parts: Parts) -> Piece:
        return tight("path", parts)

    def arguments(self, parts: Parts) -> Piece:
        return bracketed("arguments", parts)

    def argument(self, parts: Parts) -> Piece:
        return _assigned("argument", parts) if len(parts) > 1 else parts[0]

    def binary(self, parts: Parts) -> Piece:
        left, sign, right = parts
        level = _LEVELS.get(sign.token.text)
        if level is None:
            return spaced("binary", parts)
        chain = left if isinstance(left, Chain) and left.level == level else Chain(left, level)
        chain.parts += [Line(), full(sign), Text(" "), full(right)]
        return chain

    def unary(self, parts: Parts) -> Piece:
        return spaced("unary", parts) if parts[0].token.text == "not" else tight("unary", parts)

    def name(self, parts: Parts) -> Piece:
        return tight("name", parts)

    number = string = boolean = name

    def group(self, parts: Parts) -> Piece:
        opener, value, closer = parts
        inner = Indent(Concat([Line(""), full(value), *closer.lead]))
        body = Concat([opener.doc, inner, Line(""), closer.doc])
        return Piece("group", opener.first, opener.lead, Group(body))

    def list(self, parts: Parts) -> Piece:
        return bracketed("list", parts, filled=True)

    def attribute(self, parts: Parts) -> Piece:
        return tight("attribute", parts)

    index = attribute

    def call(self, parts: Parts) -> Piece:
        return tight("call", parts)


def _assigned(rule: str, parts: Parts, align: bool = False) -> Piece:
    """`... name = value`; with `align`, the sign stands below that of the line before."""
    if len(parts) == 1:
        return tight(rule, parts)
    *head, sign, value = parts
    start = spaced(rule, head)
    pad = Pad()
    docs = [start.doc, pad, Text(" "), full(sign), Text(" "), *_value_after(value)]
    piece = Piece(rule, start.first, start.lead, Concat(docs))
    piece.columns = [(pad, start.doc.width)] if align else []
    return piece


def _value(value: Piece) -> Doc:
    """The value of a statement: a chain keeps its breaks."""
    return value.laid_out(keep_breaks=True) if isinstance(value, Pipe) else value.doc


def _value_after(value: Piece) -> list[Doc]:
    if not value.lead:
        return [_value(value)]
    return [Indent(Concat([*value.lead, _value(value)]))]


def _headed(rule: str, parts: Sequence[Piece]) -> Piece:
    """A head and its bodies; these are inline all together or not at all."""
    bodies = [part for part in parts if isinstance(part, Body)]
    inline = all(body.inline is not None for body in bodies)
    first = parts[0]
    docs = [first.doc]
    for part in parts[1:]:
        if part.rule != "settings":
            docs.append(Text(" "))
        if isinstance(part, Body) and inline and part.inline is not None:
            docs += [*part.lead, part.inline]
        else:
            docs.append(full(part))
    body = Concat(docs)
    return Piece(rule, first.first, first.lead, Group(body) if inline else body)


def _inline(opener: Leaf, statements: Sequence[Piece], closer: Leaf) -> Doc | None:
    """A body of one statement that was written on one line, or None."""
    if len(statements) != 1 or statements[0].first.first or closer.token.first or opener.trailing:
        return None
    statement = statements[0]
    if statement.doc.width > COLUMNS:
        return None
    docs = [opener.doc, Indent(Concat([Line(), statement.doc])), Line(), closer.doc]
    return Concat(docs)


def _listed(rule: str, parts: Sequence[Piece]) -> Piece:
    """Names or values with commas."""
    docs = [parts[0].doc]
    for comma, part in zip(parts[1::2], parts[2::2], strict=True):
        docs += [full(comma), Text(" "), full(part)]
    return Piece(rule, parts[0].first, parts[0].lead, Concat(docs))


def _after_spaces(*pieces: Piece) -> list[Doc]:
    docs: list[Doc] = []
    for piece in pieces:
        docs += [Text(" "), full(piece)]
    return docs
