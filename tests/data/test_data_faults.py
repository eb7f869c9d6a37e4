"""Every way in which a data block can be wrong: code, place, and what the message says."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest

import dnnc.data
from dnnc.data.sources import SOURCES
from dnnc.diagnostics import CODES

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("entries", "code", "needles"),
    [
        # names, functions, arguments
        ("y = xx + 1", "E501", ["`xx`", "did you mean `x`"]),
        ("y = z\nz = y", "E501", ["depends on itself", "y → z → y"]),
        ("y = log", "E501", ["is a function"]),
        ("y = reshpe(x, [2])", "E502", ["did you mean `reshape`"]),
        ('y = cvs("a.csv")', "E502", ["did you mean `csv`"]),
        ("y = x(3)", "E502", ["cannot be called"]),
        ('y = x.columns("a")', "E502", ["has no function"]),
        ("y = [1][0](3)", "E502", ["only functions"]),
        ('y = csv("a.csv", headers = true)', "E503", ["did you mean `header`"]),
        ("y = csv()", "E503", ["needs `path`"]),
        ("y = csv(3)", "E503", ["must be a text in quotes", "the number 3"]),
        ('y = csv("a.csv", delimiter = "ab")', "E503", ["one ASCII character"]),
        ("y = log(x, x)", "E503", ["at most 1"]),
        ("y = log(x, x = x)", "E503", ["given twice"]),
        ("y = cast(x, f23)", "E503", ["not `f23`", "did you mean `f32`"]),
        ("y = cast(x, 3)", "E503", ["one of f32"]),
        ('y = text("t", tokens = words)', "E503", ["bytes, characters", "`words`"]),
        ('y = text("t", context = 0)', "E503", ["at least 1"]),
        ("y = log(3)", "E503", ["must be a column"]),
        ("y = maximum(1, 2)", "E503", ["needs a column"]),
        ("y = one_hot(cast(x, i64), 0)", "E503", ["got 0"]),
        ('y = images(".", size = [3])', "E503", ["[height, width]"]),
        ('y = files(test = array("x"))', "E503", ["needs `train`"]),
        ('y = files(train = array("x"), tset = array("x"))', "E503", ["did you mean `test`"]),
        ("y = files(train = x, test = 3)", "E503", ["must be a source"]),
        ("y = x.columns", "E504", ["has no `columns`"]),
        # entries
        ("x = 3", "E524", ["given twice"]),
        ("splt = [1]", "E524", ["did you mean `split`"]),
        ("a.b = 3", "E524", ["no name of a field"]),
        ("standardize(x)", "E524", ["standardize = [features]"]),
        ("maximize x", "E524", ["name = value"]),
        ("require 1 > 0", "E524", ["name = value"]),
        # shapes and operations
        ("y = reshape(x, [3])", "E521", ["2 elements a row"]),
        ("y = reshape(x, [-1, -1])", "E521", ["cannot become"]),
        ("y = transpose(x, [1, 0])", "E521", ["does not order"]),
        ('y = x + reshape(array("w"), [3])', "E521", ["[2] and [3]"]),
        ("y = concat(reshape(x, [1, 2]), reshape(x, [2, 1]))", "E521", ["before their last"]),
        ("y = x[2]", "E521", ["no element 2"]),
        ("y = x + [1, 2][2]", "E521", ["no element 2"]),
        ("y = x[0.5]", "E522", ["integer"]),
        ("y = x + (3)[0]", "E522", ["no elements"]),
        ("y = x @ x", "E522", ["`@` is not defined"]),
        ("y = x and x", "E522", ["`and` is not defined"]),
        ("y = not x", "E522", ["`not` needs"]),
        ('y = x + "a"', "E522", ["a text"]),
        ('y = x == "a"', "E522", ["`==` is not defined"]),
        ("y = x < none", "E522", ["none"]),
        ("y = if x then 1 else 2", "E522", ["true or false"]),
        ("y = if 3 then x else x", "E522", ["true or false"]),
        ("y = x * (1 / 0)", "E522", ["division by zero"]),
        ("y = x * 10 ** 10 ** 10", "E522", ["too large"]),
        ("y = x * (-8) ** 0.5", "E522", ["not real"]),
        ("y = cast(x, i64) * 10 ** 30", "E522", ["too large"]),
        ("y = x -> reshape([2]) as r", "E522", ["layer names"]),
        ("y = categories(x)", "E522", ["needs text or integers"]),
        ("y = categories(cast(x, i64))", "E521", ["one value a row"]),
        ("y = one_hot(x)", "E522", ["needs integers"]),
        ("y = one_hot(cast(x, i64), 3)", "E523", ["class 5 is outside 0 .. 2"]),
        ("y = cast(x * 100, u8)", "E523", ["500.0", "u8"]),
        ('y = categories(cast(x[0], i64), names = ["0", "2"])', "E523", ["row 3", "'4'"]),
        ('y = categories(cast(x[0], i64)) == "7"', "E523", ["no class is called `7`"]),
        # values
        ("y = log(x)", "E514", ["field `y` is -inf in row 1"]),
        ("y = cast(x, i64) // cast(x, i64)", "E514", ["divides by zero"]),
        ("y = x * 1e300 * 1e300", "E514", ["inf in row 1"]),
        ('y = array("short")', "E516", ["2 rows", "`x` has 3 rows"]),
        ('y = x + array("short")', "E516", ["3 and 2"]),
        ('y = files(train = array("x")) + x', "E516", ["cannot be joined"]),
        ('y = array("z")', "E520", ["the arrays given are"]),
        ('y = array("wx")', "E520", ["did you mean"]),
        ('y = array("list")', "E510", ["a list, not a NumPy array"]),
        ('y = array("objects")', "E510", ["Python objects"]),
        ('y = array("complex")', "E510", ["complex128"]),
        ('y = array("dates")', "E510", ["datetime64"]),
        ('y = array("scalar")', "E510", ["single value"]),
        ('y = array("huge")', "E510", ["beyond the range of i64"]),
        ('y = array("infinite")', "E514", ["inf in row 2"]),
        ('y = array("gaps")', "E513", ["row 1", "`gaps`"]),
        ('y = array("empty")', "E515", ["no rows"]),
        ('y = array("names")', "E511", ["is text", 'y = categories(array("names"))']),
        ('y = array("names") + 1', "E511", ["`+` needs numbers"]),
    ],
)
def test_fault(space, entries, code, needles):
    arrays = {
        "w": np.zeros((3, 3)),
        "short": np.zeros(2),
        "list": [1, 2, 3],
        "objects": np.array([1, None, 3]),
        "complex": np.zeros(3, complex),
        "dates": np.array(["2020-01-01"] * 3, "datetime64[D]"),
        "scalar": np.array(3),
        "huge": np.array([0, 1, 2**64 - 1], np.uint64),
        "infinite": np.array([0, np.inf, 1]),
        "gaps": np.array([0, np.nan, 1]),
        "empty": np.zeros((0, 2)),
        "names": np.array(["a", "b", "c"]),
    }
    space.fault(f'x = array("x")\n{entries}', code, *needles, x=X, **arrays)


def test_a_block_needs_fields(space):
    fault = space.fault("seed = 3", "E524", "no fields")
    assert fault.span.text == "D"


def test_all_independent_errors_are_reported_at_once(space):
    diagnostics = space.faults(
        """
        source = csv("absent.csv")
        image = source.columns("pixel_*") / 16
        y = unknown + 1
        z = y * 2
        split = [0.5, 0.6]""",
        "describe",
    )
    assert sorted(d.code for d in diagnostics) == ["E501", "E506", "E517"]


def test_every_code_is_tested():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    package = Path(dnnc.data.__file__).parent
    raised = {
        node.value
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("E5")
    }
    assert raised == {code for code in CODES if code.startswith("E5")}
    assert {code for code in raised if f'"{code}"' not in tests} == set()


class TestFilesThatCannotBeOpened:
    @pytest.mark.parametrize("source", sorted(set(SOURCES) - {"array"}))
    def test_absent(self, space, source):
        space.write("data.bin", "")
        space.fault(f'x = {source}("date.bin")', "E506", "date.bin", "did you mean `data.bin`")

    @pytest.mark.parametrize("source", sorted(set(SOURCES) - {"array", "images"}))
    def test_folder(self, space, source):
        (space.folder / "folder").mkdir()
        space.fault(f'x = {source}("folder")', "E506", "is a folder")

    def test_folder_wanted(self, space):
        space.write("file", "")
        space.fault('x = images("file")', "E506", "not a folder")

    @pytest.mark.parametrize("name", ["", "a\\0b", "x" * 5000])
    def test_odd_names(self, space, name):
        assert {d.code for d in space.faults(f'x = csv("{name}")')} <= {"E506", "E012"}

    def test_absolute_paths(self, space):
        path = space.write("t.csv", "a\n1\n")
        assert space.values(f'x = csv("{path.as_posix()}").a').tolist() == [1]


class TestCsv:
    @pytest.mark.parametrize(
        ("text", "entry", "code", "needles"),
        [
            ("a,b\n1,2\n3\n", "s.a", "E512", ["line 3", "has 1 cells and the first line has 2"]),
            ("a,b\n1,2\n3,4,5\n1,2\n", "s.a", "E512", ["line 3", "has 3 cells"]),
            ('a,b\n\n"1",2\n3\n', "s.a", "E512", ["line 4", "has 1 cells"]),
            ("a\n1\nx1\n", "s.a", "E511", ["row 2 (line 3), column `a` is 'x1'", "categories("]),
            ("a\n1\nx1\n", "s.a / 2", "E511", ["row 2 (line 3)"]),
            ("a\n1\n1_0\n", "s.a", "E511", ["'1_0'"]),
            ("a\n1\n1.2.3\n", "s.a", "E511", ["'1.2.3'"]),
            ("a\n1\n-\n", "s.a", "E511", ["'-'"]),
            ("a\n1\n--1\n", "s.a", "E511", ["'--1'"]),
            ("a,b\n1,2\n# no\n3,x\n", 's.columns("*")', "E512", ["line 3"]),
            ("a,b\n1,2\n\n3,x\n", 's.columns("*")', "E511", ["row 2 (line 4), column `b`", "'x'"]),
            ("a\n1\n\ninf\n", "s.a", "E514", ["inf in row 2"]),
            ("", "s.a", "E515", ["is empty"]),
            ("a,b\n", "s.a", "E515", ["only a header"]),
            ("a,b\n1,2\n", "s.c", "E504", ["it has `a`, `b`"]),
            ("label\n1\n", "s.lable", "E504", ["did you mean `label`"]),
            ("a,b\n1,2\n", 's.columns("pix*")', "E504", ["no column like `pix*`"]),
            ("a,b\n1,2\n", 's.columns("*", without = "*")', "E504", ["is left"]),
            ("a,b\n1,2\n", "s.columns", "E504", ["needs arguments"]),
            ("a,b\n1,2\n", 's.colums("a")', "E502", ["did you mean `columns`"]),
            ("a,a\n1,2\n", "s.a", "E508", ["two columns called `a`"]),
            ("5.1,3.5\n4.9,3.0\n", "s.a", "E508", ["header = false"]),
            ('a\n"b\n', "s.a", "E508", ["quote = none"]),
            ("a\n\0\n", "s.a", "E508", ["zero bytes"]),
        ],
    )
    def test_fault(self, space, text, entry, code, needles):
        space.write("t.csv", text)
        space.fault(f's = csv("t.csv")\nx = {entry}', code, "t.csv", *needles)

    @pytest.mark.parametrize("text", [b"\xff,b\n1,2\n", b'\xff,"b"\n1,2\n'])
    def test_not_utf8(self, space, text):
        space.write("t.csv", text)
        space.fault('x = csv("t.csv").b', "E508", "not UTF-8")

    def test_text_that_is_not_utf8(self, space):
        space.write("t.csv", b"a\nx\n\xff\n")
        space.fault('x = categories(csv("t.csv").a)', "E508", "not UTF-8")

    def test_long_texts(self, space, monkeypatch):
        monkeypatch.setattr("dnnc.data.sources.delimited._CHARACTERS", 20)
        space.write("t.csv", "a\nx\n" + "y" * 20 + "\n")
        space.fault('x = categories(csv("t.csv").a)', "E510", "up to 20 bytes")

    def test_numbers_as_names(self, space):
        space.write("t.csv", "0,1\n2,3\n")
        assert space.values('x = csv("t.csv").columns("*")').tolist() == [[2, 3]]

    def test_parts_of_different_kinds(self, space):
        space.write("a.csv", "a\n1\n")
        space.write("b.csv", "a\nx\n")
        entries = 's = files(train = csv("a.csv"), test = csv("b.csv"))\nx = s.a'
        space.fault(entries, "E511", "text in one file", "'x'")


def packed(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


class TestArrayFiles:
    @pytest.mark.parametrize(
        ("data", "code", "needle"),
        [
            (b"PK\3\4", "E508", "not an IDX file"),
            (b"\0\0\x07\1\0\0\0\1\0", "E508", "not an IDX file"),
            (b"\0\0\x08\0", "E508", "not an IDX file"),
            (b"", "E508", "not an IDX file"),
            (b"\0\0\x08\3\0\0\0\1", "E509", "within its header"),
            (b"\0\0\x08\1\0\0\0\3\1\2", "E509", "declares 3 bytes of data and holds 2"),
            (b"\0\0\x08\1\0\0\0\3\1\2\3\4", "E509", "holds 4"),
            (b"\0\0\x0d\3" + b"\x80\0\0\0" * 3 + b"\0" * 99, "E509", "holds 99"),
            (b"\0\0\x08\1\0\0\0\0", "E515", "is empty"),
            (b"\0\0\x08\2\0\0\0\1\0\0\0\0", "E515", "is empty"),
        ],
    )
    def test_idx(self, space, data, code, needle):
        for action in ("load", "describe"):
            space.write("t.idx", data)
            faults = space.faults('x = idx("t.idx")', action)
            assert faults[0].code == code
            assert needle in faults[0].message

    @pytest.mark.parametrize(
        ("data", "code", "needle"),
        [
            (b"not numpy", "E508", "not an .npy array"),
            (packed(np.zeros(3))[:9], "E508", "not an .npy array"),
            (packed(np.zeros(3))[:50], "E509", "within its header"),
            (packed(np.zeros(3))[:-1], "E509", "declares 24 bytes of data and holds 23"),
            (packed(np.zeros(3)).replace(b"(3,)", b"(9,)"), "E509", "declares 72"),
            (
                packed(np.zeros(3)).replace(b"(3,), }              ", b"(99999999999999,), }"),
                "E509",
                "declares 799999999999992",
            ),
            (packed(np.zeros(3)).replace(b"'descr'", b"'decsr'"), "E508", "not NumPy's"),
            (packed(np.zeros(3)).replace(b"(3,)", b"(-3,)"), "E508", "not NumPy's"),
            (packed(np.array([{}, None])), "E510", "Python objects"),
            (packed(np.zeros(3, "c8")), "E510", "<c8"),
            (packed(np.zeros(3, [("a", "f4")])), "E510", "records"),
            (packed(np.array(3.0)), "E510", "single value"),
            (packed(np.zeros((0, 3))), "E515", "no rows"),
        ],
    )
    def test_npy(self, space, data, code, needle):
        space.write("t.npy", data)
        for action in ("load", "describe"):
            faults = space.faults('x = npy("t.npy")', action)
            assert faults[0].code == code
            assert needle in faults[0].message

    def test_npz(self, space):
        stream = io.BytesIO()
        np.savez(stream, image=np.zeros((2, 2)), label=np.zeros(3), names=np.array(["a", "b"]))
        space.write("t.npz", stream.getvalue())
        space.fault('x = npz("t.npz").lable', "E504", "did you mean `label`")
        space.fault('x = npz("t.npz").columns("image")', "E521", "not one number a row")
        space.fault('x = npz("t.npz").columns("names")', "E511", "is text")
        space.write("t.npz", b"\x93NUMPY")
        space.fault('x = npz("t.npz").label', "E508", "not an .npz archive")
        space.write("t.npz", stream.getvalue()[:-30])
        space.fault('x = npz("t.npz").label', "E507", "t.npz is damaged")
        space.write("t.npz", stream.getvalue().replace(b"\0" * 24, b"\1" * 24))
        space.fault('x = npz("t.npz").label', "E507", "CRC")

    def test_npz_without_arrays(self, space):
        import zipfile

        with zipfile.ZipFile(space.folder / "t.npz", "w") as archive:
            archive.writestr("a.txt", "a")
        space.fault('x = npz("t.npz").a', "E515", "no arrays")

    def test_npz_members_of_different_lengths(self, space):
        stream = io.BytesIO()
        np.savez(stream, a=np.zeros(2), b=np.zeros(3))
        space.write("t.npz", stream.getvalue())
        space.fault('x = npz("t.npz").columns("*")', "E516", "[2, 3] rows")


class TestText:
    def test_short(self, space):
        space.write("t.txt", "abc")
        space.fault('x = text("t.txt", context = 3).input', "E515", "one window takes 4")

    def test_not_utf8(self, space):
        space.write("t.txt", b"a\xff")
        space.fault(
            'x = text("t.txt", tokens = characters).input', "E508", "byte 1", "tokens = bytes"
        )

    def test_not_finite_when_taken(self, space):
        space.write("t.txt", b"ab\0d")
        dataset = space.load('x = log(text("t.txt", context = 1, stride = 1).input)')
        dataset.splits["train"].take(np.array([0, 1]))
        with pytest.raises(dnnc.diagnostics.DnnError, match="E514"):
            dataset.splits["train"].take(np.array([2]))


class TestGzip:
    @pytest.mark.parametrize("source", ["csv", "tsv", "text", "idx", "npy"])
    @pytest.mark.parametrize(
        ("damage", "needle"),
        [
            (lambda data: data[:-12], "ends too early"),
            (lambda data: data[:-8] + b"\0" * 8, "CRC"),
            (lambda data: data[:3], "ends too early"),
            (lambda data: data + b"tail", "gzip"),
        ],
    )
    def test_damaged(self, space, source, damage, needle):
        path = space.zipped("t.gz", "a,b\n" + "1,2\n" * 300)
        path.write_bytes(damage(path.read_bytes()))
        space.fault(f'x = {source}("t.gz")', "E507", "t.gz is damaged", needle)
