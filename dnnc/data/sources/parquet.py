"""`parquet`: columnar files, by way of pyarrow (the extra `parquet`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import Cells, cells_of_array, stack_members
from dnnc.diagnostics import DnnError, Span

#: Rows read when a block is only described.
_SAMPLE_ROWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class ParquetTable:
    """An open file; columns are read when they are asked for. Nulls are missing values."""

    what: str
    file: Any
    arrow: Any
    sampling: bool
    cache: dict[str, Cells] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.file.schema_arrow.names)

    def member(self, name: str, span: Span) -> Cells:
        if name not in self.cache:
            self.cache[name] = self._read(name, span)
        return self.cache[name]

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        return stack_members(self, names, span)

    def _read(self, name: str, span: Span) -> Cells:
        what = f"column `{name}` of {self.what}"
        try:
            if self.sampling:
                batches = self.file.iter_batches(_SAMPLE_ROWS, columns=[name])
                column = self.arrow.chunked_array([next(batches).column(0)])
            else:
                column = self.file.read(columns=[name]).column(0)
            return self._cells(column.combine_chunks(), what, span)
        except DnnError:
            raise
        except Exception as error:  # pyarrow's readers raise many kinds on damaged files
            raise fault("E507", f"{what} cannot be read: {error}", span) from error

    def _cells(self, column: Any, what: str, span: Span) -> Cells:
        arrow = self.arrow
        while isinstance(column, arrow.ChunkedArray):
            column = arrow.concat_arrays(column.chunks)
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        nulls = np.asarray(column.is_null()) if column.null_count else None
        kind = column.type
        width = 0
        if arrow.types.is_fixed_size_list(kind) or arrow.types.is_list(kind):
            if nulls is not None:
                raise fault("E513", f"{what} has missing lists", span)
            lengths = {len(item) for item in column}
            if len(lengths) != 1:
                raise fault("E521", f"{what} has lists of different lengths", span)
            width, column = lengths.pop(), column.flatten()
        total = self.file.metadata.num_rows
        text = arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)
        if text:
            values = np.array([item or "" for item in column.to_pylist()], np.str_)
        elif _is_numeric(arrow, column.type):
            blank = arrow.scalar(False if arrow.types.is_boolean(column.type) else 0, column.type)
            values = column.fill_null(blank).to_numpy(zero_copy_only=False)
        else:
            raise fault("E510", f"{what} holds values of type {kind}", span)
        cells = cells_of_array(values.reshape(-1, width) if width else values, what, span, total)
        if nulls is None:
            return cells
        missing = nulls if cells.missing is None else nulls | cells.missing
        return Cells(cells.rows, cells.dtype, what, cells.where, missing, None, cells.text)


def _is_numeric(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _parquet(bound: Bound, scope: Scope) -> ParquetTable:
    shown, span = bound["path"], bound.at("path")
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise fault(
            "E519",
            "parquet(…) needs the package pyarrow",
            bound.span,
            help="pip install dnnc[parquet]",
        ) from error
    path = scope.reader.file(shown, span)
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic != b"PAR1":
            raise fault("E508", f"{shown} is not a Parquet file", span)
        if not scope.reader.sampling:
            scope.reader.absorb_file(path)
        file = parquet.ParquetFile(path)
        rows = file.metadata.num_rows
    except DnnError:
        raise
    except Exception as error:  # pyarrow's readers raise many kinds on damaged files
        raise fault("E507", f"{shown} is damaged: {error}", span) from error
    if not rows:
        raise fault("E515", f"{shown} has no rows", span)
    return ParquetTable(shown, file, arrow, scope.reader.sampling)


PARQUET = Function("parquet", (Parameter("path", "string"),), _parquet)
