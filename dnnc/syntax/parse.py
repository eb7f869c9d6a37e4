"""Text → tree, or every syntax error of the text.

One pass over the tokens drives the automaton. At a fault the error is explained (`explain`), what
is unfinished is dropped, and parsing goes on at the next statement of the same body, at the body's
end, or at the next definition, so that independent errors are all reported and one error is
reported once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dnnc.diagnostics import Diagnostic, DnnError, Source, Span, register_codes
from dnnc.syntax import tree
from dnnc.syntax.build import TreeBuilder
from dnnc.syntax.explain import explain
from dnnc.syntax.fault import FRAMES, Fault
from dnnc.syntax.machine import Actions, Machine, Run
from dnnc.syntax.structure import CLOSING, MAX_NESTING, find_structure
from dnnc.syntax.tables import load_tables
from dnnc.syntax.tokens import END, RESERVED, Token, tokenize

__all__ = [
    "MAX_BYTES",
    "MAX_ERRORS",
    "MAX_TOKENS",
    "parse",
    "parse_expression",
    "parse_with",
    "read_source",
]

#: The largest file that is read.
MAX_BYTES = 10_000_000
#: The longest text that is parsed, in tokens and comments; a long model file has some thousand.
MAX_TOKENS = 100_000
#: Beyond this many errors the text is hardly a `.dnn` file, and more of them help nobody.
MAX_ERRORS = 20


register_codes(
    {
        "E001": "unexpected character",
        "E002": "unexpected word or sign",
        "E003": "unexpected end of the text",
        "E004": "string without an end",
        "E005": "misspelt keyword",
        "E006": "operator without a right side",
        "E007": "`=` where `==` is meant, or the other way round",
        "E008": "syntax of another language",
        "E009": "too deep, too long",
        "E010": "file that cannot be read",
        "E011": "malformed number",
        "E012": "unknown escape in a string",
        "E013": "bracket without its counterpart",
        "E014": "reserved word used as a name",
        "E015": "chained comparison",
    }
)


def read_source(path: Path) -> Source:
    """Read a `.dnn` file: UTF-8, with or without a byte order mark, at most `MAX_BYTES` long.

    Raises DnnError (E010) for a file that is missing, too large, not text or not readable.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise _unreadable(path, (reason or str(error)).lower()) from None
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"larger than {MAX_BYTES // 1_000_000} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind a byte order mark.
        offset = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, offset) + 1
        raise _unreadable(
            path,
            f"not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, in line {line}",
            help="save the file as UTF-8 text",
        ) from None
    return Source(str(path), text)


def parse(source: Source) -> tree.File:
    """The tree of a file; raises DnnError with every syntax error of it."""
    file: tree.File = parse_with(source, TreeBuilder(source))
    return file


def parse_expression(source: Source) -> tree.Expr:
    """The tree of a single expression; raises DnnError with its first syntax error."""
    value: tree.Expr = _Parse(source, "expression", TreeBuilder(source)).run()
    return value


def parse_with(source: Source, actions: Actions) -> Any:
    """What other actions than the tree's make of a file; raises DnnError like `parse`."""
    return _Parse(source, "start", actions).run()


