"""The parser's tables: shipped as Lark makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dnnc.syntax import tables


def test_shipped_tables_are_those_of_the_grammar() -> None:
    grammar = tables.grammar_path().read_bytes()
    made = {"grammar": tables._digest(grammar), **tables.compile_grammar(grammar.decode())}
    shipped = json.loads(tables._SHIPPED.read_bytes())
    assert shipped == json.loads(json.dumps(made)), "run `make grammar`"


def test_the_shipped_file_is_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tables._SHIPPED.read_text("utf-8")
    monkeypatch.setattr(tables, "_SHIPPED", tmp_path / "tables.json")
    tables.main()
    assert (tmp_path / "tables.json").read_text("utf-8") == shipped


def test_a_changed_grammar_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tables.grammar_path().read_text("utf-8")
    changed = tmp_path / "dnnc.lark"
    changed.write_text(text.replace('"maximize"', '"maximise"'), "utf-8")
    monkeypatch.setattr(tables, "grammar_path", lambda: changed)
    assert "maximise" in tables.load_tables.__wrapped__().literals
    assert "maximise" not in tables.load_tables().literals


def test_parsing_imports_no_lark() -> None:
    code = (
        "import sys; from dnnc.diagnostics import Source; from dnnc.syntax.parse import parse; "
        "parse(Source('x', 'const a = 1')); assert 'lark' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
