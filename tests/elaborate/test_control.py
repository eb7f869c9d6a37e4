"""Binding, loops, branches, blocks in braces, functions and blocks as settings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dnnc.elaborate.network import build_network
from tests.elaborate.networks import Measured, Net, codes, diagnostics, run, shapes, walk

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


def model(body: str, outside: str = "") -> str:
    return f"{outside}\nmodel M {{ in x: [batch, 3]\n out y: [batch, 3]\n {body} }}"


# --- binding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "y = x\n y = x",
        "a = 1\n y = x\n a = 2",
        "x = relu(x)\n y = x",
        "a, b, a = split(x, 3)\n y = x",
        "if true { a = 1 }\n a = 2\n y = x",
        "param w: [3] = ones\n w = x\n y = x",
        "y = x -> dense(3) as part\n part = x",
    ],
)
def test_a_name_is_bound_once(body: str) -> None:
    assert codes(model(body)) == ["E305"]


def test_the_error_tells_the_first_binding() -> None:
    (error,) = diagnostics(model("a = x\n a = relu(x)\n y = a"))
    assert error.span is not None
    assert error.span.text == "a = relu(x)"
    assert error.notes[0].span is not None
    assert error.notes[0].span.text == "a = x"


def test_a_round_carries_to_the_next_round() -> None:
    assert np.array_equal(run("z = x\n repeat 3 { z = z * 2 }\n y = z", x=X), X * 8)
    assert np.array_equal(run("z = x\n for k in [1, 10] { z = z + k }\n y = z", x=X), X + 11)
    assert np.array_equal(run("z = x\n for k in 1 .. 4 { z = z + k }\n y = z", x=X), X + 6)


def test_loops_inside_loops() -> None:
    body = "z = x\n for i in 0 .. 2 { for j in 0 .. 3 { z = z + 10 * i + j } }\n y = z"
    assert np.array_equal(run(body, x=X), X + 36)


def test_names_of_a_round_are_new_in_every_round() -> None:
    assert np.array_equal(run("z = x\n repeat 2 { a = z * 2\n z = a }\n y = z", x=X), X * 4)
    assert codes(model("repeat 2 { a = x }\n y = a")) == ["E101"]


def test_an_empty_loop() -> None:
    assert np.array_equal(run("z = x\n repeat 0 { z = z * 2 }\n y = z", x=X), X)
    assert np.array_equal(run("z = x\n for i in [] { z = z * 2 }\n y = z", x=X), X)
    assert np.array_equal(run("z = x\n for i in 3 .. 1 { z = z * 2 }\n y = z", x=X), X)


def test_the_counter_of_a_loop_may_hide_a_name() -> None:
    # As a setting of the same name hides a definition of the file.
    assert np.array_equal(
        run("k = x\n z = x\n for k in [1, 2] { z = z + k }\n y = z + k", x=X), 2 * X + 3
    )


# --- branches -------------------------------------------------------------------------------------


def test_a_statement_takes_one_branch() -> None:
    for test, factor in (("1 > 0", 2), ("false", 3), ("not (1 == 1)", 3), ("size(x, 1) == 3", 2)):
        body = f"if {test} {{ y = x * 2 }} else {{ y = x * 3 }}"
        assert np.array_equal(run(body, x=X), X * factor)


def test_chains_of_branches() -> None:
    text = "if k == 1 { y = x } else if k == 2 { y = 2 * x } else { y = 3 * x }"
    for k in (1, 2, 3):
        assert np.array_equal(run(f"k = {k}\n {text}", x=X), X * k)


def test_the_other_branch_is_not_elaborated() -> None:
    assert np.array_equal(run("y = if true then x else x @ x", x=X), X)
    assert np.array_equal(run("if false { y = x @ x } else { y = x }", x=X), X)
    assert np.array_equal(run("y = if rank(x) > 5 and size(x, 5) > 1 then -x else x", x=X), X)


def test_a_name_bound_in_a_branch_is_known_behind_it() -> None:
    assert np.array_equal(run("if true { a = x * 2 }\n y = a", x=X), X * 2)
    assert codes(model("if false { a = x * 2 }\n y = a")) == ["E101"]


def test_training_is_a_constant() -> None:
    body = "y = if training then x else -x"
    assert np.array_equal(run(body, x=X), -X)
    assert np.array_equal(run(body, x=X, training=True), X)


def test_tensors_are_selected_element_by_element() -> None:
    assert np.array_equal(run("y = if x > 0 then x else 0.5 * x", x=X), np.where(X > 0, X, X / 2))
    assert np.array_equal(run("y = if x > 0 then 1 else 0", x=X), (X > 0).astype(int))
    both = run("y = if x > 0 and x < 2 or x == 4 then 1 else 0", x=X)
    assert np.array_equal(both, ((X > 0) & (X < 2)) | (X == 4))
    assert np.array_equal(run("y = if not (x > 0) then 1 else 0", x=X), X <= 0)


def test_comparisons_of_sizes_that_are_unknown() -> None:
    assert codes(model("y = if size(x, 0) > 3 then x else -x")) == ["E213"]
    assert codes(model("require size(x, 0) == 3\n y = x")) == ["E213"]


# --- blocks in braces, and as settings ------------------------------------------------------------

TWICE = """
block twice {
    require size(branches) == 1, "twice takes one chain"
    in  x: [...]
    out y: [...]
    chain = branches[0]
    y = (x -> chain) -> chain
}
block pick(index) {
    in  x: [...]
    out y
    chain = branches[index]
    y = x -> chain
}
"""


def test_a_block_takes_blocks() -> None:
    assert np.array_equal(
        run("y = x -> twice { leaky_relu(0.5) }", TWICE, x=X), np.where(X > 0, X, X / 4)
    )


def test_a_branch_is_applied_as_often_as_it_is_called() -> None:
    found = shapes(walk(model("y = x -> twice { dense(3, bias = false) }", TWICE)))
    assert list(found) == ["twice_1.dense_1.weight", "twice_1.dense_2.weight"]


def test_one_of_several_branches() -> None:
    body = "y = x -> pick(1) { relu | leaky_relu(0.1) -> leaky_relu(0.1) }"
    assert np.allclose(run(body, TWICE, x=X), np.where(X > 0, X, X / 100))


def test_blocks_in_blocks_in_blocks() -> None:
    body = "y = x -> residual { residual { residual { relu } } }"
    inner = X + np.maximum(X, 0)
    assert np.array_equal(run(body, x=X), X + (X + inner))


def test_a_branch_sees_the_names_around_it() -> None:
    body = "k = 4\n y = x -> residual { leaky_relu(1 / k) }"
    assert np.array_equal(run(body, x=X), X + np.where(X > 0, X, X / 4))


def test_concat_joins_its_branches() -> None:
    found = run("y = x -> concat(axis = 1) { relu | leaky_relu(0) | leaky_relu(2) }", x=X)
    assert np.array_equal(
        found, np.concatenate([np.maximum(X, 0)] * 2 + [np.where(X > 0, X, 2 * X)], 1)
    )


def test_the_wrong_number_of_branches() -> None:
    assert codes(model("y = x -> residual { relu | relu }")) == ["E306"]
    assert codes(model("y = x -> residual")) == ["E306"]
    assert codes(model("y = x -> concat")) == ["E306"]


def test_a_function_is_a_setting() -> None:
    block = """block act(f, times = 1) { in x: [...]\n out y: [...]
        z = x\n repeat times { z = f(z) }\n y = z }"""
    assert np.array_equal(run("y = x -> act(relu)", block, x=X), np.maximum(X, 0))
    assert np.allclose(run("y = x -> act(tanh, times = 2)", block, x=X), np.tanh(np.tanh(X)))
    halved = run("y = x -> act(f = leaky_relu(slope = 0.5))", block, x=X)
    assert np.array_equal(halved, np.where(X > 0, X, X / 2))


def test_a_block_is_a_setting() -> None:
    block = "block wrap(layer) { in x: [...]\n out y: [...]\n y = x -> layer -> layer }"
    found = shapes(walk(model("y = x -> wrap(prelu)", block)))
    assert list(found) == ["wrap_1.prelu_1.weight", "wrap_1.prelu_2.weight"]


def test_a_block_with_settings_is_a_setting() -> None:
    block = "block wrap(layer) { in x: [...]\n out y\n y = x -> layer }"
    found = shapes(walk(model("y = x -> wrap(dense(3, bias = false))", block)))
    assert found == {"wrap_1.dense_1.weight": "f64[3, 3]"}
    assert shapes(walk(model("y = x -> wrap(layer = mlp(5))", block)))["wrap_1.mlp_1.up.weight"]


def test_an_activation_with_parameters() -> None:
    found = shapes(walk(model("y = x -> mlp(4, activation = prelu)")))
    assert "mlp_1.prelu_1.weight" in found


def test_an_initializer_with_some_of_its_arguments() -> None:
    text = model("param w: [3] = uniform(low = 2, high = 3)\n y = x + w")
    weight = Net(text).variables["w"]
    assert ((weight >= 2) & (weight < 3)).all()
    text = model("param w: [3] = constant(0.25)\n y = x + w")
    assert np.array_equal(Net(text).variables["w"], [0.25] * 3)


def test_an_initializer_of_ones_own() -> None:
    outside = "fn ramp(scale = 1, shape) = scale * cast(iota(shape[0]), f32)"
    for start, expected in (("ramp", [0, 1, 2]), ("ramp(2)", [0, 2, 4]), ("[3, 1, 2]", [3, 1, 2])):
        text = model(f"param w: [3] = {start}\n y = x + w", outside)
        assert np.array_equal(Net(text).variables["w"], expected)


def test_functions_take_settings_in_any_order() -> None:
    outside = "fn f(x, a = 1, b = 2) = a * x + b"
    for call, expected in {
        "f(x)": X + 2, "x -> f": X + 2, "x -> f(3)": 3 * X + 2, "f(x, b = 5, a = 2)": 2 * X + 5,
        "x -> f(3, 4)": 3 * X + 4, "f(b = 1, x = x)": X + 1,
    }.items():  # fmt: skip
        assert np.array_equal(run(f"y = {call}", outside, x=X), expected)


def test_defaults_see_the_settings_before_them() -> None:
    outside = "fn f(x, a = 2, b = a * a) = b * x"
    assert np.array_equal(run("y = f(x)", outside, x=X), 4 * X)
    assert np.array_equal(run("y = f(x, 3)", outside, x=X), 9 * X)


def test_a_tensor_does_not_hide_the_function_of_its_name() -> None:
    assert np.allclose(run("sum = sum(x, 1)\n y = sum(x, 1) + sum", x=X), 2 * X.sum(1))


# --- states ---------------------------------------------------------------------------------------

COUNTER = """block count { in x: [batch, n]\n out y: [batch, n]
    state seen: [n] = 0
    seen = if training then seen + sum(x, 0) else seen
    y = x + seen }