class _Parse:
    """One text on its way through the automaton."""

    def __init__(self, source: Source, start: str, actions: Actions) -> None:
        self.source = source
        self.start = start
        self.tokens = tokenize(source.text, MAX_TOKENS)
        self.structure = find_structure(source.text, self.tokens)
        self.machine = Machine(load_tables(), start, actions)
        self.errors: list[Diagnostic] = []

    def run(self) -> Any:
        """The tree of the text; raises DnnError."""
        self._check_limits()
        index = 0
        while index < len(self.tokens):
            index = self._step(index)
        self.errors += self.machine.actions.faults
        if self.errors:
            self.errors.sort(key=lambda error: error.span.start if error.span else 0)
            raise DnnError(self.errors[:MAX_ERRORS])
        return self.machine.result

    def _check_limits(self) -> None:
        last = self.tokens[-1]
        if last.start < len(self.source.text.rstrip()):
            span = Span(self.source, last.start, min(last.start + 1, len(self.source.text)))
            raise DnnError(
                Diagnostic(
                    "E009",
                    f"the text is longer than {MAX_TOKENS} words, signs and comments",
                    span,
                    "reading stops here",
                    help="tables of numbers belong in a data file",
                )
            )
        if self.structure.too_deep is not None:
            raise DnnError(
                Diagnostic(
                    "E009",
                    f"brackets nest more than {MAX_NESTING} levels deep",
                    self._span(self.tokens[self.structure.too_deep]),
                    "one too many",
                    help="give the inner parts names of their own",
                )
            )

    def _step(self, index: int) -> int:
        """Take one token; gives the index of the next."""
        token = self.tokens[index]
        if index in self.structure.boundaries:
            self._unclosed_before(index)
        try:
            if self.machine.feed(self._kind(index), token):
                return index + 1
        except DnnError as fault:
            self.errors += fault.diagnostics
            return self._resume(index)
        fault_at = Fault(self.source, self.tokens, index, self.machine, self.structure)
        diagnostic, resume_at = explain(fault_at)
        self.errors.append(diagnostic)
        if fault_at.reading is not None and self.machine.feed(fault_at.reading, token):
            return index + 1
        return self._resume(resume_at, moves=resume_at < index)

    def _kind(self, index: int) -> str:
        """The kind of a token as the automaton sees it: a word is a keyword only where one fits."""
        token = self.tokens[index]
        keyword = token.keyword
        if keyword is None or token.text in RESERVED:
            return keyword or token.kind
        if not self.machine.accepts(keyword):
            return "NAME"
        if self.machine.accepts("NAME") and not self._reads_on(keyword, self.tokens[index + 1]):
            return "NAME"
        return keyword

    def _reads_on(self, keyword: str, following: Token) -> bool:
        """Whether the next token continues a keyword, rather than a name of the same spelling."""
        if keyword in ("MAXIMIZE", "MINIMIZE"):
            return following.kind not in ("EQUAL", "COMMA", "DOT")
        return following.kind == "NAME" and following.text not in RESERVED

    def _unclosed_before(self, index: int) -> None:
        """A definition begins while a bracket is open: that one is missing its end."""
        opener = self.tokens[self.structure.boundaries[index]]
        self.errors.append(
            Diagnostic(
                "E013",
                f"`{opener.text}` is never closed",
                self._span(opener),
                "opened here",
                help=f"`{CLOSING[opener.text]}` is missing before `{self.tokens[index].text} "
                f"{self.tokens[index + 1].text}` in line "
                f"{self.source.position(self.tokens[index].start)[0]}",
            )
        )
        self.machine.unwind(("item",))

    # --- going on after an error ------------------------------------------------------------------

    def _resume(self, index: int, moves: bool = False) -> int:
        """Drop what is unfinished; gives the token to go on with, or the end of all tokens.

        With `moves` the token at `index` is not the one that was refused.
        """
        stop = len(self.tokens)
        if self.start != "start" or len(self.errors) >= MAX_ERRORS:
            return stop
        if self.tokens[index].kind == END:
            return stop
        for whole in FRAMES.values():
            if self.machine.accepts(whole):
                # What stands before the fault is complete and is kept.
                self.machine.settle(whole, self.tokens[index].start)
        if not self.machine.unwind(tuple(FRAMES)) and not moves:
            # A part may begin here, but not with this token.
            index += 1
        opener = self._frame_opener()
        inside = self.structure.depth[opener.index] + 1 if opener is not None else 0
        while not self._can_resume(index, inside):
            index += 1
        return index

    def _frame_opener(self) -> Token | None:
        """The brace of the body in which parsing resumes; None at the top level."""
        for entry in self.machine.entries[:-3:-1]:
            if isinstance(entry.value, Token):
                return entry.value
            if not isinstance(entry.value, Run):
                break
        return None

    def _can_resume(self, index: int, inside: int) -> bool:
        token = self.tokens[index]
        if token.kind == END or index in self.structure.boundaries:
            return True
        depth = self.structure.depth[index]
        if inside == 0:
            return token.first and depth == 0 and self._begins_definition(index)
        if token.kind == "RBRACE" and depth == inside - 1:
            return True
        return token.first and depth == inside and self._begins_statement(index)

    def _begins_definition(self, index: int) -> bool:
        """Whether a line begins with two words, or a word and a string: also a misspelt keyword."""
        token, following = self.tokens[index], self.tokens[index + 1]
        if token.kind != "NAME" or following.first or {token.text, following.text} & RESERVED:
            return False
        return following.kind in ("NAME", "STRING")

    def _begins_statement(self, index: int) -> bool:
        token, following = self.tokens[index], self.tokens[index + 1]
        kind = self._kind(index)
        if kind == "NAME":
            if following.kind == "NAME" and following.text not in RESERVED and not following.first:
                # No expression goes on with two names in a row: a word there is misspelt.
                return True
            signs = (
                ("EQUAL", "COMMA", "EQ")
                if "statement" in self.machine.row
                else ("EQUAL", "LPAR", "DOT")
            )
            return following.kind in signs
        if kind == "IF":
            return self._has_body(index)
        return token.kind == "NAME" and self.machine.accepts(kind)

    def _has_body(self, index: int) -> bool:
        """Whether an `if` is a statement: its brace comes before any `then`."""
        for token in self.tokens[index + 1 :]:
            if token.keyword == "THEN" or token.kind == END:
                return False
            if token.kind == "LBRACE":
                return True
        return False

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)


def _unreadable(path: Path, reason: str, help: str | None = None) -> DnnError:
    return DnnError(Diagnostic("E010", f"cannot read `{path}`: {reason}", help=help))
