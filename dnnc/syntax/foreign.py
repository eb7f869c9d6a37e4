"""Signs and words of other languages, with what is written here instead."""

from __future__ import annotations

import unicodedata

from dnnc.diagnostics import Diagnostic, Span

__all__ = ["FOREIGN_HEADS", "FOREIGN_SIGNS", "explain_strange"]

#: First words of statements and definitions elsewhere.
FOREIGN_HEADS = {
    "def": "a function is `fn name(x) = value` or `fn name(x) { ... return value }`",
    "func": "a function is `fn name(x) = value` or `fn name(x) { ... return value }`",
    "function": "a function is `fn name(x) = value` or `fn name(x) { ... return value }`",
    "lambda": "a function is `fn name(x) = value`, defined at the top level",
    "class": "a network is `model Name { ... }`, a part of one `block name { ... }`",
    "elif": "write `else if ... { ... }`",
    "elseif": "write `else if ... { ... }`",
    "elsif": "write `else if ... { ... }`",
    "while": "loops are `repeat count { ... }`, `for x in list { ... }` and `scan`",
    "let": "a name is bound with `name = value` alone",
    "var": "a name is bound with `name = value` alone",
    "pass": "an empty body is `{}`",
    "from": 'a file is imported with `import "file.dnn" as name`',
    "import": 'a file is imported at the top level with `import "file.dnn" as name`',
    "assert": 'a condition is `require test, "message"`',
    "print": "there are no statements with an effect outside the network",
    "input": "an input is `in name: [batch, ...]`",
    "output": "an output is `out name: [batch, ...]`",
    "with": "there is no `with`; settings stand in parentheses",
    "try": 'there are no exceptions; a condition is `require test, "message"`',
    "layer": "a part of a network is `block name(settings) { ... }`",
    "network": "a network is `model Name { ... }`",
}

#: Two signs that touch.
FOREIGN_SIGNS = {
    "+=": "write `x = x + ...`",
    "-=": "write `x = x - ...`",
    "*=": "write `x = x * ...`",
    "/=": "write `x = x / ...`",
    "@=": "write `x = x @ ...`",
    ":=": "a name is bound with `=`",
    "||": "write `or`",
    "|>": "a tensor is carried by `->`",
    "=>": "a tensor is carried by `->`",
    "===": "to compare, write `==`",
    "<>": "write `!=`",
    "/*": "a comment begins with `#`",
    "**=": "write `x = x ** ...`",
}

#: Characters that are no token.
_STRANGE = {
    "&&": "write `and`",
    "&": "write `and`",
    "!": "write `not`",
    ";": "a statement ends by itself; leave `;` out",
    "^": "a power is `x ** y`",
    "?": "a choice is `if test then a else b`",
    "→": "write `->`",
    "⇒": "write `->`",
    "×": "write `*`",
    "·": "write `*`",
    "÷": "write `/`",
    "−": "write `-`",
    "–": "write `-`",
    "—": "write `-`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "…": "write `...`",
    "“": 'a string stands in plain double quotes: `"..."`',
    "”": 'a string stands in plain double quotes: `"..."`',
    "‘": 'a string stands in plain double quotes: `"..."`',
    "’": 'a string stands in plain double quotes: `"..."`',
}
_OTHER_LANGUAGES = frozenset(("&&", "&", "!", ";", "^", "?"))


def explain_strange(text: str, span: Span) -> Diagnostic:
    """The diagnostic for a piece of text that is no token."""
    if text[0] == '"':
        return Diagnostic(
            "E004",
            "the string has no end",
            span,
            'expected `"` before the end of the line',
        )
    if text[0] == "'":
        return Diagnostic(
            "E008",
            "`'` is not a sign of the language",
            span,
            help='a string stands in double quotes: `"..."`',
        )
    if text[0].isdigit():
        return Diagnostic(
            "E011",
            f"`{_printable(text)}` is neither a number nor a name",
            span,
            help="numbers are like `8_000`, `0.5` and `1e-3`; a name begins with a letter",
        )
    if text in _OTHER_LANGUAGES:
        return Diagnostic(
            "E008", f"`{text}` is not a sign of the language", span, help=_STRANGE[text]
        )
    help = _STRANGE.get(text[0])
    if help is None and text[0].isalpha():
        help = "names are made of the letters a to z, digits and `_`"
    first = Span(span.source, span.start, span.start + 1)
    return Diagnostic("E001", f"unexpected character {_character(text[0])}", first, help=help)


def _character(char: str) -> str:
    """A character as it can be shown, with its name where it cannot be seen."""
    if char.isprintable():
        return f"`{char}`"
    name = unicodedata.name(char, "")
    return f"U+{ord(char):04X}{' (' + name.lower() + ')' if name else ''}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:40])
