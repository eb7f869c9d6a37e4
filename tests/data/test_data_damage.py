"""Files with flipped bits and missing ends give data or located errors, never another exception."""

import gzip
import io

import numpy as np
import pytest

from dnnc.diagnostics import DnnError


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.arange(12.0).reshape(4, 3), y=np.arange(4))
    return stream.getvalue()


def _packed_npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(12.0).reshape(4, 3), y=np.arange(4))
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(12, dtype=np.int16).reshape(4, 3))
    return stream.getvalue()


_IDX = b"\0\0\x0d\2\0\0\0\4\0\0\0\3" + np.arange(12, dtype=">f4").tobytes()
_CSV = b'a,b,"c"\n1,2.5,x\n,-1e3,"y,z"\n3,nan,x\n'

FILES = {
    "npz": (_npz(), 's = npz("f")\nx = s.x\ny = s.y'),
    "packed npz": (_packed_npz(), 's = npz("f")\nx = s.x\ny = s.y'),
    "npy": (_npy(), 'x = npy("f") / 2'),
    "idx": (_IDX, 'x = log(idx("f"))\nmissing = zero'),
    "idx.gz": (gzip.compress(_IDX, mtime=0), 'x = idx("f")'),
    "csv": (_CSV, 's = csv("f")\nx = s.a\ny = s.b\nk = categories(s.c)\nmissing = drop'),
    "csv.gz": (gzip.compress(_CSV, mtime=0), 's = csv("f")\nx = s.b\nmissing = mean'),
    "text": ("añb".encode() * 9, 'x = text("f", tokens = characters, context = 4).input'),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    mutated = bytearray(data)
    match rng.integers(4):
        case 0:
            return bytes(mutated[: rng.integers(len(data))])
        case 1:
            start = int(rng.integers(len(data)))
            del mutated[start : start + int(rng.integers(1, 9))]
        case 2:
            mutated[rng.integers(len(data))] = rng.integers(256)
        case _:
            for _ in range(rng.integers(1, 4)):
                mutated[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(mutated)


def raised(action) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None


def check(space, name: str, seeds: range) -> None:
    data, entries = FILES[name]
    for seed in seeds:
        space.write("f", damaged(data, np.random.default_rng(seed)))
        for action in (space.load, space.describe):
            error = raised(lambda action=action: action(entries))
            assert error is None or isinstance(error, DnnError), f"seed {seed}: {error!r}"
            for diagnostic in error.diagnostics if error else ():
                assert diagnostic.span is not None
                assert diagnostic.render()


@pytest.mark.parametrize("name", FILES)
def test_damaged_file(space, name):
    check(space, name, range(60))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_damaged_files(space, name):
    check(space, name, range(60, 4000))


def test_undamaged_files(space):
    for name, (data, entries) in FILES.items():
        space.write("f", data)
        if name != "idx":
            assert space.load(entries).splits["train"].size
