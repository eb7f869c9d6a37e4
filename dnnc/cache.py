"""The user's private cache: where it lies, and how a file gets into it whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

from dnnc import environment

__all__ = ["cache_directory", "sources_digest", "write_atomically"]


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


@cache
def sources_digest(folder: Path) -> str:
    """A hash of the Python files below a folder: what they have made is stale when it changes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()
