"""The rows of a block as a whole: which are dropped, which train, and what is fitted on those.

Splitting needs the number of rows and the classes to stratify by; filling gaps by a mean and
standardizing need the split. The plan is therefore made when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dnnc.data import missing
from dnnc.data.codes import fault
from dnnc.data.options import Options
from dnnc.data.rows import Array, Rows, Stored, map_rows
from dnnc.data.splits import Share, share_out
from dnnc.data.statistics import Fit, Statistics, fit
from dnnc.data.table import POOL, Cells, Column, merge, single
from dnnc.diagnostics import Span

if TYPE_CHECKING:
    from dnnc.data.evaluate import Evaluator


#: Rows that statistics are fitted on when a block is only described.
_SAMPLE = 64


class Plan:
    """Dropped rows, splits and statistics of one block."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.options = Options()
        self.statistics: dict[str, Fit] = {}
        self.given: Mapping[str, Fit] = {}
        self._dropped: dict[str, Array] = {}
        self._shares: dict[str, Share] | None = None
        self._planning = False
        self._overlap = 0
        self._touched = False

    # --- missing values ---------------------------------------------------------------------------

    def settle(self, parts: Mapping[str, Cells], what: str, span: Span, member: str = "") -> Column:
        """Cells of every part as one column, with missing values replaced as `missing` says.

        `member` tells the columns of an entry apart: its text, such as `source.age`.
        """
        for cells in parts.values():
            if not len(cells.rows):
                raise fault("E515", f"{cells.what} has no rows", span)
        gaps = any(cells.missing is not None for cells in parts.values())
        if gaps or self.options.missing in ("mean", "median"):
            parts = self._replace(parts, span, member)
        columns = {part: single(cells) for part, cells in parts.items()}
        if set(columns) == {POOL}:
            return columns[POOL]
        return merge(columns, what, span)

    def _replace(self, parts: Mapping[str, Cells], span: Span, member: str) -> Mapping[str, Cells]:
        policy = self.options.missing
        gaps = [cells for cells in parts.values() if cells.missing is not None]
        text = any(cells.dtype == "text" for cells in parts.values())
        if gaps and (policy == "error" or (text and policy != "drop")):
            raise missing.first_missing(gaps[0], policy, span)
        if policy == "drop":
            for part, cells in parts.items():
                self._drop(part, cells, span)
            return {part: missing.blank(cells) for part, cells in parts.items()}
        if policy in ("mean", "median"):
            if text or not all(isinstance(cells.rows, Stored) for cells in parts.values()):
                return parts
            values = self._central(parts, str(policy), span, member)
        else:
            values = 0 if policy == "zero" else float(policy)
            values = int(values) if values == int(values) else values
        return {part: missing.replace(cells, values) for part, cells in parts.items()}

    def _central(
        self, parts: Mapping[str, Cells], policy: str, span: Span, member: str
    ) -> Array | float:
        """Mean or median of training rows; learned without gaps too, for other data have them."""
        if self._evaluator.reader.sampling:
            return 0.0

        def compute() -> Fit:
            sizes = {part: len(cells.rows) for part, cells in parts.items()}
            part, indices = self._training(sizes, 0, span)
            return missing.central(parts, part, indices, policy, span)

        learned = self.fitted(f"{self._evaluator.active}.missing.{member}", compute)
        assert isinstance(learned, np.ndarray)
        return learned

    def fitted(self, key: str, compute: Callable[[], Fit]) -> Fit:
        """What was given under a key, or else is learned; several of a kind are counted."""
        number = sum(name.rpartition(".")[0] == key for name in self.statistics) + 1
        name = f"{key}.{number}"
        learned = self.given.get(name)
        self.statistics[name] = compute() if learned is None else learned
        return self.statistics[name]

    def _drop(self, part: str, cells: Cells, span: Span) -> None:
        if cells.missing is None:
            return
        gone: Array = np.asarray(cells.missing.reshape(len(cells.missing), -1).any(axis=1))
        before = self._dropped.get(part)
        if before is not None and len(before) != len(gone):
            if self._evaluator.reader.sampling:
                return
            raise fault(
                "E516",
                f"{cells.what} has {len(gone)} rows, and another source {len(before)}",
                span,
            )
        self._dropped[part] = gone if before is None else before | gone

    # --- splits -----------------------------------------------------------------------------------

    def shares(self, sizes: Mapping[str, int], overlap: int, span: Span) -> dict[str, Share]:
        """The rows of every split; `sizes` gives the rows of each part."""
        if self._shares is None:
            if self._planning:
                raise fault(
                    "E517",
                    "`stratify` depends on the training rows, which depend on it",
                    self.options.at("stratify", span),
                )
            self._planning = True
            try:
                kept = self._kept(sizes, span)
                strata = self._strata(kept, span)
                self._shares = share_out(kept, self.options, strata, overlap, span)
            finally:
                self._planning = False
            self._overlap = overlap
        if overlap != self._overlap:
            raise fault("E517", "windows of a text cannot be split together with other rows", span)
        return self._shares

    def kept(self, part: str, size: int) -> Array | None:
        """Which rows of a part are kept, or None where all are."""
        dropped = self._dropped.get(part)
        if dropped is None or len(dropped) != size:
            return None
        return ~dropped

    def _kept(self, sizes: Mapping[str, int], span: Span) -> dict[str, Array]:
        if self.options.missing == "drop" and not self._touched:
            self._touched = True
            self._evaluator.touch_members()
        kept = {}
        for part, size in sizes.items():
            mask = self.kept(part, size)
            if mask is None and part in self._dropped:
                raise fault(
                    "E516",
                    f"a source has {len(self._dropped[part])} rows, and another {size}",
                    span,
                )
            kept[part] = np.arange(size) if mask is None else np.flatnonzero(mask)
            if not len(kept[part]):
                raise fault(
                    "E515",
                    "every row misses a value, and none is left",
                    self.options.at("missing", span),
                )
        return kept

    def _strata(self, kept: Mapping[str, Array], span: Span) -> dict[str, Array] | None:
        if self.options.stratify is None:
            return None
        place = self.options.stratify.span
        value = self._evaluator.option("stratify", self.options.stratify)
        if not isinstance(value, Column) or value.shape or value.dtype in ("f32", "f64"):
            raise fault("E505", "`stratify` must be a column of classes", place,
                        help="one integer, text or boolean a row")  # fmt: skip
        strata = {}
        for part, rows in kept.items():
            if part not in value.parts or (len(rows) and rows[-1] >= len(value.parts[part])):
                raise fault("E516", f"{value.what} has other rows than the fields", place)
            strata[part] = np.unique(value.parts[part].take(rows), return_inverse=True)[1]
        return strata

    def _training(self, sizes: Mapping[str, int], overlap: int, span: Span) -> tuple[str, Array]:
        """Part and indices of the training rows; of a sample, all of its rows."""
        if self._evaluator.reader.sampling:
            part = POOL if POOL in sizes else "train"
            return part, np.arange(min(sizes[part], _SAMPLE))
        share = self.shares(sizes, overlap, span)["train"]
        return share.part, share.indices

    # --- standardizing ----------------------------------------------------------------------------

    def standardize(self, column: Column, together: bool, key: str, span: Span) -> Column:
        """The column with mean 0 and deviation 1 over the training rows."""
        number = sum(name == key or _is_numbered(name, key) for name in self.statistics) + 1
        name = f"{key}.{number}"
        fitted = self.given.get(name, self.given.get(key))
        if not isinstance(fitted, Statistics):
            sizes = {part: len(rows) for part, rows in column.parts.items()}
            overlap = max(rows.overlap for rows in column.parts.values())
            part, indices = self._training(sizes, overlap, span)
            fitted = fit(column.parts[part], indices, together)
        if not (np.isfinite(fitted.mean).all() and np.isfinite(fitted.deviation).all()):
            raise fault("E514", f"{column.what} has no finite mean and deviation", span)
        self.statistics[name] = fitted
        storage = "f64" if column.dtype == "f64" else "f32"
        parts: dict[str, Rows] = {
            p: map_rows(_standardizer(fitted), (rows,)) for p, rows in column.parts.items()
        }
        return Column(parts, storage, column.shape, column.what, statistics=name)

    def name_statistics(self, field: str, column: Column) -> None:
        """Statistics of a field that is itself standardized bear the field's name."""
        if column.statistics in self.statistics:
            self.statistics[field] = self.statistics.pop(column.statistics)


def _is_numbered(name: str, key: str) -> bool:
    prefix, _, number = name.rpartition(".")
    return prefix == key and number.isdecimal()


def _standardizer(fitted: Statistics) -> Callable[[Array], Array]:
    def apply(values: Array) -> Array:
        wide = values if values.dtype == np.float32 else values.astype(np.float64)
        return fitted.apply(wide)

    return apply
