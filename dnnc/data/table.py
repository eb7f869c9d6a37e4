"""Tables and columns: what source functions give and what expressions work on.

A `Table` has named members; a member is read as `Cells` (rows, and which of them are missing). The
evaluator settles what is missing and has a `Column`, whose rows lie in one pool (part "") or in the
named parts that `files(train = …, test = …)` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.rows import Array, Rows, Stored, first_row, is_complete, map_rows
from dnnc.diagnostics import Span

#: The part of columns that are not given as named parts.
POOL = ""

#: Declared types and how they are stored; "text" is a type of columns but of no field.
STORAGE: dict[str, Any] = {
    "f32": np.float32,
    "f64": np.float64,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "i8": np.int8,
    "bool": np.bool_,
}

FLOATS = ("f32", "f64")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A member as read. `missing` is [rows, ...] or None; `where(row, item)` names a place."""

    rows: Rows
    dtype: str
    what: str
    where: Callable[[int, int], str]
    missing: Array | None = None
    classes: tuple[str, ...] | None = None
    text: str | None = None  # the first cell that is not a number, with its place


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of one kind for every example: `shape` leaves the row axis out.

    `dtype` is the declared type; storage may differ until the field is finished (f32 columns are
    computed in f64 where their source is, integers are stored as narrow as they are).
    """

    parts: Mapping[str, Rows]
    dtype: str
    shape: tuple[int, ...]
    what: str
    classes: tuple[str, ...] | None = None
    text: str | None = None
    statistics: str | None = None  # the name of the fit, where the column is standardized

    @property
    def complete(self) -> bool:
        return all(is_complete(rows) for rows in self.parts.values())

    @property
    def stored(self) -> bool:
        return all(isinstance(rows, Stored) for rows in self.parts.values())


class Table(Protocol):
    """A source with named members."""

    @property
    def what(self) -> str:
        """How messages call it, such as `csv("digits.csv")`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Members in their order in the file."""

    def member(self, name: str, span: Span) -> Cells:
        """One member, which must be one of `names`."""

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        """Several members of one number a row, as [rows, len(names)]."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What `files` gives: a source for every named split."""

    what: str
    parts: Mapping[str, Table]
    spans: Mapping[str, Span] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Members that every part has."""
        first, *others = self.parts.values()
        return tuple(name for name in first.names if all(name in t.names for t in others))


Value: TypeAlias = "int | float | bool | str | list[Any] | Column | Table | Parts | None"


def single(cells: Cells) -> Column:
    """A column of one pool, before missing values are settled."""
    shape = first_row(cells.rows).shape[1:] if len(cells.rows) else ()
    return Column(
        {POOL: cells.rows}, cells.dtype, tuple(shape), cells.what, cells.classes, cells.text
    )


def merge(parts: Mapping[str, Column], what: str, span: Span) -> Column:
    """Columns of several files as the parts of one; vocabularies are united."""
    columns = list(parts.values())
    first = columns[0]
    for name, column in parts.items():
        if column.shape != first.shape:
            raise fault(
                "E521",
                f"the files of {what} have different shapes",
                span,
                label=f"{next(iter(parts))}: {list(first.shape)}, {name}: {list(column.shape)}",
            )
    if any((column.dtype == "text") != (first.dtype == "text") for column in columns):
        text = next(column.text for column in columns if column.dtype == "text")
        raise fault("E511", f"{what} is text in one file and numbers in another: {text}", span)
    classes = first.classes
    if any(column.classes != classes for column in columns):
        classes = tuple(sorted({name for column in columns for name in column.classes or ()}))
        columns = [_renumber(column, classes) for column in columns]
    dtype = next((c.dtype for c in columns if c.dtype in FLOATS), first.dtype)
    rows = {name: column.parts[POOL] for name, column in zip(parts, columns, strict=True)}
    return Column(rows, dtype, first.shape, what, classes, first.text)


def _renumber(column: Column, classes: tuple[str, ...]) -> Column:
    """The same classes under their numbers in a larger vocabulary."""
    places = {name: number for number, name in enumerate(classes)}
    table = np.array([places[name] for name in column.classes or ()], STORAGE[column.dtype])
    rows = {part: map_rows(lambda x: table[x], (rows,)) for part, rows in column.parts.items()}
    return Column(rows, column.dtype, column.shape, column.what, classes)


def place_of_row(row: int, item: int) -> str:
    """Where a value lies, for sources without lines: rows count from 0 as in NumPy."""
    return f"row {row}"


def cells_of_array(values: Array, what: str, span: Span, total: int | None = None) -> Cells:
    """An array [rows, ...] as cells; checks its type and finds NaNs."""
    if values.ndim == 0:
        raise fault("E510", f"{what} is a single value, not rows", span)
    values, dtype = _native(values, what, span)
    missing = None
    if dtype in FLOATS:
        missing = np.isnan(values)
        missing = missing if missing.any() else None
    total = len(values) if total is None else total
    text = f"{values.flat[0]!s}" if dtype == "text" and values.size else None
    return Cells(Stored(values, total), dtype, what, place_of_row, missing, None, text)


def _native(values: Array, what: str, span: Span) -> tuple[Array, str]:
    """Values in the machine's byte order and in a type that is data, with the declared type."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values, "bool"
    if kind == "f":
        storage = np.float64 if size >= 8 else np.float32
        return values.astype(storage, copy=False), "f32"
    if kind == "u" and size == 8 and values.size and values.max() > np.iinfo(np.int64).max:
        raise fault("E510", f"{what} holds numbers beyond the range of i64", span)
    if kind in "iu":
        dtype = {1: "i8" if kind == "i" else "u8", 2: "i32"}.get(size, "i64")
        dtype = "i32" if (kind, size) == ("i", 4) else dtype
        return values.astype(STORAGE[dtype], copy=False), dtype
    if kind == "U":
        return values, "text"
    if kind == "S":
        try:
            return np.char.decode(values, "utf-8"), "text"
        except UnicodeDecodeError as error:
            raise fault("E508", f"{what} holds bytes that are not UTF-8 text", span) from error
    described = "Python objects" if kind == "O" else f"values of type {values.dtype}"
    raise fault(
        "E510",
        f"{what} holds {described}",
        span,
        label="numbers, booleans or text are needed",
        help="save it as an array of numbers, such as `array.astype(numpy.float32)`",
    )


