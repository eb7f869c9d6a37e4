"""What the expressions of a data block mean."""

import numpy as np
import pytest

X = np.array([[1, 2, 3], [4, 5, 6]], np.int64)
V = np.array([0.5, 2.0], np.float32)


@pytest.mark.parametrize(
    ("expression", "dtype", "expected"),
    [
        ("x + 1", "i64", X + 1),
        ("-x", "i64", -X),
        ("x * x - x", "i64", X * X - X),
        ("x / 2", "f32", X / 2),
        ("1 / x", "f32", 1 / X),
        ("x // 2", "i64", X // 2),
        ("x % 2", "i64", X % 2),
        ("x ** 2", "i64", X**2),
        ("x ** -1", "f32", 1 / X),
        ("x * 0.5", "f32", X * 0.5),
        ("x * v", "f32", X * V[:, None]),
        ("(x + 1) / 16", "f32", (X + 1) / 16),
        ("x > 3", "bool", X > 3),
        ("x == 3 or not (x > 1)", "bool", (X == 3) | (X <= 1)),
        ('s.k == "a"', "bool", [False, True]),
        ("if x > 3 then x else 0", "i64", np.where(X > 3, X, 0)),
        ("if 16 > 3 then v else x", "f32", V),
        ("x[0]", "i64", X[:, 0]),
        ("x[-1]", "i64", X[:, -1]),
        ("v -> reshape([1, 1])", "f32", V[:, None, None]),
        ("reshape(x, [3, -1])", "i64", X[..., None]),
        ("flatten(reshape(x, [3, 1]))", "i64", X),
        ("transpose(reshape(x, [3, 1]), [1, 0])", "i64", X[:, None]),
        ("cast(x, u8)", "u8", X),
        ("cast(v, f64) * 2", "f64", V.astype("f8") * 2),
        ("cast(v * 3, i32)", "i32", [1, 6]),
        ("cast(v, bool)", "bool", [True, True]),
        ("one_hot(x[0] - 1, 4)", "f32", np.eye(4)[[0, 3]]),
        ("one_hot(x[0])", "f32", np.eye(5)[[1, 4]]),
        ("categories(s.k)", "i64", [1, 0]),
        ('categories(s.k, names = ["b", "a", "c"])', "i64", [0, 1]),
        ("categories(x[0])", "i64", [0, 1]),
        ('categories(s.k) == "a"', "bool", [False, True]),
        ("concat(x, v)", "f32", np.column_stack([X, V])),
        ("clip(x, 2, 5)", "i64", np.clip(X, 2, 5)),
        ("maximum(x, 2)", "i64", np.maximum(X, 2)),
        ("minimum(v, x[0])", "f32", [0.5, 2]),
        ("abs(-v)", "f32", V),
        ("sum(x)", "i64", X.sum(1)),
        ("mean(x)", "f32", X.mean(1)),
        ("max(x)", "i64", X.max(1)),
        ("log(v) + exp(v) + sqrt(v)", "f32", np.log(V) + np.exp(V) + np.sqrt(V)),
        ("log(x)", "f32", np.log(X)),
        ("round(v)", "f32", [0, 2]),
    ],
)
def test_expression(space, expression, dtype, expected):
    space.write("k.csv", "k\nb\na\n")
    entries = f's = csv("k.csv")\nx = array("x")\nv = array("v")\nresult = {expression}'
    values = space.values(entries, "result", x=X, v=V)
    assert space.load(entries, x=X, v=V).fields["result"].dtype == dtype
    np.testing.assert_allclose(values, np.asarray(expected), rtol=1e-6)


def test_constants_of_the_file(space):
    entries = 'x = array("x") / scale\nseed = start\nsplit = shares'
    constants = {"scale": 4, "start": 3, "shares": [0.5, 0.5]}
    dataset = space.load(entries, constants, x=X)
    assert {name: split.size for name, split in dataset.splits.items()} == {
        "train": 1,
        "validation": 1,
    }


def test_timestamps_keep_their_precision_until_they_are_stored(space):
    space.write("t.csv", "t\n1600000000.25\n1600000001.5\n")
    values = space.values('x = csv("t.csv").t - 1600000000')
    assert values.dtype == np.float32
    assert values.tolist() == [0.25, 1.5]


def test_take_can_be_asked_for_some_fields(space):
    split = space.load('x = array("x")\ny = x + 1', x=X).splits["train"]
    assert list(split.take(np.array([0]), ["y"])) == ["y"]


class TestFingerprint:
    ENTRIES = 's = csv("t.csv")\nx = s.a * scale'

    def fingerprint(self, space, entries=ENTRIES, scale=2, **arrays):
        return space.load(entries, {"scale": scale, "unused": scale}, **arrays).fingerprint

    def test_depends_on_content_entries_and_constants(self, space):
        space.write("t.csv", "a\n1\n2\n")
        first = self.fingerprint(space)
        assert self.fingerprint(space, self.ENTRIES + "  # a remark") == first
        assert self.fingerprint(space, scale=3) != first
        assert self.fingerprint(space, self.ENTRIES + "\nseed = 1") != first
        space.write("t.csv", "a\n1\n3\n")
        assert self.fingerprint(space) != first

    def test_depends_on_arrays(self, space):
        prints = {
            self.fingerprint(space, 'x = array("x")', x=values)
            for values in (X, X.astype(np.int32), X + 1, X.reshape(3, 2))
        }
        assert len(prints) == 4
