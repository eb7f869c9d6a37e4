"""Writes the pages that are made from the code: docs/errors.md and docs/environment.md."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from dnnc.cli._codes import every_code
from dnnc.environment import VARIABLES

FOLDER = Path(__file__).resolve().parent
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
        "`dnnc explain CODE` prints the line of one code, `dnnc explain` all of them.",
    ]
    for family, codes in groupby(every_code().items(), key=lambda item: item[0][:2]):
        lines += ["", f"## {FAMILIES[family]}", "", "| code | meaning |", "|---|---|"]
        lines += [f"| {code} | {_cell(meaning)} |" for code, meaning in codes]
    return "\n".join(lines) + "\n"


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


#: Every page by file name.
PAGES = {"errors.md": errors_page, "environment.md": environment_page}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
