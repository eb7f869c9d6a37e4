"""Files, imports and constants."""

from __future__ import annotations

from pathlib import Path

import pytest

import dnnc
from dnnc.diagnostics import DnnError, Source
from dnnc.elaborate.module import Module, load_module
from dnnc.elaborate.network import walk_model
from dnnc.syntax.parse import read_source

BLOCKS = """
const width = 4
fn half(x) = x / 2
block stem(units = width) {
    in  x: [batch, n]
    out y: [batch, units]
    y = x -> dense(units) -> half
}
model Inner { in x: [batch, 3]\n out y\n y = x -> stem }
"""


def load(folder: Path, **files: str) -> Module:
    """The file `main.dnn` of several."""
    for name, text in files.items():
        path = folder / f"{name}.dnn"
        path.write_text(text, encoding="utf-8")
    return load_module(read_source(folder / "main.dnn"))


def codes(folder: Path, **files: str) -> list[str]:
    with pytest.raises(DnnError) as caught:
        load(folder, **files)
    return [d.code for d in caught.value.diagnostics]


def parameters(module: Module) -> list[str]:
    block = next(iter(module.models.values()))
    return [
        str(d.variable.type)
        for d in walk_model(block, {}, training=False).session.declared.values()
    ]


def model(body: str) -> str:
    return f"model M {{ in x: [batch, 3]\n out y\n {body} }}"


def test_an_import_has_its_names_behind_a_dot(tmp_path: Path) -> None:
    main = 'import "blocks.dnn" as b\n' + model("y = x -> b.stem -> b.half -> b.stem(b.width + 1)")
    module = load(tmp_path, main=main, blocks=BLOCKS)
    assert parameters(module) == ["f32[3, 4]", "f32[4]", "f32[4, 5]", "f32[5]"]


def test_an_import_is_named_by_its_file(tmp_path: Path) -> None:
    main = 'import "blocks.dnn"\n' + model("y = x -> blocks.stem")
    assert parameters(load(tmp_path, main=main, blocks=BLOCKS)) == ["f32[3, 4]", "f32[4]"]


def test_imports_inside_imports(tmp_path: Path) -> None:
    more = 'import "blocks.dnn" as b\nblock two { in x: [...]\n out y\n y = x -> b.stem -> b.stem }'
    main = 'import "more.dnn"\n' + model("y = x -> more.two")
    module = load(tmp_path, main=main, more=more, blocks=BLOCKS)
    assert len(parameters(module)) == 4
    assert [Path(s.name).name for s in module.sources] == ["main.dnn", "more.dnn", "blocks.dnn"]


def test_names_of_an_import_are_not_those_of_the_file(tmp_path: Path) -> None:
    main = 'import "blocks.dnn" as b\nconst width = 9\n' + model("y = x -> b.stem -> dense(width)")
    found = parameters(load(tmp_path, main=main, blocks=BLOCKS))
    assert found == ["f32[3, 4]", "f32[4]", "f32[4, 9]", "f32[9]"]
    assert codes(tmp_path, main='import "blocks.dnn" as b\n' + model("y = x -> stem")) == ["E101"]


def test_models_of_an_import_are_not_those_of_the_file(tmp_path: Path) -> None:
    module = load(tmp_path, main='import "blocks.dnn" as b\n' + model("y = x"), blocks=BLOCKS)
    assert list(module.models) == ["M"]


def test_an_imported_name_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "blocks.dnn").write_text(BLOCKS, encoding="utf-8")
    path = tmp_path / "main.dnn"
    path.write_text('import "blocks.dnn" as b\n' + model("y = x -> b.stemm"), encoding="utf-8")
    with pytest.raises(DnnError) as caught:
        dnnc.load(path)
    assert [d.code for d in caught.value.diagnostics] == ["E107"]
    assert "did you mean `stem`?" in str(caught.value)


def test_errors_of_an_imported_file_point_into_it(tmp_path: Path) -> None:
    with pytest.raises(DnnError) as caught:
        load(tmp_path, main='import "blocks.dnn" as b\n' + model("y = x"), blocks="const a = bb")
    (error,) = caught.value.diagnostics
    assert error.span is not None
    assert error.span.source.name.endswith("blocks.dnn")


def test_an_error_in_an_imported_block_shows_the_call(tmp_path: Path) -> None:
    block = "block wide { in x: [batch, n]\n out y: [batch, n]\n y = x -> dense(n + 1) }"
    (tmp_path / "b.dnn").write_text(block, encoding="utf-8")
    path = tmp_path / "main.dnn"
    path.write_text('import "b.dnn"\n' + model("y = x -> b.wide"), encoding="utf-8")
    with pytest.raises(DnnError) as caught:
        dnnc.load(path)
    (error,) = caught.value.diagnostics
    assert error.code == "E210"
    places = [Path(n.span.source.name).name for n in error.notes if n.span is not None]
    assert places[-1] == "main.dnn"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("const a = 3", 3),
        ("const a = 2 * 3 + 1", 7),
        ("const b = 2\nconst a = b * b", 4),
        ("const a = [1, 2] + [3]", [1, 2, 3]),
        ('const a = "x" + "y"', "xy"),
        ("const a = 1 / 4", 0.25),
        ("const a = true and not false", True),
        ("fn double(x) = 2 * x\nconst a = double(4)", 8),
    ],
)
def test_constants(text: str, value: object) -> None:
    assert load_module(Source("m.dnn", text)).constants()["a"] == value


def test_constants_may_be_overridden() -> None:
    module = load_module(Source("m.dnn", "const a = 3\nconst b = a + 1"), {"a": 5})
    assert module.constants() == {"a": 5, "b": 6}


def test_a_constant_is_known_behind_it_alone() -> None:
    with pytest.raises(DnnError) as caught:
        load_module(Source("m.dnn", "const a = b\nconst b = 1"))
    assert [d.code for d in caught.value.diagnostics] == ["E101"]


def test_a_broken_definition_is_told_once() -> None:
    text = "const a = 1 / 0\nconst b = a + 1\n" + model("y = x * a + b")
    with pytest.raises(DnnError) as caught:
        load_module(Source("m.dnn", text))
    assert [d.code for d in caught.value.diagnostics] == ["E113"]


def test_names_are_checked_where_nothing_is_elaborated() -> None:
    text = "block unused { in x: [...]\n out y\n y = if false then nowhere(x) else x }"
    with pytest.raises(DnnError) as caught:
        load_module(Source("m.dnn", text))
    assert [d.code for d in caught.value.diagnostics] == ["E101"]


def test_a_definition_of_the_user_hides_that_of_the_library() -> None:
    text = "fn relu(x) = x * 7\n" + model("y = x -> relu")
    block = load_module(Source("m.dnn", text)).models["M"]
    value = walk_model(block, {}, training=False).outputs["y"].value
    assert value.node is not None
    assert value.node.op.name == "multiply"


def test_the_library_keeps_its_own_names() -> None:
    # `mlp` calls the library's `dense`, whatever the file calls by that name.
    text = "fn dense(x) = x\n" + model("y = x -> mlp(4)")
    assert len(parameters(load_module(Source("m.dnn", text)))) == 4
