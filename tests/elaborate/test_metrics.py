"""Losses and metrics over batches: cut into sums, they equal those over the whole split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dnnc.diagnostics import DnnError
from tests.elaborate.networks import Measured

ROWS, CLASSES, TIME = 101, 7, 5
draw = np.random.default_rng(0)
LOGITS = 2 * draw.normal(size=(ROWS, CLASSES))
LABELS = draw.integers(0, CLASSES, ROWS)
BINARY = draw.normal(size=ROWS)
TRUTH = draw.integers(0, 2, ROWS)
TOKENS = draw.normal(size=(ROWS, TIME, CLASSES))
TARGETS = draw.integers(0, CLASSES, (ROWS, TIME))
PREDICTED, ACTUAL = draw.normal(size=ROWS) + 3, draw.normal(size=ROWS)

CLASSIFIER = f"model M {{ in x: [batch, {CLASSES}]\n out y\n y = x }}"
SEQUENCES = f"model M {{ in x: [batch, {TIME}, {CLASSES}]\n out y\n y = x }}"
REGRESSION = "model M { in x: [batch]\n out y\n y = x }"


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def nll(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]


def rates(logits: np.ndarray, labels: np.ndarray, positive: int) -> tuple[float, float, float]:
    found, true = logits.argmax(-1) == positive, labels == positive
    hits = (found & true).sum()
    return hits / found.sum(), hits / true.sum(), 2 * hits / (found.sum() + true.sum())


def top(k: int) -> float:
    order = np.argsort(-LOGITS, axis=1)[:, :k]
    return float((order == LABELS[:, None]).any(1).mean())


WEIGHTS = np.array([1.0, 2, 0.5, 3, 1, 0, 2])
CLASSIFIED = {
    "cross_entropy(y, t)": nll(LOGITS, LABELS).mean(),
    "cross_entropy(y, t, ignore = 3)": nll(LOGITS, LABELS)[LABELS != 3].mean(),
    "cross_entropy(y, t, weights = [1, 2, 0.5, 3, 1, 0, 2])": np.average(
        nll(LOGITS, LABELS), weights=WEIGHTS[LABELS]
    ),
    "cross_entropy(y, t, weights = [1, 2, 0.5, 3, 1, 0, 2], ignore = 1)": np.average(
        nll(LOGITS, LABELS), weights=WEIGHTS[LABELS] * (LABELS != 1)
    ),
    "cross_entropy(y, t, smoothing = 0.1)": (
        0.9 * nll(LOGITS, LABELS) - 0.1 * log_softmax(LOGITS).mean(1)
    ).mean(),
    "perplexity(y, t)": np.exp(nll(LOGITS, LABELS).mean()),
    "perplexity(y, t, ignore = 0)": np.exp(nll(LOGITS, LABELS)[LABELS != 0].mean()),
    "accuracy(y, t)": (LOGITS.argmax(1) == LABELS).mean(),
    "top_k_accuracy(y, t, 1)": top(1),
    "top_k_accuracy(y, t, k = 3)": top(3),
    "precision(y, t, positive = 2)": rates(LOGITS, LABELS, 2)[0],
    "recall(y, t, positive = 2)": rates(LOGITS, LABELS, 2)[1],
    "f1(y, t, positive = 2)": rates(LOGITS, LABELS, 2)[2],
    "accuracy(y, t) / 2 + mean(y)": (LOGITS.argmax(1) == LABELS).mean() / 2 + LOGITS.mean(),
    "max(y)": LOGITS.max(),
    "min(y) - max(y)": LOGITS.min() - LOGITS.max(),
    "sqrt(mse(y, y * 2))": np.sqrt((LOGITS**2).mean()),
    "sum(y) / size(y)": LOGITS.mean(),
    "mean(y * y) - mean(y) * mean(y)": LOGITS.var(),
}
SEQUENCE = {
    "cross_entropy(y, t)": nll(TOKENS, TARGETS).mean(),
    "cross_entropy(y, t, ignore = 3)": nll(TOKENS, TARGETS)[TARGETS != 3].mean(),
    "perplexity(y, t)": np.exp(nll(TOKENS, TARGETS).mean()),
    "accuracy(y, t)": (TOKENS.argmax(-1) == TARGETS).mean(),
}
BINARIES = {
    "binary_cross_entropy(y, t)": np.where(
        TRUTH, np.log1p(np.exp(-BINARY)), np.log1p(np.exp(BINARY))
    ).mean(),
    "precision(y, t)": ((BINARY > 0) & (TRUTH > 0)).sum() / (BINARY > 0).sum(),
    "recall(y, t)": ((BINARY > 0) & (TRUTH > 0)).sum() / TRUTH.sum(),
    "f1(y, t)": 2 * ((BINARY > 0) & (TRUTH > 0)).sum() / ((BINARY > 0).sum() + TRUTH.sum()),
}
ERROR = PREDICTED - ACTUAL
REGRESSIONS = {
    "mse(y, t)": (ERROR**2).mean(),
    "mae(y, t)": abs(ERROR).mean(),
    "huber(y, t, delta = 2)": np.where(abs(ERROR) <= 2, ERROR**2 / 2, 2 * (abs(ERROR) - 1)).mean(),
    "r2(y, t)": 1 - (ERROR**2).sum() / ((ACTUAL - ACTUAL.mean()) ** 2).sum(),
    "y @ t / size(y, 0)": (PREDICTED * ACTUAL).mean(),
}
CASES = [
    *((CLASSIFIER, LOGITS, LABELS, text, value) for text, value in CLASSIFIED.items()),
    *((SEQUENCES, TOKENS, TARGETS, text, value) for text, value in SEQUENCE.items()),
    *((REGRESSION, BINARY, TRUTH, text, value) for text, value in BINARIES.items()),
    *((REGRESSION, PREDICTED, ACTUAL, text, value) for text, value in REGRESSIONS.items()),
]


def splits(rows: int) -> list[list[slice]]:
    """All at once, in batches with a smaller last one, one by one, and at random places."""
    places = np.sort(np.random.default_rng(1).choice(np.arange(1, rows), 6, replace=False))
    cuts = [[], range(32, rows, 32), range(1, rows), places]
    return [
        [slice(a, b) for a, b in zip([0, *cut], [*cut, rows], strict=True)] for cut in cuts
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "x", "t", "text", "value"), CASES, ids=[f"{c[3]} {c[1].ndim}" for c in CASES]
)
def test_a_metric_is_exact_for_any_batches(
    model: str, x: np.ndarray, t: np.ndarray, text: str, value: float
) -> None:
    measured = Measured(model, {"x": x, "t": t}, "mean(y)", text)
    name = measured.evaluation.names[1]
    for parts in splits(ROWS):
        found = measured.over(parts)
        assert found[name] == pytest.approx(value, rel=1e-9)
        assert found["loss"] == pytest.approx(x.mean(), rel=1e-9)


def test_metrics_of_one_function_have_names_of_their_own() -> None:
    fields = {"x": LOGITS, "t": LABELS}
    measured = Measured(
        CLASSIFIER, fields, "mean(y)", "accuracy(y, t)", "accuracy(y, t)", "mean(y) + 1", "max(y)"
    )
    assert measured.evaluation.names == ("loss", "accuracy", "accuracy_2", "mean(y) + 1", "max")


def test_a_regularizer_counts_once() -> None:
    text = f"model M {{ in x: [batch, {CLASSES}]\n out y\n y = x -> dense(2) as d }}"
    measured = Measured(text, {"x": LOGITS, "t": LABELS}, "mean(y) + 0.1 * l2(weights)")
    weight = measured.variables["d.weight"]
    value = (LOGITS @ weight).mean() + 0.1 * (weight**2).sum()
    for parts in splits(ROWS):
        assert measured.over(parts)["loss"] == pytest.approx(value, rel=1e-9)


def test_a_metric_without_data() -> None:
    text = f"model M {{ in x: [batch, {CLASSES}]\n out y\n y = x -> dense(2) as d }}"
    measured = Measured(text, {"x": LOGITS}, "mean(y)", "l1(weights)", "sqrt(l2(d.weight))")
    weight = measured.variables["d.weight"]
    for parts in splits(ROWS):
        found = list(measured.over(parts).values())
        assert found[1:] == pytest.approx([abs(weight).sum(), np.sqrt((weight**2).sum())])


def test_a_metric_of_an_inner_value() -> None:
    text = f"model M {{ in x: [batch, {CLASSES}]\n out y\n h = tanh(x)\n y = h * 2 }}"
    measured = Measured(text, {"x": LOGITS}, "mean(y)", "mean(abs(h))")
    for parts in splits(ROWS):
        assert measured.over(parts)["mean"] == pytest.approx(abs(np.tanh(LOGITS)).mean())


REFUSED: dict[str, Callable[[], float]] = {
    "mean(abs(y - mean(y)))": lambda: abs(LOGITS - LOGITS.mean()).mean(),
    "sum(y / size(y, 0))": lambda: LOGITS.sum() / ROWS,
    "mean(softmax(y, axis = 0))": lambda: 1 / ROWS,
    "max(y - max(y))": lambda: 0,
    "cast(argmax(sum(y, 1), 0), f32)": lambda: LOGITS.sum(1).argmax(),
    "mean(y[0])": lambda: LOGITS[0].mean(),
    "mean(reverse(y, 0) * y)": lambda: (LOGITS[::-1] * LOGITS).mean(),
    "mean(transpose(y) @ y @ transpose(y))": lambda: 0,
    "sum(sum(y, 1) * cast(iota(size(y, 0)), f32))": lambda: 0,
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_metric_that_sums_cannot_give_is_refused(text: str) -> None:
    with pytest.raises(DnnError) as caught:
        Measured(CLASSIFIER, {"x": LOGITS, "t": LABELS}, "mean(y)", text)
    assert {d.code for d in caught.value.diagnostics} == {"E410"}


def test_what_a_model_makes_of_a_batch_is_its_own() -> None:
    # Centred over each batch: so it predicts, and so it is measured.
    text = f"model M {{ in x: [batch, {CLASSES}]\n out y\n y = x - mean(x, 0) }}"
    measured = Measured(text, {"x": LOGITS}, "mean(y * y)")
    parts = splits(ROWS)[1]
    squares = sum(((LOGITS[p] - LOGITS[p].mean(0)) ** 2).sum() for p in parts)
    assert measured.over(parts)["loss"] == pytest.approx(squares / LOGITS.size)


@pytest.mark.parametrize("text", ["y", "y > 0", "sum(y, 1)", "3", '"accuracy"'])
def test_a_metric_is_one_number(text: str) -> None:
    with pytest.raises(DnnError) as caught:
        Measured(CLASSIFIER, {"x": LOGITS, "t": LABELS}, "mean(y)", text)
    assert {d.code for d in caught.value.diagnostics} == {"E409"}


COLUMN = "model M { in x: [batch]\n out y\n y = insert_axis(x, 1) }"


@pytest.mark.parametrize(
    "text", ["mse(y, t)", "mae(y, t)", "huber(y, t)", "r2(y, t)", "binary_cross_entropy(y, t)"]
)
def test_a_column_is_no_row(text: str) -> None:
    # [batch, 1] less [batch] would broadcast to the differences of all pairs.
    with pytest.raises(DnnError) as caught:
        Measured(COLUMN, {"x": PREDICTED, "t": ACTUAL}, text)
    assert {d.code for d in caught.value.diagnostics} == {"E306"}


@pytest.mark.parametrize(
    "text", ["cross_entropy(t, y)", "accuracy(t, y)", "accuracy(y, y)", "top_k_accuracy(t, y)"]
)
def test_labels_come_second(text: str) -> None:
    with pytest.raises(DnnError) as caught:
        Measured(CLASSIFIER, {"x": LOGITS, "t": LABELS}, text)
    assert {d.code for d in caught.value.diagnostics} == {"E306"}
