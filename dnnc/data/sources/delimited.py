"""`csv` and `tsv`: tables of text, with a header or without, gzip or plain.

The text stays as it is, with the place of every cell; a column is read when it is asked for. A
column whose cells are all integers is i64, numbers are f32, anything else is text.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.reader import Content
from dnnc.data.rows import Array, Stored
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.sources.cells import cell_bytes, parse_numbers
from dnnc.data.table import Cells
from dnnc.diagnostics import Span, listing

#: Cells read at a time: their working arrays stay within the caches' reach.
_CELLS = 1 << 18

#: A text column takes its longest cell for every row; beyond this many characters it is refused.
_CHARACTERS = 1 << 28

#: Bytes searched for delimiters at a time.
_BYTES = 1 << 24

_PARAMETERS = (
    Parameter("header", "flag", True),
    Parameter("comment", "string", None),
    Parameter("quote", "string", '"', optional=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class Delimited:
    """A table of text. `ends` [rows, columns] is the place of the byte after each cell."""

    what: str
    shown: str
    names: tuple[str, ...]
    data: Array
    ends: Array
    first: int  # where the first row starts in `data`
    lines: Array | None  # line number of each row, or None where they follow from `start_line`
    start_line: int
    complete: bool
    span: Span
    cache: dict[tuple[str, ...], Cells] = field(default_factory=dict)

    def member(self, name: str, span: Span) -> Cells:
        if (name,) not in self.cache:
            self.cache[(name,)] = self._single(name, span)
        return self.cache[(name,)]

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        items = np.array([self.names.index(name) for name in names])
        values, dtype, missing, text = self._numbers(items)
        if text is not None:
            row, item = text
            raise fault(
                "E511",
                f"{self.shown}, {self._where(row, items[item])}, is not a number: "
                f"{self._cell(row, items[item])!r}",
                span,
            )
        rows = Stored(values, self._total)
        return Cells(
            rows,
            dtype,
            f"the columns of {self.shown}",
            lambda row, item: f"{self.shown}, {self._where(row, items[item])}",
            missing,
        )

    def _single(self, name: str, span: Span) -> Cells:
        item = self.names.index(name)
        values, dtype, missing, text = self._numbers(np.array([item]))
        what = f"column `{name}` of {self.shown}"

        def where(row: int, _: int) -> str:
            return f"{self.shown}, {self._where(row, item)}"

        if text is None:
            missing = None if missing is None else missing[:, 0]
            return Cells(Stored(values[:, 0], self._total), dtype, what, where, missing)
        strings = self._strings(item, span)
        note = f"{where(text[0], 0)} is {self._cell(text[0], item)!r}"
        absent = strings == ""
        return Cells(
            Stored(strings, self._total),
            "text",
            what,
            where,
            absent if absent.any() else None,
            None,
            note,
        )

    @property
    def _total(self) -> int | None:
        return len(self.ends) if self.complete else None

    def _where(self, row: int, item: int) -> str:
        line = self.start_line + row if self.lines is None else int(self.lines[row])
        return f"row {row + 1} (line {line}), column `{self.names[item]}`"

    def _starts(self, rows: slice, items: Array) -> Array:
        """Where cells start: after the end of the cell before."""
        block = self.ends[rows]
        previous = np.empty_like(block)
        previous[:, 1:] = block[:, :-1]
        previous[1:, 0] = block[:-1, -1]
        if len(block):
            previous[0, 0] = self.ends[rows.start - 1, -1] if rows.start else self.first - 1
        return previous[:, items] + 1

    def _numbers(self, items: Array) -> tuple[Array, str, Array | None, tuple[int, int] | None]:
        """Values [rows, items], declared type, missing cells, place of the first text."""
        size = len(self.ends)
        step = max(1, _CELLS // len(self.names))
        pieces: list[Array] = []
        unknown: Array | None = None
        whole = True
        for start in range(0, size, step):
            rows = slice(start, min(start + step, size))
            ends = self.ends[rows][:, items]
            numbers = parse_numbers(self.data, self._starts(rows, items).ravel(), ends.ravel())
            if numbers.text is not None:
                row, item = divmod(numbers.text, len(items))
                return np.zeros(0), "text", None, (start + row, item)
            if numbers.missing is not None:
                if unknown is None:
                    unknown = np.zeros((size, len(items)), np.bool_)
                unknown[rows] = numbers.missing.reshape(ends.shape)
            whole &= numbers.whole
            values = _narrow(numbers.values) if numbers.whole else numbers.values
            pieces.append(values.reshape(ends.shape))
        values = np.concatenate(pieces)
        return values, "i64" if whole else "f32", unknown, None

    def _cell(self, row: int, item: int) -> str:
        start = int(self._starts(slice(row, row + 1), np.array([item]))[0, 0])
        raw: bytes = self.data[start : int(self.ends[row, item])].tobytes()
        text = raw.decode("utf-8", "replace").strip()
        return text if len(text) <= 40 else text[:40] + "…"

    def _strings(self, item: int, span: Span) -> Array:
        """A text column: missing cells are empty."""
        items = np.array([item])
        starts = self._starts(slice(0, len(self.ends)), items)[:, 0]
        ends = self.ends[:, item]
        longest = max(1, int((ends - starts).max()))
        if longest * len(ends) > _CHARACTERS:
            raise fault(
                "E510",
                f"column `{self.names[item]}` of {self.shown} holds texts of up to {longest} bytes",
                span,
                label="too long for names of classes",
            )
        step = max(1, _CELLS * 8 // longest)
        pieces = [
            cell_bytes(self.data, starts[i : i + step], ends[i : i + step])
            for i in range(0, len(ends), step)
        ]
        raw: Any = np.char.strip(np.concatenate(pieces))
        raw[np.isin(raw, (b"NA", b"NaN", b"nan", b"N/A", b"NULL", b"null", b"?"))] = b""
        try:
            decoded: Array = np.char.decode(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise fault("E508", f"{self.shown} is not UTF-8 text: {error.reason}", span) from error
        return decoded


def _narrow(values: Array) -> Array:
    """Integers in the narrowest type that holds them; i64 is restored when a field is finished."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    for storage in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(storage)
        if limits.min <= low and high <= limits.max:
            return values.astype(storage)
    return values


