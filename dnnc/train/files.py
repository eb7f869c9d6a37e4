"""Files that are whole or not there: written beside their place, synced, then renamed into it.

Tensors are written in the safetensors format by a writer of its own, because the bytes of a file
must follow from its content alone: the keys of the metadata are sorted, and tensors are not copied
first.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from dnnc.train.codes import fault

__all__ = [
    "TEMPORARY",
    "load_tensors",
    "save_tensors",
    "sync_folder",
    "write_atomic",
    "write_text",
    "writing",
]

#: Names of files that are being written end with this.
TEMPORARY = ".partial"

#: Tensors start at multiples of this many bytes, so that they can be mapped and used in place.
_ALIGNMENT = 64

_DTYPE_NAMES = {
    "float32": "F32",
    "float64": "F64",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "int8": "I8",
    "bool": "BOOL",
}

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EFBIG: "the file system does not take a file of this size",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Failures of the file system inside become located errors (E604) that name `path`."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise fault(
            "E604",
            f"cannot write {path}: {reason}",
            help="choose another run folder with --folder"
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
            else "make room, then continue with --resume",
        ) from error


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that after a crash its old or its new content is there, whole."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_atomic(path, lambda file: _write_all(file, text.encode()))


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder last; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as a safetensors file, atomically; equal content gives equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(sorted((metadata or {}).items()))}
    offset = 0
    # Larger elements first keeps every tensor aligned to its element size, as readers expect.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in names:
        array = tensors[name]
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)

    def write(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)

    write_atomic(path, write)


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file; E606 where it is damaged or missing."""
    try:
        with safe_open(str(path), "np") as file:
            # A list, because the file object has no iteration of its own.
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except FileNotFoundError:
        raise fault("E606", f"{path} is missing") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise fault("E606", f"{path} is damaged: {error}") from error


def _write_all(file: BinaryIO, content: bytes) -> None:
    file.write(content)
