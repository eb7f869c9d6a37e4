"""`-D name=value` on the tree."""

from __future__ import annotations

import pytest

from dnnc.cli._overrides import TRAIN_OPTIONS, override
from dnnc.diagnostics import DnnError, Source
from dnnc.syntax import tree
from dnnc.syntax.parse import parse

TEXT = """
const classes = 10
model Digits(hidden = 64, depth) {
    in x: [batch, 4]
    out y: [batch, 4]
    y = x
}
model Other(depth = 1) {
    in x: [batch, 4]
    out y: [batch, 4]
    y = x
}
data Scans {
    source = csv("scans.csv")
    seed   = 1
}
train Digits on Scans {
    loss      = mse(y, x)
    optimizer = adam(lr = 1e-3)
    stop      = early
    epochs    = 20
}
"""


def changed(*definitions: str) -> tree.File:
    return parse(override(Source("digits.dnn", TEXT), definitions))


def code_of(*definitions: str) -> list[str]:
    with pytest.raises(DnnError) as error:
        changed(*definitions)
    return [diagnostic.code for diagnostic in error.value.diagnostics]


def rule(item: tree.Item, key: str) -> tree.Expr:
    assert isinstance(item, (tree.Job, tree.Data))
    return next(e.value for e in item.entries if isinstance(e, tree.Rule) and e.key == key)


def number(value: object) -> object:
    assert isinstance(value, tree.Number)
    return value.value


def test_a_constant() -> None:
    item = changed("classes=5").items[0]
    assert isinstance(item, tree.Const)
    assert number(item.value) == 5


@pytest.mark.parametrize("name", ["Digits.hidden", "hidden"])
def test_a_setting_of_a_model(name: str) -> None:
    item = changed(f"{name}=128").items[1]
    assert isinstance(item, tree.Block)
    assert number(item.settings[0].default) == 128


def test_an_option_of_a_data_block() -> None:
    assert number(rule(changed("Scans.seed = 7").items[3], "seed")) == 7


def test_an_option_that_is_there_and_one_that_is_not() -> None:
    job = changed("epochs=1", "batch=8").items[4]
    assert number(rule(job, "epochs")) == 1
    assert number(rule(job, "batch")) == 8


def test_an_argument_that_is_there_and_one_that_is_not() -> None:
    call = rule(changed("optimizer.lr=0.5", "optimizer.eps=1e-6").items[4], "optimizer")
    assert isinstance(call, tree.Call)
    assert {a.name: number(a.value) for a in call.arguments} == {"lr": 0.5, "eps": 1e-6}


def test_an_argument_of_a_bare_name() -> None:
    call = rule(changed("stop.patience=3").items[4], "stop")
    assert isinstance(call, tree.Call)
    assert call.callee == tree.Name(call.span, "early")


def test_a_whole_expression() -> None:
    call = rule(changed("optimizer=sgd(lr = 0.1)").items[4], "optimizer")
    assert isinstance(call, tree.Call)


def test_unknown_names_come_with_a_suggestion() -> None:
    with pytest.raises(DnnError) as error:
        changed("Digits.hiden=3", "epoch=3")
    assert [d.help for d in error.value.diagnostics] == [
        "did you mean `Digits.hidden`?",
        "did you mean `epochs`?",
    ]


def test_a_setting_of_several_models_needs_its_model() -> None:
    assert code_of("depth=3") == ["E902"]


@pytest.mark.parametrize("definition", ["epochs", "=3", "epochs="])
def test_the_form(definition: str) -> None:
    assert code_of(definition) == ["E901"]


@pytest.mark.parametrize("value", ["3 +", "3 } const x = 1", "3, 4", "3\n    batch = 4"])
def test_the_value_is_one_expression(value: str) -> None:
    assert code_of(f"epochs={value}")[0].startswith("E0")


def test_a_comment_behind_the_value_is_dropped() -> None:
    item = changed("Digits.hidden=3 # few").items[1]
    assert isinstance(item, tree.Block)
    assert number(item.settings[0].default) == 3


def test_the_options_are_those_of_training_jobs() -> None:
    from dnnc.elaborate.options import _OPTIONS

    assert TRAIN_OPTIONS == _OPTIONS


def test_nothing_else_changes() -> None:
    source = Source("digits.dnn", TEXT)
    assert override(source, ["epochs=1"]).text == TEXT.replace("epochs    = 20", "epochs    = 1")
    assert override(source, []) is source
