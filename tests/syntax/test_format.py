"""The formatter: same tree, same comments, and its own result unchanged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dnnc.diagnostics import DnnError, Source
from dnnc.syntax.format import format_source
from dnnc.syntax.parse import parse
from dnnc.syntax.tokens import tokenize

HERE = Path(__file__).parent
SNIPPETS = sorted((HERE / "snippets").glob("*.dnn"))
LAYOUTS = sorted((HERE / "layouts").glob("*.dnn"))
STANDARD = sorted(Path(__file__).parents[2].glob("dnnc/std/*.dnn"))


def comments(text: str) -> list[str]:
    found = []
    for token in tokenize(text, len(text) + 1):
        found += [comment.text for comment in token.comments]
        found += [token.trailing.text] if token.trailing else []
    return found


def check(text: str) -> str:
    """Format a text and hold the result to what the formatter promises."""
    result = format_source(Source("x", text))
    assert parse(Source("x", result)) == parse(Source("x", text)), result
    assert comments(result) == comments(text), result
    assert format_source(Source("x", result)) == result, result
    assert not any(line != line.rstrip() for line in result.splitlines())
    assert "\n\n\n" not in result
    return result


@pytest.mark.parametrize("path", [*SNIPPETS, *STANDARD], ids=lambda path: path.stem)
def test_snippets(path: Path) -> None:
    check(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_golden_layout(path: Path, update_golden: bool) -> None:
    """`layouts/x.dnn` is laid out as `layouts/x.formatted`."""
    result = check(path.read_text(encoding="utf-8"))
    expected = path.with_suffix(".formatted")
    if update_golden:
        expected.write_text(result, encoding="utf-8")
    assert result == expected.read_text(encoding="utf-8")
    assert max(map(len, result.splitlines())) <= 100


def respaced(text: str, random_: random.Random, comment_rate: float) -> str:
    """The same tokens and comments with other white space, and more comments."""
    pieces = []
    for token in tokenize(text, len(text) + 1):
        for comment in token.comments:
            pieces.append(f"\n{comment.text}\n")
        if random_.random() < comment_rate:
            pieces.append(f"# {random_.randrange(1000)}\n")
        spaces = (" ", " ", " ", "  ", "\n", "\n\n", "\n\n\n\n", "\t", "\r\n  ")
        pieces.append(token.text + random_.choice(spaces))
        if token.trailing:
            pieces.append(f"{token.trailing.text}\n")
    return "".join(pieces)


@pytest.mark.parametrize("rate", [0, 0.02, 0.3])
@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.stem)
def test_any_white_space_and_comments_anywhere(path: Path, rate: float) -> None:
    random_ = random.Random(7)
    text = path.read_text(encoding="utf-8")
    for _ in range(6):
        changed = respaced(text, random_, rate)
        assert parse(Source("x", changed)) == parse(Source("x", text))
        check(changed)


def test_long_lines_break() -> None:
    names = [f"a_rather_long_name_{i}" for i in range(12)]
    text = f"""
    fn f({", ".join(names)}) = g({" + ".join(names)}, {" and ".join(names)}, [{", ".join(names)}])
    block b {{
        in x: [{", ".join(names)}]
        x = x {"".join(f"-> {name}(1, 2)" for name in names)}
        y = if a then {names[0]}(1) else {" * ".join(names)}
        z = x -> f {{ {" | ".join(names)} }} -> residual {{ {" -> ".join(names)} }}
        w = ({" - ".join(names)}) * 2
        require {" < 3 and ".join(names)}, "a message that is not broken"
        numbers = [{", ".join(str(i) for i in range(100))}]
    }}
    """
    result = check(text)
    assert max(map(len, result.splitlines())) <= 100


def test_deep_texts_are_laid_out() -> None:
    check("const a = " + "(" * 100 + "1" + ")" * 100)
    check("const a = x" + " -> f" * 1000)
    check("const a = " + "f(" * 99 + "1" + ")" * 99)
    check("model A {" + "if a {" * 99 + "}" * 100)
    check("const a = " + "if a then 1 else " * 100 + "1")


def test_nothing_but_comments() -> None:
    assert format_source(Source("x", "")) == ""
    assert format_source(Source("x", "\n\n  # a\n\n\n  # b\r\n")) == "# a\n\n# b\n"
    expected = "model A {  # x\n    # y\n}\n\n# z\n"
    assert check("\n\nmodel A {  # x\n\n # y\n\n}\n\n\n# z") == expected


def test_errors_are_reported() -> None:
    with pytest.raises(DnnError):
        format_source(Source("x", "model {"))
