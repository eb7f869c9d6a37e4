"""Names of layers, parameters and states: they follow from the text alone."""

from __future__ import annotations

from tests.elaborate.networks import codes, shapes, walk


def names(body: str, outside: str = "") -> list[str]:
    text = f"{outside}\nmodel M {{ in x: [batch, 4]\n out y: [batch, 4]\n {body} }}"
    return list(shapes(walk(text)))


def test_layers_are_numbered_by_their_block() -> None:
    assert names("y = x -> dense(3) -> relu -> dense(4)") == [
        "dense_1.weight", "dense_1.offset", "dense_2.weight", "dense_2.offset",
    ]  # fmt: skip


def test_as_names_a_layer() -> None:
    found = names("y = x -> dense(3, bias = false) as stem -> dense(4, bias = false)")
    assert found == ["stem.weight", "dense_1.weight"]


def test_a_name_that_is_used_twice_is_numbered() -> None:
    body = "repeat 2 { x = x -> dense(4, bias = false) as part }\n y = x -> dense(4, bias = false)"
    assert names(body) == ["part.weight", "part_2.weight", "dense_1.weight"]


def test_a_name_that_looks_like_a_number_takes_no_other_layers_place() -> None:
    body = """
        a = x -> dense(4, bias = false) as dense_1
        b = a -> dense(4, bias = false)
        c = b -> dense(4, bias = false) as dense_2
        y = c -> dense(4, bias = false)
    """
    found = names(body)
    assert found[0] == "dense_1.weight"
    assert len(set(found)) == 4


def test_layers_inside_layers() -> None:
    outside = """
    block pair(width) {
        in  x: [batch, n]
        out y: [batch, n]
        param scale: [n] = ones
        y = (x -> dense(width, bias = false) -> dense(n, bias = false) as back) * scale
    }"""
    assert names("repeat 2 { x = x -> pair(3) }\n y = x", outside) == [
        "pair_1.scale", "pair_1.dense_1.weight", "pair_1.back.weight",
        "pair_2.scale", "pair_2.dense_1.weight", "pair_2.back.weight",
    ]  # fmt: skip


def test_layers_in_braces_belong_to_their_block() -> None:
    found = names("y = x -> residual { dense(4, bias = false) as inner -> batch_norm }")
    assert found == [
        "residual_1.inner.weight", "residual_1.batch_norm_1.scale",
        "residual_1.batch_norm_1.offset", "residual_1.batch_norm_1.mean",
        "residual_1.batch_norm_1.variance",
    ]  # fmt: skip


def test_names_do_not_depend_on_branches_not_taken() -> None:
    body = "a = if {} then x -> dense(4, bias = false) else x\n y = a -> dense(4, bias = false)"
    assert names(body.format("true")) == ["dense_1.weight", "dense_2.weight"]
    assert names(body.format("false")) == ["dense_1.weight"]


def test_training_and_prediction_agree() -> None:
    text = """model M { in x: [batch, 4]\n out y: [batch, 4]
        y = x -> dense(4) -> dropout(0.5) -> batch_norm -> dense(4) as head }"""
    assert shapes(walk(text, training=True)) == shapes(walk(text, training=False))


def test_parameters_of_a_model_itself() -> None:
    assert names("param w: [4] = ones\n state s: [4] = zeros\n y = x * w + s") == ["w", "s"]


def test_a_layer_that_is_named_has_attributes() -> None:
    # `wide.up.weight` is [4, 3]: tied, it maps back from three to four.
    found = names("a = x -> mlp(3) as wide\n y = a -> dense(3) -> dense(4, weights = wide.up)")
    assert found == [
        "wide.up.weight", "wide.up.offset", "wide.down.weight", "wide.down.offset",
        "dense_1.weight", "dense_1.offset", "dense_2.offset",
    ]  # fmt: skip


def test_a_name_in_a_loop_is_known_there_alone() -> None:
    text = """model M {{ in x: [batch, 4]\n out y: [batch, 4]
        repeat 2 {{ a = x -> dense(4) as part\n x = a * part.offset }}
        y = x{} }}"""
    assert "part_2.offset" in shapes(walk(text.format("")))
    assert codes(text.format(" * part.offset")) == ["E101"]


def test_layers_are_listed_with_their_sizes() -> None:
    text = "model M { in x: [batch, 4]\n out y: [batch, 2]\n y = x -> mlp(3, units = 2) as wide }"
    layers = [(s.path, s.block, s.parameters, str(s.output)) for s in walk(text).session.layers]
    assert layers == [
        ("wide", "mlp", 0, "f64[batch, 2]"),
        ("wide.up", "dense", 15, "f64[batch, 3]"),
        ("wide.dropout_1", "dropout", 0, "f64[batch, 3]"),
        ("wide.down", "dense", 8, "f64[batch, 2]"),
    ]


def test_a_parameter_is_declared_once() -> None:
    text = """model M { in x: [batch, 4]\n out y: [batch, 4]
        y = x\n repeat 2 { param w: [4] = ones } }"""
    assert codes(text) == ["E305"]
