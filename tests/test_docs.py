"""Documentation is executed: every snippet of README.md and docs/ that is code.

A fence names its language, then options that readers do not see:

    dnn       checked; `file=NAME` keeps it under that name for later snippets, `error=CODE` says
              that checking it gives exactly this error
    python    executed; the snippets of a page share one namespace
    console   commands after `$ `; output that is shown must be printed, where `...` stands for
              anything; `exit=N` expects another exit code than 0
    slow      with any of them: executed by the slow tests only
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dnnc.diagnostics import DnnError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"dnn", "python", "console"}


@dataclass(frozen=True)
class Snippet:
    """One fence of a page."""

    place: str
    language: str
    options: dict[str, str]
    text: str


def snippets(page: Path) -> Iterator[Snippet]:
    """The executable fences of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        language, options, body = match.groups()
        if language in LANGUAGES:
            line = text.count("\n", 0, match.start()) + 1
            pairs = (word.partition("=") for word in options.split())
            found = {key: value for key, _, value in pairs}
            yield Snippet(f"{page.relative_to(ROOT)}:{line}", language, found, body)


def execute(page: Path, folder: Path, *, slow: bool) -> None:
    """Execute the snippets of a page in `folder`; all share its files and one Python namespace."""
    (folder / "data").symlink_to(ROOT / "examples" / "data")
    names: dict[str, Any] = {}
    for snippet in snippets(page):
        if "slow" in snippet.options and not slow:
            continue
        try:
            if snippet.language == "dnn":
                check(snippet, folder)
            elif snippet.language == "python":
                exec(compile(snippet.text, snippet.place, "exec"), names)
            else:
                console(snippet, folder)
        except Exception as error:
            raise AssertionError(f"{snippet.place}: {type(error).__name__}: {error}") from error


def check(snippet: Snippet, folder: Path) -> None:
    """A dnn snippet must be free of errors, or have the one that it announces."""
    import dnnc

    path = folder / snippet.options.get("file", "snippet.dnn")
    path.write_text(snippet.text, encoding="utf-8")
    expected = [snippet.options["error"]] if "error" in snippet.options else []
    found: list[str] = []
    message = "no error"
    try:
        dnnc.load(path)
    except DnnError as error:
        found = [diagnostic.code for diagnostic in error.diagnostics]
        message = str(error)
    assert found == expected, message


def console(snippet: Snippet, folder: Path) -> None:
    """Commands must end with the expected code and print what the page shows."""
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        result = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=os.environ | {"PATH": f"{folder}/.bin:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = result.stdout + result.stderr
        expected = int(snippet.options.get("exit", "0"))
        assert result.returncode == expected, f"$ {command}\n{printed}"
        if shown.strip():
            pattern = re.escape(shown.strip()).replace(re.escape("..."), "(?s:.*?)")
            assert re.search(pattern, printed), f"$ {command}\n{printed}\nshown:\n{shown}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the command `dnnc` is this one."""
    command = tmp_path / ".bin" / "dnnc"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dnnc "$@"\n')
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets(page: Path, folder: Path) -> None:
    execute(page, folder, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any("slow" in snippet.options for snippet in snippets(page))],
    ids=lambda page: page.name,
)
def test_slow_snippets(page: Path, folder: Path) -> None:
    execute(page, folder, slow=True)


GENERATED: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_pages_are_current(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        current = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert current == GENERATED[name](), "run `make docs`"
        return
    pytest.fail(f"docs/{name} is missing: run `make docs`")


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
