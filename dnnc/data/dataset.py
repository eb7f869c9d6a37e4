"""What training and prediction see of data: fields, splits, batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dnnc.data.rows import Array, Rows
from dnnc.data.splits import batches_of
from dnnc.data.statistics import Fit
from dnnc.diagnostics import Span


@dataclass(frozen=True, slots=True)
class Field:
    """A named value of every example; `shape` leaves the batch axis out.

    `dtype` is one of f32, f64, i32, i64, u8, i8, bool. `classes` are the names of class numbers or
    of tokens, where they are known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    span: Span = field(compare=False, repr=False)
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Some rows of every field: row i of the split is row `indices[i]` of `columns`."""

    size: int
    columns: Mapping[str, Rows]
    indices: Array

    def take(self, indices: Array, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Contiguous arrays [len(indices), *shape] by field; of `names` alone where given."""
        places = self.indices[indices]
        wanted = self.columns if names is None else names
        return {name: np.ascontiguousarray(self.columns[name].take(places)) for name in wanted}


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A loaded data block.

    `splits` holds "train", "validation" and "test" where they have rows. `fingerprint` changes with
    the content of the sources, the entries of the block and the arrays given. `statistics` is what
    was learned from the data, for `load` of other data: means and deviations of the training rows
    under the field's name where the field itself is standardized and under `field.1`, `field.2` …
    where a part of its expression is; vocabularies under `field.categories.1` and so on.
    """

    name: str
    fields: dict[str, Field]
    splits: dict[str, Split]
    fingerprint: str
    statistics: dict[str, Fit]


def batches(
    split: Split,
    batch: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool,
    drop_last: bool = False,
) -> Iterator[Array]:
    """Index arrays into `split` for one epoch, of `batch` rows but for a shorter last one.

    The order depends on (size, seed, epoch) alone, so that a run resumes in the middle of an epoch
    by skipping the batches it has done.
    """
    return batches_of(split.size, batch, seed, epoch, shuffle, drop_last)
