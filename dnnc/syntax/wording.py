"""Kinds of token in the words of the user: "expected a name or `}`"."""

from __future__ import annotations

from functools import lru_cache

from dnnc.syntax.tables import load_tables
from dnnc.syntax.tokens import END

__all__ = ["COMPARISONS", "ITEM_WORDS", "OPERATORS", "STATEMENT_WORDS", "describe"]

COMPARISONS = frozenset(["EQ", "NE", "LE", "GE", "LT", "GT"])
#: Signs and words between two values.
OPERATORS = COMPARISONS | frozenset(
    [
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "DOUBLE_SLASH",
        "PERCENT",
        "AT",
        "POWER",
        "AND",
        "OR",
        "ARROW",
    ]
)
#: Words that begin a definition, and words that begin a statement.
ITEM_WORDS = (
    "import",
    "const",
    "fn",
    "block",
    "model",
    "optimizer",
    "data",
    "train",
    "compress",
    "distill",
    "search",
)
STATEMENT_WORDS = (
    "in",
    "out",
    "param",
    "state",
    "carry",
    "emit",
    "require",
    "return",
    "repeat",
    "for",
    "scan",
    "if",
)

_ITEM = frozenset(word.upper() for word in ITEM_WORDS)
_STATEMENT = frozenset(word.upper() for word in STATEMENT_WORDS)
_VALUE = frozenset(
    ["NAME", "NUMBER", "STRING", "TRUE", "FALSE", "LPAR", "LSQB", "MINUS", "NOT", "IF"]
)
_POSTFIX = frozenset(("LPAR", "LSQB", "DOT"))

#: A group is named where its sign is among the expected; the rest of it is then left out.
_GROUPS: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("FN", "a definition", _ITEM),
    ("PARAM", "a statement", _STATEMENT | {"NAME"}),
    (
        "MAXIMIZE",
        "a setting or a step",
        frozenset(["NAME", "OPTIMIZER", "REQUIRE", "MAXIMIZE", "MINIMIZE"]),
    ),
    ("NUMBER", "an expression", _VALUE),
    ("PLUS", "an operator", OPERATORS | _POSTFIX),
)
_SINGLE = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    END: "the end of the text",
}


def describe(kinds: set[str]) -> str:
    """The kinds as a phrase: "`,`, `)` or an operator"."""
    rest = set(kinds)
    groups = []
    for sign, phrase, members in _GROUPS:
        if sign in rest:
            rest -= members
            groups.append(phrase)
    if len(rest) > 1:
        # Whoever stands inside brackets is not helped by "or the end of the text".
        rest.discard(END)
    singles = [_SINGLE[kind] for kind in sorted(rest & set(_SINGLE)) if kind != END]
    signs = sorted(f"`{_texts()[kind]}`" for kind in rest - set(_SINGLE))
    last = [_SINGLE[END]] if END in rest else []
    phrases = [*singles, *groups, *signs, *last]
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} or {phrases[-1]}"


@lru_cache(maxsize=1)
def _texts() -> dict[str, str]:
    return {name: text for text, name in load_tables().literals.items()}
