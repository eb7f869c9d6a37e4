"""`text`: a text as windows of tokens, each with the same window one token on as its target.

Tokens are bytes (256 classes) or characters (classes are those that occur, in order of code point).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.rows import Array, Windows
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import Cells, place_of_row, stack_members
from dnnc.diagnostics import Span

#: Class names of byte tokens: byte b is the character of code point b.
BYTES = tuple(chr(byte) for byte in range(256))


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A tokenized text. `input` and `target` are i32[context], `target` one token further on."""

    what: str
    tokens: Array
    classes: tuple[str, ...]
    context: int
    stride: int
    complete: bool

    @property
    def names(self) -> tuple[str, ...]:
        return ("input", "target")

    def member(self, name: str, span: Span) -> Cells:
        shift = int(name == "target")
        rows = Windows(
            self.tokens, self.context, self.stride, shift, self.context + 1, self.complete
        )
        what = f"`{name}` of {self.what}"
        return Cells(rows, "i32", what, place_of_row, classes=self.classes)

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        return stack_members(self, names, span)


def _text(bound: Bound, scope: Scope) -> Text:
    span, context = bound.at("path"), bound["context"]
    stride = context if bound["stride"] is None else bound["stride"]
    for name, size in (("context", context), ("stride", stride)):
        if size < 1:
            raise fault("E503", f"`{name}` must be at least 1, got {size}", bound.at(name))
    content = scope.reader.read(bound["path"], span)
    data = content.data
    if bound["tokens"] == "bytes":
        tokens: Array = np.frombuffer(data, np.uint8)
        classes = BYTES
    else:
        if not content.complete:
            scope.need_all()
        tokens, classes = _characters(data, content.shown, span)
    if len(tokens) <= context:
        raise fault(
            "E515",
            f"{content.shown} has {len(tokens)} tokens, and one window takes {context + 1}",
            span,
        )
    return Text(content.shown, tokens, classes, context, stride, content.complete)


def _characters(data: bytes, shown: str, span: Span) -> tuple[Array, tuple[str, ...]]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault(
            "E508",
            f"{shown} is not UTF-8 text: {error.reason} at byte {error.start}",
            span,
            help="`tokens = bytes` reads any file",
        ) from error
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known, tokens = np.unique(points, return_inverse=True)
    storage = np.uint8 if len(known) <= 256 else np.int32
    return tokens.astype(storage), tuple(chr(point) for point in known)


TEXT = Function(
    "text",
    (
        Parameter("path", "string"),
        Parameter("tokens", "choice", "bytes", choices=("bytes", "characters")),
        Parameter("context", "integer", 128),
        Parameter("stride", "integer", None),
    ),
    _text,
)