def parse_delimited(
    content: Content, delimiter: str, header: bool, comment: str | None, quote: str | None,
    span: Span,
) -> Delimited:  # fmt: skip
    """The table in a text; every row must have as many cells as the first line."""
    shown, data = content.shown, content.data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        raise fault("E508", f"{shown} is not a text: it holds zero bytes", span)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.complete:
        data = data[: data.rfind(b"\n") + 1]
    lines = None
    if quote and quote.encode() in data:
        data, cells, lines = _quoted(data, delimiter, comment, quote, content, span)
    else:
        data, lines = _without_blank_lines(data, comment)
        cells = _ends(data, delimiter)
    if not data:
        raise fault("E515", f"{shown} is empty", span)
    array = np.frombuffer(data, np.uint8)
    last = array[cells] == 10
    width = int(np.argmax(last)) + 1
    _check_width(cells, last, width, lines, shown, span)
    ends = cells.reshape(-1, width)
    if header:
        names = _header(data, ends[0], shown, span)
        first, ends = int(ends[0, -1]) + 1, ends[1:]
    else:
        names, first = tuple(f"column_{i}" for i in range(width)), 0
    if lines is not None:
        lines = lines[int(header) :]
    if not len(ends):
        raise fault("E515", f"{shown} has no rows", span, label="only a header" if header else "")
    return Delimited(
        shown, shown, names, array, ends, first, lines, 1 + header, content.complete, span
    )


def _ends(data: bytes, delimiter: str) -> Array:
    """Places of all delimiters and line ends."""
    array = np.frombuffer(data, np.uint8)
    mark = ord(delimiter)
    storage = np.int32 if len(data) < 2**31 - 64 else np.int64
    pieces = [
        (np.flatnonzero((piece == mark) | (piece == 10)) + start).astype(storage)
        for start in range(0, len(data), _BYTES)
        for piece in (array[start : start + _BYTES],)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0, storage)


def _without_blank_lines(data: bytes, comment: str | None) -> tuple[bytes, Array | None]:
    """Text that ends with a line end and has no blank lines or comments.

    The second value numbers the lines that are left, where any but the last were taken out.
    """
    data = data.rstrip(b"\n") + b"\n" if data.strip() else b""
    mark = comment.encode() if comment else None
    if not (data.startswith(b"\n") or b"\n\n" in data or (mark and mark in data)):
        return data, None
    kept = [
        (number, line)
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.strip() and not (mark and line.startswith(mark))
    ]
    text = b"".join(line + b"\n" for _, line in kept)
    return text, np.array([number for number, _ in kept], np.int64)


