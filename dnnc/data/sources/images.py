"""`images`: a folder with a subfolder of pictures for each class, by way of Pillow.

`image` is u8[3, h, w] (or u8[1, h, w] in gray), `label` the number of the subfolder in sorted
order. Folders that would not fit into memory are decoded when rows are taken.
"""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.rows import Array, Rows, Stored
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import Cells, place_of_row, stack_members
from dnnc.diagnostics import Span, listing

#: Decoded pictures beyond this many bytes are not kept in memory.
MEMORY = 1 << 30

_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError,
           TypeError, OverflowError, MemoryError)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures decoded when they are taken: u8[channels, h, w] each."""

    paths: tuple[Path, ...]
    size: tuple[int, int]  # height and width
    mode: str  # Pillow's: "RGB" or "L"
    resize: bool
    span: Span
    overlap: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def total(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3 if self.mode == "RGB" else 1, *self.size)

    def take(self, indices: Array) -> Array:
        pictures = np.empty((len(indices), *self.shape), np.uint8)
        for place, index in enumerate(indices):
            pictures[place] = self._decode(self.paths[int(index)])
        return pictures

    def _decode(self, path: Path) -> Array:
        picture = _decode(path, self.mode, self.size if self.resize else None, self.span)
        if picture.shape != self.shape:
            height, width = picture.shape[1:]
            raise fault(
                "E521",
                f"{path} is {height} × {width}, and the first picture {self.size[0]} × "
                f"{self.size[1]}",
                self.span,
                help="`size = [height, width]` brings all to one size",
            )
        return picture


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """Pictures and their classes."""

    what: str
    pictures: Rows
    labels: Array
    classes: tuple[str, ...]
    names: tuple[str, ...] = field(default=("image", "label"))

    def member(self, name: str, span: Span) -> Cells:
        what = f"`{name}` of {self.what}"
        if name == "image":
            return Cells(self.pictures, "u8", what, place_of_row)
        rows = Stored(self.labels, len(self.labels))
        return Cells(rows, "i64", what, place_of_row, classes=self.classes)

    def stack(self, names: tuple[str, ...], span: Span) -> Cells:
        return stack_members(self, names, span)


def _decode(path: Path, mode: str, size: tuple[int, int] | None, span: Span) -> Array:
    """A picture as u8[channels, h, w], upright as its camera says."""
    image, operations = _pillow("PIL.Image", span), _pillow("PIL.ImageOps", span)
    try:
        with image.open(path) as opened:
            picture = operations.exif_transpose(opened).convert(mode)
        if size is not None and picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), image.Resampling.BILINEAR)
        values: Array = np.asarray(picture, np.uint8)
    except (*_DAMAGE, image.DecompressionBombError, image.DecompressionBombWarning) as error:
        raise fault("E508", f"{path} is not a picture: {error}", span) from error
    return values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)


def _pillow(module: str, span: Span) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise fault(
            "E519",
            "images(…) needs the package pillow",
            span,
            help="pip install dnnc[images]",
        ) from error


def _files(folder: Path, shown: str, span: Span) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """Classes, pictures and the class number of each; hidden files are left out."""
    try:
        subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
        paths, labels = [], []
        for number, subfolder in enumerate(subfolders):
            found = sorted(p for p in subfolder.iterdir() if p.name[0] != ".")
            if not found:
                raise fault("E515", f"{shown}/{subfolder.name} holds no pictures", span)
            strange = [p.name for p in found if p.suffix.lower() not in _ENDINGS]
            if strange:
                raise fault(
                    "E508",
                    f"{shown}/{subfolder.name} holds files that are not pictures: "
                    f"{listing(strange, 3)}",
                    span,
                )
            paths += found
            labels += [number] * len(found)
    except OSError as error:
        raise fault("E506", f"{shown} cannot be read: {error.strerror}", span) from error
    if not subfolders:
        raise fault("E515", f"{shown} has no subfolders, one for each class", span)
    return tuple(p.name for p in subfolders), paths, labels


def _images(bound: Bound, scope: Scope) -> Folder:
    shown, span, given = bound["path"], bound.at("path"), bound["size"]
    if given is not None and (len(given) != 2 or min(given) < 1 or max(given) > 1 << 14):
        raise fault("E503", "`size` must be [height, width]", bound.at("size"))
    _pillow("PIL.Image", bound.span)
    classes, paths, labels = _files(scope.reader.directory(shown, span), shown, span)
    mode = "RGB" if bound["mode"] == "rgb" else "L"
    size = given or _decode(paths[0], mode, None, span).shape[1:]
    pictures = Pictures(tuple(paths), (size[0], size[1]), mode, given is not None, span)
    rows: Rows = pictures
    if not scope.reader.sampling:
        for path in paths:
            scope.reader.absorb(str(path.parent.name).encode())
            scope.reader.absorb_file(path)
        if len(paths) * int(np.prod(pictures.shape)) <= MEMORY:
            rows = Stored(pictures.take(np.arange(len(paths))), len(paths))
    return Folder(shown, rows, np.array(labels, np.int64), classes)


IMAGES = Function(
    "images",
    (
        Parameter("path", "string"),
        Parameter("size", "sizes", None),
        Parameter("mode", "choice", "rgb", choices=("rgb", "gray")),
    ),
    _images,
)
