"""Reading files: places, gzip by its first bytes, samples, and the hash of all that was read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dnnc.data.codes import fault
from dnnc.diagnostics import Note, Span, suggestion

#: How much of a file is looked at when a block is only described.
SAMPLE_BYTES = 4 << 20

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file, decompressed; only the first ones where `complete` is false."""

    data: bytes
    complete: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Opens what a block names, relative to `folder`.

    `sampling` reads the first `SAMPLE_BYTES` of a file only and hashes nothing.
    """

    folder: Path
    arrays: Mapping[str, object]
    sampling: bool
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def read(self, name: str, span: Span) -> Content:
        """A file's bytes, decompressed if it is gzip."""
        path = self.file(name, span)
        try:
            if self.sampling:
                return self._sample(path, name)
            raw = path.read_bytes()
            self.absorb(raw)
            data = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise fault("E507", f"{name} is damaged: {_reason(error)}", span) from error
        except (OSError, MemoryError) as error:
            raise fault("E506", f"{name} cannot be read: {_reason(error)}", span) from error
        return Content(data, True, name)

    def file(self, name: str, span: Span) -> Path:
        """Where a file lies; it must be there and be a file."""
        path = self._find(name, span)
        if path.is_dir():
            raise fault("E506", f"{name} is a folder, not a file", span)
        return path

    def directory(self, name: str, span: Span) -> Path:
        """Where a folder lies; it must be there and be a folder."""
        path = self._find(name, span)
        if not path.is_dir():
            raise fault("E506", f"{name} is a file, not a folder", span)
        return path

    def absorb(self, raw: bytes) -> None:
        """Let bytes count in the fingerprint, with their length so that pieces cannot slide."""
        self.digest.update(len(raw).to_bytes(8, "little"))
        self.digest.update(raw)

    def absorb_file(self, path: Path) -> None:
        """Let a file's bytes count in the fingerprint without holding them all."""
        self.digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                self.digest.update(chunk)

    def _find(self, name: str, span: Span) -> Path:
        try:
            path = self.folder / Path(name).expanduser()
            if name and path.exists():
                return path
            there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        except (OSError, ValueError, RuntimeError) as error:
            raise fault("E506", f"{name} cannot be opened: {_reason(error)}", span) from error
        raise fault(
            "E506",
            f"there is no file or folder {name}" if name else "the path is empty",
            span,
            notes=[Note(f"looked for {path}")],
            help=suggestion(path.name, there, "paths are relative to the folder of the .dnn file"),
        )

    def _sample(self, path: Path, name: str) -> Content:
        with path.open("rb") as stream:
            zipped = stream.read(2) == _GZIP
            stream.seek(0)
            source = gzip.GzipFile(fileobj=stream) if zipped else stream
            data = source.read(SAMPLE_BYTES + 1)
        return Content(data[:SAMPLE_BYTES], len(data) <= SAMPLE_BYTES, name)


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the compressed data ends too early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
