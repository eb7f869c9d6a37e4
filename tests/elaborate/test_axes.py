"""Names of axes: they stay with the data through blocks, and mean its axes everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.elaborate.networks import codes, walk

X = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)


def axes(body: str, shape: str = "[batch, channels, h, w]", outside: str = "") -> list[str]:
    """Names of the axes of `y`."""
    text = f"{outside}\nmodel M {{ in x: {shape}\n out y\n {body} }}"
    tensor = walk(text, sizes={"channels": 3, "h": 8, "w": 8}).outputs["y"]
    return [a.name if a is not None else "?" for a in tensor.axes]


CASES = {
    "y = relu(x)": "batch channels h w",
    "y = x -> conv(16, 3, stride = 2)": "batch channels h w",
    "y = x -> conv(16, 3) -> batch_norm -> relu -> max_pool(2)": "batch channels h w",
    "y = x -> depthwise(3) -> avg_pool(2)": "batch channels h w",
    "y = mean(x, axis = [h, w])": "batch channels",
    "y = mean(x, axis = [h, w], keep = true)": "batch channels ? ?",
    "y = x -> conv(16, 3, stride = 2) -> mean(axis = [h, w])": "batch channels",
    "y = max(x -> conv(4), axis = channels)": "batch h w",
    "y = x -> prelu -> dropout(0.5)": "batch channels h w",
    "y = transpose(x, [w, h, channels, batch])": "w h channels batch",
    "y = softmax(x, axis = channels)": "batch channels h w",
    "y = x -> residual { conv(3) -> batch_norm }": "batch channels h w",
    "y = x -> concat(axis = channels) { conv(4) | conv(6, 1) }": "batch channels h w",
    "y = x -> concat(axis = channels) { conv(4) | conv(6) } -> sum(axis = channels)": "batch h w",
    "y = x + mean(x, axis = w, keep = true)": "batch channels h w",
    "y = mean(x, axis = [batch, channels]) + x": "batch channels h w",
    "y = split(x, 3, axis = channels)[0]": "batch channels h w",
    "y = slice(x, 1, 3, axis = h)": "batch channels h w",
    "y = reverse(x, w)": "batch channels h w",
    "y = pad(x, 1, 1, axis = h)": "batch channels h w",
    "y = insert_axis(x, 1)": "batch ? channels h w",
    "y = argmax(x, axis = channels)": "batch h w",
    "y = if x > 0 then x else 0": "batch channels h w",
    "y = cast(x > 0, f32)": "batch channels h w",
    "y = reshape(x, [batch, channels, h * w])": "batch channels ?",
    "y = x[0]": "channels h w",
    "y = x -> global_avg_pool": "batch channels",
    "a = x -> conv(8, stride = 2)\n b = a -> conv(16, stride = 2)\n y = mean(b, [h, w])": (
        "batch channels"
    ),
}


@pytest.mark.parametrize(("body", "expected"), CASES.items(), ids=CASES)
def test_axes_follow_the_data(body: str, expected: str) -> None:
    assert " ".join(axes(body)) == expected


def test_axes_through_a_block_of_ones_own() -> None:
    block = """block half { in a: [n, c, rows, columns]\n out b: [n, 2 * c, r, s]
        b = a -> conv(2 * c, stride = 2)\n r = size(b, 2)\n s = size(b, 3) }"""
    # The names of the block are the same axes as those of the model.
    assert axes("y = x -> half -> mean(axis = [h, w])", outside=block) == ["batch", "channels"]


def test_axes_of_sequences() -> None:
    shape = "[batch, time, features]"
    text = "model M {{ in x: {}\n out y\n y = {} }}"
    for body, expected in {
        "x -> lstm(4)": ["batch", "time"],
        "x -> gru(4) -> rnn(3)": ["batch", "time"],
        "max(x -> lstm(4), axis = time)": ["batch"],
        "x -> dense(4) -> layer_norm": ["batch", "time"],
        "x -> encoder_layer(6, 2)": ["batch", "time"],
        "x -> positions": ["batch", "time"],
    }.items():
        found = walk(text.format(shape, body), sizes={"features": 6}).outputs["y"].axes
        assert [a.name for a in found if a is not None][: len(expected)] == expected


def test_an_embedding_keeps_the_axes_of_its_tokens() -> None:
    text = (
        "model M { in x: i32[batch, time]\n out y\n y = x -> embedding(5, 4) -> mean(axis = time) }"
    )
    assert str(walk(text).outputs["y"].type) == "f64[batch, 4]"


def test_one_name_is_one_axis_in_several_inputs() -> None:
    text = """model M { in a: [batch, time, 3]\n in b: [batch, time, 5]\n out y
        y = mean(join([a, b], -1), axis = time) }"""
    assert str(walk(text).outputs["y"].type) == "f64[batch, 8]"


@pytest.mark.parametrize(
    "body",
    [
        "y = mean(mean(x, [h, w]), axis = h)",
        "y = mean(x -> flatten, axis = h)",
        "y = mean(x, axis = [h, h])",
        "y = mean(x, axis = 4)",
        "y = mean(x, axis = -5)",
        'y = mean(x, axis = "h")',
        "y = transpose(x, [h, w])",
        "y = x -> concat(axis = features) { relu }",
    ],
)
def test_axes_that_are_not_there(body: str) -> None:
    text = f"model M {{ in x: [batch, channels, h, w]\n out y\n in z: [batch, features]\n {body} }}"
    assert codes(text, sizes={"channels": 3, "h": 8, "w": 8, "features": 2}) == ["E204"]


def test_an_axis_that_is_there_twice() -> None:
    text = "model M {{ in x: [batch, n]\n out y\n a = x @ transpose(x)\n y = sum(a, axis = {}) }}"
    assert codes(text.format("batch")) == ["E204"]
    walk(text.format("0"))
