"""From a `data` block to its fields and its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dnnc.data.codes import DependencyError, IncompleteError, fault
from dnnc.data.dataset import Dataset, Field, Split
from dnnc.data.evaluate import Evaluator, walk
from dnnc.data.options import NAMES, read_options
from dnnc.data.reader import Reader
from dnnc.data.rows import Array, Mapped, Rows, Stored, map_rows
from dnnc.data.splits import Share
from dnnc.data.statistics import Fit
from dnnc.data.table import FLOATS, STORAGE, Column
from dnnc.diagnostics import DnnError, Note, Span, suggestion
from dnnc.syntax import tree

_NO_ARRAYS: Mapping[str, object] = {}
_NO_STATISTICS: Mapping[str, Fit] = {}

#: Values checked for being finite at a time.
_CHUNK = 1 << 22


def describe(
    block: tree.Data,
    *,
    constants: Mapping[str, object],
    folder: Path,
    arrays: Mapping[str, object] = _NO_ARRAYS,
) -> dict[str, Field]:
    """The fields of a block, without reading more of its files than is needed.

    Of a large file the beginning is read, unless a vocabulary depends on all of it. Raises
    `DnnError` with all independent errors that can be seen so.
    """
    try:
        return _Loading(block, constants, Reader(folder, arrays, sampling=True)).fields()
    except IncompleteError:
        return _Loading(block, constants, Reader(folder, arrays, sampling=False)).fields()


def load(
    block: tree.Data,
    *,
    constants: Mapping[str, object],
    folder: Path,
    arrays: Mapping[str, object] = _NO_ARRAYS,
    statistics: Mapping[str, Fit] = _NO_STATISTICS,
) -> Dataset:
    """Read everything. `statistics` of an earlier Dataset take the place of learning anew.

    Raises `DnnError` with all independent errors.
    """
    reader = Reader(folder, arrays, sampling=False)
    return _Loading(block, constants, reader, statistics).dataset()


def learns(block: tree.Data) -> bool:
    """Whether fields depend on what is learned, so that other data need the `statistics`."""
    missing = [e.value for e in block.entries if isinstance(e, tree.Rule) and e.key == "missing"]
    return any(
        (isinstance(node, tree.Name) and node.name in ("standardize", "categories", "one_hot"))
        or (isinstance(node, tree.Rule) and node.key == "standardize")
        for entry in block.entries
        for node in walk(entry)
    ) or any(
        (isinstance(value, tree.Name) and value.name in ("mean", "median"))
        or (isinstance(value, tree.String) and value.value in ("mean", "median"))
        for value in missing
    )


class _Loading:
    """One block on its way to fields."""

    def __init__(
        self,
        block: tree.Data,
        constants: Mapping[str, object],
        reader: Reader,
        statistics: Mapping[str, Fit] = _NO_STATISTICS,
    ) -> None:
        self.block, self.reader = block, reader
        self.evaluator = Evaluator(block, constants, reader)
        self.plan, self.errors = self.evaluator.plan, self.evaluator.errors
        self.plan.given = statistics
        self.plan.options = read_options(
            self.evaluator.options, self.evaluator.evaluate, self.errors
        )
        self.shares: dict[str, Share] | None = None

    def fields(self) -> dict[str, Field]:
        return {name: self._field(name, column) for name, column in self._columns().items()}

    def dataset(self) -> Dataset:
        columns = self._columns()
        shares = self.shares or {}
        splits = {
            name: Split(
                len(share.indices),
                {field: column.parts[share.part] for field, column in columns.items()},
                share.indices,
            )
            for name, share in shares.items()
        }
        fields = {name: self._field(name, column) for name, column in columns.items()}
        return Dataset(
            self.block.name, fields, splits, self._fingerprint(), dict(self.plan.statistics)
        )

    def _field(self, name: str, column: Column) -> Field:
        span = self.evaluator.rules[name].span
        return Field(name, column.dtype, column.shape, span, column.classes)

    def _columns(self) -> dict[str, Column]:
        """The finished columns of all fields, with splits made; raises all errors."""
        columns = self._evaluate()
        self._check_standardize(columns)
        if columns:
            self._attempt(lambda: self._check_rows(columns))
        if columns and not self.errors.diagnostics:
            self._attempt(lambda: self._make_shares(columns))
        self.errors.raise_if_any()
        self._standardize(columns)
        for name, column in columns.items():
            try:
                columns[name] = self._finite(name, column)
            except DnnError as error:
                self.errors.add(error)
        self.errors.raise_if_any()
        return columns

    def _evaluate(self) -> dict[str, Column]:
        """Every entry that is a column; at least one must be."""
        columns: dict[str, Column] = {}
        for name in self.evaluator.rules:
            try:
                value = self.evaluator.entry(name)
                if isinstance(value, Column):
                    columns[name] = self._typed(name, value)
                else:
                    self._check_constant(name, value)
            except DnnError as error:
                self.errors.add(error)
            except DependencyError:
                continue
        for part in self.evaluator.parts:
            columns.pop(part, None)
        if not columns and not self.errors.diagnostics:
            self.errors.add(
                fault(
                    "E524",
                    f"the data block `{self.block.name}` has no fields",
                    self.block.name_span,
                    help="such as `label = source.label`",
                )
            )
        return columns

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except DnnError as error:
            self.errors.add(error)
        except DependencyError:
            return

    def _typed(self, name: str, column: Column) -> Column:
        """The column in the storage of its declared type."""
        rule = self.evaluator.rules[name]
        if column.dtype == "text":
            raise fault(
                "E511",
                f"field `{name}` is text, and models take numbers",
                rule.value.span,
                label=column.text or "",
                help=f"`{name} = categories({rule.value.span.text})` makes class numbers of it",
            )
        self.plan.name_statistics(name, column)
        storage = STORAGE[column.dtype]

        def finish(values: Array) -> Array:
            result: Array = np.ascontiguousarray(values, storage)
            return result

        parts = {part: map_rows(finish, (rows,)) for part, rows in column.parts.items()}
        return Column(parts, column.dtype, column.shape, column.what, column.classes)

    def _check_constant(self, name: str, value: object) -> None:
        """A constant entry must be of use to another one."""
        if not isinstance(value, (int, float, str, list, type(None))):
            return
        others = [
            rule
            for rule in [*self.evaluator.rules.values(), *self.evaluator.options.values()]
            if rule.key != name
        ]
        if any(
            isinstance(node, tree.Name) and node.name == name
            for rule in others
            for node in walk(rule.value)
        ):
            return
        rule = self.evaluator.rules[name]
        raise fault(
            "E524",
            f"`{name}` is neither a column nor an option",
            rule.span,
            help=suggestion(name, NAMES, "the options are " + ", ".join(NAMES)),
        )

    def _check_standardize(self, columns: Mapping[str, Column]) -> None:
        for item in self.plan.options.standardize:
            if item.name in columns or item.name in self.evaluator.rules:
                continue
            help = suggestion(item.name, columns)
            self.errors.add(
                fault("E501", f"no field is called `{item.name}`", item.span, help=help)
            )

    def _standardize(self, columns: dict[str, Column]) -> None:
        for item in self.plan.options.standardize:
            if item.name in self.plan.statistics:
                raise fault("E505", f"`{item.name}` is standardized already", item.span)
            if columns[item.name].dtype == "bool":
                raise fault("E505", f"`{item.name}` is bool, not a number", item.span)
            column = self.plan.standardize(columns[item.name], False, item.name, item.span)
            columns[item.name] = self._typed(item.name, column)

    def _check_rows(self, columns: Mapping[str, Column]) -> None:
        first_name, first = next(iter(columns.items()))
        rules = self.evaluator.rules
        for name, column in columns.items():
            if _sizes(column) is None or _sizes(first) is None:
                if set(column.parts) == set(first.parts):
                    continue
            elif _sizes(column) == _sizes(first):
                continue
            raise fault(
                "E516",
                f"fields `{first_name}` and `{name}` have different rows",
                rules[name].span,
                label=f"{_counted(column)}, and `{first_name}` has {_counted(first)}",
                notes=[Note(f"`{first_name}` is here", rules[first_name].span)],
            )

    def _make_shares(self, columns: Mapping[str, Column]) -> None:
        first = next(iter(columns.values()))
        if not all(column.complete for column in columns.values()):
            return
        sizes = {part: len(rows) for part, rows in first.parts.items()}
        overlap = max(rows.overlap for c in columns.values() for rows in c.parts.values())
        self.shares = self.plan.shares(sizes, overlap, self.block.name_span)

    def _finite(self, name: str, column: Column) -> Column:
        """The column, checked; rows that are made when taken are checked then."""
        if column.dtype not in FLOATS:
            return column
        span = self.evaluator.rules[name].value.span
        for part, rows in column.parts.items():
            if isinstance(rows, Stored):
                row = _first_not_finite(rows.values, self.plan.kept(part, len(rows)))
                if row is not None:
                    self._raise_not_finite(name, column, part, rows, row, span)
        if not column.stored:
            guarded: dict[str, Rows] = {
                part: Mapped(_guard(name, span), (rows,)) for part, rows in column.parts.items()
            }
            return Column(guarded, column.dtype, column.shape, column.what, column.classes)
        return column

    def _raise_not_finite(
        self, name: str, column: Column, part: str, rows: Stored, row: int, span: Span
    ) -> None:
        values = rows.values[row]
        bad = values[~np.isfinite(values)].flat[0]
        named = f" of the {part} files" if part else ""
        raise fault(
            "E514",
            f"field `{name}` is {bad} in row {row + 1}{named}",
            span,
            label=f"from {column.what}",
            help="fields hold finite numbers only",
        )

    def _fingerprint(self) -> str:
        digest = self.reader.digest.copy()
        digest.update(repr(self.block.entries).encode())
        used = {
            node.name
            for entry in self.block.entries
            for node in walk(entry)
            if isinstance(node, tree.Name)
        }
        constants = self.evaluator.constants
        for name in sorted(used & set(constants)):
            digest.update(f"{name}={constants[name]!r};".encode())
        return digest.hexdigest()


def _sizes(column: Column) -> dict[str, int] | None:
    """Rows of each part, or None where some are not known."""
    sizes = {part: rows.total for part, rows in column.parts.items()}
    known = {part: size for part, size in sizes.items() if size is not None}
    return known if len(known) == len(sizes) else None


def _counted(column: Column) -> str:
    sizes = _sizes(column)
    if sizes is None:
        return "an unknown number of rows"
    return ", ".join(
        f"{size} rows of {part}" if part else f"{size} rows" for part, size in sizes.items()
    )


def _first_not_finite(values: Array, kept: Array | None) -> int | None:
    """The first row that has a value that is not finite, among those kept."""
    each = max(1, values[0].size if len(values) else 1)
    step = max(1, _CHUNK // each)
    for start in range(0, len(values), step):
        chunk = values[start : start + step]
        if np.isfinite(chunk).all():
            continue
        bad = ~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if kept is not None:
            bad &= kept[start : start + step]
        if bad.any():
            return start + int(np.argmax(bad))
    return None


def _guard(name: str, span: Span) -> Callable[[Array], Array]:
    """A check of rows that are made when they are taken."""

    def check(values: Array) -> Array:
        if not np.isfinite(values).all():
            raise fault("E514", f"field `{name}` is not finite in a batch", span)
        return values

    return check
