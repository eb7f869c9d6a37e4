"""Scans: sequences in step, forwards and backwards, with what they carry and emit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.elaborate.networks import Net, codes, run, shapes, walk

X = np.random.default_rng(1).normal(size=(2, 5, 3))
Z = np.random.default_rng(2).normal(size=(2, 5, 4))


def test_a_cumulative_sum() -> None:
    body = """
        scan xt in x along 1 {
            carry s: [batch, 3] = 0
            s = s + xt
            emit y = s
        }
    """
    text = f"model M {{ in x: [batch, time, 3]\n out y: [batch, time, 3]\n {body} }}"
    assert np.allclose(Net(text)(x=X), X.cumsum(1))


def test_the_last_value_of_a_carry_is_known_behind_the_scan() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, 3]
        scan xt in x along time { carry s: [batch, 3] = 1\n s = s * xt }
        y = s }"""
    assert np.allclose(Net(text)(x=X), X.prod(1))


def test_several_sequences_of_different_widths() -> None:
    text = """model M { in x: [batch, time, 3]\n in z: [batch, time, 4]\n out y: [batch, time, 3]
        scan a, b in x, z along time {
            carry s: [batch, 3] = 0
            s = s + a * sum(b, 1, keep = true)
            emit y = s - a
        } }"""
    expected = (X * Z.sum(2, keepdims=True)).cumsum(1) - X
    assert np.allclose(Net(text)(x=X, z=Z), expected)


def test_backwards() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time, 3]
        scan xt in reverse(x, time) along time {
            carry s: [batch, 3] = 0
            s = s + xt
            emit back = s
        }
        y = reverse(back, time) }"""
    assert np.allclose(Net(text)(x=X), X[:, ::-1].cumsum(1)[:, ::-1])


def test_both_directions() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time, 8]
        f = x -> gru(4) as forward
        b = reverse(x, time) -> gru(4) as backward
        y = join([f, reverse(b, time)], -1) }"""
    net = Net(text)
    found = net(x=X)
    alone = Net(
        "model M { in x: [batch, time, 3]\n out y: [batch, time, 4]\n y = x -> gru(4) as g }"
    )
    for name in ("input", "recurrent", "offset", "recurrent_offset"):
        alone.variables[f"g.{name}"] = net.variables[f"backward.{name}"]
    assert np.allclose(found[..., 4:], alone(x=X[:, ::-1])[:, ::-1])


@pytest.mark.parametrize(("axis", "rest"), [(0, "[2, 3]"), (1, "[batch, 3]"), (2, "[batch, 2]")])
def test_along_any_axis(axis: int, rest: str) -> None:
    text = f"""model M {{ in x: [batch, 2, 3]\n out y: [batch, 2, 3]
        scan xt in x along {axis} {{ carry s: {rest} = 0\n s = s + xt\n emit y = s }} }}"""
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    assert np.allclose(Net(text)(x=x), x.cumsum(axis))


def test_several_carries_start_from_what_is_around() -> None:
    text = """model M { in x: [batch, time, 3]\n in start: [batch, 3]\n out y: [batch, time, 3]
        scan xt in x along time {
            carry a: [batch, 3] = start
            carry b: [batch, 3] = 2
            old = a
            a = b
            b = old + xt
            emit y = a
        } }"""
    start = np.ones((2, 3))
    a, b, rows = start, np.full((2, 3), 2.0), []
    for t in range(5):
        a, b = b, a + X[:, t]
        rows.append(a)
    assert np.allclose(Net(text)(x=X, start=start), np.stack(rows, 1))


