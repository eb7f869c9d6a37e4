"""The language page holds: its snippets parse, check, and mean the same after all passes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

import dnnc
from dnnc.diagnostics import DnnError, Source
from dnnc.elaborate.network import build_network, walk_model
from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.ir.verify import verify
from dnnc.passes.pipeline import optimize
from dnnc.syntax import tree
from dnnc.syntax.parse import parse
from tests.test_docs import ROOT, snippets

EXAMPLES = ROOT / "examples"
#: Sizes of the inputs of the snippets that their texts leave open.
SIZES = {"h": 12, "w": 10, "seq": 7, "src": 6, "tgt": 5, "batch": 3}
#: Smaller networks of the same kind, so that the interpreter is quick.
SETTINGS = {"depth": 1, "vocab": 30, "dim": 8, "heads": 2, "context": 16}
#: Jobs that this version does not do, told by E408 when a file is checked.
UNSUPPORTED = {"compress", "distill", "search"}
#: Where a package puts data that examples read; a folder with a few pictures takes its place.
PACKAGED, PICTURES = "/usr/share/datasets/fashion-mnist/", "pictures/"


def texts() -> dict[str, str]:
    """Every text in the language: examples, pages, and the language's own description."""
    found = {
        f"examples/{path.name}": path.read_text("utf-8").replace(PACKAGED, PICTURES)
        for path in sorted(EXAMPLES.glob("*.dnn"))
    }
    for path in sorted((ROOT / "tests/syntax/snippets").glob("*.dnn")):
        if path.name != "everything.dnn":  # every form, without meaning
            found[path.name] = path.read_text("utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for snippet in snippets(page):
            if snippet.language == "dnn" and "error" not in snippet.options:
                found[snippet.place] = snippet.text
    return found


TEXTS = texts()


@pytest.fixture(autouse=True)
def beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the data and the files that texts import."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(EXAMPLES / "data")
    write_pictures(tmp_path / PICTURES)
    for snippet in snippets(ROOT / "docs" / "language.md"):
        if "file" in snippet.options:
            (tmp_path / snippet.options["file"]).write_text(snippet.text, encoding="utf-8")


def write_pictures(folder: Path) -> None:
    """Forty pictures of ten kinds for each split, as the files of MNIST hold them."""
    folder.mkdir()
    random = np.random.default_rng(1)
    for split in ("train", "t10k"):
        images, labels = random.integers(0, 256, (40, 28, 28)), np.arange(40) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([0x800 + values.ndim, *values.shape], ">i4").tobytes()
            file = folder / f"{split}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def unsupported(text: str) -> bool:
    jobs = [item for item in parse(Source("x.dnn", text)).items if isinstance(item, tree.Job)]
    return any(job.kind in UNSUPPORTED for job in jobs)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_parses(text: str) -> None:
    assert parse(Source("x.dnn", text)).items


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_checks(text: str) -> None:
    if unsupported(text):
        with pytest.raises(DnnError) as caught:
            dnnc.parse(text, name="x.dnn")
        assert {d.code for d in caught.value.diagnostics} == {"E408"}
    else:
        dnnc.parse(text, name="x.dnn")


SUPPORTED = {name: text for name, text in TEXTS.items() if not unsupported(text)}
WITH_MODELS = {n: t for n, t in SUPPORTED.items() if "model " in t}


def networks(text: str) -> list[tuple[Graph, Graph]]:
    """First values and prediction of every model, small."""
    program = dnnc.parse(text, name="x.dnn")
    graphs = []
    for block in program.models.values():
        names = {setting.name for setting in block.definition.settings}
        small = {n: v for n, v in SETTINGS.items() if n in names}
        network = build_network(walk_model(block, small, training=False, sizes=fixed(text)))
        graphs.append((network.initial, network.predict))
    return graphs


def fixed(text: str) -> dict[str, int]:
    """Sizes of images must be known where a dense layer follows their pixels."""
    return {n: v for n, v in SIZES.items() if n in ("h", "w") and "flatten" in text}


def inputs(graph: Graph) -> dict[str, np.ndarray]:
    """Random data for a graph."""
    draw = np.random.default_rng(5)
    values = {}
    for item in graph.inputs:
        shape = item.value.type.concrete(SIZES)
        if item.role == "scalar":
            values[item.name] = np.array(3, np.int64)
        elif item.role == "state":
            values[item.name] = np.ones(shape, item.value.type.dtype.numpy)
        elif item.value.type.dtype.is_float:
            values[item.name] = draw.normal(size=shape).astype(item.value.type.dtype.numpy)
        else:
            values[item.name] = draw.integers(0, 3, shape).astype(item.value.type.dtype.numpy)
    return values


@pytest.mark.parametrize("text", WITH_MODELS.values(), ids=WITH_MODELS)
def test_its_networks_mean_the_same_after_all_passes(text: str) -> None:
    for initial, predict in networks(text):
        verify(initial)
        verify(predict)
        weights = interpret(initial, {"seed": np.array(1, np.int64)})
        data = inputs(predict) | weights
        expected = interpret(predict, data)
        optimized = optimize(predict)
        verify(optimized)
        found = interpret(optimized, data)
        for name, value in expected.items():
            assert np.allclose(found[name], value, rtol=1e-3, atol=1e-4), name


TRAINED = {n: t for n, t in SUPPORTED.items() if "\ntrain " in t and "seq" not in t}


@pytest.mark.parametrize("text", TRAINED.values(), ids=TRAINED)
def test_its_training_steps_verify(text: str) -> None:
    for job in dnnc.parse(text, name="x.dnn").jobs:
        plan = job.plan()
        evaluation = plan.evaluation
        for graph in (plan.step, plan.initial_optimizer, evaluation.sums, evaluation.finish):
            verify(graph)
            verify(optimize(graph))


@pytest.mark.slow
@pytest.mark.parametrize("text", WITH_MODELS.values(), ids=WITH_MODELS)
def test_its_networks_run_compiled(text: str) -> None:
    from dnnc.model.compiled import compile_graph

    for initial, predict in networks(text):
        weights = interpret(initial, {"seed": np.array(1, np.int64)})
        data = inputs(predict) | weights
        expected = interpret(predict, data)
        found = compile_graph(predict)(data)
        for name, value in expected.items():
            assert np.allclose(found[name], value, rtol=1e-3, atol=1e-4), name


def test_there_is_something_to_test() -> None:
    assert len(TEXTS) > 25
    assert len(WITH_MODELS) > 12
    assert len(TRAINED) > 5
