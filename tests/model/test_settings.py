"""Models made from Python: settings, sizes, element types."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc
from tests.model.faces import LANGUAGE, MLP, diagnostics, one

IMAGES = """
model Images(width = 4, activation = relu, layers = [8, 8], name = "plain") {
    in  image: [batch, 3, h, w]
    out y: [batch, 2]
    x = image -> conv(width, 3) -> activation -> flatten
    for units in layers { x = x -> dense(units) }
    y = x -> dense(2)
}
"""


def test_settings_are_overridden() -> None:
    program = dnnc.parse(MLP)
    net = program.model("Mlp", hidden=5, classes=np.int64(2))
    assert net.parameters["head.weight"].shape == (5, 2)
    assert net.network.settings == {"hidden": 5, "classes": 2}
    assert repr(net) == "<model Mlp(hidden=5, classes=2), 37 parameters, f32>"
    assert program.model("Mlp").parameters["head.weight"].shape == (8, 3)


def test_sizes_by_keyword() -> None:
    net = dnnc.parse(IMAGES).model("Images", h=6, w=np.int32(5))
    assert net(image=np.zeros((2, 3, 6, 5))).shape == (2, 2)
    assert "[batch, 3, 6, 5]" in one(lambda: net(image=np.zeros((2, 3, 6, 6))))[1]


def test_settings_of_every_kind() -> None:
    program = dnnc.parse(IMAGES)
    net = program.model("Images", h=4, w=4, activation="gelu", layers=(3,), name="fancy")
    assert [n for n in net.parameters if n.startswith("dense")] == [
        "dense_1.weight", "dense_1.offset", "dense_2.weight", "dense_2.offset",
    ]  # fmt: skip
    assert "erf" in net.ir()
    assert net.network.settings["name"] == "fancy"


def test_a_size_that_is_needed() -> None:
    found = diagnostics(lambda: dnnc.parse(IMAGES).model("Images", h=4))
    assert {d.code for d in found} == {"E215"}


def test_an_unknown_setting() -> None:
    code, text = one(lambda: dnnc.parse(MLP).model("Mlp", hiden=3))
    assert code == "E102"
    assert "no setting or size `hiden`" in text
    assert "did you mean `hidden`?" in text
    # The batch comes with each call.
    assert one(lambda: dnnc.parse(MLP).model("Mlp", batch=3))[0] == "E102"


def test_all_wrong_settings_are_told_at_once() -> None:
    found = diagnostics(lambda: dnnc.parse(IMAGES).model("Images", widht=1, h=0, w="x", layers={}))
    assert [d.code for d in found] == ["E102", "E412", "E412", "E412"]
    assert "the size `h` is a positive number, got 0" in found[1].message
    assert "got dict" in found[3].message


@pytest.mark.parametrize("value", [2.5, True, -1, 2**31, None])
def test_what_is_no_size(value: object) -> None:
    code, text = one(lambda: dnnc.parse(LANGUAGE).model("Language", seq=value))
    assert code == "E412"
    assert "`seq` is a positive number" in text


def test_a_setting_that_is_no_expression() -> None:
    code, text = one(lambda: dnnc.parse(MLP).model("Mlp", hidden="8 +"))
    assert code.startswith("E0")
    assert "<hidden>:1" in text
    code, text = one(lambda: dnnc.parse(MLP).model("Mlp", hidden="wdth"))
    assert code == "E101"


def test_a_requirement_speaks_of_the_setting() -> None:
    text = 'model M(width = 4) { require width > 0, "width is {width}"\n' + MLP.split("{", 1)[1]
    text = text.replace("hidden", "width").replace("classes", "3")
    first = diagnostics(lambda: dnnc.parse(text).model("M", width=-2))[0]
    assert (first.code, first.message) == ("E306", "width is -2")


def test_an_unknown_model() -> None:
    code, text = one(lambda: dnnc.parse(MLP).model("Mpl"))
    assert code == "E401"
    assert "did you mean `Mlp`?" in text
    assert "the file has `Mlp`" in one(lambda: dnnc.parse(MLP).model("Transformer"))[1]


def test_element_types_and_threads() -> None:
    program = dnnc.parse(MLP)
    assert one(lambda: program.model("Mlp", dtype="f16"))[0] == "E412"
    assert one(lambda: program.model("Mlp", threads=0))[0] == "E412"


def test_a_size_that_no_axis_tells() -> None:
    text = "model M { in x: [batch, 2 * n]\n out y: [batch]\n y = sum(x, axis = 1) }"
    program = dnnc.parse(text)
    code, message = one(lambda: program.model("M"))
    assert code == "E412"
    assert 'program.model("M", n=...)' in message
    np.testing.assert_array_equal(program.model("M", n=2)(x=np.ones((1, 4))), [4])


def test_settings_that_are_merely_equal_to_the_models_own() -> None:
    """What checking a model elaborated holds for its own settings, to the sign of zero."""
    text = "model M(a = 0.0) {\n in x: [batch, 1]\n out y: [batch, 1]\n y = 1 / (a * abs(x)) }"
    program = dnnc.parse(text)
    for a, sign in ((-0.0, -1), (0.0, 1), (-0.0, -1)):
        net = program.model("M", a=a)
        assert np.sign(net(x=np.ones((1, 1), np.float32))) == sign
    text = "model M(w = [1, 8]) {\n in x: [batch, 4]\n out y: [batch, 1]\n y = x -> dense(w[0]) }"
    program = dnnc.parse(text)
    for _ in range(2):
        assert {d.code for d in diagnostics(lambda: program.model("M", w=[True, 8]))} == {"E112"}
    assert program.model("M", w=[1, 8])(x=np.ones((2, 4), np.float32)).shape == (2, 1)
