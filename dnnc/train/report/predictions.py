"""What the trained network says about a split, set against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dnnc.elaborate.plan import TrainingPlan
from dnnc.train.evaluate import Compiler
from dnnc.train.feed import Data, Feed, data_types, inputs_of

__all__ = ["Classified", "Predictions", "Regressed", "predictions"]

_SPLITS = ("test", "validation", "train")
_MOST_IMAGES = 14
_LARGEST_IMAGE = 96


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrongly classified example; `image` is [h, w] or [h, w, 3] in u8."""

    image: np.ndarray
    actual: int
    predicted: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Classified:
    """`matrix[actual, predicted]` counts; `names` are those of the classes."""

    split: str
    matrix: np.ndarray
    names: tuple[str, ...]
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True, slots=True)
class Regressed:
    """Truth and prediction of examples, flat, in double precision."""

    split: str
    actual: np.ndarray
    predicted: np.ndarray


Predictions = Classified | Regressed


def predictions(
    plan: TrainingPlan, dataset: Data, compile: Compiler, variables: Mapping[str, np.ndarray]
) -> Predictions | None:
    """Predictions on the test split, else on another; None where the job has no plain target."""
    if plan.target is None:
        return None
    output, field = plan.target
    split = next(name for name in _SPLITS if name in dataset.splits and dataset.splits[name].size)
    types = data_types(plan.network.predict, tuple(plan.network.inputs))
    if field not in plan.fields or not set(types) <= set(dataset.fields):
        return None
    feed = Feed(dataset.splits[split], types, plan.batch, plan.seed)
    run = compile(plan.network.predict)
    held = inputs_of(plan.network.predict, variables)
    pairs = (
        (batch, fields[field], np.asarray(run({**held, **batch})[output]))
        for batch, fields in _batches(feed)
    )
    label = feed.part.take(np.arange(1))[field]
    if label.dtype.kind in "iub":
        return _classified(plan, dataset, split, pairs)
    return _regressed(split, pairs)


_Pairs = Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]


def _batches(feed: Feed) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    for start in range(0, feed.part.size, feed.batch):
        fields = feed.part.take(np.arange(start, min(start + feed.batch, feed.part.size)))
        yield feed.convert(fields), fields


def _regressed(split: str, pairs: _Pairs) -> Regressed | None:
    actual, predicted = [], []
    for _, truth, output in pairs:
        if truth.size != output.size:
            return None
        actual.append(truth.reshape(-1).astype(np.float64))
        predicted.append(output.reshape(-1).astype(np.float64))
    return Regressed(split, np.concatenate(actual), np.concatenate(predicted))


def _classified(plan: TrainingPlan, dataset: Data, split: str, pairs: _Pairs) -> Classified | None:
    assert plan.target is not None
    triples: list[tuple[np.ndarray, np.ndarray]] = []
    mistakes: list[Mistake] = []
    classes = 0
    for batch, truth, output in pairs:
        found = _classes(output, truth)
        if found is None:
            return None
        chosen, confidence, count = found
        actual = truth.reshape(-1).astype(np.int64)
        classes = max(classes, count, int(actual.max(initial=0)) + 1)
        triples.append((actual, chosen))
        if len(chosen) == len(truth):
            mistakes += _mistakes(batch, actual, chosen, confidence)
    actual, chosen = (np.concatenate(column) for column in zip(*triples, strict=True))
    known = actual >= 0
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (actual[known], chosen[known]), 1)
    mistakes.sort(key=lambda mistake: -mistake.confidence)
    names = _names(dataset, plan.target[1], classes)
    return Classified(split, matrix, names, tuple(mistakes[:_MOST_IMAGES]))


def _classes(output: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Chosen classes, how sure the network is of each, and the number of classes."""
    if output.size == truth.size:
        flat = output.reshape(-1).astype(np.float64)
        # A single output is a probability where it stays within 0 … 1, else a logit.
        inside = bool(((flat >= 0) & (flat <= 1)).all())
        chosen = flat > (0.5 if inside else 0.0)
        return chosen.astype(np.int64), np.abs(flat - (0.5 if inside else 0.0)), 2
    if output.shape[:-1] != truth.shape:
        return None
    rows = output.reshape(-1, output.shape[-1]).astype(np.float64)
    shifted = np.exp(rows - rows.max(axis=1, keepdims=True))
    confidence = shifted.max(axis=1) / shifted.sum(axis=1)
    return rows.argmax(axis=1), confidence, rows.shape[1]


def _mistakes(
    batch: Mapping[str, np.ndarray],
    actual: np.ndarray,
    chosen: np.ndarray,
    confidence: np.ndarray,
) -> list[Mistake]:
    pictures = next((array for array in batch.values() if _is_image(array)), None)
    if pictures is None:
        return []
    wrong = np.flatnonzero(actual != chosen)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MOST_IMAGES]
    low, high = float(pictures.min()), float(pictures.max())
    return [
        Mistake(
            _picture(pictures[index], low, high),
            int(actual[index]),
            int(chosen[index]),
            float(confidence[index]),
        )
        for index in wrong
    ]


def _is_image(array: np.ndarray) -> bool:
    return array.ndim == 4 and array.shape[1] in (1, 3) and max(array.shape[2:]) <= _LARGEST_IMAGE


def _picture(array: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (array.astype(np.float64) - low) / ((high - low) or 1.0)
    pixels = np.clip(np.nan_to_num(scaled) * 255, 0, 255).round().astype(np.uint8)
    return pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)


def _names(dataset: Data, field: str, count: int) -> tuple[str, ...]:
    given = getattr(dataset.fields.get(field), "classes", None) or ()
    names = [_readable(str(name)) for name in given][:count]
    return (*names, *map(str, range(len(names), count)))


def _readable(name: str) -> str:
    """The name, quoted where it is blank or holds control characters, as tokens of text do."""
    return name if name.isprintable() and name.strip() else repr(name)
