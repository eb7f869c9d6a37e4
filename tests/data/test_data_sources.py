"""Every source of data, plain and compressed."""

import io
import sys

import numpy as np
import pytest

IDX_TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(values: np.ndarray) -> bytes:
    code = IDX_TYPES[values.dtype.str[1:]]
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    body = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return bytes([0, 0, code, values.ndim]) + sizes + body


def npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, version=version)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


class TestCsv:
    TEXT = "label,a,b c\n3,0.5,1\n1,-1e3,2\n2,.25,3\n"

    @pytest.mark.parametrize("write", ["write", "zipped"])
    def test_columns_have_types(self, space, write):
        getattr(space, write)("t.csv", self.TEXT)
        entries = 'source = csv("t.csv")\nlabel = source.label\nx = source.a'
        fields = space.load(entries).fields
        assert (fields["label"].dtype, fields["x"].dtype) == ("i64", "f32")
        np.testing.assert_array_equal(space.values(entries), np.float32([0.5, -1e3, 0.25]))
        np.testing.assert_array_equal(space.values(entries, "label"), [3, 1, 2])

    def test_several_columns_are_stacked_in_the_files_order(self, space):
        space.write("t.csv", self.TEXT)
        values = space.values('source = csv("t.csv")\nx = source.columns("b*", "a")')
        np.testing.assert_array_equal(values, np.float32([[0.5, 1], [-1000, 2], [0.25, 3]]))

    def test_columns_can_be_left_out(self, space):
        space.write("t.csv", self.TEXT)
        values = space.values('source = csv("t.csv")\nx = source.columns("*", without = "a")')
        assert values.dtype == np.int64
        assert values.tolist() == [[3, 1], [1, 2], [2, 3]]

    def test_column_by_a_name_that_is_no_word(self, space):
        space.write("t.csv", self.TEXT)
        assert space.values('source = csv("t.csv")\nx = source.column("b c")').tolist() == [1, 2, 3]

    def test_without_header(self, space):
        space.write("t.csv", "1;2\n3;4")
        values = space.values('s = csv("t.csv", delimiter = ";", header = false)\nx = s.column_1')
        assert values.tolist() == [2, 4]

    def test_comments_blank_lines_and_windows_line_ends(self, space):
        space.write("t.csv", "\ufeff# made by hand\r\na,b\r\n\r\n1,2\r\n# more\r\n3,4\r\n\r\n")
        assert space.values('s = csv("t.csv", comment = "#")\nx = s.b').tolist() == [2, 4]

    def test_quoted_cells(self, space):
        space.write("t.csv", 'name,n\n"a, ""b""\nc",1\nd,"2"\n"a, ""b""\nc",3\n')
        entries = 's = csv("t.csv")\nx = categories(s.name)\nn = s.n'
        assert space.values(entries).tolist() == [0, 1, 0]
        assert space.values(entries, "n").tolist() == [1, 2, 3]
        assert space.load(entries).fields["x"].classes == ('a, "b"\nc', "d")

    def test_tsv_where_quotes_are_ordinary(self, space):
        space.write("t.tsv", 'a\tb\n"\t1\nx\t2\n')
        entries = 's = tsv("t.tsv", quote = none)\nx = categories(s.a)'
        assert space.load(entries).fields["x"].classes == ('"', "x")

    @pytest.mark.parametrize(
        "cells",
        [
            ["0", "-0", "+7", "123456789012345678", "-123456789012345678"],
            ["1234567890123456789", "1"],
            [" 5", "6 ", "\t7"],
            ["1.5", "-.5", "5.", "0.1", "123456.789", "3"],
            ["1e5", "1E-7", "-2.5e+3", "0.30000000000000004", "9007199254740993.0"],
            ["255", "256", "-1", "70000", "5000000000"],
        ],
    )
    def test_numbers_are_read_as_python_reads_them(self, space, cells):
        space.write("t.csv", "x\n" + "\n".join(cells) + "\n")
        values = space.values('s = csv("t.csv")\nx = cast(s.x, f64)')
        assert values.tolist() == [float(cell) for cell in cells]

    def test_wide_table_is_read_in_pieces(self, space, monkeypatch):
        monkeypatch.setattr("dnnc.data.sources.delimited._CELLS", 64)
        rng = np.random.default_rng(0)
        table = rng.integers(-300, 300, (50, 7))
        text = "\n".join(",".join(map(str, row)) for row in table.tolist())
        space.write("t.csv", text)
        values = space.values('s = csv("t.csv", header = false)\nx = s.columns("*")')
        np.testing.assert_array_equal(values, table)

    def test_a_large_file_is_described_by_its_beginning(self, space, monkeypatch):
        monkeypatch.setattr("dnnc.data.reader.SAMPLE_BYTES", 64)
        space.write("t.csv", "a,kind\n" + "".join(f"{i},{'ab'[i > 90]}\n" for i in range(100)))
        fields = space.describe('s = csv("t.csv")\na = s.a\nx = categories(s.kind)')
        assert fields["a"].dtype == "i64"
        assert fields["x"].classes == ("a", "b")
        assert space.describe('s = csv("t.csv")\na = s.a')["a"].shape == ()


