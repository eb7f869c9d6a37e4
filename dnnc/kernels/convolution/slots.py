"""What the drivers of convolutions with channels last have in common: their slots, by number.

A convolution goes over a grid of lines q and columns u: the outputs, or, in the gradient by input
with strides, coordinates `h + top = stride * q + r` of outputs h of class r, with columns alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Integer, Kernel, Scratch
from dnnc.kernels.code import Code
from dnnc.kernels.convolution.run_strips import Runs, run_strip_kernel
from dnnc.kernels.epilogue import Region
from dnnc.kernels.product.strips import Strip, strip_kernel
from dnnc.kernels.tiles import Tile, most_vectors, tiles
from dnnc.ops.channels_last import is_depthwise, panel_width

__all__ = ["BUDGET", "MOST_PIXELS", "Form", "common_slots", "runs_of"]

#: OUT is written; slabs are cut from IN [N, H, W, C]; OTHER holds weights, or dy by weight.
OUT, IN, OTHER, N, H, W, C = range(7)
#: The other image [N, HO, WO, O]: y, dx, or dy.
HO, WO, O = range(7, 10)  # noqa: E741
#: Of a group: how many channels a tap sums over and how many columns it makes. A depthwise
#: convolution counts as one group with one channel; EACH is set.
GROUPS, CHANNELS, COLUMNS = range(10, 13)
KH, KW, SH, SW, DH, DW, TOP, LEFT, BACKWARD, EACH = range(13, 23)
#: The code of strips as wide as tiles, and of those of at most one vector less.
STRIP, NARROW, SLAB, TAPS, PIXELS, WORDS = range(23, 29)
#: Columns of a tile, and so of a strip; bytes of a slab, of whose lines at least one is taken.
WIDE, ROOM = 29, 30
OWN = 31

#: Bytes of a slab that stays in the second-level cache.
BUDGET = 128 * 1024
#: Most grid points of a slab.
MOST_PIXELS = 1024
#: Where the words of a region, the columns of the table of pixels, and the code of the strips that
#: are computed lie among WORDS.
REGION, TABLE = Strip.WORDS * 8, Strip.WORDS + Region.WORDS
CODE = TABLE + 1


@dataclass(frozen=True, slots=True)
class Form:
    """Which tiles compute a convolution. `width` is that of a panel of packed weights."""

    tile: Tile
    each: bool
    width: Dim
    columns: Dim

    @property
    def narrow(self) -> Tile | None:
        """The tile of what columns remain beyond whole tiles, where fewer vectors take them."""
        columns, dtype = self.columns.constant, self.tile.dtype
        rest = 1 if columns is None else columns % self.tile.columns
        if self.each or not rest:
            return None
        fewer = (tiles(dtype, vectors)[0] for vectors in range(1, self.tile.vectors))
        return next((tile for tile in fewer if rest <= tile.columns), None)

    def strips(self, wide: Runs | None, narrow: Runs | None) -> tuple[Kernel, Kernel]:
        """The kernels of strips as wide as tiles, and of those of what columns remain."""
        table = "each" if self.each else "a"

        def strip(tile: Tile, runs: Runs | None) -> Kernel:
            if runs:
                return run_strip_kernel(tile, runs)
            return strip_kernel(tile.dtype, tile.vectors, table)

        first = strip(self.tile, wide)
        return first, strip(self.narrow, narrow) if self.narrow else first

    def evened(self) -> Form:
        """The form of wider tiles where those leave no single vector of columns, which is slow, and
        these do; for a product by columns that are not packed."""
        columns, (dtype, lanes) = self.columns.constant, (self.tile.dtype, self.tile.lanes)
        vectors = -(-(columns or 0) // lanes)
        better = vectors % 2 == 1 and vectors > 1 and vectors % 3 != 1
        if self.each or not better or most_vectors() < 3:
            return self
        return replace(self, tile=tiles(dtype, 3)[0])

    @staticmethod
    def of(op: Any, dtype: str, weight: tuple[Dim, ...], backward: bool = False) -> Form:
        """The form for a weight [O, C / groups, kh, kw]; with `backward` by input."""
        if is_depthwise(weight, op.groups):
            groups = dim(op.groups)
            return Form(tiles(dtype, 1)[0], True, groups, groups)
        columns = weight[1] if backward else weight[0] // op.groups
        width = panel_width(columns)
        vectors = 1 if width <= tiles(dtype, 1)[0].lanes else 2
        return Form(tiles(dtype, vectors)[0], False, dim(width), columns)


def runs_of(
    op: Any,
    form: Form,
    image: Value,
    outputs: Value,
    weight: tuple[Dim, ...],
    backward: bool = False,
) -> Runs | None:
    """How pixels (rows) and taps (steps) of a convolution come in runs, where that is known: the
    pixels of a line are a run, and so are the channels of a tap, or of a line of taps."""
    pixels, stride = outputs.shape[2], op.strides[1]
    pitch = image.shape[3] * (dim(1) if backward else stride)
    steps = image.shape[3] // op.groups
    if backward:
        # A line of one class: all classes have as many where the stride divides the line.
        if pixels % stride != 0:
            return None
        pixels = pixels // stride
    elif op.groups == 1 and op.dilations[1] == 1:
        steps = steps * weight[3]
    known = [number.constant for number in (pixels, pitch, steps)]
    if form.each or None in known:
        return None
    rows, apart, length = map(int, (pixels, pitch, steps))
    size = form.tile.bytes_each
    return Runs(rows, apart * size, length, size)


def common_slots(
    op: Any,
    form: Form,
    image: Value,
    outputs: Value,
    weight: tuple[Dim, ...],
    backward: bool,
    strips: tuple[Kernel, Kernel],
    room: int = BUDGET,
) -> tuple[Argument, ...]:
    """The slots from N on, for slabs of `image`, of `room` bytes, and the other image `outputs`."""
    kh, kw = weight[2:]
    groups, channels = dim(op.groups), image.shape[3] // op.groups
    if form.each:
        groups, channels = dim(1), dim(1)
    sizes = (
        *image.shape,
        *outputs.shape[1:],
        groups,
        channels,
        form.columns,
        kh,
        kw,
        *op.strides,
        *op.dilations,
        *op.pads[:2],
        int(backward),
        int(form.each),
    )
    slab = _slab_bytes(op, form, image, outputs, (kh, kw), backward, room)
    return (
        *(Integer.of(size) for size in sizes),
        *(Code(strip) for strip in strips),
        Scratch(slab, per_thread=True),
        Scratch(kh * kw * channels * 8, per_thread=True),
        Scratch((outputs.shape[2] + MOST_PIXELS) * 8, per_thread=True),
        Scratch(dim(8 * (CODE + 1)), per_thread=True),
        Integer.of(form.tile.columns),
        Integer.of(room),
    )


def _slab_bytes(
    op: Any,
    form: Form,
    image: Value,
    outputs: Value,
    kernel: tuple[Dim, Dim],
    backward: bool,
    room: int,
) -> Dim:
    """Bytes for a slab of one line of the grid or of so much room, whichever is more."""
    pads = [pad.constant for pad in op.pads]
    if not backward and all(pad is not None and pad <= 0 for pad in pads):
        return dim(64)
    high, wide = ((kernel[i] - 1) * op.dilations[i] + 1 for i in range(2))
    columns: Dim = outputs.shape[2] + 1
    if not backward:
        columns = columns * op.strides[1]
    line: Dim = (columns + wide) * image.shape[3] * form.tile.bytes_each
    lines: Dim = line * high
    return lines + room
