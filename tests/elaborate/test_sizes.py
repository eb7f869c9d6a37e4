"""Shapes as equations: what the inputs of a block bind, and what is checked."""

from __future__ import annotations

import pytest

from tests.elaborate.networks import codes, diagnostics, walk


def output(block: str, shape: str, call: str = "b") -> str:
    """The type that a block makes of an input of a shape."""
    text = f"{block}\nmodel M {{ in x: {shape}\n out y\n y = x -> {call} }}"
    return str(walk(text).outputs["y"].type)


@pytest.mark.parametrize(
    ("written", "size", "n"),
    [
        ("n", 12, 12),
        ("2 * n", 12, 6),
        ("n * 3", 12, 4),
        ("n + 2", 12, 10),
        ("2 * n + 2", 12, 5),
        ("2 * (n - 1)", 12, 7),
        ("4 - n", 3, 1),
        ("k * n", 12, 4),
        ("n + k", 12, 9),
        ("-n + 20", 12, 8),
    ],
)
def test_a_size_is_solved(written: str, size: int, n: int) -> None:
    block = f"block b(k = 3) {{ in x: [batch, {written}]\n out y\n y = full(1, [size(x, 0), n]) }}"
    assert output(block, f"[batch, {size}]") == f"f64[batch, {n}]"


@pytest.mark.parametrize("written", ["n * n", "n * m", "n % 3", "n // 2", "n / 2", "2 ** n"])
def test_a_size_that_cannot_be_solved(written: str) -> None:
    block = f"block b {{ in x: [batch, {written}]\n out y: [batch]\n y = sum(x, 1) }}"
    text = f"{block}\nmodel M {{ in x: [batch, 12]\n out y: [batch]\n y = x -> b }}"
    assert codes(text)[0] in ("E212", "E101", "E112", "E213")


@pytest.mark.parametrize(("written", "size"), [("2 * n", 7), ("3 * n + 1", 6)])
def test_a_size_without_a_whole_solution(written: str, size: int) -> None:
    block = f"block b {{ in x: [batch, {written}]\n out y: [batch]\n y = sum(x, 1) }}"
    assert codes(f"{block}\nmodel M {{ in x: [batch, {size}]\n out y: [batch]\n y = x -> b }}") == [
        "E212"
    ]


def test_symbols_are_solved_too() -> None:
    block = "block b { in x: [batch, 2 * n]\n out y: [batch, n]\n y = (x -> split(2))[0] }"
    assert output(block, "[batch, 4 * k]") == "f64[batch, 2 * k]"
    assert output(block, "[batch, 2 * k + 6]") == "f64[batch, k + 3]"


def test_a_name_binds_once_and_checks_then() -> None:
    block = "block b { in x: [n, n]\n out y: [n]\n y = sum(x, 1) }"
    text = "{}\nmodel M {{ in x: [batch, 3]\n out y\n y = x -> b }}"
    assert codes(text.format(block)) == ["E210"]
    two = "block b { in x: [batch, n]\n in z: [n, m]\n out y: [batch, m]\n y = x @ z }"
    text = (
        "{}\nmodel M {{ in x: [batch, 3]\n out y\n param w: [{}, 2] = ones\n y = x -> b(z = w) }}"
    )
    assert str(walk(text.format(two, 3)).outputs["y"].type) == "f64[batch, 2]"
    assert codes(text.format(two, 4)) == ["E210"]


def test_settings_are_sizes() -> None:
    block = "block b(width) { in x: [batch, width]\n out y: [batch, width]\n y = x }"
    assert output(block, "[batch, 3]", "b(3)") == "f64[batch, 3]"
    text = f"{block}\nmodel M {{ in x: [batch, 3]\n out y\n y = x -> b(4) }}"
    (error,) = diagnostics(text)
    assert error.code == "E210"
    assert "width = 4" in error.message


