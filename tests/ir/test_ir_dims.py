"""Sizes: normal forms, and their meaning for random values of the symbols."""

from __future__ import annotations

import random

import pytest

from dnnc.ir.dims import Dim, ceil_div, dim, larger, product
from dnnc.ir.reader import parse_graph
from dnnc.ir.text import print_graph

n, m, h = dim("n"), dim("m"), dim("h")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (2 * (h + 1), 2 * h + 2),
        (n * m, m * n),
        (n + m - n, m),
        ((n + 1) * (n - 1), n * n - 1),
        (3 - (1 - n), n + 2),
        (0 * n, dim(0)),
        ((2 * n + 3) // 2, n + 1),
        ((4 * n + 2 * m) // 2, 2 * n + m),
        (n * m // m, n),
        ((n * n + n) // (n + 1), n),
        ((n * h + h + n + 1) // (h + 1), n + 1),
        ((n + 4) % 4, n % 4),
        ((2 * n + 3) % 2, dim(1)),
        ((n * m) % m, dim(0)),
        (7 // dim(2), dim(3)),
        (-7 // dim(2), dim(-4)),
        (7 % dim(4), dim(3)),
        (ceil_div(ceil_div(h, 2), 2), ceil_div(h, 4)),
        (ceil_div(ceil_div(ceil_div(h, 2), 3), 2), ceil_div(h, 12)),
        ((h // 2 + 3) // 4, (h + 6) // 8),
        (((h - 1) // 2 + 1), ceil_div(h, 2)),
        ((ceil_div(h, 2) - 1) * 2 // 2 + 1, ceil_div(h, 2)),
        (larger(n, 0), n),
        (larger(n - 1, n + 1), n + 1),
        (larger(2, 5), dim(5)),
        (larger(n, m), larger(m, n)),
        (product([n, 2, m]), 2 * n * m),
    ],
)
def test_equal_sizes_have_one_normal_form(left: Dim, right: Dim) -> None:
    assert left == right
    assert hash(left) == hash(right)
    assert str(left) == str(right)


@pytest.mark.parametrize(
    ("left", "right"), [(n, m), (n // 2, n), (n % 2, n % 3), (n // m, m // n), (n, n + 1)]
)
def test_different_sizes_differ(left: Dim, right: Dim) -> None:
    assert left != right


def test_integers() -> None:
    assert dim(3) == 3
    assert hash(dim(3)) == hash(3)
    assert dim(3).constant == 3
    assert dim(0).constant == 0
    assert n.constant is None
    assert range(dim(3)) == range(3)
    with pytest.raises(TypeError, match="size n is not known"):
        int(n)


def test_names_and_symbols() -> None:
    assert n.name == "n"
    assert (2 * n).name is None
    assert (n * m + h // 2).symbols == {"n", "m", "h"}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (2 * n - 3, "2 * n - 3"),
        (m * n * 2 + 1, "2 * m * n + 1"),
        (-n, "-n"),
        (ceil_div(h, 2), "(h + 1) // 2"),
        (2 * (h // 3) - 1, "2 * (h // 3) - 1"),
        (n // (m + 1), "n // (m + 1)"),
        (n % 4, "n % 4"),
        (larger(n - 2, 0), "max(0, n - 2)"),
    ],
)
def test_text(size: Dim, text: str) -> None:
    assert str(size) == text


@pytest.mark.parametrize("make", [lambda: n // 0, lambda: n % 0, lambda: dim(1) // 0])
def test_division_by_zero(make: object) -> None:
    assert callable(make)
    with pytest.raises(ZeroDivisionError):
        make()


def test_evaluate_names_the_missing_symbol() -> None:
    with pytest.raises(KeyError, match="m"):
        (n + m).evaluate({"n": 1})


def test_substitution() -> None:
    size = ceil_div(n * 2 + m, 3)
    assert size.substitute({"n": m}) == m
    assert size.substitute({"n": 4, "m": 2}) == 4
    assert size.substitute({"k": 4}) is size
    assert (n // m).substitute({"n": 4 * m}) == 4
    assert larger(n - m, 0).substitute({"m": n - 2}) == 2


def random_size(rng: random.Random, depth: int) -> tuple[Dim, str]:
    """A size, built step by step, and the same computation as Python source."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.6:
            name = rng.choice(["n", "m", "h"])
            return dim(name), name
        number = rng.randint(-3, 5)
        return dim(number), f"({number})"
    left, left_text = random_size(rng, depth - 1)
    kind = rng.choice(["+", "-", "*", "//", "%", "max"])
    if kind in ("//", "%"):
        divisor = rng.choice(["n", "m", "2", "3", "4"])
        right = dim(int(divisor)) if divisor.isdigit() else dim(divisor)
        made = left // right if kind == "//" else left % right
        return made, f"({left_text} {kind} {divisor})"
    right, right_text = random_size(rng, depth - 1)
    if kind == "max":
        return larger(left, right), f"max({left_text}, {right_text})"
    made = left + right if kind == "+" else left - right if kind == "-" else left * right
    return made, f"({left_text} {kind} {right_text})"


@pytest.mark.parametrize("seed", range(150))
def test_normal_form_keeps_the_meaning(seed: int) -> None:
    rng = random.Random(seed)
    size, source = random_size(rng, 4)
    code = compile(source, "<size>", "eval")
    for _ in range(10):
        sizes = {name: rng.randint(1, 30) for name in ("n", "m", "h")}
        expected = eval(code, {"max": max}, dict(sizes))
        assert size.evaluate(sizes) == expected
        assert size.substitute(sizes) == expected
        some = {"n": sizes["n"]}
        assert size.substitute(some).evaluate(sizes) == expected


@pytest.mark.parametrize("seed", range(50))
def test_text_reads_back(seed: int) -> None:
    size, _ = random_size(random.Random(seed), 4)
    text = f"graph f(x: f32[{size}]) {{\n  return y = x\n}}"
    assert print_graph(parse_graph(text)) == text
