"""Splits, batches, missing values and standardizing."""

import numpy as np
import pytest

from dnnc.data import batches, learns
from dnnc.diagnostics import Source
from dnnc.syntax.parse import parse


def sizes(dataset):
    return {name: split.size for name, split in dataset.splits.items()}


def rows(dataset, split, field="x"):
    part = dataset.splits[split]
    return part.take(np.arange(part.size))[field]


class TestSplits:
    X = np.arange(100)

    def test_three_fractions(self, space):
        dataset = space.load('x = array("x")\nsplit = [0.8, 0.1, 0.1]', x=self.X)
        assert sizes(dataset) == {"train": 80, "validation": 10, "test": 10}
        joined = np.concatenate([rows(dataset, name) for name in dataset.splits])
        assert sorted(joined.tolist()) == self.X.tolist()
        assert rows(dataset, "train").tolist() != list(range(80))

    def test_two_fractions_are_train_and_validation(self, space):
        dataset = space.load('x = array("x")\nsplit = [0.75, 0.25]', x=self.X)
        assert sizes(dataset) == {"train": 75, "validation": 25}

    def test_a_fraction_of_zero_leaves_a_split_out(self, space):
        dataset = space.load('x = array("x")\nsplit = [0.9, 0, 0.1]', x=self.X)
        assert sizes(dataset) == {"train": 90, "test": 10}

    def test_without_a_word_all_rows_train(self, space):
        assert sizes(space.load('x = array("x")', x=self.X)) == {"train": 100}

    def test_in_order(self, space):
        dataset = space.load('x = array("x")\nsplit = [0.9, 0.1]\nshuffle = false', x=self.X)
        assert rows(dataset, "validation").tolist() == list(range(90, 100))

    def test_seed(self, space):
        drawn = [
            rows(space.load(f'x = array("x")\nvalidation = 0.1\nseed = {seed}', x=self.X), "train")
            for seed in (0, 0, 1)
        ]
        assert np.array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])

    def test_the_draw_is_the_same_everywhere(self, space):
        dataset = space.load('x = array("x")\nsplit = [0.9, 0.1]', x=self.X)
        assert rows(dataset, "validation").tolist() == [
            6, 7, 18, 23, 27, 29, 41, 46, 84, 95,
        ]  # fmt: skip

    def test_stratified(self, space):
        label = np.repeat([0, 1, 2], [50, 30, 20])
        dataset = space.load(
            'x = array("x")\nlabel = array("label")\nsplit = [0.8, 0.2]\nstratify = label',
            x=self.X,
            label=label,
        )
        assert np.bincount(rows(dataset, "validation", "label")).tolist() == [10, 6, 4]

    @pytest.mark.parametrize("stride", [1, 3, 8, 20])
    def test_windows_of_different_splits_share_no_text(self, space, stride):
        data = np.random.default_rng(0).permutation(250).astype(np.uint8)
        space.write("t.txt", data.tobytes())
        dataset = space.load(f"""
            s = text("t.txt", context = 8, stride = {stride})
            x = s.input
            y = s.target
            split = [0.6, 0.2, 0.2]""")
        seen = [
            set(np.concatenate([rows(dataset, name), rows(dataset, name, "y")]).ravel().tolist())
            for name in ("train", "validation", "test")
        ]
        assert sum(map(len, seen)) == len(set().union(*seen))

    @pytest.mark.parametrize(
        ("entries", "code", "needle"),
        [
            ("split = [0.8, 0.1]", "E517", "sum to 0.9"),
            ("split = [0.5, 0.7, -0.2]", "E517", "positive"),
            ("split = [0.4, 0.2, 0.2, 0.2]", "E517", "three"),
            ("split = 0.8", "E505", "list of fractions"),
            ("split = [0.999, 0.001]", "E518", "validation split is empty"),
            ("split = [0.9, 0.1]\nvalidation = 0.1", "E517", "both"),
            ("validation = 1.5", "E517", "between 0 and 1"),
            ('validation = "a"', "E505", "fraction"),
            ('validation = array("x")', "E505", "files("),
            ("shuffle = 1", "E505", "true or false"),
            ("seed = -1", "E505", "integer"),
            ("seed = 1.5", "E505", "integer"),
            ("missing = dorp", "E505", "did you mean `drop`"),
            ("missing = [1]", "E505", "a number"),
            ("standardize = 3", "E505", "names of fields"),
            ("standardize = [y]", "E501", "`y`"),
            ("stratify = x / 2\nsplit = [0.5, 0.5]", "E505", "column of classes"),
            ("stratify = z\nsplit = [0.5, 0.5]", "E501", "`z`"),
        ],
    )
    def test_wrong_options(self, space, entries, code, needle):
        space.fault(f'x = array("x")\n{entries}', code, needle, x=self.X)

    def test_parts_are_divided_already(self, space):
        entries = 'x = files(train = array("x"), validation = array("x"))'
        space.fault(f"{entries}\nsplit = [0.8, 0.2]", "E517", "divided already", x=self.X)
        space.fault(f"{entries}\nvalidation = 0.2", "E517", "names validation", x=self.X)

    def test_drawn_windows(self, space):
        space.write("t.txt", "a" * 100)
        space.fault(
            's = text("t.txt", context = 8)\nx = s.input\nsplit = [0.5, 0.5]\nshuffle = true',
            "E517",
            "divided in their order",
        )

    def test_stratify_by_what_depends_on_the_split(self, space):
        space.fault(
            'x = standardize(array("x"))\nstratify = standardize(array("x")) > 0',
            "E517",
            "depends on the training rows",
            x=self.X,
        )


