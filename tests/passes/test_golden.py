"""Cases of passes as text: tests/golden/*.test.

A case is `[case name]`, `[in]` with a graph, and `[out pass]` with what the pass makes of it, or
`[unchanged pass]` where no rule may fire. `--update-golden` rewrites the results; a rule that
never fires cannot be blessed, since `[out pass]` must differ from `[in]`. `recompute` is followed
by its budget for a batch of 4096, such as 12MB. The processor has a matrix unit in cases that name
it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from dnnc.ir.graph import Graph
from dnnc.ir.text import parse_graph, print_graph
from dnnc.ir.verify import verify
from dnnc.model.compiled import bytes_in
from dnnc.passes import pack, recompute
from dnnc.passes.check import compare
from dnnc.passes.layout import convolutions
from dnnc.passes.pipeline import PASSES, optimize
from dnnc.program.footprint import memory_budget

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
_HEADER = re.compile(r"^\[(case|in|out|unchanged)(?: (.*))?\]$")


@dataclass
class Case:
    """One case; `expected` is None where the pass must leave the graph as it is."""

    name: str
    source: str = ""
    step: str = ""
    expected: str | None = ""


def read_cases(path: Path) -> list[Case]:
    cases: list[Case] = []
    kind = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        header = _HEADER.match(line)
        if header is None:
            if cases and kind == "in":
                cases[-1].source += line + "\n"
            elif cases and kind == "out":
                cases[-1].expected = (cases[-1].expected or "") + line + "\n"
            else:
                assert not line.strip() or line.startswith("#"), f"{path}:{number}: {line}"
            continue
        kind = header[1]
        if kind == "case":
            cases.append(Case(header[2]))
        elif kind in ("out", "unchanged"):
            cases[-1].step = header[2]
            cases[-1].expected = "" if kind == "out" else None
    return cases


def write_cases(path: Path, cases: list[Case]) -> None:
    text = path.read_text(encoding="utf-8")
    comment = text[: text.index("[case")]
    blocks = []
    for case in cases:
        lines = [f"[case {case.name}]", "[in]", case.source.strip()]
        if case.expected is None:
            lines.append(f"[unchanged {case.step}]")
        else:
            lines += [f"[out {case.step}]", case.expected.strip()]
        blocks.append("\n".join(lines) + "\n")
    path.write_text(comment + "\n".join(blocks), encoding="utf-8")


def run_step(name: str, graph: Graph) -> Graph:
    if name == "pipeline":
        return optimize(graph)
    if name.startswith("recompute "):
        size = bytes_in(name.removeprefix("recompute "))
        return recompute.run(graph, memory_budget(size, graph, 4096, threads=1))
    return next(step for step in PASSES if step.name == name).run(graph)


FILES = sorted(GOLDEN.glob("*.test"))
CASES = [(path, i, case) for path in FILES for i, case in enumerate(read_cases(path))]


@pytest.mark.parametrize(
    ("path", "number", "case"), CASES, ids=[f"{p.stem}: {c.name}" for p, _, c in CASES]
)
def test_golden(
    path: Path, number: int, case: Case, update_golden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pack, convolutions):
        monkeypatch.setattr(module, "matrix_unit", lambda: "matrix unit" in case.name)
    graph = parse_graph(case.source)
    verify(graph)
    before = print_graph(graph)
    assert print_graph(parse_graph(before)) == before
    result = run_step(case.step, graph)
    verify(result)
    text = print_graph(result)
    assert print_graph(parse_graph(text)) == text
    assert print_graph(run_step(case.step, result)) == text, "the pass is not idempotent"
    difference = compare(graph, result)
    assert difference is None, difference
    if case.expected is None:
        assert text == before
        return
    assert text != before, "the pass has changed nothing; write [unchanged ...] if that is meant"
    if update_golden:
        cases = read_cases(path)
        cases[number].expected = text
        write_cases(path, cases)
    else:
        assert text == case.expected.strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_names_of_cases_are_unique(path: Path) -> None:
    names = [case.name for case in read_cases(path)]
    assert len(names) == len(set(names))
