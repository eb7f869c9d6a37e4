"""How kernels by Winograd's method walk over images, and what they share.

A band is the lines of outputs that one row of tiles covers. Work is done in blocks of bands, which
may belong to several images, and within a block image by image: a run is the bands of one image. A
slab is the part of an image that a run reads, with its padding, its channels filled up to whole
vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dnnc.ir.dims import ceil_div
from dnnc.ir.graph import Value
from dnnc.kernels.tiles import Tile, tiles
from dnnc.ops.winograd import Winograd, winograd

__all__ = ["Scheme", "build_fill"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """Sizes of one convolution by Winograd's method.

    `results` by `results` outputs take `taps` by `taps` weights; `channels` and `outputs` count
    those of the image and of the result, whose lines have `columns` pixels. `width` is that of a
    panel.
    """

    dtype: str
    results: int
    taps: int
    channels: int
    outputs: int
    lines: int
    columns: int
    width: int

    @staticmethod
    def of(op: Any, x: Value, y: Value, width: int) -> Scheme:
        """That of a convolution of x [N, H, W, C] to y [N, Ho, Wo, O], whose sizes are known."""
        sizes = [int(size) for size in (x.shape[3], y.shape[3], y.shape[1], y.shape[2])]
        taps = int(op.kernel[0]) if hasattr(op, "kernel") else int(op.shape[2])
        return Scheme(str(y.type.dtype), op.tile, taps, *sizes, width)

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
        """The register tile of the products."""
        lanes = tiles(self.dtype)[0].lanes
        return tiles(self.dtype, min(2, max(self.width // lanes, 1)))[0]

    @property
    def across(self) -> int:
        """Tiles in a band."""
        return -(-self.columns // self.results)

    @property
    def down(self) -> int:
        """Bands in an image."""
        return -(-self.lines // self.results)

    def filled(self, channels: int) -> int:
        """Channels in whole vectors."""
        return -(-channels // self.tile.lanes) * self.tile.lanes

    def spread(self, elements: int) -> int:
        """Bytes from one matrix of so many elements to the next: an odd number of cache lines, so
        that the matrices of a tile do not share sets of the cache."""
        return (elements * self.tile.bytes_each + 63) // 64 // 2 * 128 + 64


def build_fill(tile: Tile) -> Callable[..., None]:
    """`f(slab, image, height, width, channels, filled, y, lines, x, columns)`: `lines` by `columns`
    pixels of the image at address `image` from line y and column x on, 0 outside of it."""
    from dnnc.kernels.intrinsics import copy_bytes, zero_bytes

    size = tile.bytes_each

    def fill(
        slab: int, image: int, height: int, width: int, channels: int, filled: int, y: int,
        lines: int, x: int, columns: int,
    ) -> None:  # fmt: skip
        first = min(max(-x, 0), columns)
        last = max(min(columns, width - x), first)
        pixel = filled * size
        for line in range(lines):
            to = slab + line * columns * pixel
            if y + line < 0 or y + line >= height or first == last:
                zero_bytes(to, columns * pixel)
                continue
            source = image + ((y + line) * width + x + first) * channels * size
            zero_bytes(to, first * pixel)
            if filled == channels:
                copy_bytes(to + first * pixel, source, (last - first) * pixel)
            else:
                for j in range(first, last):
                    copy_bytes(to + j * pixel, source, channels * size)
                    zero_bytes(to + j * pixel + channels * size, pixel - channels * size)
                    source += channels * size
            zero_bytes(to + last * pixel, (columns - last) * pixel)

    return fill
