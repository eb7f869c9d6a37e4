"""Sources, places in them, and the errors that point at those places.

Every fault of a user's input is a `Diagnostic`: a code, a place, a label under the caret, further
places that explain it, and a remedy. One `DnnError` carries all diagnostics of a run. A fault of
the compiler itself is an ordinary Python exception and is reported as such by the command.
"""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = [
    "CODES",
    "Collector",
    "Diagnostic",
    "DnnError",
    "Note",
    "Source",
    "Span",
    "closest",
    "listing",
    "register_codes",
    "suggestion",
]

#: Every error code with its one-line meaning, filled by the module that raises it.
CODES: dict[str, str] = {}


def register_codes(codes: dict[str, str]) -> None:
    """Declare error codes; a code is declared once, by the layer that raises it."""
    for code, meaning in codes.items():
        if CODES.get(code, meaning) != meaning:
            raise ValueError(f"error code {code} is declared twice")
        CODES[code] = meaning


@dataclass(frozen=True, eq=False)
class Source:
    """A text and the name under which errors show it."""

    name: str
    text: str

    def __reduce__(self) -> tuple[object, ...]:
        # Without what has been computed meanwhile: the same text is pickled alike.
        return Source, (self.name, self.text)

    @cached_property
    def line_starts(self) -> list[int]:
        """Offset of the first character of each line."""
        return [0, *(i + 1 for i, char in enumerate(self.text) if char == "\n")]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect.bisect_right(self.line_starts, offset) - 1
        return line + 1, offset - self.line_starts[line] + 1

    def line(self, number: int) -> str:
        """Text of line `number` (from 1), without its end."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end].rstrip("\r")


@dataclass(frozen=True)
class Span:
    """A half-open range of characters `[start, end)` of a source."""

    source: Source
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The range from the start of this one to the end of the other."""
        return Span(self.source, self.start, max(self.end, other.end))

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def place(self) -> str:
        """`file:line:column`."""
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"


@dataclass(frozen=True)
class Note:
    """A further remark, with a place where there is one."""

    message: str
    span: Span | None = None


@dataclass(frozen=True)
class Diagnostic:
    """One error: what is wrong, where, why, and what to do.

    `label` stands under the caret, `notes` tell origins and the stack of blocks, `help` the remedy.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    notes: tuple[Note, ...] = ()
    help: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"error code {self.code} is not declared")

    def render(self) -> str:
        """The error as text, as the command prints it."""
        parts = [f"error[{self.code}]: {self.message}"]
        width = max(
            (
                len(str(span.source.position(span.start)[0]))
                for span in (self.span, *(note.span for note in self.notes))
                if span is not None
            ),
            default=1,
        )
        pad = " " * width
        if self.span is not None:
            parts.append(_excerpt(self.span, self.label, width))
        for note in self.notes:
            parts.append(f"{pad} = note: {note.message}")
            if note.span is not None:
                parts.append(_excerpt(note.span, "", width))
        if self.help:
            parts.append(f"{pad} = help: {self.help}")
        return "\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The error as plain data for editors: lines and columns from 1."""
        return {
            "code": self.code,
            "message": self.message,
            "label": self.label,
            "range": _range(self.span),
            "notes": [{"message": n.message, "range": _range(n.span)} for n in self.notes],
            "help": self.help,
        }


class DnnError(Exception):
    """The user's input is at fault; carries every diagnostic that was found."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        if isinstance(diagnostics, Diagnostic):
            diagnostics = [diagnostics]
        self.diagnostics: list[Diagnostic] = list(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n\n".join(diagnostic.render() for diagnostic in self.diagnostics)


@dataclass
class Collector:
    """Gathers diagnostics so that one run reports every independent error, each once.

    What is said of the same place in the same words is the same error, found on another way.
    """

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add(self, error: DnnError) -> None:
        for diagnostic in error.diagnostics:
            found = (diagnostic.code, diagnostic.message, diagnostic.span)
            if found not in ((d.code, d.message, d.span) for d in self.diagnostics):
                self.diagnostics.append(diagnostic)

    def raise_if_any(self) -> None:
        if self.diagnostics:
            raise DnnError(self.diagnostics)


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None when none is near enough to suggest."""
    matches = difflib.get_close_matches(name, sorted(set(candidates)), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, candidates: Iterable[str], otherwise: str | None = None) -> str | None:
    """The help line for a misspelt name: the nearest candidate, or `otherwise`."""
    near = closest(name, candidates)
    return f"did you mean `{near}`?" if near else otherwise


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Names in a row for a message, cut after `limit`."""
    names = list(names)
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _range(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "start": {"line": line, "column": column},
        "end": {"line": end_line, "column": end_column},
    }


def _excerpt(span: Span, label: str, width: int) -> str:
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    text = span.source.line(line)
    stop = end_column if end_line == line else len(text) + 1
    carets = "^" * max(1, stop - column)
    # Tabs stay tabs in the margin, so that the caret stands under its character.
    margin = "".join(char if char == "\t" else " " for char in text[: column - 1])
    pad = " " * width
    return "\n".join(
        [
            f"{pad}--> {span.place}",
            f"{pad} |",
            f"{line:>{width}} | {text}",
            f"{pad} | {margin}{carets}{' ' + label if label else ''}",
        ]
    )