def _quoted(
    data: bytes, delimiter: str, comment: str | None, quote: str, content: Content, span: Span
) -> tuple[bytes, Array, Array]:
    """Cells of a text with quotes, written one after the other with one byte after each.

    That byte is a line end after the last cell of a row and zero after the others.
    """
    shown = content.shown
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault("E508", f"{shown} is not UTF-8 text: {error.reason}", span) from error
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote,
                        strict=content.complete)  # fmt: skip
    started = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not (comment and row[0].startswith(comment)):
                rows.append(row)
                lines.append(started)
            started = reader.line_num + 1
    except csv.Error as error:
        raise fault(
            "E508",
            f"{shown}, line {started}: {error}",
            span,
            help="if quotes are ordinary characters in this file, say `quote = none`",
        ) from error
    if not content.complete and rows:
        # The sample may end inside a quoted cell.
        rows.pop(), lines.pop()
    pieces = [cell.encode() for row in rows for cell in row]
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    closing = np.zeros(len(pieces), np.uint8)
    closing[np.cumsum([len(row) for row in rows], dtype=np.int64) - 1] = 10
    ends = np.cumsum(lengths + 1) - 1
    flat = np.frombuffer(b"\0".join([*pieces, b""]), np.uint8).copy()
    flat[ends] = closing
    return flat.tobytes(), ends, np.array(lines, np.int64)


def _check_width(
    cells: Array, last: Array, width: int, lines: Array | None, shown: str, span: Span
) -> None:
    size = int(last.sum())
    if len(cells) == size * width and last[width - 1 :: width].all():
        return
    widths = np.diff(np.flatnonzero(last), prepend=-1)
    row = int(np.argmax(widths != width))
    line = row + 1 if lines is None else int(lines[row])
    raise fault(
        "E512",
        f"{shown}, line {line}, has {widths[row]} cells and the first line has {width}",
        span,
    )


def _header(data: bytes, ends: Array, shown: str, span: Span) -> tuple[str, ...]:
    starts = [0, *(int(end) + 1 for end in ends[:-1])]
    try:
        cells = [data[a:b].decode("utf-8").strip() for a, b in zip(starts, ends, strict=True)]
    except UnicodeDecodeError as error:
        raise fault("E508", f"{shown} is not UTF-8 text: {error.reason}", span) from error
    names = tuple(cell or f"column_{i}" for i, cell in enumerate(cells))
    twice = sorted({name for name in names if names.count(name) > 1}) if len(
        set(names)) < len(names) else []  # fmt: skip
    if twice and not _all_numbers(names):
        raise fault("E508", f"{shown} has two columns called {listing(twice, 3)}", span)
    counted = [[str(i + base) for i in range(len(names))] for base in (0, 1)]
    if _all_numbers(names) and list(names) not in counted:
        raise fault(
            "E508",
            f"the first line of {shown} holds numbers, not names",
            span,
            help="a file without a header is read by `header = false`; its columns are then "
            "called column_0, column_1, …",
        )
    return names


def _all_numbers(names: tuple[str, ...]) -> bool:
    try:
        return all(float(name) is not None for name in names)
    except ValueError:
        return False


def _character(bound: Bound, name: str) -> str | None:
    text: str | None = bound[name]
    text = "\t" if text in ("\\t", "tab") else text
    if text is not None and (len(text) != 1 or not text.isascii() or text in "\n\r\0"):
        raise fault("E503", f"`{name}` must be one ASCII character", bound.at(name))
    return text


def _open(bound: Bound, scope: Scope, delimiter: str) -> Delimited:
    comment, quote = bound["comment"], _character(bound, "quote")
    path_span = bound.at("path")
    content = scope.reader.read(bound["path"], path_span)
    if not content.complete and content.data.count(b"\n") < 2:
        scope.need_all()
    return parse_delimited(content, delimiter, bound["header"], comment, quote, path_span)


def _csv(bound: Bound, scope: Scope) -> Delimited:
    return _open(bound, scope, _character(bound, "delimiter") or ",")


def _tsv(bound: Bound, scope: Scope) -> Delimited:
    return _open(bound, scope, "\t")


CSV = Function(
    "csv",
    (Parameter("path", "string"), Parameter("delimiter", "string", ","), *_PARAMETERS),
    _csv,
)
TSV = Function("tsv", (Parameter("path", "string"), *_PARAMETERS), _tsv)