class TestBatches:
    def split(self, space, size=10):
        return space.load('x = array("x")', x=np.arange(size)).splits["train"]

    def order(self, split, **options):
        given = {"seed": 0, "epoch": 0, "shuffle": True, **options}
        return [batch.tolist() for batch in batches(split, 4, **given)]

    def test_cover_every_row_once(self, space):
        order = self.order(self.split(space))
        assert [len(batch) for batch in order] == [4, 4, 2]
        assert sorted(sum(order, [])) == list(range(10))  # noqa: RUF017

    def test_order_depends_on_seed_and_epoch_alone(self, space):
        split = self.split(space)
        assert self.order(split) == self.order(split)
        assert self.order(split) != self.order(split, epoch=1)
        assert self.order(split) != self.order(split, seed=1)
        assert self.order(split, seed=-1) == self.order(split, seed=-1)

    def test_order_is_the_same_everywhere(self, space):
        assert self.order(self.split(space), seed=7, epoch=3) == [
            [1, 7, 6, 5],
            [0, 4, 3, 9],
            [8, 2],
        ]

    def test_without_shuffling_and_without_the_last(self, space):
        order = self.order(self.split(space), shuffle=False, drop_last=True)
        assert order == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_a_batch_needs_rows(self, space):
        with pytest.raises(ValueError, match="at least 1"):
            list(batches(self.split(space), 0, seed=0, epoch=0, shuffle=False))


class TestMissing:
    TEXT = "a,b,kind\n1,0.5,u\n?,1.5,v\n3,,u\n4,2.5,NA\n"

    def entries(self, *more):
        return "\n".join(['s = csv("t.csv")', *more])

    def test_is_an_error(self, space):
        space.write("t.csv", self.TEXT)
        for column, place in (("a", "row 2 (line 3), column `a`"), ("b", "row 3 (line 4)")):
            space.fault(self.entries(f"x = s.{column}"), "E513", place, "t.csv", "missing = drop")
        space.fault(self.entries("x = categories(s.kind)"), "E513", "row 4 (line 5)")
        space.fault(self.entries('x = s.columns("b")'), "E513", "row 3 (line 4), column `b`")

    def test_unused_columns_do_not_count(self, space):
        space.write("t.csv", "a,b\n1,\n2,3\n")
        assert space.values(self.entries("x = s.a", "missing = drop")).tolist() == [1, 2]
        assert space.values(self.entries("x = s.a")).tolist() == [1, 2]

    def test_drop(self, space):
        space.write("t.csv", self.TEXT)
        entries = self.entries("x = s.a", "y = s.b", "missing = drop")
        assert space.values(entries).dtype == np.int64
        assert space.values(entries).tolist() == [1, 4]
        entries = self.entries("x = s.b", "kind = categories(s.kind)", "missing = drop")
        assert space.values(entries).tolist() == [0.5, 1.5]

    def test_drop_knows_all_rows_before_the_first_fit(self, space):
        space.write("t.csv", "a,b\n1,2\n100,?\n3,4\n")
        dataset = space.load(self.entries("x = standardize(s.a)", "y = s.b", "missing = drop"))
        assert dataset.statistics["x"].mean == 2

    def test_dropped_rows_of_files(self, space):
        space.write("a.csv", "v,w\n1,\n2,3\n")
        space.write("b.csv", "v,w\n4,5\n,6\n")
        dataset = space.load("""
            s = files(train = csv("a.csv"), test = csv("b.csv"))
            x = s.v
            w = s.w
            missing = drop""")
        assert (rows(dataset, "train").tolist(), rows(dataset, "test").tolist()) == ([2], [4])

    def test_dropped_rows_may_be_infinite(self, space):
        x = np.array([1.0, np.nan, 3.0])
        values = space.values('x = log(array("x"))\nmissing = drop', x=x)
        np.testing.assert_allclose(values, np.log([1, 3]), rtol=1e-6)

    @pytest.mark.parametrize(
        ("policy", "a", "b"),
        [
            ("zero", 0, 0.0),
            ("7", 7, 7.0),
            ("-0.5", -0.5, -0.5),
            ("mean", np.float32(8 / 3), 1.5),
            ("median", 3, 1.5),
        ],
    )
    def test_replaced(self, space, policy, a, b):
        space.write("t.csv", self.TEXT)
        values = space.load(self.entries("x = s.a", "y = s.b", f"missing = {policy}"))
        assert rows(values, "train")[1] == a
        assert rows(values, "train", "y")[2] == b
        kept = "i64" if policy in ("zero", "7") else "f32"
        assert values.fields["x"].dtype == kept

    def test_means_are_of_the_training_rows(self, space):
        x = np.array([1.0, np.nan, 3.0, 1000.0])
        entries = 'x = array("x")\nmissing = mean\nsplit = [0.75, 0.25]\nshuffle = false'
        assert rows(space.load(entries, x=x), "train").tolist() == [1, 2, 3]

    def test_means_of_stacked_columns(self, space):
        space.write("t.csv", "a,b\n1,\n3,4\n,8\n")
        values = space.values(self.entries('x = s.columns("*")', "missing = mean"))
        assert values.tolist() == [[1, 6], [3, 4], [2, 8]]

    def test_text_has_no_mean(self, space):
        space.write("t.csv", self.TEXT)
        space.fault(
            self.entries("x = categories(s.kind)", "missing = mean"), "E513", "missing = drop"
        )

    def test_nothing_left(self, space):
        space.write("t.csv", "a,b\n1,\n2,\n")
        space.fault(self.entries('x = s.columns("*")', "missing = drop"), "E515", "none is left")
        space.fault(self.entries("x = s.b", "missing = mean"), "E513", "no mean")