class TestArrays:
    @pytest.mark.parametrize("write", ["write", "zipped"])
    @pytest.mark.parametrize("dtype", sorted(IDX_TYPES))
    def test_idx(self, space, dtype, write):
        values = np.arange(24, dtype=dtype).reshape(4, 2, 3)
        getattr(space, write)("t.idx", idx(values))
        read = space.values('x = idx("t.idx")')
        expected = {"i2": "int32", "f8": "float32"}.get(dtype, values.dtype.name)
        assert read.dtype == expected
        np.testing.assert_array_equal(read, values)

    @pytest.mark.parametrize("version", [(1, 0), (2, 0)])
    @pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "|b1", "<f2", ">i8", "<u4"])
    def test_npy(self, space, dtype, version):
        values = np.arange(6).reshape(3, 2).astype(dtype)
        space.write("t.npy", npy(values, version))
        np.testing.assert_array_equal(space.values('x = npy("t.npy")'), values)

    def test_npy_in_fortran_order(self, space):
        values = np.asfortranarray(np.arange(6.0).reshape(3, 2))
        space.write("t.npy", npy(values))
        np.testing.assert_array_equal(space.values('x = npy("t.npy")'), values)

    def test_npz_members(self, space):
        space.write("t.npz", npz(image=np.zeros((5, 4)), label=np.arange(5)))
        entries = 's = npz("t.npz")\nx = s.label\nimage = s.image'
        assert space.values(entries).tolist() == list(range(5))
        assert space.load(entries).fields["image"].shape == (4,)

    def test_npz_members_stacked(self, space):
        space.write("t.npz", npz(a=np.arange(3), b=np.arange(3.0) / 2))
        values = space.values('s = npz("t.npz")\nx = s.columns("*")')
        np.testing.assert_array_equal(values, np.float32([[0, 0], [1, 0.5], [2, 1]]))

    def test_a_large_array_is_described_by_its_beginning(self, space, monkeypatch):
        for module in ("reader", "sources.numpy_files", "sources.idx"):
            monkeypatch.setattr(f"dnnc.data.{module}.SAMPLE_BYTES", 256)
        values = np.arange(900, dtype=np.uint8).reshape(300, 3)
        space.write("t.npy", npy(values))
        space.write("t.npz", npz(x=values))
        space.write("t.idx", idx(values))
        for source in ('npy("t.npy")', 'npz("t.npz").x', 'idx("t.idx")', 'array("x")'):
            space.values(f"x = {source} / 4", x=values)

    def test_array_from_python(self, space):
        values = space.values('x = array("images") / 2', images=np.arange(4))
        np.testing.assert_array_equal(values, np.float32([0, 0.5, 1, 1.5]))


class TestText:
    def test_bytes(self, space):
        space.zipped("t.txt", "abcdefghij")
        entries = 's = text("t.txt", context = 3)\nx = s.input\ny = s.target'
        x, y = space.values(entries), space.values(entries, "y")
        assert x.dtype == np.int32
        assert [bytes(row.astype(np.uint8).tolist()) for row in x] == [b"abc", b"def", b"ghi"]
        assert [bytes(row.astype(np.uint8).tolist()) for row in y] == [b"bcd", b"efg", b"hij"]
        assert len(space.load(entries).fields["x"].classes) == 256

    def test_characters_and_stride(self, space):
        space.write("t.txt", "añabß")
        entries = 's = text("t.txt", tokens = characters, context = 2, stride = 1)\nx = s.input'
        fields = space.load(entries).fields
        assert fields["x"].classes == ("a", "b", "ß", "ñ")
        assert space.values(entries).tolist() == [[0, 3], [3, 0], [0, 1]]

    def test_rows_are_windows_of_one_array(self, space):
        space.write("t.txt", bytes(range(256)) * 40)
        split = space.load('s = text("t.txt", context = 100, stride = 1)\nx = s.input').splits[
            "train"
        ]
        assert split.size == 256 * 40 - 100
        assert split.take(np.array([7]))["x"][0, 0] == 7


