"""Error codes: each is shown by a golden case or asserted by a test, and none is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnnc import environment
from dnnc.cli import command
from dnnc.cli._codes import every_code
from dnnc.diagnostics import DnnError
from dnnc.elaborate.codes import CODES
from tests.golden_errors import ERRORS

ROOT = Path(__file__).resolve().parents[2]


def written_in(folder: Path) -> set[str]:
    """Codes that Python files of a folder mention."""
    texts = (path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    return {code for text in texts for code in re.findall(r"\bE\d{3}\b", text)}


def shown() -> set[str]:
    """Codes in the golden renderings."""
    texts = (path.read_text(encoding="utf-8") for path in ERRORS.glob("*.txt"))
    return {code for text in texts for code in re.findall(r"error\[(E\d{3})\]", text)}


@pytest.mark.parametrize("code", sorted(every_code()))
def test_every_code_is_tested(code: str) -> None:
    assert code in shown() or code in written_in(ROOT / "tests")


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_of_elaboration_has_a_golden_case(code: str) -> None:
    if code in ("E412", "E413"):  # only Python can cause them; tests/model
        return
    assert list(ERRORS.glob(f"{code}_*.dnn")), f"tests/golden/errors/{code}_….dnn is missing"


def test_no_code_is_declared_in_vain() -> None:
    sources = [p for p in (ROOT / "dnnc").rglob("*.py") if p.name != "codes.py"]
    raised = {
        code for p in sources for code in re.findall(r"\bE\d{3}\b", p.read_text(encoding="utf-8"))
    }
    assert set(CODES) <= raised


def test_a_value_of_the_environment_that_does_not_fit() -> None:
    with pytest.raises(DnnError) as caught:
        environment.check({"DNNC_THREADS": "many", "DNNC_THREAD": "2"})
    assert {d.code for d in caught.value.diagnostics} == {"E702", "E703"}


def test_no_weights_to_predict_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.dnn").write_text(
        "model M {\n in x: [batch, 2]\n out y: [batch, 2]\n y = x -> dense(2)\n}\n",
        encoding="utf-8",
    )
    Path("x.csv").write_text("1,2\n", encoding="utf-8")
    result = CliRunner().invoke(command, ["predict", "m.dnn", "M", "--input", "x.csv"])
    assert result.exit_code == 1
    assert "E907" in result.output
