"""Pieces of a text on their way to a document: tokens and rules, with what their neighbours ask.

Comments before the first token of a piece travel up with it (`lead`), so that a comment above a
statement is printed above it and breaks nothing inside.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnc.syntax.layout import (
    COLUMNS,
    Align,
    Concat,
    Doc,
    Fill,
    Group,
    Hard,
    Indent,
    Line,
    OwnComment,
    Pad,
    Text,
    Trailing,
    WhenBroken,
)
from dnnc.syntax.structure import CLOSERS
from dnnc.syntax.tokens import Token

__all__ = [
    "Body",
    "Chain",
    "Choice",
    "Leaf",
    "Piece",
    "Pipe",
    "bracketed",
    "comments_before",
    "full",
    "lines",
    "spaced",
    "tight",
]

#: List items up to this width fill their lines; longer ones stand one to a line.
_SHORT = 24
#: Single items that need no line of their own in brackets.
_HUGGED = (["list"], ["call"])


class Piece:
    """A rule laid out: its document without the comments before it, and its first token."""

    def __init__(self, rule: str, first: Token, lead: Sequence[Doc], doc: Doc) -> None:
        self.rule = rule
        self.first = first
        self.lead = list(lead)
        self._doc = doc
        #: Places of a line that neighbours of the same rule align, with the width before each.
        self.columns: list[tuple[Pad, int]] = []

    @property
    def doc(self) -> Doc:
        return self._doc


class Leaf(Piece):
    """A token with the comment behind it."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.trailing = [Trailing(token.trailing.text)] if token.trailing else []
        doc = Concat([Text(token.text), *self.trailing]) if self.trailing else Text(token.text)
        super().__init__("token", token, comments_before(token), doc)


class Pipe(Piece):
    """A chain of `->`, laid out once it is complete."""

    def __init__(self, head: Piece) -> None:
        super().__init__("pipe", head.first, head.lead, head.doc)
        self.links: list[tuple[Leaf, Piece]] = []

    @property
    def doc(self) -> Doc:
        return self.laid_out(keep_breaks=False)

    def laid_out(self, keep_breaks: bool) -> Doc:
        parts: list[Doc] = []
        for arrow, stage in self.links:
            link = Concat([full(arrow), Text(" "), full(stage)])
            kept = keep_breaks and arrow.token.first
            parts += [Hard() if kept else Fill(link), link]
        return Concat([self._doc, Indent(Concat(parts))])


class Chain(Piece):
    """Operators of one precedence, laid out once they are complete."""

    def __init__(self, head: Piece, level: int) -> None:
        super().__init__("binary", head.first, head.lead, head.doc)
        self.level = level
        self.parts: list[Doc] = []

    @property
    def doc(self) -> Doc:
        return Group(Concat([self._doc, Indent(Concat(self.parts))]))


class Choice(Piece):
    """`if ... then ... else if ... else ...`: a line for each case where one does not hold all."""

    def __init__(self, first: Leaf, cases: list[Doc]) -> None:
        separated: list[Doc] = [cases[0]]
        for case in cases[1:]:
            separated += [Line(), case]
        super().__init__("conditional", first.token, first.lead, Align(Group(Concat(separated))))
        self.cases = cases


class Body(Piece):
    """Statements in braces; `inline` tells that they were written on one line and may stay so."""

    def __init__(self, first: Leaf, doc: Doc, inline: Doc | None) -> None:
        super().__init__("body", first.token, first.lead, doc)
        self.inline = inline


def full(piece: Piece) -> Doc:
    """A piece with the comments before it."""
    return Concat([*piece.lead, piece.doc]) if piece.lead else piece.doc


def tight(rule: str, parts: Sequence[Piece]) -> Piece:
    """The parts without space between them."""
    first = parts[0]
    return Piece(
        rule, first.first, first.lead, Concat([first.doc, *(full(part) for part in parts[1:])])
    )


def spaced(rule: str, parts: Sequence[Piece]) -> Piece:
    """The parts with a space between them."""
    first = parts[0]
    docs = [first.doc]
    for part in parts[1:]:
        docs += [Text(" "), full(part)]
    return Piece(rule, first.first, first.lead, Concat(docs))


def bracketed(rule: str, parts: Sequence[Piece], filled: bool = False) -> Piece:
    """Brackets around items with commas; broken, every item has its line and its comma.

    Short items share lines where the list is `filled`. A single item with brackets of its own is
    not set apart: `f([`, the items, `])`.
    """
    opener, *inner, closer = parts
    items = [full(part) for part in inner[::2]]
    commas = [*inner[1::2], *([None] if len(inner) % 2 else [])]
    commented = opener.doc.tail or any(part.lead or part.doc.tail for part in inner)
    if not commented and not closer.lead and [part.rule for part in inner[::2]] in _HUGGED:
        hugging = Concat([opener.doc, items[0], closer.doc])
        return Piece(rule, opener.first, opener.lead, hugging)
    filled = filled and not commented and all(item.width <= _SHORT for item in items)
    docs: list[Doc] = []
    for index, (item, comma) in enumerate(zip(items, commas, strict=True)):
        break_before = Fill(item) if filled and index else Line(" " if index else "")
        docs += [break_before, item, *_comma(comma, last=index + 1 == len(items))]
    docs += closer.lead
    end: list[Doc] = [Line("")] if docs else []
    body = Concat([opener.doc, Indent(Concat(docs)), *end, closer.doc])
    return Piece(rule, opener.first, opener.lead, Group(body))


def lines(pieces: Sequence[Piece], separate: bool) -> list[Doc]:
    """Pieces one below the other; with `separate`, an empty line sets off those with a body."""
    docs: list[Doc] = []
    before: Piece | None = None
    run: list[Piece] = []
    for piece in pieces:
        blank = _blank_before(piece)
        if before is not None:
            blank = blank or (separate and ("definition" in (before.rule, piece.rule)))
            docs.append(Hard(blank))
            if blank or piece.lead or piece.rule != before.rule:
                _align(run)
                run = []
        run.append(piece)
        docs += [*piece.lead, piece.doc]
        before = piece
    _align(run)
    return docs


def _align(run: Sequence[Piece]) -> None:
    """Give the places of neighbouring lines the same columns."""
    depth = min((len(piece.columns) for piece in run), default=0)
    for place in range(depth):
        widest = max(piece.columns[place][1] for piece in run)
        if widest > COLUMNS:
            # Something there is broken over lines; nothing can be aligned behind it.
            return
        for piece in run:
            pad, width = piece.columns[place]
            pad.spaces = widest - width


def _blank_before(piece: Piece) -> bool:
    comments = piece.first.comments
    return comments[0].blank if comments else piece.first.blank


def _comma(comma: Piece | None, last: bool) -> list[Doc]:
    sign: Doc = WhenBroken(",") if last else Text(",")
    if isinstance(comma, Leaf):
        return [*comma.lead, sign, *comma.trailing]
    return [sign]


def comments_before(token: Token) -> list[Doc]:
    """The comments on the lines before a token; the space above the first is its place's affair."""
    docs: list[Doc] = [
        OwnComment(comment.text, comment.blank and index > 0)
        for index, comment in enumerate(token.comments)
    ]
    if docs and token.blank and token.kind not in CLOSERS.values():
        docs.append(Hard(blank=True))
    return docs
