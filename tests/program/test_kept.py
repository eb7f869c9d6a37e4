"""Programs that are kept on disk: found again only where nothing has changed, and then the same."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dnnc import ops
from dnnc.cache import cache_directory
from dnnc.diagnostics import Source, Span
from dnnc.ir import dims
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Origin, Output, Value, origin
from dnnc.ir.text import print_graph
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.load import load_lowerings
from dnnc.passes.pipeline import optimize
from dnnc.program import kept
from dnnc.program.executable import Executable
from dnnc.program.plan import make_plan
from dnnc.tuning import tables
from dnnc.tuning.decisions import asked, batch

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 16, 8, 8)).astype("f4")
FILTERS = np.random.default_rng(1).uniform(-1, 1, (16, 16, 3, 3)).astype("f4")

ARRAYS = {"x": IMAGES, "w": FILTERS}


class Remembered(dict[str, bytes]):
    """A shelf in memory."""

    def read(self, key: str) -> bytes | None:
        return self.get(key)

    def write(self, key: str, data: bytes) -> None:
        self[key] = data


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Remembered:
    found = Remembered()
    monkeypatch.setattr(kept, "_SHELF", found)
    # Other tests keep nothing.
    monkeypatch.setattr(kept, "cache_directory", cache_directory)
    return found


def images(name: str = "f", place: Origin | None = None) -> Graph:
    """A convolution with a rectifier."""
    x = Value(TensorType.make(DType.F32, [dim("n"), 16, 8, 8]))
    w = Value(TensorType.make(DType.F32, FILTERS.shape))
    with origin(place or Origin()):
        y = ops.maximum(ops.conv(x, w, pads=(1, 1, 1, 1)), 0.0)
    inputs = (Input("x", x, "data"), Input("w", w, "parameter"))
    return Graph(name, inputs, (Output("y", y),))


def compiled(graph: Graph, recipe: str = "whole", may_make: bool = True) -> Executable:
    def make() -> tuple[Graph]:
        assert may_make, "the program is kept"
        return (optimize(graph),)

    return kept.executables(graph, make, recipe, threads=2)[0]


def test_a_kept_program_runs_no_pass_and_gives_the_same_bits(shelf: Remembered) -> None:
    made, found = compiled(images()), compiled(images(), may_make=False)
    assert len(shelf) == 1
    assert made(ARRAYS)["y"].tobytes() == found(ARRAYS)["y"].tobytes()
    assert found.describe(ARRAYS) == made.describe(ARRAYS)
    assert [entry.kernels for entry in found.profile(ARRAYS)] == [
        entry.kernels for entry in made.profile(ARRAYS)
    ]


def test_what_decides_is_part_of_the_key(
    shelf: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("a.dnn", "text")
    changes: list[Callable[[], object]] = [
        lambda: compiled(images()),
        lambda: compiled(images("g")),
        lambda: compiled(images(place=Origin(Span(source, 0, 4), "conv_1"))),
        lambda: compiled(images(place=Origin(Span(source, 1, 4), "conv_1"))),
        lambda: compiled(images(), "in 4096 bytes"),
    ]
    for count, change in enumerate(changes, 1):
        change()
        change()
        assert len(shelf) == count
    monkeypatch.setattr(kept, "sources_digest", lambda folder: "another version")
    compiled(images())
    monkeypatch.setattr(kept, "second_cache", lambda: 4096)
    compiled(images())
    assert len(shelf) == 7


def test_the_key_does_not_depend_on_what_else_a_process_has_done(shelf: Remembered) -> None:
    compiled(images())
    for remembered in (dims._integer, dims._sum, dims._product):
        remembered.cache_clear()
    # Other objects are equal now: a symbol's name, for one.
    assert dim("".join("n")) * 2 + 1 == 2 * dim("n") + 1
    compiled(images(), may_make=False)


def test_variants_are_told_apart_by_choices_alone(
    shelf: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNC_TUNE", "on")
    choices: dict[str, dict[str, dict[int, int]]] = {}
    monkeypatch.setattr(tables, "_consulted", lambda settings: (choices,))
    with asked() as questions:
        compiled(images())
    (question,) = questions
    for size in (1, 7, 64):
        with batch(size):
            compiled(images(), may_make=False)
    choices["convolution"] = {question.key: {1: 0, 64: 4}}
    made = []
    for size in (1, 64):
        with batch(size):
            made.append(compiled(images()))
            again = compiled(images(), may_make=False)
        assert again.describe(ARRAYS) == made[-1].describe(ARRAYS)
    assert made[0].describe(ARRAYS) != made[1].describe(ARRAYS)
    assert len(shelf) == 1
    for _ in range(2 * kept._VARIANTS):
        monkeypatch.setattr(kept.Variant, "fits", lambda variant: False)
        compiled(images())
    (entry,) = shelf.values()
    assert len(pickle.loads(zlib.decompress(entry))) == kept._VARIANTS


def test_large_constants_are_not_kept(shelf: Remembered) -> None:
    x = Value(TensorType.make(DType.F32, [dim("n"), 1 << 16]))
    noise = np.zeros(1 << 22)
    y = ops.matmul(x, ops.constant(noise.reshape(1 << 16, 64), DType.F32))
    compiled(Graph("large", (Input("x", x, "data"),), (Output("y", y),)))
    assert not shelf


def test_reading_places_of_a_text_leaves_the_key_alone(shelf: Remembered) -> None:
    source = Source("a.dnn", "one\ntwo")
    place = Origin(Span(source, 4, 7))
    compiled(images(place=place))
    assert source.position(5) == (2, 2)
    compiled(images(place=place), may_make=False)


def test_nothing_is_kept_while_passes_are_watched(
    shelf: Remembered, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled(images())
    monkeypatch.setenv("DNNC_VERIFY", "1")
    with pytest.raises(AssertionError, match="kept"):
        compiled(images(), may_make=False)
    monkeypatch.setenv("DNNC_VERIFY", "0")
    monkeypatch.setenv("DNNC_DEBUG", "1")
    compiled(images())
    assert "simplify" in capsys.readouterr().err
    assert len(shelf) == 1


def test_without_a_cache_every_program_is_made(
    shelf: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNC_CACHE", "off")
    monkeypatch.setattr(kept, "_key", lambda graph, recipe: pytest.fail("nobody asks for it"))
    compiled(images())
    assert not shelf


def test_who_listens_hears_the_questions_of_a_kept_program(shelf: Remembered) -> None:
    heard = []
    for _ in range(2):
        with asked() as questions:
            compiled(images())
        heard.append(list(questions))
    assert len(shelf) == 1
    assert heard[0] == heard[1] != []


def test_the_kernels_of_a_kept_program_can_be_built(shelf: Remembered) -> None:
    load_lowerings()
    graph = images()
    plan = make_plan(optimize(graph))
    (found,) = kept.unpack(kept.pack([plan]), lambda: (optimize(graph),))
    kernels = kept.needed_kernels(found)
    assert [(k.name, k.key, k.unrolled) for k in kernels] == [
        (k.name, k.key, k.unrolled) for k in kept.needed_kernels(plan)
    ]
    assert all(callable(kernel.build()) for kernel in kernels)


def test_a_deep_network_can_be_kept() -> None:
    load_lowerings()
    x = Value(TensorType.make(DType.F32, [dim("n"), 3]))
    y = x
    for _ in range(1000):
        y = ops.tanh(ops.add(y, ops.reduce_sum(ops.exp(y), 1, keep=True)))
    graph = Graph("deep", (Input("x", x, "data"),), (Output("y", y),))
    plan = make_plan(optimize(graph))
    (found,) = kept.unpack(kept.pack([plan]), list)
    assert print_graph(found.graph) == print_graph(plan.graph)


PROGRAM = """
import sys, numpy, dnnc
from dnnc.passes import pipeline
ran = []
run_all = pipeline._run_all
pipeline._run_all = lambda *given: ran.append(1) or run_all(*given)
net = dnnc.parse('''model Net(classes = 3) {
    in  x: [batch, 1, 8, 8]
    out logits: [batch, classes]
    logits = x -> conv(4, 3) -> relu -> max_pool(2) -> flatten -> dense(classes)
}''').model("Net")
x = numpy.linspace(-1, 1, 320, dtype="f4").reshape(5, 1, 8, 8)
trainer = net.trainer("cross_entropy(logits, label)", optimizer="adam(lr = 0.01)")
losses = [trainer.step(x=x, label=numpy.arange(5) % 3) for _ in range(3)]
predicted = net(x=x).tobytes().hex()
print(len(ran), losses, predicted)
"""


@pytest.mark.slow
def test_later_processes_compute_the_same(tmp_path: Path) -> None:
    def run(seed: int) -> tuple[str, str]:
        settings = os.environ | {"DNNC_CACHE": str(tmp_path), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", PROGRAM]
        told = subprocess.run(command, env=settings, text=True, capture_output=True, check=True)
        passes, _, rest = told.stdout.partition(" ")
        return passes, rest

    first, later = run(1), run(2)
    assert (first[0], later[0]) == ("4", "0")
    assert later[1] == first[1]
    for path in (tmp_path / "kernels").iterdir():
        path.unlink()
    # The kernels are built from plans made anew, once for each program.
    again = run(3)
    assert again == ("4", first[1])
    for path in (tmp_path / "programs").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert run(4) == ("4", first[1])
