"""What takes the place of missing values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.rows import Array, Stored
from dnnc.data.table import FLOATS, Cells
from dnnc.diagnostics import DnnError, Note, Span

HELP = "say `missing = drop`, mean, median, zero or a number in the data block"


def first_missing(cells: Cells, policy: object, span: Span) -> DnnError:
    """The error for the first of the missing values, which `policy` does not replace."""
    missing = cells.missing
    assert missing is not None
    flat = missing.reshape(len(missing), -1)
    row = int(np.argmax(flat.any(axis=1)))
    item = int(np.argmax(flat[row]))
    count = int(flat.sum())
    notes = [Note(f"{count} values are missing in {cells.what}")] if count > 1 else []
    place = cells.where(row, item)
    what = "" if place.startswith(cells.what) else f" of {cells.what}"
    if cells.dtype == "text" and policy != "error":
        return fault(
            "E513",
            f"a text is missing: {place}{what}",
            span,
            label=f"`missing = {policy}` replaces numbers",
            notes=notes,
            help="say `missing = drop`",
        )
    return fault("E513", f"a value is missing: {place}{what}", span, notes=notes, help=HELP)


def replace(cells: Cells, values: Array | float) -> Cells:
    """Cells with `values` (a number, or an array of one example) where they are missing."""
    missing, rows = cells.missing, cells.rows
    if missing is None or not isinstance(rows, Stored):
        return cells
    fractional = not (isinstance(values, int) or cells.dtype in FLOATS)
    dtype = "f32" if fractional else cells.dtype
    stored = rows.values
    if cells.dtype not in FLOATS:
        stored = stored.astype(np.float64 if fractional else np.int64)
    filled = np.where(missing, values, stored)
    return Cells(Stored(filled, rows.total), dtype, cells.what, cells.where, None, cells.classes)


def blank(cells: Cells) -> Cells:
    """Cells whose missing values are 0 or empty, for rows that will be dropped."""
    if cells.missing is None or cells.dtype == "text":
        return cells
    return replace(cells, 0)


def central(
    cells: Mapping[str, Cells], part: str, indices: Array, policy: str, span: Span
) -> Array:
    """Mean or median of the known values among the training rows, of the shape of one example."""
    chosen = cells[part]
    values = chosen.rows.take(indices).astype(np.float64)
    if chosen.missing is not None:
        values[chosen.missing[indices]] = np.nan
    unknown = np.isnan(values).all(axis=0)
    if unknown.any():
        raise fault(
            "E513",
            f"{chosen.what} has no value in the training rows, and so no {policy}",
            span,
        )
    average = np.nanmean if policy == "mean" else np.nanmedian
    return np.asarray(average(values, axis=0))