class TestStandardize:
    X = np.array([[1, 5, 0.1], [3, 5, 0.1], [5, 5, 0.1], [100, 7, 0.1]])

    @pytest.mark.parametrize(
        "entries", ['x = standardize(array("x"))', 'x = array("x")\nstandardize = [x]']
    )
    def test_fits_training_rows(self, space, entries):
        entries += "\nsplit = [0.75, 0.25]\nshuffle = false"
        dataset = space.load(entries, x=self.X)
        train, held = rows(dataset, "train"), rows(dataset, "validation")
        assert train.dtype == np.float32
        np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(train.std(0), [1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(held, [[97 / np.sqrt(8 / 3), 2, 0]], rtol=1e-5, atol=1e-6)
        fitted = dataset.statistics["x"]
        np.testing.assert_allclose(fitted.apply(self.X[3:]), held, rtol=1e-5, atol=1e-6)

    def test_over_all_elements(self, space):
        dataset = space.load('x = standardize(array("x"), over = all)', x=self.X)
        values = rows(dataset, "train")
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-5)

    def test_fits_are_kept_for_other_data(self, space):
        entries = 'x = standardize(log(standardize(array("x")) + 10))'
        first = space.load(entries, x=self.X)
        assert set(first.statistics) == {"x", "x.1"}
        again = space.load(entries, statistics=first.statistics, x=self.X[:1])
        np.testing.assert_array_equal(rows(again, "train"), rows(first, "train")[:1])

    def test_large_offsets_keep_their_precision(self, space):
        x = 1e6 + np.arange(10_000) % 7
        values = space.values('x = standardize(array("x"))', x=x)
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-5)

    def test_twice(self, space):
        space.fault('x = standardize(array("x"))\nstandardize = x', "E505", "already", x=self.X)


class TestLearned:
    """What is learned from one file holds for another."""

    ENTRIES = """
        s = csv("{}.csv")
        kind = one_hot(categories(s.kind))
        code = one_hot(s.code)
        x = concat(s.a, s.b)
        missing = mean"""

    def test_other_data(self, space):
        space.write("first.csv", "kind,code,a,b\nu,0,1,10\nw,3,,20\nv,1,3,\n")
        space.write("other.csv", "kind,code,a,b\nw,1,7,\n")
        first = space.load(self.ENTRIES.format("first"))
        other = space.load(self.ENTRIES.format("other"), statistics=first.statistics)
        assert rows(first, "train").tolist() == [[1, 10], [2, 20], [3, 15]]
        assert rows(other, "train").tolist() == [[7, 15]]
        assert rows(other, "train", "kind").tolist() == [[0, 0, 1]]
        assert rows(other, "train", "code").tolist() == [[0, 1, 0, 0]]

    def test_unknown_class(self, space):
        space.write("first.csv", "kind\nu\nw\n")
        space.write("other.csv", "kind\nw\nz\n")
        entries = 'x = categories(csv("{}.csv").kind)'
        first = space.load(entries.format("first"))
        fault = space.fault(
            entries.format("other"), "E523", "row 2", "'z'", statistics=first.statistics
        )
        assert fault.span.text == 'csv("other.csv").kind'

    @pytest.mark.parametrize(
        ("entries", "expected"),
        [
            ("x = s.a / 2\nmissing = drop", False),
            ("x = s.a\nmissing = median", True),
            ('x = s.a\nmissing = "mean"', True),
            ("x = s.a\nstandardize = x", True),
            ("x = standardize(s.a)", True),
            ("x = s.a -> categories -> one_hot", True),
        ],
    )
    def test_learns(self, entries, expected):
        item = parse(Source("test.dnn", f'data D {{ s = csv("t.csv")\n{entries} }}')).items[0]
        assert learns(item) is expected
