"""Files as a whole: checked, run, shown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dnnc
from tests.model.faces import MLP, diagnostics, one

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

JOB = """
data Rows {
    x     = array("x")
    label = array("label")
    split = [0.6, 0.2, 0.2]
}
train Mlp on Rows {
    loss    = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    epochs  = 2
}
"""
ARRAYS = {"x": np.random.default_rng(5).standard_normal((40, 4)), "label": np.arange(40) % 3}


def test_a_text_and_its_arrays(tmp_path: Path) -> None:
    program = dnnc.parse(MLP + JOB, arrays=ARRAYS)
    assert program.text == MLP + JOB
    assert list(program.models) == ["Mlp"]
    assert list(program.datasets) == ["Rows"]
    assert [(job.kind, job.name) for job in program.jobs] == [("train", "Mlp on Rows")]
    assert program.dataset("Rows").splits["train"].size == 24
    assert program.dataset("Rows") is program.dataset("Rows")
    (result,) = program.run(tmp_path / "run")
    assert result.epochs == 2
    assert result.test is not None
    assert set(result.test) == {"loss", "accuracy"}
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.slow
def test_the_example_of_digits(tmp_path: Path) -> None:
    text = (EXAMPLES / "digits.dnn").read_text()
    text = re.sub(r"epochs\s*= 20", "epochs = 1", text)
    program = dnnc.parse(text, name=str(EXAMPLES / "digits.dnn"))
    assert program.stem == "digits"
    (result,) = program.run(tmp_path)
    assert result.test is not None
    assert result.test["accuracy"] > 0.7
    net = program.model("Digits")
    net.load(tmp_path / "best.safetensors")
    split = program.dataset("Scans").splits["test"]
    rows = split.take(np.arange(split.size))
    right = net(image=rows["image"].reshape(-1, 1, 8, 8)).argmax(1) == rows["label"]
    assert right.mean() == pytest.approx(result.test["accuracy"], abs=1e-6)


def test_a_job_of_its_own_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = dnnc.parse(MLP + JOB, arrays=ARRAYS).jobs[0].run()
    assert result.folder is None
    assert not list(tmp_path.iterdir())


def test_each_job_has_a_folder(tmp_path: Path) -> None:
    again = JOB[JOB.index("train") :]
    results = dnnc.parse(MLP + JOB + again, arrays=ARRAYS).run(tmp_path)
    assert [r.folder.name for r in results if r.folder] == ["train-Mlp", "train-Mlp-2"]


def test_runs_go_into_a_folder_named_like_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.dnn").write_text(MLP + JOB)
    dnnc.load("mine.dnn", arrays=ARRAYS).run()
    assert (tmp_path / "runs" / "mine" / "best.safetensors").exists()


def test_imports_are_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "blocks.dnn").write_text("fn twice(x) = 2 * x\n")
    text = 'import "blocks.dnn" as b\nmodel M { in x: [batch]\n out y: [batch]\n y = b.twice(x) }\n'
    program = dnnc.parse(text, name=str(tmp_path / "main.dnn"))
    assert program.text.startswith(text)
    assert "fn twice" in program.text
    np.testing.assert_array_equal(program.model("M")(x=[1.0, 2.0]), [2, 4])


FAULTS = """
model First  { in x: [batch, 4]
 out y: [batch, 5]
 y = x }
model Second { in x: [batch, 4]
 out y: [batch, 4]
 y = x -> dense(0) }
data Numbers { x = array("numbers") }
data Rows { x = array("x")
 label = array("label") }
train First on Rows { loss = mean(y)
 epochs = 0 }
train Second on Numbers { loss = mean(y) }
train Third on Nowhere { epochs = 1 }
search Best = Second on Rows { trials = 3 }
"""


def test_a_check_reports_every_independent_error() -> None:
    found = diagnostics(lambda: dnnc.parse(FAULTS, arrays=ARRAYS))
    codes = [d.code for d in found]
    assert {"E401", "E402", "E404", "E405", "E408", "E520"} <= set(codes)
    texts = [d.render() for d in found]
    # Both models are judged although their jobs cannot be planned.
    assert any("model `First`" in text or "`y`" in text for text in texts)
    assert any("dense" in text for text in texts)
    assert len(texts) == len(set(texts))


def test_data_named_like_what_training_counts() -> None:
    job = JOB.replace("label = array", "step  = array").replace(", label)", ", step)")
    code, text = one(lambda: dnnc.parse(MLP + job, arrays=ARRAYS | {"label": ARRAYS["label"]}))
    assert code == "E305"
    assert "`step` is both data and a number" in text


def test_unknown_data() -> None:
    program = dnnc.parse(MLP + JOB, arrays=ARRAYS)
    code, text = one(lambda: program.dataset("Row"))
    assert code == "E402"
    assert "did you mean `Rows`?" in text


def test_a_model_that_needs_a_setting_is_checked_when_it_is_made() -> None:
    program = dnnc.parse("model M(n) { in x: [batch, 2]\n out y: [batch, n]\n y = x -> dense(n) }")
    assert one(lambda: program.model("M"))[0] == "E104"
    assert program.model("M", n=3)(x=[[1, 2]]).shape == (1, 3)


def test_the_program_as_text() -> None:
    program = dnnc.parse(MLP + JOB, arrays=ARRAYS)
    net = program.model("Mlp", hidden=5)
    assert "x: data f32[batch, 4]" in net.ir()
    assert "matmul" in net.ir()
    assert "fused" in net.ir(after="fuse")
    backward = net.ir(backward=True)
    assert "head.weight: parameter f32[5, 3]" in backward
    assert "optimizer.m/head.weight" in backward
    assert net.ir(after="fuse", backward=True) != backward


def test_a_pass_that_is_not_there() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    code, text = one(lambda: net.ir(after="fold_nrom"))
    assert code == "E701"
    assert "did you mean `fold_norm`?" in text


def test_no_training_step_without_a_job() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    code, text = one(lambda: net.ir(backward=True))
    assert code == "E404"
    assert "no job of the file trains `Mlp`" in text


def test_the_face_of_the_package() -> None:
    for name in ("load", "parse", "Program", "Model", "Trainer", "Job", "compile_graph"):
        assert getattr(dnnc, name) is getattr(dnnc.model, name)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(dnnc, "nothing")  # noqa: B009
