"""The file of measured choices: private, whole, and never in the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dnnc.tuning import processor as processors
from dnnc.tuning import tables

BROKEN = ["", "{", "[]", '{"toy": 1}', '{"toy": {"a": {"one": 1}}}', '{"toy": {"a": {"1": "x"}}}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_empty_and_is_made_again(text: str) -> None:
    path = tables.store({"toy": {"a": {1: 1}}})
    assert path is not None
    path.write_text(text, encoding="utf-8")
    tables._table_of.cache_clear()
    assert tables.measured() == {}
    tables.store({"toy": {"b": {2: 2}}})
    assert tables.measured() == {"toy": {"b": {2: 2}}}


def test_choices_are_added() -> None:
    tables.store({"toy": {"a": {1: 1}}})
    tables.store({"toy": {"a": {2: 2}, "b": {1: 0}}})
    tables.store({"toy": {"a": {1: 0}}})
    assert tables.measured() == {"toy": {"a": {1: 0, 2: 2}, "b": {1: 0}}}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_the_folder_is_private(folder: Path) -> None:
    path = tables.store({"toy": {"a": {1: 1}}})
    assert path is not None
    assert path.parent == folder / "tuning"
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


def test_another_processor_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tables.store({"toy": {"a": {1: 1}}})
    monkeypatch.setenv("DNNC_VECTOR_BITS", "128")
    assert tables.measured() == {}
    assert "avx" not in processors.processor().kind


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_processes_that_write_at_once_keep_what_others_write() -> None:
    script = (
        "import sys\n"
        "from dnnc.tuning.tables import store\n"
        "for i in range(10):\n"
        "    store({'toy': {sys.argv[1]: {i + 1: 1}}})\n"
    )
    names = ["a", "b", "c"]
    writers = [subprocess.Popen([sys.executable, "-c", script, name]) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    expected = {name: dict.fromkeys(range(1, 11), 1) for name in names}
    assert tables.measured() == {"toy": expected}


def test_defaults_are_added_for_one_kind_of_processor(folder: Path) -> None:
    path = folder / "defaults.json"
    path.write_text('{"other": {"toy": {"a": {"1": 2}}}}', encoding="utf-8")
    tables.write_shipped(path, {"toy": {"b": {1: 1}}})
    tables.write_shipped(path, {"toy": {"a": {1: 0}}})
    kind = processors.processor().kind
    assert tables.read_shipped(path) == {
        "other": {"toy": {"a": {1: 2}}},
        kind: {"toy": {"a": {1: 0}, "b": {1: 1}}},
    }
