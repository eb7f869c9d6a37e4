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
    [case for case in error_cases("E") if not case.name.startswith(("E0", "E704"))],
    ids=lambda case: case.stem,
)
def test_golden(case: Path, update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Diagnostics then name the file alone, wherever the checkout lies.
    monkeypatch.chdir(ERRORS)
    check_case(case, _load, update_golden)


def test_golden_of_a_budget(update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ERRORS)
    # Threads have memory of their own, which the figures of the message count.
    monkeypatch.setenv("DNNC_THREADS", "1")
    check_case(ERRORS / "E704_memory.dnn", _train, update_golden)


def _load(case: Path) -> None:
    dnnc.load(case.name)


def _train(case: Path) -> None:
    for job in dnnc.load(case.name).jobs:
        job.run(memory="10KB")


def test_no_expectation_without_a_case() -> None:
    assert not [path for path in ERRORS.glob("*.txt") if not path.with_suffix(".dnn").exists()]
