"""Texts that ask for too much: each ends in a located diagnostic, within two seconds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import dnnc
from dnnc.diagnostics import Diagnostic

LIMIT = 2.0


def model(body: str, outside: str = "") -> str:
    """A model with this body, and its output bound already."""
    return f"""{outside}
model M {{
    in  x: [batch, n, 3]
    out y: [batch, n, 3]
    y = x
    {body}
}}
"""


TEXTS = {
    # Numbers.
    "a tower of powers": ("const a = 10 ** 10 ** 10", "E114"),
    "a power of a power": ("const a = 99 ** 99 ** 99 ** 99", "E114"),
    "a large factorial": (
        "fn f(n) = if n == 0 then 1 else n * f(n - 1)\nconst a = f(40)",
        "E114",
    ),
    "squares": ("fn f(x, n) = if n == 0 then x else f(x * x, n - 1)\nconst a = f(3, 50)", "E114"),
    "floating-point overflow": ("const a = 1e308 * 1e308", "E114"),
    "a difference of infinities": ("const a = infinity - infinity", "E113"),
    # Loops.
    "many rounds": (model("repeat 10 ** 9 { z = x }"), "E307"),
    "many rounds by a constant": (model("repeat many { z = x }", "const many = 10 ** 18"), "E307"),
    "a long count": (model("for i in 0 .. 10 ** 12 { z = x }"), "E307"),
    "a long count from below": (model("for i in -(10 ** 18) .. 3 { z = x }"), "E307"),
    "loops in loops": (
        model("repeat 9999 { repeat 9999 { repeat 9999 { } } }"),
        "E310",
    ),
    "loops in loops of a function": (
        "fn f() {\n s = 0\n for i in 0 .. 9999 { for j in 0 .. 9999 { s = s + i * j } }\n"
        " return s\n}\nconst a = f()",
        "E310",
    ),
    "a graph without end": (model("z = x\n repeat 9999 { z = z * 2 + z }"), "E310"),
    "layers without end": (model("z = x\n repeat 9999 { repeat 9999 { z = z -> relu } }"), "E310"),
    # Recursion.
    "a function of itself": ("fn f(x) = f(x)\nconst a = f(1)", "E310"),
    "functions of each other": ("fn f(x) = g(x)\nfn g(x) = f(x + 1)\nconst a = f(1)", "E310"),
    "a function that passes itself": ("fn f(g) = g(g)\nconst a = f(f)", "E310"),
    "a default of itself": ("fn f(x = f()) = x\nconst a = f()", "E310"),
    "two calls of itself": ("fn f(x) = f(x) + f(x + 1)\nconst a = f(1)", "E310"),
    "calls of itself in a loop": (
        "fn f(n) {\n s = 1\n for i in 0 .. 9 { if n > 0 { s = s + f(n - 1) } }\n return s\n}\n"
        "const a = f(30)",
        "E310",
    ),
    "calls of itself on tensors": (
        model("z = f(x, 60)", "fn f(x, n) = if n == 0 then x else f(x, n - 1) + f(x, n - 1)"),
        "E310",
    ),
    "a block of itself": (
        model("z = x -> b", "block b { in x: [...]\n out y: [...]\n y = x -> b }"),
        "E310",
    ),
    "blocks of each other": (
        model(
            "z = x -> b",
            "block b { in x: [...]\n out y: [...]\n y = x -> residual { c } }\n"
            "block c { in x: [...]\n out y: [...]\n y = (x -> b) + (x -> b) }",
        ),
        "E310",
    ),
    "a branch into itself": (
        model(
            "z = x -> b { relu }",
            "block b { in x: [...]\n out y: [...]\n y = x -> b { relu | dense(3) } }",
        ),
        "E310",
    ),
    "deep expressions in deep calls": (
        f"fn f(n) = if n == 0 then 0 else {'(' * 40}f(n - 1){' + 1)' * 40}\nconst a = f(60)",
        "E310",
    ),
    # Lists and strings.
    "a list that doubles": (model("a = [1]\n repeat 60 { a = a + a }"), "E114"),
    "a string that doubles": (model('a = "text"\n repeat 60 { a = a + a }'), "E114"),
    "a list that grows": (
        "fn f() {\n a = []\n for i in 0 .. 9999 { repeat 9999 { a = a + [i] } }\n return a\n}\n"
        "const a = f()",
        "E310",
    ),
    "lists of lists": (model("a = [1]\n repeat 9999 { a = [a, a] }\n b = tensor(a)"), "E310"),
    "a list times a number": ("const a = [1, 2] * 10 ** 9", "E112"),
    "a string times a number": ('const a = "text" * 10 ** 9', "E112"),
    # Shapes.
    "a large parameter": (model("param w: [2 ** 30, 2 ** 30] = zeros"), "E216"),
    "a size beyond any axis": (model("param w: [2 ** 62] = zeros"), "E114"),
    "sizes that multiply": (model("param w: [2 ** 39, 2 ** 39, 2 ** 39, 3] = zeros"), "E216"),
    "a large input": (
        "model M {\n in x: [batch, 10 ** 18]\n out y: [batch, 10 ** 18]\n y = x\n}",
        "E114",
    ),
    "a large layer": (model("z = x -> dense(10 ** 12)"), "E216"),
    "a large convolution": (
        model("z = insert_axis(x, 1) -> conv(10 ** 6, 10 ** 6)"),
        "E216",
    ),
    "many parts": (model("z = split(full(1, [10 ** 9]), 10 ** 9)"), "E206"),
    "rather many parts": (model("z = split(full(1, [60_000]), 60_000)"), "E310"),
    "a size that grows": (model("k = n\n repeat 40 { k = k * k + n }"), "E114"),
    "a quotient that grows": (model("k = n\n repeat 400 { k = (k * n + 1) // (n + k) }"), "E114"),
    "coefficients that grow": (model("k = n\n repeat 100 { k = k * 10 ** 9 }"), "E114"),
    "axes without end": (model("z = x\n repeat 9999 { z = insert_axis(z, 0) }"), "E205"),
}  # fmt: skip


def diagnostics(text: str, name: str = "<text>") -> list[Diagnostic]:
    start = time.process_time()
    with pytest.raises(dnnc.DnnError) as caught:
        dnnc.parse(text, name=name)
    assert time.process_time() - start < LIMIT
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.span is not None
        assert len(diagnostic.render()) < 10_000
    return caught.value.diagnostics


@pytest.mark.parametrize(("text", "code"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_asks_for_too_much(text: str, code: str) -> None:
    assert code in {d.code for d in diagnostics(text)}


def test_one_cause_is_one_error() -> None:
    for name in ("two calls of itself", "calls of itself in a loop", "blocks of each other"):
        assert len(diagnostics(TEXTS[name][0])) == 1


@pytest.mark.parametrize("count", [2, 200])
def test_what_the_limits_allow(count: int) -> None:
    layers = model(f"z = x\n repeat {count} {{ z = z -> dense(3) -> relu }}")
    sums = f"const a = {' + '.join(['1'] * min(count, 190))}"
    stages = model(f"z = x{' -> relu' * count}")
    loop = "fn f() {\n s = 0\n for i in 0 .. 9999 { s = s + i }\n return s\n}\nconst a = f()"
    nested = f"fn f(n) = if n == 0 then 0 else f(n - 1)\nconst a = f({min(count, 60)})"
    for text in (layers, sums, stages, loop, nested):
        dnnc.parse(text)


def test_a_deep_network_can_be_trained() -> None:
    text = """
    model Deep {
        in  x: [batch, 2]
        out y: [batch, 2]
        z = x
        repeat 120 { z = z -> residual { layer_norm -> mlp(2) } }
        y = z
    }
    data D { x = array("x")\n t = array("t") }
    train Deep on D { loss = mse(y, t)\n optimizer = adamw(lr = cosine(1e-3, warmup = 10)) }
    """
    rows = np.zeros((20, 2), np.float32)
    program = dnnc.parse(text, arrays={"x": rows, "t": rows})
    assert len(program.jobs[0].plan().network.parameters) == 720


# --- files ----------------------------------------------------------------------------------------


def in_file(path: Path) -> list[Diagnostic]:
    start = time.process_time()
    with pytest.raises(dnnc.DnnError) as caught:
        dnnc.load(path)
    assert time.process_time() - start < LIMIT
    return caught.value.diagnostics


def test_files_that_import_each_other(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        text = f'import "{other}.dnn" as other\nconst {name} = 1\n'
        (tmp_path / f"{name}.dnn").write_text(text, encoding="utf-8")
    assert [d.code for d in in_file(tmp_path / "a.dnn")] == ["E121"]


def test_a_file_that_imports_itself_by_another_path(tmp_path: Path) -> None:
    (tmp_path / "a.dnn").write_text('import "./x/../a.dnn" as other\n', encoding="utf-8")
    (tmp_path / "x").mkdir()
    assert [d.code for d in in_file(tmp_path / "a.dnn")] == ["E121"]


def test_a_long_chain_of_imports(tmp_path: Path) -> None:
    for i in range(100):
        text = f'import "{i + 1}.dnn" as other\n'
        (tmp_path / f"{i}.dnn").write_text(text, encoding="utf-8")
    assert [d.code for d in in_file(tmp_path / "0.dnn")] == ["E121"]


def test_files_that_are_imported_twice_are_read_once(tmp_path: Path) -> None:
    for i in range(30):
        text = f'import "{i + 1}.dnn" as a\nimport "{i + 1}.dnn" as b\n'
        (tmp_path / f"{i}.dnn").write_text(text, encoding="utf-8")
    (tmp_path / "30.dnn").write_text("const a = 1\n", encoding="utf-8")
    start = time.process_time()
    dnnc.load(tmp_path / "0.dnn")
    assert time.process_time() - start < LIMIT


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n", bytes(range(256)) * 100, b"\0" * 1000]
)
def test_files_that_are_not_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.dnn").write_bytes(content)
    (tmp_path / "a.dnn").write_text('import "b.dnn" as b\n', encoding="utf-8")
    for name in ("a.dnn", "b.dnn"):
        found = in_file(tmp_path / name)
        assert {d.code for d in found} <= {"E010", "E001"}
        assert name == "b.dnn" or all(d.span is not None for d in found)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "b.dnn").mkdir()
    (tmp_path / "a.dnn").write_text('import "b.dnn" as b\n', encoding="utf-8")
    assert [d.code for d in in_file(tmp_path / "a.dnn")] == ["E122"]
    assert [d.code for d in in_file(tmp_path / "b.dnn")] == ["E010"]
