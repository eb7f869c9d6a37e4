"""Parameters: read, assigned, saved, loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import dnnc
from tests.model.faces import MLP, diagnostics, one

X = np.random.default_rng(2).standard_normal((3, 4)).astype("f4")


@pytest.fixture
def net() -> dnnc.Model:
    return dnnc.parse(MLP).model("Mlp")


def test_parameters_are_a_mapping(net: dnnc.Model) -> None:
    names = ["dense_1.weight", "dense_1.offset", "head.weight", "head.offset"]
    assert list(net.parameters) == names
    assert len(net.parameters) == 4
    assert "head.weight" in net.parameters
    assert "head" not in net.parameters
    assert {n: a.shape for n, a in net.parameters.items()}["head.weight"] == (8, 3)
    assert net.parameters.get("nothing") is None
    assert "head.weight: float32[8, 3]" in repr(net.parameters)
    with pytest.raises(KeyError, match=r"did you mean head\.weight"):
        net.parameters["head.weigth"]


def test_assigning_changes_the_network_and_writing_is_refused(net: dnnc.Model) -> None:
    before = net(x=X)
    net.parameters["head.offset"] = [1, 2, 3]
    np.testing.assert_allclose(net(x=X), before + np.arange(1, 4), rtol=1e-5, atol=1e-6)
    net.parameters["head.offset"] = 0 * net.parameters["head.offset"]
    np.testing.assert_allclose(net(x=X), before, rtol=1e-5, atol=1e-6)
    for arrays in (net.parameters, net.variables):
        with pytest.raises(ValueError, match="read-only"):
            arrays["head.offset"][0] = 1


def test_assigning_copies(net: dnnc.Model) -> None:
    array, values = net.parameters["head.weight"], np.ones((8, 3))
    net.parameters["head.weight"] = values
    assert net.parameters["head.weight"] is array
    values[...] = 7
    np.testing.assert_array_equal(array, np.ones((8, 3)))
    net.parameters["head.offset"] = [1, 2, 3]
    assert net.parameters["head.offset"].dtype == np.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((3, 8)), "`head.weight` is [8, 3], got [3, 8]"),
        (1.0, "got []"),
        (np.ones((8, 3), complex), "`head.weight` is float32, got complex128"),
    ],
)
def test_assigning_what_does_not_fit(net: dnnc.Model, values: object, message: str) -> None:
    def assign() -> None:
        net.parameters["head.weight"] = values

    code, text = one(assign)
    assert code == "E412"
    assert message in text


def test_assigning_to_a_name_that_is_not_there(net: dnnc.Model) -> None:
    with pytest.raises(KeyError):
        net.parameters["head.bias"] = np.zeros(3)


def test_a_saved_model_is_loaded(net: dnnc.Model, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    net.parameters["head.offset"] = [np.nan, 0, 0]
    net.save(path)
    other = dnnc.parse(MLP).model("Mlp", seed=9)
    array = other.parameters["head.weight"]
    other.load(str(path))
    assert other.parameters["head.weight"] is array
    np.testing.assert_array_equal(other(x=X), net(x=X))
    with safe_open(path, "np") as file:
        assert file.metadata()["model"] == "Mlp"
        assert json.loads(file.metadata()["settings"]) == {"hidden": 8, "classes": 3}


def test_precisions_convert(net: dnnc.Model, tmp_path: Path) -> None:
    double = dnnc.parse(MLP).model("Mlp", dtype="f64", seed=5)
    double.save(tmp_path / "double")
    net.load(tmp_path / "double")
    np.testing.assert_allclose(net(x=X), double(x=X), rtol=1e-4, atol=1e-6)


def test_saving_where_that_is_not_possible(net: dnnc.Model, tmp_path: Path) -> None:
    code, text = one(lambda: net.save(tmp_path / "missing" / "net"))
    assert code == "E604"
    assert "--resume" not in text


def tensors(net: dnnc.Model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in net.variables.items()}


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing that was saved", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 64],
    ids=["empty", "text", "short", "bytes"],
)
def test_a_damaged_file(net: dnnc.Model, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net"
    path.write_bytes(content)
    before = tensors(net)
    assert one(lambda: net.load(path))[0] == "E413"
    for name, array in before.items():
        np.testing.assert_array_equal(net.variables[name], array)


def test_a_file_cut_short(net: dnnc.Model, tmp_path: Path) -> None:
    path = tmp_path / "net"
    net.save(path)
    path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in one(lambda: net.load(path))[1]


def test_a_file_that_is_missing(net: dnnc.Model, tmp_path: Path) -> None:
    assert "is missing" in one(lambda: net.load(tmp_path / "nothing"))[1]
    code, text = one(lambda: net.load(tmp_path))
    assert code == "E413"
    assert "is a folder" in text


def test_a_file_of_another_network(net: dnnc.Model, tmp_path: Path) -> None:
    dnnc.parse(MLP).model("Mlp", hidden=5).save(tmp_path / "net")
    before = tensors(net)
    found = diagnostics(lambda: net.load(tmp_path / "net"))
    assert {d.code for d in found} == {"E413"}
    assert [d.message.split(": ")[1] for d in found] == [
        "`dense_1.weight` is [4, 8], got [4, 5]",
        "`dense_1.offset` is [8], got [5]",
        "`head.weight` is [8, 3], got [5, 3]",
    ]
    assert found[0].help == "it was saved from `Mlp` with classes = 3, hidden = 5"
    for name, array in before.items():
        np.testing.assert_array_equal(net.variables[name], array)


def test_names_that_differ(net: dnnc.Model, tmp_path: Path) -> None:
    held = tensors(net)
    held["heat.weight"] = held.pop("head.weight")
    held["optimizer.m/head.weight"] = np.zeros((8, 3), "f4")
    save_file(held, tmp_path / "net")
    messages = [d.message for d in diagnostics(lambda: net.load(tmp_path / "net"))]
    assert len(messages) == 2
    assert "`head.weight` is missing (it has `heat.weight`)" in messages[0]
    assert "it holds `heat.weight`, which the model does not have" in messages[1]


def test_element_types_that_differ(net: dnnc.Model, tmp_path: Path) -> None:
    held = tensors(net)
    held["head.offset"] = held["head.offset"].astype(complex).view("f8")[:3].astype("f2")
    save_file(held, tmp_path / "half")
    net.load(tmp_path / "half")
    header = b'{"dense_1.weight":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "brain").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    assert one(lambda: net.load(tmp_path / "brain"))[0] == "E413"
