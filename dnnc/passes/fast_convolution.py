"""Which convolutions are computed by Winograd's method, and on tiles of which size.

`tile` by `tile` results take `(tile + k - 1)^2` products for each pair of channels instead of
`tile^2 k^2`: a quarter for 3 x 3 taps and tiles of 4, 0.36 of them for 5 x 5 and tiles of 2. The
transforms are paid once for each channel, so they need channels to be shared by.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim
from dnnc.ops.conv import Movement

__all__ = ["winograd_tile"]

#: The size of a tile by that of the kernel. A result has at least as many rows and columns.
_TILES = {3: 4, 5: 2}
#: Fewest channels in and out that pay for the transforms.
_FEWEST = 8


def winograd_tile(
    movement: Movement,
    kernel: tuple[Dim, Dim],
    channels: Dim,
    outputs: Dim,
    size: tuple[Dim, ...],
) -> int:
    """The tile for a convolution with a result of that `size`, rows and columns; 0 where the direct
    method is as good or the only one."""
    taps = kernel[0].constant
    if taps is None or kernel[0] != kernel[1]:
        return 0
    plain = all(step == 1 for step in (*movement["strides"], *movement["dilations"]))
    tile = _TILES.get(taps, 0) if plain and movement["groups"] == 1 else 0
    if not _at_least(_FEWEST, channels, outputs) or not _at_least(tile, *size):
        return 0
    return tile


def _at_least(least: int, *sizes: Dim) -> bool:
    return all(size.constant is not None and size.constant >= least for size in sizes)
