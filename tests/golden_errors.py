"""Golden tests of diagnostics: `golden/errors/E123_what.dnn` with its expected rendering in `.txt`.

A layer adds a case by dropping a `.dnn` file there and running pytest with `--update-golden`; the
`.txt` is then read, judged and committed. `produce` runs the compiler over a case and must raise
DnnError. The code in the file's name must be among those reported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest

from dnnc.diagnostics import DnnError

__all__ = ["ERRORS", "check_case", "error_cases"]

ERRORS = Path(__file__).parent / "golden" / "errors"


def error_cases(prefix: str) -> list[Path]:
    """The cases whose code begins with `prefix`, such as `E0`."""
    return sorted(ERRORS.glob(f"{prefix}*.dnn"))


def check_case(case: Path, produce: Callable[[Path], object], update: bool) -> None:
    """Compare the diagnostics of a case with its `.txt`, or write that with `update`."""
    with pytest.raises(DnnError) as caught:
        produce(case)
    code = case.name.split("_")[0]
    assert code in {diagnostic.code for diagnostic in caught.value.diagnostics}, str(caught.value)
    rendered = f"{caught.value}\n"
    expected = case.with_suffix(".txt")
    if update:
        expected.write_text(rendered, encoding="utf-8")
        return
    assert expected.exists(), f"{expected.name} is missing; run pytest with --update-golden"
    difference = difflib.unified_diff(
        expected.read_text(encoding="utf-8").splitlines(),
        rendered.splitlines(),
        "expected",
        "rendered",
        lineterm="",
    )
    assert not (lines := list(difference)), "\n".join(lines)
