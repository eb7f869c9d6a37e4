"""The user's private cache: where it lies, and the entries in it, which are whole or not there."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dnnc import environment

__all__ = ["Shelf", "cache_directory", "sources_digest", "write_atomically"]

_DIGEST = 32
#: When this process began to import the compiler, roughly.
_STARTED = time.time()
#: Nothing takes so long to write.
_STALE_SECONDS = 3600


def cache_directory() -> Path | None:
    """The directory for files that can be made again, created with mode 0700 where it is missing.

    `$DNNC_CACHE`, else `$XDG_CACHE_HOME/dnnc`, else `~/.cache/dnnc`. None where the cache is turned
    off, where there is no such directory to be had, or where someone else could write into it: what
    is read back from here is trusted, so the caller then works without a cache. Raises DnnError
    where a `DNNC_*` variable is wrong.
    """
    try:
        directory = environment.cache()
        if directory is None:
            return None
        directory = directory.absolute()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return None
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return None
    if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return directory


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none; raises OSError where that fails."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Shelf:
    """Entries of one kind: bytes by key, each in a file of its own in a folder of the cache.

    A digest of the bytes stands before them, so that a damaged entry is as good as none. Processes
    may share a shelf: entries are replaced whole. Where there are more than `most`, the oldest go.
    """

    folder: str
    suffix: str
    most: int

    def path(self, key: str) -> Path | None:
        """The file of an entry, which need not exist; None where there is no cache."""
        directory = cache_directory()
        if directory is None:
            return None
        folder = directory / self.folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            return None
        return folder / (hashlib.sha256(key.encode()).hexdigest() + self.suffix)

    def read(self, key: str) -> bytes | None:
        """The bytes of an entry; None where it is missing or damaged."""
        path = self.path(key)
        try:
            data = path.read_bytes() if path else b""
        except OSError:
            return None
        digest, body = data[:_DIGEST], data[_DIGEST:]
        return body if body and hashlib.sha256(body).digest() == digest else None

    def write(self, key: str, data: bytes) -> None:
        """Put an entry in its place, if the disk takes it: else the next start takes longer."""
        path = self.path(key)
        if path is None:
            return
        with suppress(OSError):
            write_atomically(path, hashlib.sha256(data).digest() + data)
            _trim(path.parent, self.suffix, self.most)


@cache
def _trim(folder: Path, suffix: str, most: int) -> None:
    """Once in a process that writes: let go of the oldest entries where there are very many, and of
    what processes that were stopped have left half written."""
    for path in folder.glob(f".*{suffix}.*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
    entries = sorted(folder.glob(f"*{suffix}"), key=lambda path: path.stat().st_mtime)
    if len(entries) > most:
        for path in entries[: len(entries) - most // 2]:
            path.unlink(missing_ok=True)


@cache
def sources_digest(folder: Path) -> str:
    """A hash of the Python files below a folder: what they have made is stale when it changes.

    What a process that has imported older files makes is for itself alone.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        # Python makes folders of its own while modules are imported.
        if path.is_dir() and path.name != "__pycache__":
            digest.update(f"{path.name} {sources_digest(path)}".encode())
        elif path.suffix == ".py":
            digest.update(path.name.encode() + path.read_bytes())
            if path.stat().st_mtime > _STARTED:
                digest.update(os.urandom(16))
    return digest.hexdigest()
