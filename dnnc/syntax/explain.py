"""What is wrong at a token that may not stand where it stands, in the words of the user.

`explain` asks a list of questions, most telling first; each looks at the tokens around the fault
and gives a diagnostic or passes. The last one always answers.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.diagnostics import Diagnostic, Note, Span, closest
from dnnc.syntax.fault import FRAMES, Fault
from dnnc.syntax.foreign import FOREIGN_HEADS, FOREIGN_SIGNS, explain_strange
from dnnc.syntax.structure import CLOSERS, CLOSING, is_definition
from dnnc.syntax.tokens import END, RESERVED, Token
from dnnc.syntax.wording import COMPARISONS, ITEM_WORDS, OPERATORS, STATEMENT_WORDS, describe

__all__ = ["explain"]

#: Words that may follow something inside a statement, as candidates for a misspelling.
_INNER_WORDS = {"THEN", "ELSE", "ALONG", "ON", "FROM", "AS", "IN", "AND", "OR"}
#: Signs that end an expression.
_ENDS = {END, "COMMA", "COLON", "BAR", "LBRACE"}
_ENTRY_WORDS = ("maximize", "minimize", "require")


def explain(fault: Fault) -> tuple[Diagnostic, int]:
    """The diagnostic for a fault, and the token from which to look for a place to go on."""
    swallowed = _swallowed_next_line(fault)
    if swallowed is not None:
        return swallowed, fault.index - 1
    for question in _QUESTIONS:
        diagnostic = question(fault)
        if diagnostic is not None:
            return diagnostic, fault.index
    return _unexpected(fault), fault.index


def _swallowed_next_line(fault: Fault) -> Diagnostic | None:
    """`x = a +` and on the next line `y = b`: the fault shows at `=`, but lies at `+`."""
    if fault.index < 2:
        return None
    token, name, operator = (
        fault.token,
        fault.tokens[fault.index - 1],
        fault.tokens[fault.index - 2],
    )
    if not (name.first and name.kind == "NAME" and operator.kind in OPERATORS | {"EQUAL"}):
        return None
    begins = token.kind == "EQUAL" or (
        token.kind == "NAME" and name.text in (*STATEMENT_WORDS, *ITEM_WORDS)
    )
    return _no_right_side(fault, operator) if begins else None


def _no_right_side(fault: Fault, operator: Token) -> Diagnostic:
    if operator.kind == "ARROW":
        wanted, help = "a stage belongs to its right", "write `x -> f(settings)`"
    elif operator.kind == "EQUAL":
        wanted, help = "a value belongs to its right", None
    else:
        wanted, help = "an expression belongs to its right", None
    return Diagnostic(
        "E006",
        f"`{operator.text}` has nothing to its right",
        fault.span(operator),
        wanted,
        help=help,
    )


def _strange_character(fault: Fault) -> Diagnostic | None:
    if fault.token.kind != "ERROR":
        return None
    return explain_strange(fault.token.text, fault.span(fault.token))


def _foreign_sign(fault: Fault) -> Diagnostic | None:
    """Two signs side by side that mean something in another language: `+=`, `:=`, `||`."""
    for index in (fault.index, fault.index + 1):
        if not (0 < index < len(fault.tokens) and fault.follows_directly(index)):
            continue
        first, second = fault.tokens[index - 1], fault.tokens[index]
        help = FOREIGN_SIGNS.get(first.text + second.text)
        if help is not None:
            span = Span(fault.source, first.start, second.end)
            return Diagnostic(
                "E008", f"`{span.text}` is not a sign of the language", span, help=help
            )
    return None


def _slash_comment(fault: Fault) -> Diagnostic | None:
    """`// text`: the fault shows somewhere in the text."""
    for index in range(fault.index, -1, -1):
        token = fault.tokens[index]
        if token.kind == "DOUBLE_SLASH":
            is_prose = index == fault.index or fault.index - index >= 2
            if not is_prose:
                return None
            return Diagnostic(
                "E008",
                "`//` divides; it does not begin a comment",
                fault.span(token),
                help="a comment begins with `#`",
            )
        if token.first:
            return None
    return None


def _end_of_text(fault: Fault) -> Diagnostic | None:
    if fault.token.kind != END:
        return None
    if not fault.structure.open_at_end:
        return None
    opener = fault.tokens[fault.structure.open_at_end[-1]]
    closer = CLOSING[opener.text]
    return Diagnostic(
        "E003",
        f"the text ends before `{opener.text}` is closed",
        fault.span(fault.token),
        f"expected `{closer}`",
        notes=(Note(f"`{opener.text}` was opened here", fault.span(opener)),),
    )


def _missing_right_side(fault: Fault) -> Diagnostic | None:
    before = fault.before
    if before is None or before.kind not in OPERATORS | {"EQUAL"} or before.keyword == "NOT":
        return None
    token = fault.token
    if token.keyword == "IF" and not token.first:
        return Diagnostic(
            "E002",
            f"a conditional cannot stand directly behind `{before.text}`",
            fault.span(token),
            help="put it in parentheses: `(if ... then ... else ...)`",
        )
    ends = token.first or token.kind in _ENDS or token.kind in CLOSERS.values()
    return _no_right_side(fault, before) if ends else None


def _one_equals_sign(fault: Fault) -> Diagnostic | None:
    span = fault.span(fault.token)
    if fault.token.kind == "EQUAL" and "EQ" in fault.expected:
        return Diagnostic(
            "E007", "`=` binds a name; it does not compare", span, help="to compare, write `==`"
        )
    if fault.token.kind == "EQ" and "EQUAL" in fault.expected and "EQ" not in fault.expected:
        return Diagnostic(
            "E007", "`==` compares; it does not bind a name", span, help="to bind, write `=`"
        )
    return None


def _chained_comparison(fault: Fault) -> Diagnostic | None:
    if fault.token.kind not in COMPARISONS or "AND" not in fault.expected:
        return None
    return Diagnostic(
        "E015",
        "comparisons do not chain",
        fault.span(fault.token),
        "a second comparison",
        help="write `a < b and b < c`",
    )


def _reserved_name(fault: Fault) -> Diagnostic | None:
    token = fault.token
    if token.text not in RESERVED or token.first or "NAME" not in fault.expected:
        return None
    return Diagnostic(
        "E014",
        f"`{token.text}` is a reserved word",
        fault.span(token),
        f"expected {describe(fault.expected)}",
        help="choose another name",
    )


def _wrong_head(fault: Fault) -> Diagnostic | None:
    """The first word of a definition, statement or entry is not one the language knows there."""
    kind, start = fault.frame
    head = fault.tokens[start]
    if head.kind != "NAME" or fault.index - start > (0 if kind == "item" else 1):
        return None
    span = fault.span(head)
    if head.text in FOREIGN_HEADS and not (kind == "item" and fault.token.kind == "EQUAL"):
        return Diagnostic(
            "E008",
            f"`{head.text}` is not a word of the language",
            span,
            help=FOREIGN_HEADS[head.text],
        )
    if kind == "item":
        return _wrong_definition(fault, head)
    if kind == "statement" and head.text in ITEM_WORDS and fault.token.kind == "NAME":
        help = f"move it out of the braces that enclose line {fault.source.position(head.start)[0]}"
        message = f"`{head.text}` stands at the top level only"
        return Diagnostic("E002", message, span, help=help)
    words = (*STATEMENT_WORDS, "else") if kind == "statement" else _ENTRY_WORDS
    guess = closest(head.text, words) if kind in FRAMES else None
    if guess is None or guess == head.text or fault.token.kind in ("EQUAL", "COMMA", "DOT"):
        return None
    return _misspelt(head, span, guess)


def _wrong_definition(fault: Fault, head: Token) -> Diagnostic | None:
    span = fault.span(head)
    following = fault.tokens[head.index + 1]
    if following.kind in ("EQUAL", "COMMA"):
        return Diagnostic(
            "E002",
            "a name cannot be bound at the top level",
            span,
            help="bind it in a `model`, `block` or `fn`, or write `const name = value`",
        )
    guess = closest(head.text, ITEM_WORDS)
    if guess is None or guess == head.text:
        return None
    if is_definition(fault.tokens, head.index, guess.upper()):
        fault.reading = guess.upper()
    return _misspelt(head, span, guess)


def _missing_else(fault: Fault) -> Diagnostic | None:
    if "ELSE" not in fault.expected or fault.expected & set(FRAMES.values()):
        return None
    if not (fault.token.first or fault.token.kind in CLOSERS.values()):
        return None
    return Diagnostic(
        "E002",
        "the conditional has no `else`",
        fault.span(fault.token),
        "expected `else`",
        help="a conditional always has a value: `if test then a else b`",
    )


def _no_stage(fault: Fault) -> Diagnostic | None:
    if fault.before is None or fault.before.kind != "ARROW":
        return None
    return Diagnostic(
        "E002",
        f"{fault.shown(fault.token)} is not a stage",
        fault.span(fault.token),
        "expected a name",
        help="a stage is a function or a block with its settings: `x -> f(settings)`",
    )


def _operator_after_chain(fault: Fault) -> Diagnostic | None:
    """`x -> f @ y`: a chain binds less than any operator."""
    if fault.token.kind not in OPERATORS or "ARROW" not in fault.expected:
        return None
    return Diagnostic(
        "E002",
        f"`{fault.token.text}` cannot follow a chain",
        fault.span(fault.token),
        help=f"put the chain in parentheses: `(x -> f) {fault.token.text} y`",
    )


def _misspelt_inner_word(fault: Fault) -> Diagnostic | None:
    token = fault.token
    if token.kind != "NAME" or token.text in RESERVED:
        return None
    words = [kind.lower() for kind in fault.expected & _INNER_WORDS]
    guess = closest(token.text, words)
    if guess is None:
        return None
    fault.reading = guess.upper()
    return _misspelt(token, fault.span(token), guess)


def _misspelt(token: Token, span: Span, guess: str) -> Diagnostic:
    message = f"unknown keyword `{token.text}`"
    return Diagnostic("E005", message, span, help=f"did you mean `{guess}`?")


def _colon_before_body(fault: Fault) -> Diagnostic | None:
    if fault.token.kind != "COLON":
        return None
    _, start = fault.frame
    head = fault.tokens[start]
    if head.keyword is None or "LBRACE" not in fault.expected:
        return None
    return Diagnostic(
        "E008",
        f"no `:` stands behind `{head.text} ...`",
        fault.span(fault.token),
        "expected `{`",
        help="a body stands in braces: `{ ... }`",
    )


def _stray_closer(fault: Fault) -> Diagnostic | None:
    if fault.index not in fault.structure.stray:
        return None
    token = fault.token
    message = f"`{token.text}` closes nothing"
    return Diagnostic("E013", message, fault.span(token), "no bracket is open here for it")


def _forgotten_closer(fault: Fault) -> Diagnostic | None:
    """A parenthesis of this statement is never closed, and its end could have stood here."""
    token = fault.token
    if not (token.first or token.kind in CLOSERS.values()):
        return None
    _, start = fault.frame
    for index in range(fault.index - 1, start - 1, -1):
        opener = fault.tokens[index]
        if index in fault.structure.forgotten and CLOSERS[opener.kind] in fault.expected:
            closer = CLOSING[opener.text]
            return Diagnostic(
                "E013",
                f"`{opener.text}` is never closed",
                fault.span(opener),
                "opened here",
                notes=(Note(f"{fault.shown(token)} came before `{closer}`", fault.span(token)),),
            )
    return None


def _unexpected(fault: Fault) -> Diagnostic:
    token = fault.token
    return Diagnostic(
        "E003" if token.kind == END else "E002",
        f"unexpected {fault.shown(token)}",
        fault.span(token),
        f"expected {describe(fault.expected)}",
    )


_QUESTIONS: tuple[Callable[[Fault], Diagnostic | None], ...] = (
    _strange_character,
    _foreign_sign,
    _slash_comment,
    _stray_closer,
    _missing_right_side,
    _end_of_text,
    _wrong_head,
    _one_equals_sign,
    _chained_comparison,
    _colon_before_body,
    _reserved_name,
    _missing_else,
    _no_stage,
    _operator_after_chain,
    _misspelt_inner_word,
    _forgotten_closer,
)