def stack_members(table: Table, names: tuple[str, ...], span: Span) -> Cells:
    """`Table.stack` for tables that hold their members one by one."""
    members = [table.member(name, span) for name in names]
    arrays: list[Array] = []
    for name, cells in zip(names, members, strict=True):
        if cells.dtype == "text":
            raise fault("E511", f"{cells.what} is text: {cells.text}", span)
        if not isinstance(cells.rows, Stored) or cells.rows.values.ndim != 1:
            raise fault("E521", f"member `{name}` of {table.what} is not one number a row", span)
        arrays.append(cells.rows.values)
    sizes = {len(array) for array in arrays}
    if len(sizes) > 1:
        raise fault("E516", f"members of {table.what} have {sorted(sizes)} rows", span)
    values = np.stack(arrays, axis=1)
    missing = None
    if any(cells.missing is not None for cells in members):
        none = np.zeros(len(values), np.bool_)
        missing = np.stack([none if c.missing is None else c.missing for c in members], axis=1)
    dtype = _common_dtype([cells.dtype for cells in members])

    def where(row: int, item: int) -> str:
        return f"{members[item].where(row, 0)}, column `{names[item]}`"

    rows = Stored(values, members[0].rows.total)
    return Cells(rows, dtype, f"columns of {table.what}", where, missing)


def _common_dtype(dtypes: list[str]) -> str:
    if len(set(dtypes)) == 1:
        return dtypes[0]
    return "f32" if any(dtype in FLOATS for dtype in dtypes) else "i64"


def is_table(value: object) -> TypeGuard[Table | Parts]:
    """Whether a value has members."""
    return not isinstance(value, (int, float, str, list, type(None), Column, Cells))
