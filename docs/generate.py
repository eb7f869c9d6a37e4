"""Writes the pages that are made from the code: error codes, environment variables, the library."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from dnnc.cli._codes import every_code
from dnnc.diagnostics import Source
from dnnc.elaborate.builtin import Builtin
from dnnc.elaborate.builtins import builtin_environment
from dnnc.environment import VARIABLES
from dnnc.std import library_sources
from dnnc.syntax import tree
from dnnc.syntax.parse import parse

FOLDER = Path(__file__).resolve().parent
EXAMPLES = FOLDER.parent / "tests" / "golden" / "errors"
MADE = "<!-- Made by `make docs` from the code; edits here are lost. -->"

#: What the codes of each hundred are about.
FAMILIES = {
    "E0": "Syntax",
    "E1": "Names, arguments and values",
    "E2": "Shapes and sizes",
    "E3": "Blocks, functions and control",
    "E4": "Models, jobs, and their use from Python",
    "E5": "Data",
    "E6": "Training and run folders",
    "E7": "The compiler and its environment",
    "E9": "The command",
}


def errors_page() -> str:
    """The page of error codes."""
    lines = [
        "# Error codes",
        "",
        MADE,
        "",
        "`dnnc explain CODE` prints the meaning of one code, `dnnc explain` all of them. The",
        "examples are those that the tests hold the compiler to.",
    ]
    for family, codes in groupby(every_code().items(), key=lambda item: item[0][:2]):
        lines += ["", f"## {FAMILIES[family]}"]
        for code, meaning in codes:
            lines += ["", f"### {code}: {meaning}"]
            if example := _example(code):
                lines += ["", "```text", example, "```"]
    return "\n".join(lines) + "\n"


def _example(code: str) -> str | None:
    """The first error of that code in the golden cases, as the command prints it."""
    for case in sorted(EXAMPLES.glob(f"{code}_*.txt")):
        for error in case.read_text(encoding="utf-8").strip().split("\n\n"):
            if error.startswith(f"error[{code}]"):
                return error
    return None


def environment_page() -> str:
    """The page of environment variables."""
    lines = [
        "# Environment variables",
        "",
        MADE,
        "",
        "A variable that starts with `DNNC_` and is not in this table is an error, and so is a",
        "value that does not fit. `NO_COLOR` turns colours off, as everywhere.",
        "",
        "| variable | value | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{v.name}` | {_cell(v.kind)} | {f'`{v.default}`' if v.default else 'empty'} "
        f"| {_cell(v.meaning)} |"
        for v in VARIABLES
    ]
    return "\n".join(lines) + "\n"


def library_page() -> str:
    """The page of the standard library: what every file may call."""
    lines = [
        "# The library",
        "",
        MADE,
        "",
        "All of this is written in the language, in `dnnc/std/`, but for the primitive functions",
        "at the end. A setting with a default may be left out. A definition of your own file comes",
        "before one of the library that has the same name.",
    ]
    for source in library_sources():
        items = [item for item in parse(source).items if isinstance(item, Defined)]
        lines += ["", f"## {_title(source)}", "", "| | |", "|---|---|"]
        lines += [f"| `{_cell(_signature(item))}` | {_cell(_meaning(item))} |" for item in items]
    builtins = builtin_environment().names
    functions = [
        f"`{name}({', '.join(binding.value.parameters)})`"
        for name, binding in sorted(builtins.items())
        if isinstance(binding.value, Builtin)
    ]
    others = [
        f"`{name}`" for name, b in sorted(builtins.items()) if not isinstance(b.value, Builtin)
    ]
    lines += ["", "## Primitive functions", "", ", ".join(functions) + ".", ""]
    lines += [f"Names of types and constants: {', '.join(others)}."]
    return "\n".join(lines) + "\n"


#: What a file of the library defines.
Defined = tree.Function | tree.Block


def _title(source: Source) -> str:
    return Path(source.name).stem.capitalize()


def _signature(item: Defined) -> str:
    """The definition's head, on one line."""
    kind = "fn" if isinstance(item, tree.Function) else item.kind
    settings = ", ".join(" ".join(setting.span.text.split()) for setting in item.settings)
    return f"{kind} {item.name}({settings})" if settings else f"{kind} {item.name}"


def _meaning(item: Defined) -> str:
    """The comment right above a definition; without one, the formula of a short function."""
    lines = item.span.source.text[: item.span.start].splitlines()
    comment: list[str] = []
    for line in reversed(lines):
        if not line.startswith("#") or line.startswith("# ---"):
            break
        comment.insert(0, line.lstrip("# "))
    if not comment and isinstance(item, tree.Function) and item.short:
        (body,) = item.body
        assert isinstance(body, tree.Return)
        return f"`{' '.join(body.value.span.text.split())}`"
    return " ".join(comment)


#: Every page by file name.
PAGES = {"errors.md": errors_page, "environment.md": environment_page, "library.md": library_page}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
