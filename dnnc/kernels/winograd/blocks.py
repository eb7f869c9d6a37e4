"""How kernels by Winograd's method walk over images, and what they share.

With dilations, outputs that are a dilation apart depend on inputs that are as far apart, and on no
others: images fall into pictures, each of every so many lines and columns, in which taps are
adjacent. Without, an image is one picture.

A band is the lines of outputs that one row of tiles covers. Work is done in blocks of bands, which
may belong to several pictures, and within a block picture by picture: a run is the bands of one
picture. A slab is the part of a picture that a run reads, with its padding, its channels filled up
to whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dnnc.ir.dims import Dim, ceil_div
from dnnc.ir.graph import Value
from dnnc.kernels.target import unit_usable
from dnnc.kernels.tiles import Tile, tiles
from dnnc.kernels.unit.sizes import CHUNK, SIDE, piece_bytes
from dnnc.ops.winograd import Winograd, winograd

__all__ = ["BUDGET", "Scheme", "build_fetch", "build_products", "build_spread"]

#: Bytes of transformed tiles that a block may take: with what else it reads, they stay in the
#: second-level cache.
BUDGET = 512 * 1024


#: Most bytes of weights that are split for the matrix unit.
_PIECES = 512 * 1024
#: Least channels times outputs for it.
_OFTEN = 2048
#: Widths of panels (`dnnc.ops.channels_last.panel_width`).
_WIDTHS = (16, 32)


def row_tiles(dtype: str, width: int) -> tuple[Tile, ...]:
    """Register tiles for many rows and for few, of products by panels of that width."""
    shapes = tiles(dtype)
    if width >= shapes[0].columns:
        return shapes
    return tuple(replace(shapes[0], rows=rows, vectors=1) for rows in (16, 8, 4))


@dataclass(frozen=True, slots=True)
class Scheme:
    """Sizes of one convolution by Winograd's method.

    `results` by `results` outputs take `taps` by `taps` weights; `channels` and `outputs` count
    those of the image and of the result, whose lines have `columns` pixels. Lines and columns of a
    picture are `apart`. `width` is that of a panel.
    """

    dtype: str
    results: int
    taps: int
    channels: int
    outputs: int
    lines: int
    columns: int
    apart: tuple[int, int]
    width: int

    @staticmethod
    def of(op: Any, x: Value, y: Value, width: int) -> Scheme:
        """That of a convolution of x [N, H, W, C] to y [N, Ho, Wo, O], whose sizes are known."""
        channels, outputs, lines, columns = (
            int(size) for size in (x.shape[3], y.shape[3], y.shape[1], y.shape[2])
        )
        taps = int(op.kernel[0]) if hasattr(op, "kernel") else int(op.shape[2])
        dtype = str(y.type.dtype)
        apart = int(op.dilations[0]), int(op.dilations[1])
        return Scheme(dtype, op.tile, taps, channels, outputs, lines, columns, apart, width)

    @property
    def matrices(self) -> Winograd:
        return winograd(self.results, self.taps)

    @property
    def count(self) -> int:
        """Products in one dimension."""
        return self.results + self.taps - 1

    @property
    def panels(self) -> int:
        return int(ceil_div(self.outputs, self.width))

    @property
    def tile(self) -> Tile:
        """A register tile, for the size of its elements and vectors."""
        return tiles(self.dtype)[0]

    @property
    def code(self) -> tuple[object, ...]:
        """What decides the code of a kernel: it serves both widths of panels."""
        shapes = tuple(row_tiles(self.dtype, width) for width in _WIDTHS)
        return (self.dtype, self.results, self.taps, shapes)

    @property
    def rows(self) -> int:
        """Rows of the largest register tile."""
        return row_tiles(self.dtype, self.width)[0].rows

    @property
    def weight_pieces(self) -> int:
        """Bytes of all weights, split for the matrix unit."""
        return self.count**2 * self.filled_outputs // SIDE * piece_bytes(self.filled)

    @property
    def unit(self) -> bool:
        """Whether products of the image may be taken on the matrix unit: where channels fill its
        tiles, each is multiplied often enough for splitting to pay, and split weights stay in the
        second-level cache."""
        often = self.filled >= CHUNK and self.filled * self.filled_outputs >= _OFTEN
        return self.dtype == "f32" and often and self.weight_pieces <= _PIECES and unit_usable()

    @property
    def across(self) -> int:
        """Tiles in a band."""
        return -(-self.columns // (self.apart[1] * self.results))

    @property
    def down(self) -> int:
        """Bands in a picture."""
        return -(-self.lines // (self.apart[0] * self.results))

    def pictures(self, images: Dim) -> Dim:
        """The pictures of so many images."""
        return images * (self.apart[0] * self.apart[1])

    def slab(self, bands: int, filled: int, overlap: int) -> int:
        """Bytes of the slab of a run of so many bands."""
        lines, columns = bands * self.results + overlap, self.across * self.results + overlap
        return lines * columns * filled * self.tile.bytes_each

    @property
    def filled(self) -> int:
        """Channels of the image in whole blocks, as weights are packed."""
        return -(-self.channels // 16) * 16

    @property
    def filled_outputs(self) -> int:
        """Outputs in whole panels."""
        return self.panels * self.width

    def room(self, bands: int, rows: int) -> int:
        """Rows of memory for the tiles of so many bands: the last register tile, of so many rows,
        may reach over."""
        return bands * self.across + rows

    def spread(self, elements: int) -> int:
        """Bytes from one matrix of so many elements to the next: an odd number of cache lines, so
        that the matrices of a tile do not share sets of the cache."""
        return (elements * self.tile.bytes_each + 63) // 64 // 2 * 128 + 64


def build_products(scheme: Scheme, transposed: bool) -> Callable[..., None]:
    """`f(rows, width, a, block, blocks, depth, b, c, add)`: rows of A, in blocks of one vector and
    `block` bytes apart, by a panel of `width` columns; `depth` is that of a vector. Where
    `transposed`, a block of A holds columns of it instead: its vectors are the steps of the depth,
    of which there may be any number."""
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.winograd.blocked import Strides, build_rows

    size = scheme.tile.bytes_each
    vector = scheme.tile.lanes * size
    a_row, a_step = (size, vector) if transposed else (vector, size)

    def rows_of(width: int) -> tuple[Any, int]:
        shapes = row_tiles(scheme.dtype, width)
        strides = Strides(a_row, a_step, width * size, width * size, whole=not transposed)
        return subroutine(build_rows(shapes, strides)), shapes[0].columns

    (narrow, narrow_step), (wide, wide_step) = map(rows_of, _WIDTHS)
    least, _ = _WIDTHS

    def products(
        rows: int, width: int, a: int, block: int, blocks: int, depth: int, b: int, c: int, add: int
    ) -> None:
        if width == least:
            for j in range(0, width, narrow_step):
                narrow(rows, a, block, blocks, depth, b + j * size, c + j * size, add)
        else:
            for j in range(0, width, wide_step):
                wide(rows, a, block, blocks, depth, b + j * size, c + j * size, add)

    return products


def build_fetch(scheme: Scheme) -> Callable[..., None]:
    """`f(images, height, line, dy, dx, down, band, end, part)`: fetches one part, of as many as
    there are products, of the lines of the bands from `band` to `end`. A line has `line` bytes. Of
    pictures that share the lines of an image, a block that goes on to the next fetches nothing.

    Blocks read and write memory in bursts, which a processor does not foresee; this is called
    between the products of the block before.
    """
    from dnnc.kernels.intrinsics import prefetch

    results, products = scheme.results, scheme.count**2

    def fetch(
        images: int, height: int, line: int, dy: int, dx: int, down: int, band: int, end: int,
        part: int,
    ) -> None:  # fmt: skip
        each, lines = down * dy * dx, results * dy
        start = images + (band // each * height + band % down * lines) * line
        stop = images + (end // each * height + end % down * lines) * line
        count = (stop - start + 63) // 64
        for k in range(count * part // products, count * (part + 1) // products):
            prefetch(start + 64 * k)

    return fetch


def build_spread(scheme: Scheme, side: str) -> Callable[..., None]:
    """`f(target, step, room, block, slab, source, h, w, channels, c, filled, top, left, dy, dx,
    across, down, band, end)`: the tiles of the bands from `band` to `end`, transformed.

    With `side` "bt" the source is the input of the convolution, [N, h, w] with its padding, and
    tiles overlap; with "a" it is the gradient of the result. Lines of a picture are `dy` apart and
    columns `dx`. Pixels have so many `channels`, of
    which `c` are taken from the source on and filled up to `filled`. `slab` is memory for a run.
    Matrix f of the target is at `target + f * step`, [block, tile, channel of the block], with
    `room` tiles and `block` bytes of channels, which are one vector or a panel.
    """
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.winograd.transforms import both_sides, transposed

    tile, results, count = scheme.tile, scheme.results, scheme.count
    image = side == "bt"
    overlap = scheme.taps - 1 if image else 0
    matrix = scheme.matrices.bt if image else transposed(scheme.matrices.at)
    fill = subroutine(_build_fill(tile))
    transform = both_sides(f"{side}_{results}_{scheme.taps}", matrix, tile)
    size, vector = tile.bytes_each, tile.lanes * tile.bytes_each

    def spread(
        target: int, step: int, room: int, block: int, slab: int, source: int, h: int, w: int,
        channels: int, c: int, filled: int, top: int, left: int, dy: int, dx: int, across: int,
        down: int, band: int, end: int,
    ) -> None:  # fmt: skip
        columns = across * results + overlap
        pixel = filled * size
        while band < end:
            picture, row = band // down, band % down
            run = min(down - row, end - band)
            image = picture // (dy * dx)
            first = picture - image * dy * dx
            at = source + image * h * w * channels * size
            y, x = row * results * dy + first // dx - top, first % dx - left
            fill(
                slab, at, h, w, channels, c, filled, y, dy, run * results + overlap, x, dx, columns
            )
            for i in range(run):
                for j in range(across):
                    at, to = slab + (i * columns + j) * results * pixel, target
                    # One call takes all blocks of one vector, or all vectors of a panel.
                    each = pixel if block == vector else block
                    apart = room * block if block == vector else vector
                    for _ in range(pixel // each):
                        transform(
                            to, count * step, step, apart, at, columns * pixel, pixel,
                            each // vector,
                        )  # fmt: skip
                        at, to = at + each, to + room * block
                    target += block
            band += run

    return spread


def _build_fill(tile: Tile) -> Callable[..., None]:
    """`f(slab, image, height, width, channels, c, filled, y, dy, lines, x, dx, columns)`: `lines`
    by `columns` pixels of the image at address `image`, every dy-th line from y on and every dx-th
    column from x on, 0 outside of it; of their channels the first `c`, filled up with zeros."""
    from dnnc.kernels.intrinsics import copy_bytes, zero_bytes

    size = tile.bytes_each

    def fill(
        slab: int, image: int, height: int, width: int, channels: int, c: int, filled: int,
        y: int, dy: int, lines: int, x: int, dx: int, columns: int,
    ) -> None:  # fmt: skip
        first = min(max((dx - 1 - x) // dx, 0), columns)
        last = max(min(columns, (width - x + dx - 1) // dx), first)
        pixel = filled * size
        for line in range(lines):
            to = slab + line * columns * pixel
            at = y + line * dy
            if at < 0 or at >= height or first == last:
                zero_bytes(to, columns * pixel)
                continue
            source = image + (at * width + x + first * dx) * channels * size
            zero_bytes(to, first * pixel)
            if filled == channels and dx == 1:
                copy_bytes(to + first * pixel, source, (last - first) * pixel)
            else:
                for j in range(first, last):
                    copy_bytes(to + j * pixel, source, c * size)
                    zero_bytes(to + j * pixel + c * size, pixel - c * size)
                    source += dx * channels * size
            zero_bytes(to + last * pixel, (columns - last) * pixel)

    return fill
