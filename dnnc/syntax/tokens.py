"""Text → tokens, with the comments kept beside them.

The terminals are the grammar's own. What is no token becomes an `ERROR` token, so that one place
(the parser) reports every fault. Words come out as `NAME`; whether one is a keyword is settled by
the parser, which knows what may stand there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dnnc.syntax.tables import load_tables

__all__ = ["END", "RESERVED", "Comment", "Token", "tokenize"]

#: The kind of the last token of every text.
END = "$END"

#: Words that are never names.
RESERVED = frozenset(
    [
        "and",
        "as",
        "else",
        "false",
        "for",
        "if",
        "in",
        "not",
        "or",
        "repeat",
        "require",
        "return",
        "scan",
        "then",
        "true",
    ]
)


@dataclass(frozen=True, slots=True)
class Comment:
    """A `#` comment, `blank` where an empty line stands before it."""

    text: str
    blank: bool


class Token:
    """A piece of the text.

    `kind` is the terminal (`NAME` for every word), `keyword` the terminal of a word that can be a
    keyword. `first` tells that it begins its line, `blank` that an empty line stands before it,
    `comments` are those on the lines before it, `trailing` the one behind it on its line.
    """

    __slots__ = (
        "blank",
        "comments",
        "end",
        "first",
        "index",
        "keyword",
        "kind",
        "start",
        "text",
        "trailing",
    )

    def __init__(self, kind: str, text: str, start: int, index: int) -> None:
        self.kind = kind
        self.text = text
        self.start = start
        self.end = start + len(text)
        self.index = index
        self.keyword: str | None = None
        self.first = False
        self.blank = False
        self.comments: tuple[Comment, ...] = ()
        self.trailing: Comment | None = None

    def __repr__(self) -> str:
        return f"Token({self.kind}, {self.text!r})"


@dataclass(frozen=True, slots=True)
class _Scanner:
    pattern: re.Pattern[str]
    literals: dict[str, str]
    keywords: dict[str, str]


@lru_cache(maxsize=1)
def _scanner() -> _Scanner:
    tables = load_tables()
    word = re.compile(tables.patterns["NAME"])
    keywords = {text: name for text, name in tables.literals.items() if word.fullmatch(text)}
    signs = {text: name for text, name in tables.literals.items() if text not in keywords}
    longest_first = sorted(signs, key=lambda sign: (-len(sign), sign))
    alternatives = [f"(?P<{name}>{pattern})" for name, pattern in tables.patterns.items()]
    alternatives.append(f"(?P<sign>{'|'.join(map(re.escape, longest_first))})")
    return _Scanner(re.compile("|".join(alternatives)), signs, keywords)


_UNFINISHED_STRING = re.compile(r'"[^\n]*')
_QUOTED = re.compile(r"'[^'\n]*'")
_NUMBER_TAIL = re.compile(r"\w+")
#: A run of what begins no token; signs of other languages stay whole.
_STRANGE = re.compile(r"&&|!+|[^\sA-Za-z0-9_\"#'(){}\[\].,:|=<>+\-*/%@!&;]+|.", re.DOTALL)


def tokenize(text: str, limit: int) -> list[Token]:
    """The tokens of `text`, the last one of kind `END`; stops after `limit` tokens and comments."""
    scanner = _scanner()
    match, literals, keywords = scanner.pattern.match, scanner.literals, scanner.keywords
    tokens: list[Token] = []
    trivia = _Trivia()
    offset = 1 if text.startswith("\ufeff") else 0
    while offset < len(text) and len(tokens) < limit:
        found = match(text, offset)
        kind = found.lastgroup if found is not None else None
        if found is None or kind is None:
            token = Token("ERROR", _strange(text, offset), offset, len(tokens))
        elif kind == "SPACE":
            trivia.space(found.group())
            offset = found.end()
            continue
        elif kind == "COMMENT":
            trivia.comment(found.group())
            offset = found.end()
            limit -= 1
            continue
        else:
            piece = found.group()
            token = Token(literals[piece] if kind == "sign" else kind, piece, offset, len(tokens))
            if kind == "NAME":
                token.keyword = keywords.get(piece)
            elif kind == "NUMBER" and (tail := _NUMBER_TAIL.match(text, token.end)):
                token = Token("ERROR", piece + tail.group(), offset, len(tokens))
        trivia.attach(token)
        tokens.append(token)
        offset = token.end
    end = Token(END, "", min(offset, len(text)), len(tokens))
    trivia.attach(end)
    end.first = True
    tokens.append(end)
    return tokens


def _strange(text: str, offset: int) -> str:
    """The piece of text at `offset` that is no token."""
    for pattern in (_UNFINISHED_STRING, _QUOTED, _STRANGE):
        if found := pattern.match(text, offset):
            return found.group().rstrip("\r")
    raise AssertionError("the last pattern matches any character")


class _Trivia:
    """What stands between two tokens."""

    def __init__(self) -> None:
        self.comments: list[Comment] = []
        self.last: Token | None = None
        self.newlines = 1  # since the last token or comment; the text begins on a fresh line
        self.fresh = True  # nothing but comments stands on this line

    def space(self, text: str) -> None:
        count = text.count("\n")
        self.newlines += count
        self.fresh = self.fresh or count > 0

    def comment(self, text: str) -> None:
        comment = Comment(text.rstrip(), self.newlines > 1)
        if self.last is not None and not self.fresh:
            self.last.trailing = comment
        else:
            self.comments.append(comment)
        self.newlines = 0

    def attach(self, token: Token) -> None:
        """Give what was gathered to the token and begin anew behind it."""
        if self.comments:
            token.comments = tuple(self.comments)
            self.comments = []
        token.first = self.fresh
        token.blank = self.newlines > 1
        self.newlines = 0
        self.fresh = False
        self.last = token
