"""`npz`, `npy` and `array`: NumPy arrays from files and from Python.

Headers are parsed here rather than by `numpy.load`, so that no header can make it allocate more
than the file holds, warn, or evaluate anything. Pickled objects are never read.
"""

from __future__ import annotations

import lzma
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.reader import SAMPLE_BYTES, Content
from dnnc.data.rows import Array
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import Cells, cells_of_array, stack_members
from dnnc.diagnostics import Span, listing, suggestion

_MAGIC = b"\x93NUMPY"
_PAIR = r"'{}'\s*:\s*{}\s*(?:,|\}})"
_DESCR = re.compile(_PAIR.format("descr", r"(?:'(?P<plain>[^']*)'|(?P<fields>\[.*\]))"), re.DOTALL)
_ORDER = re.compile(_PAIR.format("fortran_order", "(?P<fortran>True|False)"))
_SHAPE = re.compile(_PAIR.format("shape", r"\((?P<shape>[\dL,\s]*)\)"))
_TYPE = re.compile(r"[<>|=](?:b1|[iu][1248]|f(?:2|4|8|16)|[SU]\d{1,6})")

#: What reading a damaged zip archive may raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    KeyError,
    ValueError,
    OverflowError,
    MemoryError,
    OSError,
)


def parse_npy(content: Content, what: str, span: Span) -> Cells:
    """The array of an `.npy` file; of a sample, the rows that are there whole."""
    data = content.data
    if not data.startswith(_MAGIC) or len(data) < 10:
        raise fault("E508", f"{what} is not an .npy array", span)
    wide = data[6] >= 2
    start = 12 if wide else 10
    length = int.from_bytes(data[8:start], "little")
    if len(data) < start + length:
        raise fault("E509", f"{what} ends within its header", span)
    header = data[start : start + length].decode("latin-1")
    dtype, fortran, shape = _parse_header(header, what, span)
    body = memoryview(data)[start + length :]
    if not shape:
        raise fault("E510", f"{what} is a single value, not rows", span)
    count, rows = math.prod(shape), shape[0]
    if content.complete and count * dtype.itemsize != len(body):
        raise fault(
            "E509",
            f"{what} declares {count * dtype.itemsize} bytes of data and holds {len(body)}",
            span,
            label=f"shape {list(shape)} of {dtype}",
        )
    if content.complete:
        values = np.frombuffer(body, dtype, count).reshape(shape, order="F" if fortran else "C")
        return cells_of_array(np.ascontiguousarray(values), what, span)
    return _sample(body, dtype, fortran, shape, rows, what, span)


