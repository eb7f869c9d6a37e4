"""The table of DNNC_* variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnnc import environment
from dnnc.diagnostics import DnnError


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in environment.VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/tmp/caches")
    assert environment.debug() == 0
    assert environment.verify() is False
    assert environment.threads() >= 1
    assert environment.cache() == Path("/var/tmp/caches/dnnc")


def test_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNC_DEBUG", "3")
    monkeypatch.setenv("DNNC_VERIFY", "1")
    monkeypatch.setenv("DNNC_THREADS", "7")
    monkeypatch.setenv("DNNC_CACHE", "off")
    assert environment.debug() == 3
    assert environment.verify() is True
    assert environment.threads() == 7
    assert environment.cache() is None


def test_an_unknown_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNC_VERFY", "1")
    with pytest.raises(DnnError) as caught:
        environment.debug()
    assert "E702" in str(caught.value)
    assert "did you mean `DNNC_VERIFY`?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DNNC_DEBUG", "6"),
        ("DNNC_DEBUG", "much"),
        ("DNNC_VERIFY", "yes"),
        ("DNNC_THREADS", "0"),
        ("DNNC_THREADS", "-2"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error(name: str, value: str) -> None:
    with pytest.raises(DnnError) as caught:
        environment.check({name: value, "HOME": "/root"})
    assert "E703" in str(caught.value)
    assert f"`{name}` is `{value}`" in str(caught.value)


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(DnnError) as caught:
        environment.check({"DNNC_DEBUG": "x", "DNNC_NOTHING": "1"})
    assert [d.code for d in caught.value.diagnostics] == ["E703", "E702"]
