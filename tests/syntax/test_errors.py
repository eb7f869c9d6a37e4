"""Syntax errors: what is said, where, and how many."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from dnnc.diagnostics import CODES, Diagnostic, DnnError, Source
from dnnc.syntax.parse import (
    MAX_ERRORS,
    MAX_TOKENS,
    parse,
    parse_expression,
    read_source,
)
from tests.golden_errors import check_case, error_cases

SNIPPETS = sorted((Path(__file__).parent / "snippets").glob("*.dnn"))


def codes_of(text: str) -> list[str]:
    with pytest.raises(DnnError) as caught:
        parse(Source("x.dnn", text))
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


@pytest.mark.parametrize("case", error_cases("E0"), ids=lambda case: case.stem)
def test_golden(case: Path, update_golden: bool) -> None:
    text = case.read_bytes().decode()
    check_case(case, lambda path: parse(Source(path.name, text)), update_golden)


def test_every_code_has_a_golden_case() -> None:
    # E010 is about files and E009 about sizes, which are made below.
    wanted = {code for code in CODES if code.startswith("E0")} - {"E009", "E010"}
    assert {case.name.split("_")[0] for case in error_cases("E0")} >= wanted


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("model A {\n x = a +\n y = b *\n}", ["E006", "E006"]),
        ("modle A {\n x = = \n}\nblok b {}\nfn f(x) = x", ["E005", "E002", "E005"]),
        ("model A {\n x = f(1\n y = 2\n z = [3\n}", ["E013", "E013"]),
        ('model A {\n x = "a\n y = 3\n z = 1 = 2\n}', ["E004", "E007"]),
        ("model A {\n x = 3\n\ntrain A on B {\n y = = 3\n}", ["E013", "E002"]),
        (
            "model A {\n if x = 1 {\n  y = 2\n }\n z == 3\n}\n)\nfn f = 3",
            ["E007", "E007", "E013", "E002"],
        ),
        ("model A {\n for w inn x {\n  y = 3 3\n }\n}", ["E005", "E002"]),
        ("train A on B {\n maximise x\n loss = 1 +\n epochs = 3\n}", ["E005", "E006"]),
        ("const a = 1e999\nconst b = 'x'", ["E011", "E008"]),
    ],
)
def test_independent_errors_are_reported_once_each(text: str, codes: list[str]) -> None:
    assert codes_of(text) == codes


def test_errors_come_in_the_order_of_the_text() -> None:
    with pytest.raises(DnnError) as caught:
        parse(Source("x", 'const a = "\\q"\nconst b = \nconst c = 1e999\nmodle D {}'))
    starts = [error.span.start for error in caught.value.diagnostics if error.span]
    assert starts == sorted(starts)
    assert len(starts) == 4


def test_the_number_of_errors_is_limited() -> None:
    assert len(codes_of("fn f = 3\n" * 1000)) == MAX_ERRORS


def test_an_expression_has_one_error() -> None:
    with pytest.raises(DnnError) as caught:
        parse_expression(Source("<loss>", "f(a, b))"))
    assert [error.code for error in caught.value.diagnostics] == ["E013"]
    for text in ("", "a +", "a = b", "x = 3", "f(", "a b"):
        with pytest.raises(DnnError):
            parse_expression(Source("<loss>", text))


N = 10_000
HOSTILE = {
    "parentheses": "const a = " + "(" * N + "1" + ")" * N,
    "open parentheses": "const a = " + "(" * N,
    "open lists": "const a = " + "[" * N,
    "closing": ")" * N,
    "braces": "model A { x = 3 " + "}" * N,
    "calls": "const a = " + "f(" * N + ")" * N,
    "sums": "const a = 1" + " + 1" * N,
    "powers": "const a = 1" + " ** 1" * N,
    "minus": "const a = " + "-" * N + "1",
    "not": "const a = " + "not " * N + "1",
    "stages": "const a = x" + " -> f" * N,
    "if": "model A {" + "if a {" * 5000 + "}" * 5001,
    "else if": "model A {" + "if a {}" + " else if a {}" * 5000 + "}",
    "conditionals": "const a = " + "if a then 1 else " * 5000 + "1",
    "attributes": "const a = x" + ".y" * N,
    "paths": "const a = x -> a" + ".y" * N,
    "indices": "const a = x" + "[1]" * N,
    "branches": "const a = x -> f " + "{ f " * N + "}" * N,
    "long list": "const a = [" + "1, " * 1_000_000 + "]",
    "comments": "# c\n" * 1_000_000,
    "errors": "model A {\n" + "x = + 3\n" * 20_000 + "}",
    "open models": "model A {\n" * 20_000,
    "nul": "\0" * 1_000_000,
    "nul between": "model A {\n" + "x = \0\n" * 20_000 + "}",
    "quotes": '"\n' * 60_000,
    "arrows": "const a = " + "->" * 40_000,
    "digits": "const a = " + "9" * 1_000_000,
    "names": "a " * 90_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_ends_in_a_located_diagnostic(text: str) -> None:
    start = time.process_time()
    with pytest.raises(DnnError) as caught:
        parse(Source("x", text))
    assert time.process_time() - start < 2
    assert all(error.span is not None for error in caught.value.diagnostics)


@pytest.mark.parametrize(
    "text",
    [
        "const a = " + "(" * 100 + "1" + ")" * 100,
        "const a = 1" + " + 1" * 200,
        "const a = x" + " -> f" * 1000,
        "const a = [" + "1, " * 40_000 + "]",
        "model A {" + "x = 3 " * 20_000 + "}",
    ],
    ids=["parentheses", "sum", "stages", "list", "statements"],
)
def test_what_the_limits_allow(text: str) -> None:
    tree = parse(Source("x", text))
    assert tree == parse(Source("y", text))
    assert hash(tree) == hash(parse(Source("y", text)))


def test_a_text_at_the_limit() -> None:
    text = "const a = 1\n" * (MAX_TOKENS // 4)
    assert len(parse(Source("x", text)).items) == MAX_TOKENS // 4
    assert codes_of(text + "const") == ["E009"]


PIECES = [
    *"(){}[]=+-*/.,:|<>#\"'&!\0\n é",
    "->",
    "==",
    "if ",
    " then ",
    " else ",
    "model ",
    "\n}\n",
]


def mutated(text: str, random_: random.Random) -> str:
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(text) + 1)
        end = min(len(text), at + random_.choice((0, 1, 3, 20)))
        match random_.randrange(3):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:at] + random_.choice(PIECES) + text[end:]
            case _:
                other = random_.randrange(len(text) + 1)
                text = text[:at] + text[other : other + 15] + text[at:]
    return text


def errors_of(text: str) -> list[Diagnostic]:
    try:
        parse(Source("x", text))
    except DnnError as error:
        return error.diagnostics
    return []


def test_a_mutated_text_gives_a_tree_or_a_diagnostic() -> None:
    random_ = random.Random(20_240)
    texts = [path.read_text(encoding="utf-8") for path in SNIPPETS]
    pieces = [piece for text in texts for piece in text.split("\n\n")]
    for _ in range(2000):
        text = mutated(random_.choice(pieces), random_)
        for diagnostic in errors_of(text):
            assert diagnostic.span is not None
            assert diagnostic.render()


# --- files ----------------------------------------------------------------------------------------


def unreadable(path: Path) -> str:
    with pytest.raises(DnnError) as caught:
        read_source(path)
    assert [error.code for error in caught.value.diagnostics] == ["E010"]
    return caught.value.diagnostics[0].message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file" in unreadable(tmp_path / "missing.dnn")
    assert "directory" in unreadable(tmp_path)
    assert "null" in unreadable(Path("a\0b"))
    bad = tmp_path / "bad.dnn"
    bad.write_bytes(b"# fine\nconst a = \xff\n")
    assert "byte 0xff at offset 17, in line 2" in unreadable(bad)
    bad.write_bytes(b"\xef\xbb\xbfa\xff")
    assert "offset 4" in unreadable(bad)
    bad.write_bytes(b" " * 10_000_001)
    assert "larger than 10 MB" in unreadable(bad)


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.dnn"
    path.write_bytes(b"\xef\xbb\xbfconst a = 1 # one\r\nconst b = 2\r\n")
    source = read_source(path)
    assert source.name == str(path)
    assert parse(source) == parse(Source("x", "const a = 1\nconst b = 2"))
    assert parse(Source("x", "\ufeffconst a = 1")) == parse(Source("x", "const a = 1"))
