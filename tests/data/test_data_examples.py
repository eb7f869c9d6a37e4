"""The data that the examples come with."""

from pathlib import Path

import numpy as np

from dnnc.data import describe, load
from dnnc.diagnostics import Source
from dnnc.syntax.parse import parse

EXAMPLES = Path(__file__).parents[2] / "examples"


def block(entries):
    return parse(Source("test.dnn", f"data D {{ {entries} }}")).items[0]


def test_digits():
    scans = block("""
        source = csv("data/digits.csv.gz")
        image  = source.columns("pixel_*") / 16
        label  = source.digit
        split  = [0.8, 0.1, 0.1]""")
    fields = describe(scans, constants={}, folder=EXAMPLES)
    dataset = load(scans, constants={}, folder=EXAMPLES)
    assert fields == dataset.fields
    assert [(f.name, f.dtype, f.shape) for f in fields.values()] == [
        ("image", "f32", (64,)),
        ("label", "i64", ()),
    ]
    assert [split.size for split in dataset.splits.values()] == [1438, 179, 180]
    batch = dataset.splits["train"].take(np.arange(1438))
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)
    assert set(batch["label"].tolist()) == set(range(10))


def test_verses():
    verses = block("""
        source = text("data/verses.txt.gz", tokens = characters, context = 64)
        tokens = source.input
        target = source.target
        split  = [0.9, 0.1]""")
    dataset = load(verses, constants={}, folder=EXAMPLES)
    fields = describe(verses, constants={}, folder=EXAMPLES)
    assert fields == dataset.fields
    batch = dataset.splits["train"].take(np.array([0]))
    text = "".join(fields["tokens"].classes[i] for i in batch["tokens"][0])
    assert text.startswith("In the beginning God created the heaven")
    np.testing.assert_array_equal(batch["tokens"][0, 1:], batch["target"][0, :-1])