class TestParquet:
    @pytest.fixture(autouse=True)
    def _arrow(self):
        pytest.importorskip("pyarrow")

    def write(self, space, **columns):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), space.folder / "t.parquet")

    def test_columns(self, space):
        self.write(
            space, a=[1, 2, 3], kind=["u", "v", "u"], vector=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
        )
        entries = 's = parquet("t.parquet")\nx = s.vector\nkind = categories(s.kind)\na = s.a'
        assert space.values(entries).tolist() == [[1, 2], [3, 4], [5, 6]]
        assert space.values(entries, "kind").tolist() == [0, 1, 0]

    def test_nulls_are_missing(self, space):
        self.write(space, a=[1, None, 3])
        space.fault('s = parquet("t.parquet")\nx = s.a', "E513", "row 1", "`a`", "t.parquet")
        entries = 's = parquet("t.parquet")\nx = s.a\nmissing = zero'
        assert space.values(entries).tolist() == [1, 0, 3]

    def test_not_parquet(self, space):
        space.write("t.parquet", "a,b\n1,2\n")
        space.fault('x = parquet("t.parquet").a', "E508", "not a Parquet file")

    def test_damaged(self, space):
        space.write("t.parquet", b"PAR1" + b"\0" * 60)
        space.fault('x = parquet("t.parquet").a', "E507", "t.parquet")

    def test_without_pyarrow(self, space, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        space.fault('x = parquet("t.parquet").a', "E519", "pip install dnnc[parquet]")


class TestImages:
    @pytest.fixture(autouse=True)
    def _folder(self, space):
        image = pytest.importorskip("PIL.Image")
        for folder, count in (("cats", 2), ("dogs", 3)):
            for i in range(count):
                path = space.folder / "pets" / folder / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((4, 6, 3), 10 * i, np.uint8)
                image.fromarray(pixels).save(path)

    def test_class_per_folder(self, space):
        entries = 's = images("pets")\nx = s.image / 10\nlabel = s.label'
        assert space.values(entries).shape == (5, 3, 4, 6)
        assert space.values(entries, "label").tolist() == [0, 0, 1, 1, 1]
        assert space.load(entries).fields["label"].classes == ("cats", "dogs")

    def test_size_and_mode(self, space):
        values = space.values('s = images("pets", size = [2, 3], mode = gray)\nx = s.image')
        assert values.shape == (5, 1, 2, 3)
        assert values[:, 0, 0, 0].tolist() == [0, 10, 0, 10, 20]

    def test_large_folders_are_decoded_when_taken(self, space, monkeypatch):
        entries = 's = images("pets")\nx = standardize(s.image / 10)'
        kept = space.values(entries)
        monkeypatch.setattr("dnnc.data.sources.images.MEMORY", 0)
        np.testing.assert_allclose(space.values(entries), kept, rtol=1e-6)

    def test_not_a_picture(self, space):
        space.write("pets/dogs/9.png", "no picture")
        space.fault('x = images("pets").image', "E508", "9.png is not a picture")

    def test_strange_file(self, space):
        space.write("pets/dogs/notes.txt", "")
        space.fault('x = images("pets").image', "E508", "notes.txt")

    def test_different_sizes(self, space):
        from PIL import Image

        Image.new("RGB", (3, 3)).save(space.folder / "pets/dogs/z.png")
        space.fault('x = images("pets").image', "E521", "z.png is 3 × 3", "size = [height, width]")

    def test_empty_folders(self, space):
        (space.folder / "pets" / "newts").mkdir()
        space.fault('x = images("pets").image', "E515", "pets/newts")
        space.fault('x = images("pets/newts").image', "E515", "no subfolders")

    def test_without_pillow(self, space, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        space.fault('x = images("pets").image', "E519", "pip install dnnc[images]")


class TestFiles:
    def test_images_and_labels_in_files_of_their_own(self, space):
        for name, size in (("train", 10), ("test", 4)):
            space.zipped(f"{name}-images", idx(np.full((size, 2, 2), size, np.uint8)))
            space.zipped(f"{name}-labels", idx(np.arange(size, dtype=np.uint8)))
        dataset = space.load("""
            images = files(train = idx("train-images"), test = idx("test-images"))
            labels = files(train = idx("train-labels"), test = idx("test-labels"))
            image = images / 255
            label = cast(labels, i64)
            validation = 0.2""")
        assert {name: split.size for name, split in dataset.splits.items()} == {
            "train": 8,
            "validation": 2,
            "test": 4,
        }
        test = dataset.splits["test"].take(np.arange(4))
        assert test["label"].tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(test["image"], np.full((4, 2, 2), 4 / 255, np.float32))

    def test_tables(self, space):
        space.write("a.csv", "kind,v\nx,1\nz,2\n")
        space.write("b.csv", "v,kind\n3,y\n")
        dataset = space.load("""
            source = files(train = csv("a.csv"), test = csv("b.csv"))
            kind = categories(source.kind)
            v = source.v""")
        assert dataset.fields["kind"].classes == ("x", "y", "z")
        assert dataset.splits["train"].take(np.arange(2))["kind"].tolist() == [0, 2]
        assert dataset.splits["test"].take(np.arange(1)) == {"kind": [1], "v": [3]}

    def test_vocabularies_are_united(self, space):
        space.write("a.txt", "aca")
        space.write("b.txt", "bcb")
        dataset = space.load("""
            source = files(train = text("a.txt", tokens = characters, context = 2),
                           test = text("b.txt", tokens = characters, context = 2))
            x = source.input""")
        assert dataset.fields["x"].classes == ("a", "b", "c")
        assert dataset.splits["train"].take(np.arange(1))["x"].tolist() == [[0, 2]]
        assert dataset.splits["test"].take(np.arange(1))["x"].tolist() == [[1, 2]]

    def test_sources_named_before(self, space):
        dataset = space.load(
            'a = array("a")\nb = array("b")\nx = files(train = a, test = b)',
            a=np.arange(3),
            b=np.arange(2),
        )
        assert list(dataset.fields) == ["x"]
        assert {name: split.size for name, split in dataset.splits.items()} == {
            "train": 3,
            "test": 2,
        }