def _sample(
    body: memoryview, dtype: np.dtype[np.generic], fortran: bool, shape: tuple[int, ...],
    rows: int, what: str, span: Span,
) -> Cells:  # fmt: skip
    each = math.prod(shape[1:]) * dtype.itemsize
    whole = min(rows, len(body) // each) if each else rows
    if fortran and len(shape) > 1:
        # Rows of a Fortran array lie scattered; one row of zeros shows the shape and the type.
        values = np.zeros((min(rows, 1), *shape[1:]), dtype)
    elif whole == 0 and rows:
        raise fault("E509", f"one row of {what} is larger than {SAMPLE_BYTES} bytes", span)
    else:
        values = np.frombuffer(body, dtype, whole * math.prod(shape[1:])).reshape(-1, *shape[1:])
    return cells_of_array(values, what, span, total=rows)


def _parse_header(
    header: str, what: str, span: Span
) -> tuple[np.dtype[np.generic], bool, tuple[int, ...]]:
    descr, order, dims = _DESCR.search(header), _ORDER.search(header), _SHAPE.search(header)
    if descr is None or order is None or dims is None:
        raise fault("E508", f"{what} has a header that is not NumPy's", span)
    plain = descr["plain"]
    if plain is None or not _TYPE.fullmatch(plain):
        kind = "Python objects" if plain and plain.endswith("O") else f"values of type {plain}"
        raise fault(
            "E510",
            f"{what} holds {'records' if plain is None else kind}",
            span,
            label="numbers, booleans or text are needed",
            help="save it as an array of numbers, such as `array.astype(numpy.float32)`",
        )
    sizes = [size.strip().rstrip("L") for size in dims["shape"].split(",")]
    if not all(size.isdecimal() and len(size) < 20 for size in sizes if size):
        raise fault("E508", f"{what} has a header that is not NumPy's", span)
    shape = tuple(int(size) for size in sizes if size)
    return np.dtype(plain), order["fortran"] == "True", shape


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """An `.npz` file; members are read when they are asked for."""

    what: str
    path: Path
    members: dict[str, str]
    sampling: bool
    cache: dict[str, Cells] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.members)

    def member(self, name: str, span: Span) -> Cells:
        if name not in self.cache:
            what = f"`{name}` of {self.what}"
            content = self._read(self.members[name], what, span)
            self.cache[name] = parse_npy(content, what, span)
        return self.cache[name]

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        return stack_members(self, names, span)

    def _read(self, entry: str, what: str, span: Span) -> Content:
        try:
            with self.path.open("rb") as file, zipfile.ZipFile(file) as archive:
                if not self.sampling:
                    return Content(archive.read(entry), True, self.what)
                with archive.open(entry) as stream:
                    data = stream.read(SAMPLE_BYTES + 1)
        except _DAMAGE as error:
            raise fault("E507", f"{what} is damaged: {error}", span) from error
        return Content(data[:SAMPLE_BYTES], len(data) <= SAMPLE_BYTES, self.what)


def _npz(bound: Bound, scope: Scope) -> Archive:
    shown, span, reader = bound["path"], bound.at("path"), scope.reader
    path = reader.file(shown, span)
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                raise fault("E508", f"{shown} is not an .npz archive", span)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        if not reader.sampling:
            reader.absorb_file(path)
    except _DAMAGE as error:
        raise fault("E507", f"{shown} is damaged: {error}", span) from error
    members = {name.removesuffix(".npy"): name for name in names if name.endswith(".npy")}
    if not members:
        raise fault("E515", f"{shown} holds no arrays", span)
    return Archive(shown, path, members, reader.sampling)


def _npy(bound: Bound, scope: Scope) -> Cells:
    content = scope.reader.read(bound["path"], bound.at("path"))
    return parse_npy(content, content.shown, bound.at("path"))


def _array(bound: Bound, scope: Scope) -> Cells:
    name, arrays, span = bound["name"], scope.reader.arrays, bound.at("name")
    if name not in arrays:
        given = f"the arrays given are {listing(arrays)}" if arrays else "no arrays were given"
        raise fault(
            "E520", f"no array `{name}` was given", span, help=suggestion(name, arrays, given)
        )
    values = arrays[name]
    if not isinstance(values, np.ndarray):
        raise fault("E510", f"`{name}` is a {type(values).__name__}, not a NumPy array", span)
    return _given(values, name, span, scope)


def _given(values: Array, name: str, span: Span, scope: Scope) -> Cells:
    what, total = f"array `{name}`", len(values) if values.ndim else 0
    if not scope.reader.sampling:
        if values.dtype.kind != "O":
            scope.reader.absorb(f"{values.dtype.str}{values.shape}".encode())
            scope.reader.absorb(np.ascontiguousarray(values).tobytes())
    elif values.nbytes > SAMPLE_BYTES and values.ndim:
        values = values[: max(1, SAMPLE_BYTES * total // values.nbytes)]
    return cells_of_array(values, what, span, total if values.ndim else None)


NPZ = Function("npz", (Parameter("path", "string"),), _npz)
NPY = Function("npy", (Parameter("path", "string"),), _npy)
ARRAY = Function("array", (Parameter("name", "string"),), _array)