"""


def test_a_state_takes_its_next_value() -> None:
    net = Net(model("y = x -> count as part", COUNTER), training=True)
    first = net(x=X)
    assert np.array_equal(first["part.seen"], X.sum(0))
    assert np.array_equal(first["y"], X + X.sum(0))


def test_a_state_keeps_its_value_when_predicting() -> None:
    net = Net(model("y = x -> count as part", COUNTER))
    net.variables["part.seen"] = np.array([1.0, 2.0, 3.0])
    found = net(x=X)
    found = found["y"] if isinstance(found, dict) else found
    assert np.array_equal(found - X, [[1, 2, 3]] * 2)


def test_a_state_of_a_model() -> None:
    net = Net(model("state s: [3] = 1\n s = s + sum(x, 0)\n y = x"), training=True)
    assert np.array_equal(net(x=X)["s"], 1 + X.sum(0))


def test_running_statistics() -> None:
    net = Net(model("y = x -> batch_norm(momentum = 0.75)"), training=True)
    found = net(x=X)
    assert np.allclose(found["batch_norm_1.mean"], 0.25 * X.mean(0))
    assert np.allclose(found["batch_norm_1.variance"], 0.75 + 0.25 * X.var(0, ddof=1))
    assert np.allclose(found["y"].mean(0), 0)


# --- inputs and outputs ---------------------------------------------------------------------------


def test_several_inputs_and_outputs() -> None:
    text = """model M { in a: [batch, 2]\n in b: i32[batch]\n out p: [batch, 2]\n out q: [batch]
        p = a * 2\n q = sum(a, 1) + cast(b, f32) }"""
    found = Net(text)(a=np.ones((3, 2)), b=np.array([1, 2, 3]))
    assert np.array_equal(found["p"], np.full((3, 2), 2))
    assert np.array_equal(found["q"], [3, 4, 5])


def test_names_share_a_port() -> None:
    text = "model M { in a, b: [batch, 2]\n out p, q: [batch, 2]\n p = a + b\n q = a - b }"
    found = Net(text)(a=np.ones((3, 2)), b=np.full((3, 2), 4.0))
    assert np.array_equal(found["p"], np.full((3, 2), 5))
    assert np.array_equal(found["q"], np.full((3, 2), -3))


def test_a_block_with_several_inputs_and_outputs() -> None:
    block = """block both { in a, b: [batch, n]\n out s: [batch, n]\n out d: [batch, n]
        s = a + b\n d = a - b }"""
    assert np.array_equal(run("s, d = x -> both(b = 2 * x)\n y = s * d", block, x=X), -3 * X * X)


# --- arithmetic -----------------------------------------------------------------------------------

STATIC = {
    "7 / 2": 3.5, "8 / 2": 4, "7 // 2": 3, "-7 // 2": -4, "7 % 3": 1, "-7 % 3": 2, "2 ** 10": 1024,
    "2 ** -1": 0.5, "-2 ** 2": -4, "1 - 2 - 3": -4, "2 ** 3 ** 2": 512, "1e3": 1000, "1_000": 1000,
    "sqrt(16)": 4, "exp(0)": 1, "floor(-2.5)": -3, "ceil(2.1)": 3, "round(2.4)": 2, "abs(-3)": 3,
    "maximum(2, 3)": 3, "minimum(2, 3)": 2, "sum([1, 2, 3])": 6, "max([1, 5, 3])": 5,
    "size([1, 2])": 2, "([1, 2] + [3])[2]": 3, "[1, 2, 3][-1]": 3, "sign(-2)": -1,
    "sigmoid(-1e308)": 0, "if 1 == 1.0 then 1 else 2": 1, 'if "a" + "b" == "ab" then 1 else 2': 1,
    "if [1, 2] == [1, 2] then 1 else 2": 1, "if none == none then 1 else 2": 1, "(7)": 7,
}  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), STATIC.items())
def test_numbers_are_computed_when_compiling(expression: str, value: float) -> None:
    env = walk(f"const a = {expression}\nmodel M {{ in x: [batch]\n out y\n y = x }}").env
    binding = env.find("a")
    assert binding is not None
    assert binding.value == value


def test_tensors_follow_the_same_rules() -> None:
    a = np.array([7.0, -7.0, 2.5])
    for expression, expected in {
        "x / 2": a / 2, "x // 2": a // 2, "x % 3": a % 3, "x ** 2": a**2, "-x": -a, "2 - x": 2 - a,
        "1 / x": 1 / a, "x @ x": a @ a, "abs(x)": abs(a), "floor(x)": np.floor(a),
        "maximum(x, 0)": np.maximum(a, 0), "minimum(1, x)": np.minimum(1, a), "x == 7": a == 7,
    }.items():  # fmt: skip
        text = f"model M {{ in z: [batch]\n in x: [batch]\n out y\n y = {expression} }}"
        assert np.allclose(Net(text)(z=a, x=a), expected), expression


def test_whole_numbers_stay_whole() -> None:
    for expression, dtype in {
        "n + 1": "i64", "n // 2": "i64", "n * 2": "i64", "n / 2": "f64", "n + 0.5": "f64",
        "sqrt(n)": "f64", "sum(n)": "i64", "mean(n)": "f64", "abs(n)": "i64", "floor(n)": "i64",
        "sum(n > 1)": "f64", "n > 1": "bool", "cast(n, i32)": "i32", "argmax(n, 0)": "i64",
    }.items():  # fmt: skip
        text = f"model M {{ in n: i64[batch]\n out y\n y = {expression} }}"
        assert str(walk(text).outputs["y"].dtype) == dtype, expression


def test_lists_of_sizes_are_compared_by_their_elements() -> None:
    for test, expected in {
        "shape(x) == [size(x, 0), 3]": 1, "shape(x) == shape(2 * x)": 1, "shape(x) == [3]": 0,
        "[1, [2, 3]] == [1, [2, 3]]": 1, "[1, 2] == [1, 3]": 0, "[] == []": 1, "[1] == 1": 0,
        "[relu] == [relu]": 1, "[none] == [none]": 1, '["a"] == ["b"]': 0,
    }.items():  # fmt: skip
        assert run(f"y = if {test} then x * 0 + 1 else x * 0", x=X)[0, 0] == expected, test


# --- bundles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("l2(weights)", lambda w, b: (w**2).sum()),
        ("l1(weights)", lambda w, b: abs(w).sum()),
        ("elastic(weights, 0.25)", lambda w, b: 0.25 * abs(w).sum() + 0.75 * (w**2).sum()),
        ("l2(parameters)", lambda w, b: (w**2).sum() + (b**2).sum()),
        ("sum(2 * weights - 1)", lambda w, b: (2 * w - 1).sum()),
        ("sum(maximum(weights, 0))", lambda w, b: np.maximum(w, 0).sum()),
        (
            "sum(minimum(0, parameters))",
            lambda w, b: np.minimum(w, 0).sum() + np.minimum(b, 0).sum(),
        ),
        ("sum(weights * weights)", lambda w, b: (w**2).sum()),
        ("sum(-exp(weights))", lambda w, b: -np.exp(w).sum()),
        ("sum(d.weight)", lambda w, b: w.sum()),
    ],
)
def test_all_weights_at_once(
    expression: str, value: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    text = model("y = x -> dense(3) as d\n param b: [3] = uniform(-1, 1)")
    measured = Measured(text, {"x": X}, "mean(y)", expression)
    w, b = measured.variables["d.weight"], measured.variables["b"]
    assert list(measured.over([slice(None)]).values())[1] == pytest.approx(value(w, b))


def test_values_are_called_by_their_names_in_the_text() -> None:
    outside = "block inner { in a: [...]\n out b: [...]\n half = a / 2\n b = tanh(half) }"
    text = model("h = x -> inner -> dense(3)\n z = h\n y = (z -> relu) + 1", outside)
    graph = build_network(walk(text)).predict
    hints = {value.hint for node in graph.nodes for value in node.results}
    assert {"half", "b", "z", "y"} <= hints
    assert "product" not in hints  # a name of the library's