def test_an_output_is_checked() -> None:
    block = "block b { in x: [batch, n]\n out y: [batch, 2 * n]\n y = join([x, x], 1) }"
    assert output(block, "[batch, 3]") == "f64[batch, 6]"
    wrong = block.replace("2 * n", "3 * n")
    assert codes(f"{wrong}\nmodel M {{ in x: [batch, 3]\n out y\n y = x -> b }}") == ["E210"]


def test_a_new_name_in_an_output_is_bound_there() -> None:
    block = "block b { in x: [batch, n]\n out y: [batch, m]\n y = join([x, x], 1) }"
    assert output(block, "[batch, 3]") == "f64[batch, 6]"


# --- further axes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["[batch, 3]", "[batch, time, 3]", "[batch, 2, 4, 3]"])
def test_any_axes_before_the_last(shape: str) -> None:
    block = "block b { in x: [..., n]\n out y: [..., 2 * n]\n y = join([x, x], -1) }"
    assert output(block, shape) == f"f64{shape.replace('3]', '6]')}"


def test_axes_in_the_middle() -> None:
    block = "block b { in x: [first, ..., last]\n out y: [last, ..., first]\n y = {} }"
    swap = "transpose(x, [2, 1, 0])"
    text = block.replace("{}", swap)
    assert output(text, "[batch, 4, 3]") == "f64[3, 4, batch]"
    assert codes(f"{text}\nmodel M {{ in x: [batch]\n out y\n y = x -> b }}") == ["E210"]


def test_an_ellipsis_may_stand_for_nothing() -> None:
    block = "block b { in x: [batch, n, ...]\n out y: [batch, n, ...]\n y = x }"
    assert output(block, "[batch, 4]") == "f64[batch, 4]"
    assert output(block, "[batch, 4, 5]") == "f64[batch, 4, 5]"


def test_an_ellipsis_in_a_parameter() -> None:
    block = (
        "block b { in x: [batch, ...]\n out y: [batch, ...]\n param w: [...] = ones\n y = x * w }"
    )
    text = f"{block}\nmodel M {{ in x: [batch, 4, 5]\n out y\n y = x -> b as part }}"
    assert str(walk(text).session.declared["part.w"].variable.type) == "f64[4, 5]"


# --- bounds ---------------------------------------------------------------------------------------

BOUNDED = "block b(most = 16) { in x: [batch, seq <= most]\n out y: [batch, seq]\n y = x }\n"


def test_a_bound_holds_for_numbers() -> None:
    assert output(BOUNDED, "[batch, 16]") == "f64[batch, 16]"
    assert codes(f"{BOUNDED}model M {{ in x: [batch, 17]\n out y\n y = x -> b }}") == ["E211"]


def test_a_bound_follows_from_a_bound() -> None:
    assert output(BOUNDED, "[batch, n <= 16]") == "f64[batch, n]"
    assert output(BOUNDED, "[batch, n <= 12]") == "f64[batch, n]"
    for shape in ("[batch, n <= 17]", "[batch, n]"):
        assert codes(f"{BOUNDED}model M {{ in x: {shape}\n out y\n y = x -> b }}") == ["E211"]


def test_a_bound_of_a_size_that_is_fixed() -> None:
    text = "model M(most = 8) { in x: [batch, n <= most]\n out y\n y = x }"
    assert str(walk(text, sizes={"n": 8}).outputs["y"].type) == "f64[batch, 8]"
    assert codes(text, sizes={"n": 9}) == ["E211"]


def test_bounds_decide_comparisons() -> None:
    text = """model M(most = 8) { in x: [batch, n <= most]\n out y
        require n <= 8 and n > 0 and n >= 1\n y = x }"""
    walk(text)
    assert codes(text.replace("n <= 8 and", "n <= 7 and")) == ["E213"]


def test_sizes_of_the_input_may_be_fixed() -> None:
    text = "model M { in x: [batch, features]\n out y\n y = x -> dense(2) }"
    assert codes(text) == ["E215"]
    found = walk(text, sizes={"features": 5}).session.declared["dense_1.weight"]
    assert str(found.variable.type) == "f64[5, 2]"
