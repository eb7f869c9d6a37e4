"""Golden tests of every diagnostic behind the syntax, through the face that users see.

Cases of syntax (`E0...`) run in `tests/syntax`, without the layers behind it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import dnnc
from tests.golden_errors import ERRORS, check_case, error_cases


@pytest.mark.parametrize(
    "case",
    [case for case in error_cases("E") if not case.name.startswith("E0")],
    ids=lambda case: case.stem,
)
def test_golden(case: Path, update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Diagnostics then name the file alone, wherever the checkout lies.
    monkeypatch.chdir(ERRORS)
    check_case(case, lambda path: dnnc.load(path.name), update_golden)


def test_no_expectation_without_a_case() -> None:
    assert not [path for path in ERRORS.glob("*.txt") if not path.with_suffix(".dnn").exists()]
