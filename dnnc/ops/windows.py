"""Windows that move over the last two axes of a tensor: what convolution and pooling share.

`pads` are top, left, bottom, right; negative padding cuts off. Sizes of windows, strides and
dilations are (vertical, horizontal).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from dnnc.ir.dims import Dim, DimLike, dim
from dnnc.ops.base import Array, TypeRuleError

__all__ = [
    "NO_PADDING",
    "ONES",
    "Padding",
    "embed",
    "output_size",
    "padding",
    "pair",
    "spread",
    "windows",
]

Padding: TypeAlias = tuple[Dim, Dim, Dim, Dim]

NO_PADDING: Padding = (dim(0), dim(0), dim(0), dim(0))
#: Strides and dilations that leave nothing out.
ONES = (dim(1), dim(1))


def pair(sizes: Iterable[DimLike]) -> tuple[Dim, Dim]:
    """The two sizes as `Dim`s."""
    vertical, horizontal = sizes
    return dim(vertical), dim(horizontal)


def padding(sizes: Iterable[DimLike]) -> Padding:
    """The four sizes top, left, bottom, right as `Dim`s."""
    top, left, bottom, right = sizes
    return dim(top), dim(left), dim(bottom), dim(right)


def output_size(
    name: str, size: Dim, window: Dim, stride: Dim, pads: tuple[Dim, Dim], dilation: Dim
) -> Dim:
    """The number of windows along an axis; raises E206 where none fits."""
    padded = size + pads[0] + pads[1]
    room = padded - dilation * (window - 1) - 1
    if room.constant is not None and room.constant < 0:
        raise TypeRuleError(
            f"`{name}`: a window of {dilation * (window - 1) + 1} does not fit a size of {padded}",
            "",
            "E206",
        )
    return room // stride + 1


def embed(x: Array, pads: Sequence[DimLike], fill: float = 0) -> Array:
    """`x` with `fill` around its last two axes, or cut where padding is negative."""
    top, left, bottom, right = (int(p) for p in pads)
    rows = slice(max(0, -top), x.shape[-2] - max(0, -bottom))
    columns = slice(max(0, -left), x.shape[-1] - max(0, -right))
    widths = [(0, 0)] * (x.ndim - 2)
    widths += [(max(0, top), max(0, bottom)), (max(0, left), max(0, right))]
    return np.pad(x[..., rows, columns], widths, constant_values=fill)


def windows(
    x: Array, window: Sequence[DimLike], strides: Sequence[DimLike], dilations: Sequence[DimLike]
) -> Array:
    """Every window of x [..., H, W] as [..., Ho, Wo, kh, kw], a view."""
    (kh, kw), (sh, sw), (dh, dw) = _ints(window), _ints(strides), _ints(dilations)
    seen = np.lib.stride_tricks.sliding_window_view(
        x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(-2, -1)
    )
    return seen[..., ::sh, ::sw, ::dh, ::dw]


def spread(
    parts: Array,
    shape: tuple[int, ...],
    strides: Sequence[DimLike],
    pads: Sequence[DimLike],
    dilations: Sequence[DimLike],
) -> Array:
    """The adjoint of `embed` and `windows`: parts [..., Ho, Wo, kh, kw] summed into `shape`."""
    (sh, sw), (dh, dw) = _ints(strides), _ints(dilations)
    top, left, bottom, right = (int(p) for p in pads)
    rows, columns, kh, kw = parts.shape[-4:]
    total = np.zeros(
        (*shape[:-2], shape[-2] + top + bottom, shape[-1] + left + right), parts.dtype
    )  # fmt: skip
    for i in range(kh):
        for j in range(kw):
            down = slice(i * dh, i * dh + (rows - 1) * sh + 1, sh)
            across = slice(j * dw, j * dw + (columns - 1) * sw + 1, sw)
            total[..., down, across] += parts[..., i, j]
    return embed(total, (-top, -left, -bottom, -right))


def _ints(sizes: Sequence[DimLike]) -> tuple[int, int]:
    vertical, horizontal = sizes
    return int(vertical), int(horizontal)
