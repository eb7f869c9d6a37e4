"""Documents with choices, and the printer that makes them: where a line may break, and where not.

After Wadler, "A prettier printer" (2003): a `Group` is printed on one line where it fits, else
every `Line` of it begins a new one; `Fill` decides for itself alone. Comments are part of the
document: whatever follows one stands on the next line, so that none can swallow code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "COLUMNS",
    "INDENT",
    "Align",
    "Concat",
    "Doc",
    "Fill",
    "Group",
    "Hard",
    "Indent",
    "Line",
    "OwnComment",
    "Pad",
    "Text",
    "Trailing",
    "WhenBroken",
    "render",
]

#: The width of a page, and of a level.
COLUMNS = 100
INDENT = 4
#: The width of what cannot stand on one line.
_ENDLESS = 1_000_000


@dataclass(slots=True)
class Doc:
    """Something to print. `width` is its width on one line, `tail` that it ends in a comment."""

    width: int = field(default=0, init=False)
    tail: bool = field(default=False, init=False)


@dataclass(slots=True)
class Text(Doc):
    text: str

    def __post_init__(self) -> None:
        self.width = len(self.text)


@dataclass(slots=True)
class Line(Doc):
    """A place to break: `flat` where the group fits, else a new line."""

    flat: str = " "

    def __post_init__(self) -> None:
        self.width = len(self.flat)


@dataclass(slots=True)
class Fill(Doc):
    """A place to break of its own: a space where what `follows` fits behind it."""

    follows: Doc

    def __post_init__(self) -> None:
        self.width = 1


@dataclass(slots=True)
class Hard(Doc):
    """A new line in any case, after an empty one if `blank`."""

    blank: bool = False

    def __post_init__(self) -> None:
        self.width = _ENDLESS


@dataclass(slots=True)
class OwnComment(Doc):
    """A comment on its own line, after an empty one if `blank`."""

    text: str
    blank: bool

    def __post_init__(self) -> None:
        self.width = _ENDLESS


@dataclass(slots=True)
class Trailing(Doc):
    """A comment behind code; the line ends with it."""

    text: str

    def __post_init__(self) -> None:
        self.tail = True


@dataclass(slots=True)
class Pad(Doc):
    """Spaces that align what follows with its neighbours; set when these are known."""

    spaces: int = 0


@dataclass(slots=True)
class WhenBroken(Doc):
    """A text that stands only where the group around it is broken."""

    text: str


@dataclass(slots=True)
class Concat(Doc):
    parts: list[Doc]

    def __post_init__(self) -> None:
        for part in self.parts:
            # Code behind a comment begins a new line.
            self.width += part.width + (_ENDLESS if self.tail and part.width else 0)
            self.tail = part.tail or (self.tail and not part.width)


@dataclass(slots=True)
class Indent(Doc):
    """A level deeper than the line around."""

    body: Doc

    def __post_init__(self) -> None:
        self.width, self.tail = self.body.width, self.body.tail


@dataclass(slots=True)
class Align(Doc):
    """New lines within begin where this begins."""

    body: Doc

    def __post_init__(self) -> None:
        self.width, self.tail = self.body.width, self.body.tail


@dataclass(slots=True)
class Group(Doc):
    """On one line where it fits."""

    body: Doc

    def __post_init__(self) -> None:
        self.width, self.tail = self.body.width, self.body.tail


def render(doc: Doc) -> str:
    """Print a document; the text ends with one newline, or is empty."""
    printer = _Printer()
    printer.print(doc)
    return printer.finish()


class _Printer:
    """Lines done, and the one being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.line = ""
        self.margin = 0  # of the current line, before anything is on it
        self.space = False  # wanted before the next text on this line
        self.comment = ""  # ends the current line
        self.opened = True  # nothing stands between here and an opening bracket or the beginning
        self.stack: list[tuple[int, bool, Doc]] = []

    @property
    def column(self) -> int:
        return (len(self.line) or self.margin) + self.space

    def print(self, doc: Doc) -> None:
        stack = self.stack
        stack.append((0, True, doc))
        while stack:
            indent, broken, doc = stack.pop()
            match doc:
                case Concat():
                    stack.extend((indent, broken, part) for part in reversed(doc.parts))
                case Indent():
                    stack.append((indent + INDENT, broken, doc.body))
                case Align():
                    stack.append((self.column, broken, doc.body))
                case Group():
                    fits = not broken or self.fits(doc)
                    stack.append((indent, not fits, doc.body))
                case _:
                    self.leaf(doc, indent, broken)

    def leaf(self, doc: Doc, indent: int, broken: bool) -> None:
        match doc:
            case Text():
                self.write(doc.text, indent)
            case Line():
                self.break_or(doc.flat, indent, broken)
            case Fill():
                self.break_or(" ", indent, broken and not self.fits(doc.follows, before=1))
            case Hard():
                self.new_line(indent, doc.blank)
            case OwnComment():
                self.own_comment(doc, indent)
            case Trailing():
                self.trailing_comment(doc.text, indent)
            case Pad():
                self.write(" " * doc.spaces, indent)
            case WhenBroken():
                self.write(doc.text if broken else "", indent)

    def fits(self, doc: Doc, before: int = 0) -> bool:
        """Whether `doc` and what must stand on the same line behind it still fit."""
        room = COLUMNS - self.column - before - doc.width
        for _, broken, rest in reversed(self.stack):
            if room < 0:
                return False
            if rest is doc:  # a `Fill` asks about what is still to come
                continue
            pending = [rest]
            while pending and room >= 0:
                part = pending.pop()
                match part:
                    case Concat():
                        pending.extend(reversed(part.parts))
                    case Indent() | Align() | Group():
                        pending.append(part.body)
                    case Line() | Fill() | Hard() | OwnComment():
                        return True
                    case WhenBroken():
                        room -= len(part.text) * broken
                    case _:
                        room -= part.width
        return room >= 0

    def write(self, text: str, indent: int) -> None:
        if not text:
            return
        if text.isspace():
            if self.line and not self.comment:
                self.line += text if self.space else text[:-1]
                self.space = True
            return
        if self.comment and text != ",":
            self.new_line(indent)
        if not self.line:
            self.line = " " * self.margin + text
        else:
            self.line += " " + text if self.space else text
        self.space = False
        self.opened = text in ("{", "(", "[")

    def break_or(self, flat: str, indent: int, broken: bool) -> None:
        if broken or self.comment:
            self.new_line(indent)
        else:
            self.write(flat, indent)

    def new_line(self, indent: int, blank: bool = False) -> None:
        if self.line or self.comment:
            text = self.line.rstrip()
            if self.comment:
                text += f"  {self.comment}" if text else self.comment
            self.lines.append(text)
        if blank and not self.opened and self.lines and self.lines[-1]:
            self.lines.append("")
        self.line, self.comment, self.space, self.margin = "", "", False, indent

    def own_comment(self, comment: OwnComment, indent: int) -> None:
        self.new_line(indent, comment.blank)
        self.line = " " * indent + comment.text
        self.opened = False
        self.new_line(indent)

    def trailing_comment(self, text: str, indent: int) -> None:
        if self.comment:
            self.own_comment(OwnComment(text, False), indent)
        else:
            self.comment = text

    def finish(self) -> str:
        self.new_line(0)
        return "".join(f"{line}\n" for line in self.lines)
