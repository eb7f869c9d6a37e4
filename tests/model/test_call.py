"""Calls: NumPy in, NumPy out, and what is wrong with arrays that do not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dnnc
from tests.model.faces import LANGUAGE, MLP, PAIR, diagnostics, one, predicted

RANDOM = np.random.default_rng(1)


@pytest.fixture(scope="module")
def net() -> dnnc.Model:
    return dnnc.parse(MLP).model("Mlp")


@pytest.mark.parametrize("batch", [0, 1, 2, 7, 64, 129])
def test_every_size_of_batch(net: dnnc.Model, batch: int) -> None:
    x = RANDOM.standard_normal((batch, 4)).astype("f4")
    y = net(x=x)
    assert y.shape == (batch, 3)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, predicted(net, x=x), rtol=1e-5, atol=1e-6)


def test_every_layout_and_number_is_taken(net: dnnc.Model) -> None:
    x = RANDOM.standard_normal((6, 4)).astype("f4")
    wanted = net(x=x)
    wide = np.zeros((6, 8), "f4")
    wide[:, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    same = (x.astype("f8"), np.asfortranarray(x), wide[:, ::2], x.tolist(), x.astype(">f4"))
    for array in (*same, read_only, x[::-1][::-1]):
        np.testing.assert_allclose(net(x=array), wanted, rtol=1e-6)
    whole = np.array([[1, 0, 2, 3]])
    for dtype in ("i4", "i8", "u1", "i2", "f2"):
        np.testing.assert_array_equal(net(x=whole.astype(dtype)), net(x=whole.astype("f4")))
    np.testing.assert_array_equal(net(x=whole > 0), net(x=(whole > 0).astype("f4")))


def test_results_are_the_callers_own(net: dnnc.Model) -> None:
    x = np.ones((2, 4), "f4")
    first = net(x=x)
    kept = first.copy()
    net(x=2 * x)
    np.testing.assert_array_equal(first, kept)
    first[...] = 0
    np.testing.assert_array_equal(net(x=x), kept)


def test_an_array_may_change_between_calls(net: dnnc.Model) -> None:
    x = np.ones((2, 4))
    before = net(x=x)
    x *= 2
    assert not np.array_equal(net(x=x), before)


def test_several_inputs_and_outputs() -> None:
    net = dnnc.parse(PAIR).model("Pair")
    left, right = RANDOM.standard_normal((2, 3, 5)).astype("f4")
    results = net(right=right, left=left)
    assert list(results) == ["total", "gap"]
    np.testing.assert_allclose(results["total"], left + right, rtol=1e-6)
    np.testing.assert_allclose(results["gap"], abs(left - right).sum(1), rtol=1e-5)
    assert net(left=left[:, :2], right=right[:, :2])["gap"].shape == (3,)


def test_double_precision() -> None:
    net = dnnc.parse(MLP).model("Mlp", dtype="f64")
    x = RANDOM.standard_normal((3, 4))
    assert net(x=x).dtype == np.float64
    np.testing.assert_allclose(net(x=x), predicted(net, x=x), rtol=1e-12)


def test_numbers_beyond_single_precision_become_infinite() -> None:
    net = dnnc.parse(PAIR).model("Pair")
    results = net(left=[[1e300, np.nan]], right=[[0, 0]])
    np.testing.assert_array_equal(results["total"], [[np.inf, np.nan]])


def test_the_seed_and_threads() -> None:
    program = dnnc.parse(MLP)
    x = RANDOM.standard_normal((40, 4)).astype("f4")
    one_thread = program.model("Mlp", seed=3, threads=1)(x=x)
    np.testing.assert_array_equal(program.model("Mlp", seed=3, threads=2)(x=x), one_thread)
    assert not np.array_equal(program.model("Mlp", seed=4)(x=x), one_thread)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input `x: f32[batch, 4]` is missing"),
        ({"x": np.zeros((2, 5))}, "`x` is f32[batch, 4], got an array of [2, 5]"),
        ({"x": np.zeros(4)}, "got an array of [4]"),
        ({"x": 1.0}, "got an array of []"),
        ({"x": [["a", "b", "c", "d"]]}, "an array of <U1, not of numbers"),
        ({"x": np.zeros((2, 4), complex)}, "complex128, not of numbers"),
        ({"x": [[1, 2], [3]]}, "`x` is not an array"),
        ({"x": None}, "object, not of numbers"),
    ],
)
def test_an_array_that_does_not_fit(net: dnnc.Model, inputs: dict[str, object], message: str):
    code, text = one(lambda: net(**inputs))
    assert code == "E412"
    assert message in text


def test_the_first_axis_is_the_batch(net: dnnc.Model) -> None:
    assert "for one example give x[None]" in one(lambda: net(x=np.zeros(4)))[1]


def test_all_wrong_arguments_are_told_at_once(net: dnnc.Model) -> None:
    found = diagnostics(lambda: net(X=np.zeros((2, 4)), y=1))
    assert [d.message for d in found] == [
        "there is no input `X`",
        "there is no input `y`",
        "the input `x: f32[batch, 4]` is missing",
    ]


def test_sizes_that_contradict_each_other() -> None:
    net = dnnc.parse(PAIR).model("Pair")
    code, text = one(lambda: net(left=np.zeros((2, 3)), right=np.zeros((2, 4))))
    assert code == "E412"
    assert "axis 1 of `right` must be n = 3, got 4" in text


def test_a_bound_of_a_size() -> None:
    net = dnnc.parse(LANGUAGE).model("Language")
    assert net(tokens=np.zeros((2, 6), int)).shape == (2, 6, 11)
    code, text = one(lambda: net(tokens=np.zeros((2, 7), int)))
    assert code == "E412"
    assert "seq is 7, more than 6" in text


def test_a_wrong_call_leaves_the_network_usable(net: dnnc.Model) -> None:
    x = np.ones((2, 4), "f4")
    wanted = net(x=x)
    one(lambda: net(x=np.zeros((2, 5))))
    np.testing.assert_array_equal(net(x=x), wanted)


def test_threads_call_the_same_network_and_others() -> None:
    program = dnnc.parse(MLP)
    nets = [program.model("Mlp", hidden=h, seed=h) for h in (8, 8, 40)]
    inputs = [RANDOM.standard_normal((n, 4)).astype("f4") for n in (1, 5, 300)]
    wanted = [[predicted(net, x=x) for x in inputs] for net in nets]

    def work(start: int) -> None:
        for turn in range(60):
            k, i = (start + turn) % len(nets), turn % len(inputs)
            np.testing.assert_allclose(nets[k](x=inputs[i]), wanted[k][i], rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
