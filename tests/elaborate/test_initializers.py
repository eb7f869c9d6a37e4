"""Initializers: where they lie, how they spread, and that they follow from seed and name."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.elaborate.network import build_network
from dnnc.ir.interpret import interpret
from tests.elaborate.networks import Net, walk


def drawn(start: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The first value of a parameter of a shape."""
    text = f"""model M {{ in x: [batch]\n out y: [batch]
        param w: {list(shape)} = {start}\n y = x * sum(w) }}"""
    return Net(text, seed=seed).variables["w"]


FANS = {(200, 300): (200, 300), (40, 30, 3, 3): (30 * 9, 40 * 9), (500,): (500, 500)}


@pytest.mark.parametrize("shape", FANS, ids=str)
@pytest.mark.parametrize(
    ("start", "variance"),
    [
        ("glorot_uniform", lambda i, o: 2 / (i + o)),
        ("glorot_uniform(gain = 2)", lambda i, o: 8 / (i + o)),
        ("glorot_normal", lambda i, o: 2 / (i + o)),
        ("glorot", lambda i, o: 2 / (i + o)),
        ("he_uniform", lambda i, o: 2 / i),
        ("he_normal", lambda i, o: 2 / i),
        ("he", lambda i, o: 2 / i),
        ("lecun_uniform", lambda i, o: 1 / i),
        ("lecun_normal", lambda i, o: 1 / i),
        ("lecun", lambda i, o: 1 / i),
        ("normal", lambda i, o: 0.02**2),
        ("normal(3)", lambda i, o: 9),
        ("uniform", lambda i, o: 0.1**2 / 12),
        ("uniform(-2, 2)", lambda i, o: 16 / 12),
    ],
)
def test_spread(start: str, variance: object, shape: tuple[int, ...]) -> None:
    w = drawn(start, shape)
    expected = variance(*FANS[shape])  # type: ignore[operator]
    # Four standard deviations of a variance and of a mean from so many draws.
    assert w.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / w.size))
    assert abs(w.mean()) < 4 * np.sqrt(expected / w.size)


@pytest.mark.parametrize(
    ("start", "limit"),
    [
        ("uniform(-1, 3)", (-1, 3)),
        ("glorot_uniform", (-np.sqrt(6 / 500), np.sqrt(6 / 500))),
        ("he_uniform", (-np.sqrt(6 / 200), np.sqrt(6 / 200))),
        ("lecun_uniform", (-np.sqrt(3 / 200), np.sqrt(3 / 200))),
    ],
)
def test_uniform_ones_fill_their_interval(start: str, limit: tuple[float, float]) -> None:
    w = drawn(start, (200, 300))
    width = limit[1] - limit[0]
    assert limit[0] <= w.min() < limit[0] + 0.001 * width
    assert limit[1] - 0.001 * width < w.max() <= limit[1]
    assert np.allclose(
        np.quantile(w, [0.25, 0.5, 0.75]),
        limit[0] + width * np.array([1, 2, 3]) / 4,
        atol=0.01 * width,
    )


def test_normal_ones_are_normal() -> None:
    w = drawn("normal(2, mean = 5)", (100, 1000))
    assert w.mean() == pytest.approx(5, abs=0.05)
    for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert (abs(w - 5) < 2 * deviations).mean() == pytest.approx(share, abs=0.005)
    assert np.isfinite(w).all()


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5), (1, 7), (6, 2, 3), (4, 3, 2, 2)])
def test_orthogonal_ones_are_orthogonal(shape: tuple[int, ...]) -> None:
    w = drawn("orthogonal", shape).reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert np.allclose(product, np.eye(len(product)), atol=1e-9)
    assert np.allclose(drawn("orthogonal(gain = 3)", shape).reshape(shape[0], -1), 3 * w)


def test_orthogonal_ones_are_spread_evenly() -> None:
    # Of a Haar matrix, every entry has variance 1 / n.
    text = "model M { in x: [batch]\n out y\n param w: [6, 6] = orthogonal\n y = x * sum(w) }"
    initial = build_network(walk(text)).initial
    seeds = (np.array(seed, np.int64) for seed in range(150))
    entries = np.stack([interpret(initial, {"seed": seed})["w"] for seed in seeds])
    assert abs(entries.mean(0)).max() < 4 * np.sqrt(1 / 6 / 150)
    assert np.allclose((entries**2).mean(0), 1 / 6, atol=0.07)


@pytest.mark.parametrize(
    ("start", "value"),
    [("zeros", 0), ("ones", 1), ("0.5", 0.5), ("constant(3)", 3), ("full(2, [3])", 2), ("-1", -1)],
)
def test_constant_ones(start: str, value: float) -> None:
    assert np.array_equal(drawn(start, (3,)), np.full(3, value))


def test_a_list_is_a_start() -> None:
    assert np.array_equal(drawn("[1, 2.5, 3]", (3,)), [1, 2.5, 3])
    assert np.array_equal(drawn("[[1, 2], [3, 4]]", (2, 2)), [[1, 2], [3, 4]])


def test_the_seed_decides() -> None:
    assert np.array_equal(drawn("normal", (5, 5), 1), drawn("normal", (5, 5), 1))
    assert not np.array_equal(drawn("normal", (5, 5), 1), drawn("normal", (5, 5), 2))


def test_layers_start_apart() -> None:
    text = (
        "model M { in x: [batch, 4]\n out y\n y = x -> dense(4) -> dense(4) -> dense(4) as last }"
    )
    variables = Net(text).variables
    weights = [variables[n] for n in ("dense_1.weight", "dense_2.weight", "last.weight")]
    assert len({w.tobytes() for w in weights}) == 3


def test_a_layer_keeps_its_start_when_others_are_added() -> None:
    text = "model M {{ in x: [batch, 4]\n out y\n {} y = x -> dense(4) as head }}"
    alone = Net(text.format("")).variables["head.weight"]
    beside = Net(text.format("x = x -> dense(4)").replace("x = x ->", "z = x ->")).variables
    assert np.array_equal(alone, beside["head.weight"])


def test_the_gates_of_an_lstm() -> None:
    text = "model M { in x: [batch, time, 3]\n out y\n y = x -> lstm(4) as cell }"
    offset = Net(text).variables["cell.offset"]
    assert np.array_equal(offset, [0] * 4 + [1] * 4 + [0] * 8)
