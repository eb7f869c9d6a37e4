"""Figures of what the trained network predicts: confusion, mistakes, residuals."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from dnnc.train.progress import grouped, number
from dnnc.train.report.markup import Markup, element, join
from dnnc.train.report.plot import histogram, scatter
from dnnc.train.report.predictions import Classified, Predictions, Regressed

__all__ = ["png", "results"]

_LARGEST_MATRIX = 32
_MOST_POINTS = 1500


def results(found: Predictions) -> Markup:
    """The section for one kind of prediction."""
    return _regression(found) if isinstance(found, Regressed) else _classification(found)


def _regression(found: Regressed) -> Markup:
    actual, predicted = found.actual, found.predicted
    every = max(1, len(actual) // _MOST_POINTS)
    points = [(float(a), float(p)) for a, p in zip(actual, predicted, strict=True)][::every]
    residuals = predicted - actual
    spread = float(((actual - actual.mean()) ** 2).sum())
    explained = 1 - float((residuals**2).sum()) / spread if spread else float("nan")
    sentence = (
        f"On the {found.split} split the prediction is off by {number(_mean_size(residuals))} on "
        f"average and explains {100 * explained:.1f} % of the variance."
    )
    return join(
        [
            element("p", sentence),
            element(
                "div",
                scatter(
                    points, title="Prediction against truth", x_label="truth", y_label="prediction"
                ),
                histogram(
                    [float(r) for r in residuals],
                    title="Residuals",
                    x_label="prediction − truth",
                ),
                class_="charts",
            ),
        ]
    )


def _mean_size(values: np.ndarray) -> float:
    return float(np.abs(values).mean())


def _classification(found: Classified) -> Markup:
    matrix, total = found.matrix, int(found.matrix.sum())
    right = int(np.trace(matrix))
    sentence = (
        f"Of {grouped(total)} predictions on the {found.split} split {grouped(right)} are right"
        f" ({100 * right / max(total, 1):.1f} %)."
    )
    small = len(found.names) <= _LARGEST_MATRIX
    picture = _confusion(found) if small else Markup("")
    side = join([_confused(found), _mistakes(found)])
    body = element("div", picture, element("div", side), class_="results" if small else "wide")
    return join([element("p", sentence), body])


def _confusion(found: Classified) -> Markup:
    count = len(found.names)
    cell = min(38.0, 440.0 / count)
    longest = 6.6 * max(len(_label(name)) for name in found.names)
    left = 16.0 + longest
    turned = longest > cell
    top, side = 40.0 + (0.72 * longest if turned else 0), cell * count
    width, height = left + side + 52, top + side + 6
    rows = found.matrix.sum(axis=1)
    parts = [
        element("text", "predicted", x=left, y=12, class_="axis-label"),
        element("text", "recall", x=width - 2, y=top - 8, class_="axis-label end"),
    ]
    for k, name in enumerate(found.names):
        middle = top + (k + 0.5) * cell + 4
        parts.append(element("text", _label(name), x=left - 8, y=middle, class_="tick end"))
        parts.append(_column_label(name, left + (k + 0.5) * cell, top - 8, turned))
        if rows[k]:
            recall = f"{100 * found.matrix[k, k] / rows[k]:.0f} %"
            parts.append(element("text", recall, x=width - 2, y=middle, class_="tick end"))
        for j in range(count):
            parts.append(_cell(found, k, j, left + j * cell, top + k * cell, cell))
    return element(
        "figure",
        element("figcaption", "Confusion: rows are the truth"),
        element(
            "svg",
            *parts,
            viewBox=f"0 0 {width:.0f} {height:.0f}",
            style=f"max-width:{width:.0f}px",
            role="img",
            aria_label="Confusion matrix",
            class_="confusion",
        ),
    )


def _column_label(name: str, x: float, y: float, turned: bool) -> Markup:
    if not turned:
        return element("text", _label(name), x=x, y=y, class_="tick middle")
    turn = f"rotate(-50 {x:.0f} {y:.0f})"
    return element("text", _label(name), x=x + 2, y=y + 2, class_="tick", transform=turn)


def _cell(found: Classified, k: int, j: int, x: float, y: float, cell: float) -> Markup:
    value, row = int(found.matrix[k, j]), int(found.matrix[k].sum())
    share = value / row if row else 0.0
    # The square root keeps rare mistakes visible.
    opacity = 0.0 if not value else 0.08 + 0.92 * (share if k == j else share**0.5)
    style = "right" if k == j else "wrong"
    title = element("title", f"{found.names[k]} taken for {found.names[j]}: {value}")
    back = element("rect", x=x + 0.5, y=y + 0.5, width=cell - 1, height=cell - 1, class_="cell")
    parts = [back]
    if value:
        parts.append(
            element(
                "rect",
                title,
                x=x + 0.5,
                y=y + 0.5,
                width=cell - 1,
                height=cell - 1,
                class_=style,
                fill_opacity=opacity,
            )
        )
    if value and cell >= 22:
        tone = "count on" if opacity > 0.55 else "count"
        parts.append(element("text", str(value), x=x + cell / 2, y=y + cell / 2 + 4, class_=tone))
    return join(parts)


def _confused(found: Classified) -> Markup:
    """The pairs of classes that are most often mistaken."""
    wrong = found.matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:6]
    pairs = [np.unravel_index(index, wrong.shape) for index in order]
    rows = [
        element(
            "tr",
            element("td", f"{found.names[k]} taken for {found.names[j]}"),
            element("td", grouped(int(wrong[k, j])), class_="number"),
        )
        for k, j in pairs
        if wrong[k, j]
    ]
    if not rows:
        return element("p", "No example is classified wrongly.")
    return join([element("h3", "Most frequent mistakes"), element("table", *rows)])


def _mistakes(found: Classified) -> Markup:
    if not found.mistakes:
        return Markup("")
    figures = [
        element(
            "figure",
            element("img", src=_data_url(item.image), alt=""),
            element(
                "figcaption",
                f"{_label(found.names[item.actual])} → {_label(found.names[item.predicted])}",
            ),
        )
        for item in found.mistakes
    ]
    caption = "Surest mistakes, truth → prediction"
    return join([element("h3", caption), element("div", *figures, class_="mistakes")])


def _label(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"


def _data_url(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def png(image: np.ndarray) -> bytes:
    """A PNG file of an image [h, w] or [h, w, 3] in u8."""
    height, width = image.shape[:2]
    colour = 0 if image.ndim == 2 else 2
    rows = np.ascontiguousarray(image).reshape(height, -1)
    raw = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
