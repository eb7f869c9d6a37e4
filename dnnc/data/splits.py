"""Which rows belong to training, validation and test.

All draws come from the raw words of a Philox generator, whose stream is fixed: a seed gives the
same splits and the same batches on every machine and with every version of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.options import SPLITS, Options
from dnnc.data.rows import Array
from dnnc.data.table import POOL
from dnnc.diagnostics import Span, listing


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """The rows of a split: `indices` (ascending) into a part."""

    part: str
    indices: Array


def permutation(size: int, seed: int, stream: int = 0) -> Array:
    """A permutation of `range(size)` that depends on (seed, stream) alone."""
    key = np.array([seed % (1 << 64), stream], np.uint64)
    words = np.random.Philox(key=key).random_raw(size)
    return np.argsort(words, kind="stable")


def share_out(
    kept: Mapping[str, Array],
    options: Options,
    strata: Mapping[str, Array] | None,
    overlap: int,
    span: Span,
) -> dict[str, Share]:
    """Divide the rows that are kept of each part among the splits.

    `strata` numbers the class of each kept row; `overlap` is how many rows after a row share data
    with it: such rows are divided in their order, with that many left out between two splits.
    """
    if overlap and (options.shuffle or options.stratify is not None):
        raise fault(
            "E517",
            "overlapping windows are divided in their order",
            options.at("shuffle" if options.shuffle else "stratify", span),
            label="drawn rows would share text between splits",
        )
    if POOL not in kept and options.fractions is not None:
        raise fault(
            "E517",
            "`split` divides a single source, and files(…) is divided already",
            options.at("split", span),
            help="`validation = 0.1` takes validation rows from the training files",
        )
    shares: dict[str, Share] = {}
    for part, rows in kept.items():
        if part not in (POOL, "train"):
            shares[part] = Share(part, rows)
            continue
        fractions = _fractions(part, kept, options, span)
        classes = strata[part] if strata is not None else None
        pieces = _divide(len(rows), fractions, options, classes, overlap)
        for name, piece in zip(SPLITS, pieces, strict=False):
            shares[name] = Share(part, rows[piece])
        _check_filled(fractions, pieces, len(rows), options, span)
    empty = [name for name, share in shares.items() if not len(share.indices) and share.part]
    if empty:
        raise fault("E518", f"the split {listing(empty)} has no rows", span)
    return {name: shares[name] for name in SPLITS if name in shares and len(shares[name].indices)}


def _fractions(
    part: str, kept: Mapping[str, Array], options: Options, span: Span
) -> tuple[float, ...]:
    if options.validation is None:
        return (options.fractions or (1.0,)) if part == POOL else (1.0,)
    if "validation" in kept:
        raise fault(
            "E517",
            "files(…) names validation files already",
            options.at("validation", span),
            help="leave one of the two out",
        )
    return (1 - options.validation, options.validation)


def _check_filled(
    fractions: tuple[float, ...], pieces: list[Array], rows: int, options: Options, span: Span
) -> None:
    for name, fraction, piece in zip(SPLITS, fractions, pieces, strict=False):
        if fraction > 0 and not len(piece):
            given = "split" if options.fractions is not None else "validation"
            raise fault(
                "E518",
                f"the {name} split is empty: it takes {fraction:g} of {rows} rows",
                options.at(given, span),
            )


def _divide(
    size: int,
    fractions: tuple[float, ...],
    options: Options,
    strata: Array | None,
    overlap: int,
) -> list[Array]:
    """Places of `range(size)` for each fraction, ascending."""
    if strata is not None:
        order = permutation(size, options.seed)
        groups = [order[strata[order] == label] for label in np.unique(strata)]
    elif options.shuffle is False or overlap:
        groups = [np.arange(size)]
    else:
        groups = [permutation(size, options.seed)]
    pieces: list[list[Array]] = [[] for _ in fractions]
    for group in groups:
        bounds = np.round(np.cumsum([0.0, *fractions]) * len(group)).astype(np.int64)
        for number, (start, stop) in enumerate(pairwise(bounds)):
            pieces[number].append(group[start + (overlap if start else 0) : stop])
    return [np.sort(np.concatenate(piece)) for piece in pieces]


def batches_of(
    size: int, batch: int, seed: int, epoch: int, shuffle: bool, drop_last: bool
) -> Iterator[Array]:
    """Index arrays of one epoch; the last one is shorter unless it is dropped."""
    if batch < 1:
        raise ValueError(f"a batch has at least 1 row, got {batch}")
    # Stream 0 belongs to the splits.
    order = permutation(size, seed, epoch + 1) if shuffle else np.arange(size)
    stop = size - size % batch if drop_last else size
    for start in range(0, stop, batch):
        yield order[start : start + batch]