def test_several_emits() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time, 3]\n out z: [batch, time]
        scan xt in x along time { emit y = xt * 2\n emit z = sum(xt, 1) } }"""
    found = Net(text)(x=X)
    assert np.allclose(found["y"], X * 2)
    assert np.allclose(found["z"], X.sum(2))


def test_what_is_captured() -> None:
    text = """model M { in x: [batch, time, 3]\n in k: [batch, 3]\n out y: [batch, time, 3]
        param w: [3] = [1, 2, 3]
        twice = k * 2
        scan xt in x along time { emit y = xt * w + twice } }"""
    k = np.random.default_rng(3).normal(size=(2, 3))
    assert np.allclose(Net(text)(x=X, k=k), X * [1, 2, 3] + 2 * k[:, None])


def test_layers_inside_a_scan_have_one_set_of_weights() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time, 4]
        scan xt in x along time { emit y = xt -> dense(4) as inner -> tanh } }"""
    net = Net(text)
    assert shapes(net.walk) == {"inner.weight": "f64[3, 4]", "inner.offset": "f64[4]"}
    assert np.allclose(net(x=X), np.tanh(X @ net.variables["inner.weight"]))


def test_scans_inside_scans() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time]
        scan row in x along time {
            scan item in row along 1 {
                carry s: [batch] = 0
                s = 0.5 * s + item
            }
            emit y = s
        } }"""
    expected = 0.25 * X[..., 0] + 0.5 * X[..., 1] + X[..., 2]
    assert np.allclose(Net(text)(x=X), expected)


def test_loops_and_branches_inside_a_scan() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, time, 3]
        scan xt in x along time {
            z = xt
            repeat 2 { z = z * 2 }
            if training { z = z * 0 }
            emit y = z
        } }"""
    assert np.allclose(Net(text)(x=X), X * 4)
    assert np.allclose(Net(text, training=True)(x=X), 0)


def test_an_lstm_by_hand() -> None:
    text = "model M { in x: [batch, time, 3]\n out y: [batch, time, 4]\n y = x -> lstm(4) as cell }"
    net = Net(text)
    w, u, b = (net.variables[f"cell.{n}"] for n in ("input", "recurrent", "offset"))
    h, c, rows = np.zeros((2, 4)), np.zeros((2, 4)), []
    for t in range(5):
        i, f, g, o = np.split(X[:, t] @ w + h @ u + b, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        rows.append(h)
    assert np.allclose(net(x=X), np.stack(rows, 1))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_scan_over_the_batch_keeps_its_place() -> None:
    found = run("scan row in x along 0 { carry s: [3] = 0\n s = s + row\n emit y = s }", x=X[:, 0])
    assert np.allclose(found, X[:, 0].cumsum(0))


ERRORS = {
    "scan a, b in x along time { emit y = a }": "E304",
    "scan a in x along features { emit y = a }": "E101",
    "scan a in x along 7 { emit y = a }": "E204",
    "scan a in 3 along 0 { emit y = a }": "E311",
    "scan a, b in x, z along 2 { emit y = a }": "E203",
    "scan a in x along time { b = a }\n y = x": "E314",
    "scan a in x along time { emit y = 3 }": "E311",
    "scan a in x along time { carry s: [batch, 3] = 0\n s = sum(a, 1) }\n y = x": "E308",
    "scan a in x along time { carry s: [batch, 3] = 0\n s = cast(a > 0, i32) }\n y = x": "E308",
    "scan a in x along time { carry s: [batch, 3] = 0\n s = 1 }\n y = x": "E308",
    "scan a in x along time { carry s: [batch, 4] = x\n emit y = s }": "E308",
    "scan a in x along time { emit y = a -> batch_norm }": "E309",
}


@pytest.mark.parametrize(("body", "code"), ERRORS.items())
def test_errors(body: str, code: str) -> None:
    text = f"model M {{ in x: [batch, time, 3]\n in z: [batch, time, 4]\n out y\n {body} }}"
    assert codes(text) == [code]


def test_a_name_of_a_scan_is_known_there_alone() -> None:
    text = """model M { in x: [batch, time, 3]\n out y: [batch, 3]
        scan xt in x along time { z = xt * 2\n emit e = z }\n y = z }"""
    assert codes(text) == ["E101"]


def test_axes_of_what_is_emitted() -> None:
    text = """model M { in x: [batch, time, 3]\n out y
        scan xt in x along time { emit e = xt }\n y = sum(e, time) }"""
    assert str(walk(text).outputs["y"].type) == "f64[batch, 3]"
