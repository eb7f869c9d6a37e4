"""Which brackets belong together, found before parsing and also in a broken text.

A missing bracket is the fault that spoils the most text behind it. Here it is kept from doing so: a
`}` closes the nearest `{` over any forgotten `)`, and a definition that begins at the margin closes
whatever is open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dnnc.syntax.tokens import END, Token

__all__ = ["CLOSERS", "CLOSING", "MAX_NESTING", "Structure", "find_structure"]

#: How deep brackets may nest.
MAX_NESTING = 100

#: Every opening bracket and the one that closes it.
CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
#: The same as they are written.
CLOSING = {"(": ")", "[": "]", "{": "}"}
_OPENERS = {closer: opener for opener, closer in CLOSERS.items()}

#: What follows the word of a definition and its name, where it is one beyond doubt.
_AFTER_NAME = {
    "CONST": ("EQUAL",),
    "FN": ("LPAR",),
    "MODEL": ("LPAR", "LBRACE"),
    "BLOCK": ("LPAR", "LBRACE"),
    "OPTIMIZER": ("LPAR", "LBRACE"),
    "DATA": ("LBRACE",),
    "TRAIN": ("ON",),
    "COMPRESS": ("EQUAL",),
    "SEARCH": ("EQUAL",),
    "DISTILL": ("FROM",),
}


@dataclass(slots=True)
class Structure:
    """The brackets of a text, by the indices of their tokens.

    `depth[i]` counts the brackets around token i. `boundaries` maps the first token of a definition
    to the `{` before it that should have been closed. `open_at_end` and `forgotten` hold opening
    brackets without their end, `stray` closing ones without a beginning; `too_deep` is the first
    bracket beyond `MAX_NESTING`.
    """

    depth: list[int] = field(default_factory=list)
    boundaries: dict[int, int] = field(default_factory=dict)
    open_at_end: list[int] = field(default_factory=list)
    forgotten: set[int] = field(default_factory=set)
    stray: set[int] = field(default_factory=set)
    too_deep: int | None = None


def find_structure(text: str, tokens: list[Token]) -> Structure:
    """Pair the brackets of a text."""
    structure = Structure()
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if stack and token.first and is_definition(tokens, index):
            outermost = _line_start(tokens, stack[0])
            if _column(text, token) <= _column(text, outermost):
                structure.boundaries[index] = stack[0]
                structure.forgotten.update(stack)
                stack.clear()
        if token.kind in CLOSERS:
            stack.append(index)
            if len(stack) > MAX_NESTING and structure.too_deep is None:
                structure.too_deep = index
        elif token.kind in _OPENERS:
            _close(tokens, index, stack, pairs, structure)
    structure.open_at_end = list(stack)
    structure.forgotten.update(stack)
    structure.depth = _depths(tokens, pairs, structure)
    return structure


def is_definition(tokens: list[Token], index: int, keyword: str | None = None) -> bool:
    """Whether a definition begins here: its word, a name, and the sign that follows.

    With `keyword` the word is read as that one, whatever it is.
    """
    keyword = keyword or tokens[index].keyword
    if keyword == "IMPORT":
        return tokens[index + 1].kind == "STRING"
    if keyword not in _AFTER_NAME or tokens[index + 1].kind != "NAME":
        return False
    third = tokens[index + 2]
    return (third.keyword or third.kind) in _AFTER_NAME[keyword]


def _close(
    tokens: list[Token],
    index: int,
    stack: list[int],
    pairs: dict[int, int],
    structure: Structure,
) -> None:
    wanted = _OPENERS[tokens[index].kind]
    place = len(stack) - 1
    # A brace ends what it encloses; a parenthesis reaches no further than its body.
    while place >= 0 and tokens[stack[place]].kind != wanted:
        if tokens[stack[place]].kind == "LBRACE":
            place = -1
            break
        place -= 1
    if place < 0:
        structure.stray.add(index)
        return
    structure.forgotten.update(stack[place + 1 :])
    pairs[index] = stack[place]
    del stack[place:]


def _depths(tokens: list[Token], pairs: dict[int, int], structure: Structure) -> list[int]:
    depths = []
    depth = 0
    for index, token in enumerate(tokens):
        if index in structure.boundaries or token.kind == END:
            depth = 0
        if index in pairs:
            depth -= 1
        depths.append(depth)
        # A forgotten parenthesis encloses nothing; a forgotten brace does, up to the boundary.
        if token.kind == "LBRACE" or (token.kind in CLOSERS and index not in structure.forgotten):
            depth += 1
    return depths


def _line_start(tokens: list[Token], index: int) -> Token:
    while not tokens[index].first and index:
        index -= 1
    return tokens[index]


def _column(text: str, token: Token) -> int:
    return token.start - (text.rfind("\n", 0, token.start) + 1)
