"""The report: one page, nothing from elsewhere, everything escaped."""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnc import ops
from dnnc.elaborate.plan import Layer, TrainingPlan
from dnnc.ir.graph import Graph, Input, Origin, Output, Value, origin
from dnnc.train.report.costs import count_macs
from dnnc.train.report.markup import Markup, element, text
from dnnc.train.report.network import network_picture
from dnnc.train.report.plot import Line, Scale, histogram, line_chart, scatter
from dnnc.train.report.predictions import Classified, Regressed, predictions
from dnnc.train.report.results import png, results
from dnnc.train.result import Options
from tests.train.small_plan import F32, interpreted, points, run, small_plan, tensor

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Elements must nest, and nothing may be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert name not in ("href", "srcset", "onload", "onclick")
            if name == "src":
                assert value is not None
                assert value.startswith("data:image/png;base64,")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def report(tmp_path: Path, plan: TrainingPlan | None = None, **given: Any) -> str:
    run(tmp_path, plan, options=Options(), **given)
    return (tmp_path / "report.html").read_text()


def test_the_page_is_whole_and_alone(tmp_path: Path) -> None:
    page = report(tmp_path)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert not re.search(r"https?:|//\w|@import|url\(|<script|<link", page)
    for part in ("Learning curves", "Confusion", "Network", "fingerprint", "Surest mistakes"):
        assert part in page


def test_names_and_texts_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>'
    plan = dataclasses.replace(small_plan(), name=evil, settings={evil: evil})
    page = report(tmp_path, plan, program=f"# {evil}\n", dataset=points())
    assert "<script" not in page
    assert "&lt;cat&gt;" in page
    assert page.count("&lt;script&gt;") >= 4


def test_a_run_without_validation_or_target_has_a_report(tmp_path: Path) -> None:
    plan = dataclasses.replace(small_plan(epochs=1), target=None, learning_rate=None)
    page = report(tmp_path, plan, dataset=points(validation=0, test=0))
    assert "Predictions" not in page
    assert "training loss" in page


def test_confusion_counts_every_example() -> None:
    result = run(None)
    found = predictions(small_plan(), points(), interpreted, result.variables)
    assert isinstance(found, Classified)
    assert found.split == "test"
    assert found.matrix.sum() == 41
    assert result.test is not None
    assert np.trace(found.matrix) / 41 == pytest.approx(result.test["accuracy"])
    assert found.names == ("ant", "bee", "<cat>")
    assert len(found.mistakes) == 41 - np.trace(found.matrix)


def test_residuals_for_numbers() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=300)
    page = results(Regressed("test", truth, truth + rng.normal(size=300) * 0.1))
    assert "explains 9" in page
    assert page.count("<circle") == 300


def test_many_classes_are_told_by_their_mistakes() -> None:
    matrix = np.diag(np.full(50, 9))
    matrix[3, 4] = 7
    page = results(Classified("test", matrix, tuple(f"c{i}" for i in range(50))))
    assert "c3 taken for c4" in page
    assert "Confusion" not in page


def test_macs_count_products_and_convolutions() -> None:
    def value(*shape: Any) -> Value:
        return Value(tensor(F32, *shape))

    x, w, v = value("batch", 3, 8, 8), value(16, 3, 3, 3), value(16 * 36, 5)
    with origin(Origin(path="stem")):
        y = ops.conv(x, w)
    with origin(Origin(path="head")):
        z = ops.matmul(ops.reshape(y, ("batch", 16 * 36)), v)
    inputs = (Input("x", x, "data"), Input("w", w, "parameter"), Input("v", v, "parameter"))
    graph = Graph("predict", inputs, (Output("z", z),))
    macs = count_macs(graph, {"x": (1, 3, 8, 8)})
    assert macs == {"stem": 16 * 36 * 27, "head": 16 * 36 * 5}


def test_equal_blocks_in_a_row_are_drawn_once() -> None:
    layers = [Layer("stem", "conv", 10, tensor(F32, "batch", 4))]
    for number in (1, 2, 3):
        layers.append(Layer(f"basic_{number}", "basic", 0, tensor(F32, "batch", 4)))
        layers.append(Layer(f"basic_{number}.conv_1", "conv", 7, tensor(F32, "batch", 4)))
    network = dataclasses.replace(small_plan().network, layers=tuple(layers))
    picture = network_picture(network, {"basic_1.conv_1.inner": 5, "stem": 2})
    assert "basic_1 …" not in picture  # the first has operations that the others lack
    assert "basic_2 … basic_3" in picture
    assert "basic × 2" in picture


def test_charts_survive_odd_values() -> None:
    nan = float("nan")
    assert "No finite values" in line_chart([Line([(1, nan)], "train")], title="a", x_label="x")
    assert "<circle" in line_chart([Line([(1, 2.0)], "train", "a")], title="a", x_label="x")
    assert "<rect" in histogram([1.0, 1.0], title="a", x_label="x")
    assert "No finite values" in histogram([nan], title="a", x_label="x")
    assert "<circle" in scatter([(1.0, 1.0)], title="a", x_label="x", y_label="y")
    assert "polyline" in line_chart(
        [Line([(1, 1e-30), (2, 1e30)], "train", "a")], title="a", x_label="x"
    )


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"),
    [
        (0, 1, False),
        (-3, 7, False),
        (5, 5, False),
        (1e-9, 2e-9, False),
        (0.02, 3, True),
        (1e-8, 1e9, True),
    ],
)
def test_ticks_are_few_and_within(low: float, high: float, logarithmic: bool) -> None:
    ticks = Scale(low, high, 0, 100, logarithmic).ticks(5)
    assert 1 <= len(ticks) <= 11
    slack = 1e-9 * max(abs(low), abs(high))
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_markup_escapes_what_is_not_markup() -> None:
    assert text("<b>") == "&lt;b&gt;"
    assert element("p", "a < b", title='"q"') == '<p title="&quot;q&quot;">a &lt; b</p>'
    assert element("p", Markup("<b>x</b>"), class_="y") == '<p class="y"><b>x</b></p>'


def test_png_holds_the_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    content = png(image)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    size = struct.unpack(">II", content[16:24])
    assert size == (2, 2)
    start = content.index(b"IDAT") + 4
    raw = zlib.decompress(content[start : content.index(b"IEND") - 8])
    assert raw == b"\0" + image[0].tobytes() + b"\0" + image[1].tobytes()
