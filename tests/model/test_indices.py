"""Integers that look up rows or name classes are held to what is there."""

from __future__ import annotations

import numpy as np
import pytest

import dnnc
from tests.model.faces import LANGUAGE, MLP, diagnostics, one, predicted


@pytest.fixture(scope="module")
def net() -> dnnc.Model:
    return dnnc.parse(LANGUAGE).model("Language")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8"])
def test_indices_of_any_integers(net: dnnc.Model, dtype: str) -> None:
    tokens = np.array([[0, 3, 10], [10, 9, 1]])
    wanted = predicted(net, tokens=tokens)
    np.testing.assert_allclose(net(tokens=tokens.astype(dtype)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [11, -1, 300, 2**31, 2**32 + 3])
def test_an_index_without_a_row(net: dnnc.Model, wrong: int) -> None:
    tokens = np.array([[0, 3], [wrong, 1]])
    (found,) = diagnostics(lambda: net(tokens=tokens))
    assert found.code == "E412"
    assert found.message == (
        f"`tokens` holds {wrong} at [1, 0], but `table.weight` has the rows 0 to 10"
    )
    assert found.span is not None
    assert found.span.place == "<text>:5:24"


def test_no_examples_have_no_indices(net: dnnc.Model) -> None:
    assert net(tokens=np.zeros((0, 3), int)).shape == (0, 3, 11)


def test_indices_are_whole(net: dnnc.Model) -> None:
    assert "got an array of float64" in one(lambda: net(tokens=np.zeros((1, 2))))[1]


def test_an_integer_that_its_type_does_not_hold() -> None:
    net = dnnc.parse("model M { in n: i32[batch]\n out y: [batch]\n y = cast(n, f32) }").model("M")
    np.testing.assert_array_equal(net(n=[5, -7]), [5, -7])
    assert "holds 4294967296, which is no int32" in one(lambda: net(n=[2**32]))[1]


COLUMNS = """
model Columns {
    in  x: i32[batch, 2]
    out y: [batch, 3]
    left, right = split(x, 2, axis = 1)
    small = reshape(left, [batch]) -> embedding(4, 3) as a
    large = reshape(right, [batch]) -> embedding(50, 3) as b
    y     = small + large
}
"""


def test_columns_with_tables_of_their_own() -> None:
    net = dnnc.parse(COLUMNS).model("Columns")
    x = np.array([[3, 49], [0, 4]])
    np.testing.assert_allclose(net(x=x), predicted(net, x=x), rtol=1e-5)
    code, message = one(lambda: net(x=[[4, 49]]))
    assert code == "E412"
    assert "`x` holds 4, but `a.weight` has the rows 0 to 3" in message


LOOP = """
model Loop(units = 5) {
    in  tokens: i32[batch, time]
    out y: [batch, units]
    param table: [7, units] = normal(1)
    scan t in tokens along time {
        carry h: [batch, units] = 0
        h = tanh(h + gather(table, t))
    }
    y = h
}
"""


def test_a_look_up_inside_a_loop() -> None:
    net = dnnc.parse(LOOP).model("Loop")
    assert "holds 7 at [0, 1]" in one(lambda: net(tokens=[[6, 7, 0]]))[1]
    tokens = np.array([[6, 0, 1]])
    np.testing.assert_allclose(net(tokens=tokens), predicted(net, tokens=tokens), rtol=1e-5)


def test_a_label_without_a_class() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    x, loss = np.zeros((3, 4)), "cross_entropy(logits, label)"
    net.value_and_grad(loss, x=x, label=[0, 1, 2])
    for wrong in (3, -1):
        code, text = one(lambda w=wrong: net.value_and_grad(loss, x=x, label=[0, w, 2]))
        assert code == "E412"
        assert f"`label` holds {wrong} at [1], but the classes are 0 to 2" in text
    fit = net.trainer(loss)
    assert "the classes are 0 to 2" in one(lambda: fit.step(x=x, label=[0, 1, 3]))[1]
    assert fit.step_number == 0


def test_a_label_that_is_ignored_needs_no_class() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    x, loss = np.zeros((3, 4)), "cross_entropy(logits, label, ignore = -1)"
    net.value_and_grad(loss, x=x, label=[0, -1, 2])
    assert "`label` holds -2" in one(lambda: net.value_and_grad(loss, x=x, label=[-2, 1, 2]))[1]


def test_labels_that_are_compared_by_hand_are_not_judged() -> None:
    net = dnnc.parse(MLP).model("Mlp")
    loss = "cross_entropy(logits, label) + mean(if label > 5 then 1.0 else 0.0)"
    value, _ = net.value_and_grad(loss, x=np.zeros((2, 4)), label=[0, 6])
    assert np.isfinite(value)


JOB = """
data Rows {
    x     = array("x")
    label = array("label")
    split = [0.5, 0.5]
}
train Mlp on Rows {
    loss   = cross_entropy(logits, label)
    epochs = 1
}
"""


def test_a_run_looks_at_all_labels_first(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {"x": np.zeros((20, 4), "f4"), "label": np.arange(20) % 4}
    program = dnnc.parse(MLP + JOB, arrays=arrays)
    code, text = one(program.run)
    assert code == "E607"
    assert "`label` holds 3, but the classes are 0 to 2" in text
    assert not (tmp_path / "runs").exists()
    arrays["label"] = np.arange(20) % 3
    (result,) = dnnc.parse(MLP + JOB, arrays=arrays).run()
    assert result.steps == 1
