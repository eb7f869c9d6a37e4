"""Depthwise convolutions with channels last.

A vector holds adjacent channels of a pixel, each of which is multiplied by weights of its own. So a
few outputs of a line are computed at a time, a tap after the other, from pixels where they lie:
lines beyond the image are left out, and pixels beyond the ends of a line are zero. There is so
little to compute that reading and writing images decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Buffer, Integer, Kernel, Scratch, make_kernel
from dnnc.kernels.epilogue import Epilogue, Region, epilogue_arguments
from dnnc.kernels.target import Target, host

__all__ = ["Taps", "depthwise_kernel", "widest"]

_OUT, _IN, _WEIGHTS, _N, _H, _W, _C, _HO, _WO, _KH, _SH, _DH, _TOP, _LEFT = range(14)
_ROWS, _WORDS, _TILE, _EPILOGUE, _SLOTS = range(14, 19)
#: Most outputs of a line that go to an epilogue at a time.
_MOST = 512


def widest(target: Target | None = None) -> int:
    """Most taps of a line: their pixels stay in registers with the sums."""
    return 9 if (target or host()).vector_registers >= 32 else 5


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of a line, `wide` of them `apart` pixels from each other, and pixels from one output
    to the next; elements of type `dtype`, as many as a vector has `lanes`."""

    dtype: str
    lanes: int
    wide: int
    apart: int
    stride: int

    def outputs(self, target: Target | None = None) -> int:
        """How many outputs are computed at a time, so that these and their pixels fit registers."""
        return 8 if (target or host()).vector_registers >= 32 else 4

    @property
    def bytes_each(self) -> int:
        return 4 if self.dtype == "f32" else 8

    @staticmethod
    def of(op: Any, dtype: str, kernel: tuple[Dim, Dim]) -> Taps | None:
        """Those of a convolution; None if they are not known or too many."""
        numbers = [size.constant for size in (kernel[1], op.dilations[1], op.strides[1])]
        if None in numbers or (numbers[0] or 0) > widest():
            return None
        lanes = host().lanes(4 if dtype == "f32" else 8)
        return Taps(dtype, lanes, *(int(number or 0) for number in numbers))


def depthwise_kernel(
    op: Any, taps: Taps, x: Value, packed: Value, y: Value, epilogue: Epilogue | None
) -> tuple[Kernel, tuple[Argument, ...]]:
    """The kernel and arguments of a depthwise `ConvLast` of x into the memory of `y`, or with its
    sums given to an epilogue."""
    high = op.kernel[0]
    sizes = (*x.shape, *y.shape[1:3], high, op.strides[0], op.dilations[0], *op.pads[:2])
    arguments = (
        # An epilogue stores by itself, from a piece of a line of sums.
        Integer.of(0) if epilogue else Buffer(y, written=True),
        Buffer(x),
        Buffer(packed),
        *(Integer.of(size) for size in sizes),
        Scratch(high * 16, per_thread=True),
        Scratch(dim(8 * Region.WORDS), per_thread=True),
        Scratch(dim(_MOST * taps.lanes * taps.bytes_each), per_thread=True),
        *epilogue_arguments(epilogue),
    )
    kernel = make_kernel("depthwise", lambda: _build(taps), taps, taps.outputs(), unrolled=False)
    return kernel, arguments


def _build(taps: Taps) -> Callable[[int, int, int], int]:
    """Threads share lines of all images, vector of channels by vector."""
    from dnnc.kernels.epilogue import build_finish
    from dnnc.kernels.intrinsics import share, slot
    from dnnc.kernels.subroutine import shared, subroutine

    rows, line = subroutine(_build_rows(taps), returns=1), subroutine(_build_line(taps))
    finish, size, lanes = shared(build_finish), taps.bytes_each, taps.lanes

    def kernel(args: int, tid: int, threads: int) -> int:
        ho, wo, channels = slot(args, _HO), slot(args, _WO), slot(args, _C)
        code, words, tile = slot(args, _EPILOGUE), slot(args, _WORDS), slot(args, _TILE)
        vectors, listed, there = (channels + lanes - 1) // lanes, -1, 0
        start, stop = share(slot(args, _N) * ho * vectors, 1, tid, threads)
        for unit in range(start, stop):
            q, channel = unit // vectors, unit % vectors * lanes
            columns = min(lanes, channels - channel)
            if q != listed:
                there, listed = rows(args, q // ho, q % ho), q
            if code == 0:
                to = slot(args, _OUT) + (q * wo * channels + channel) * size
                line(args, there, channel, columns, 0, wo, to, channels * size)
                continue
            for j in range(0, wo, _MOST):
                some = min(_MOST, wo - j)
                line(args, there, channel, columns, j, j + some, tile, lanes * size)
                finish(
                    code, args + 8 * _SLOTS, words, tile, lanes * size, some, columns, q, j,
                    channel, 1,
                )  # fmt: skip
        return 0

    return kernel


def _build_rows(taps: Taps) -> Callable[[int, int, int], int]:
    """`f(args, image, q)`: how many lines that line q of the result reads lie in the image. Where
    the pixels of each and the weights of its taps begin is listed."""
    from dnnc.kernels.intrinsics import slot, store

    put, size, wide = store("i64"), taps.bytes_each, taps.wide

    def rows(args: int, image: int, q: int) -> int:
        h, pixel, table, there = slot(args, _H), slot(args, _C) * size, slot(args, _ROWS), 0
        for ky in range(slot(args, _KH)):
            y = q * slot(args, _SH) + ky * slot(args, _DH) - slot(args, _TOP)
            if 0 <= y < h and slot(args, _W) > 0:
                put(table, 2 * there, slot(args, _IN) + (image * h + y) * slot(args, _W) * pixel)
                put(table, 2 * there + 1, slot(args, _WEIGHTS) + ky * wide * pixel)
                there += 1
        return there

    return rows


def _build_line(taps: Taps) -> Callable[..., None]:
    """`f(args, there, channel, columns, start, stop, to, step)`: a vector of `columns` channels of
    outputs `start` to `stop` of the line that is listed, `step` bytes apart from `to` on."""
    from dnnc.kernels.convolution.depthwise_ir import outputs_of_line
    from dnnc.kernels.intrinsics import slot

    inside, guarded, masked = (
        outputs_of_line(taps, *how) for how in ((False, False), (True, False), (True, True))
    )
    size, lanes, some, stride = taps.bytes_each, taps.lanes, taps.outputs(), taps.stride
    reach = (some - 1) * stride + (taps.wide - 1) * taps.apart

    def line(
        args: int, there: int, channel: int, columns: int, start: int, stop: int, to: int,
        step: int,
    ) -> None:  # fmt: skip
        w, pixel, rows = slot(args, _W), slot(args, _C) * size, slot(args, _ROWS)
        at = channel * size
        for j in range(start, stop, some):
            first, count = j * stride - slot(args, _LEFT), min(some, stop - j)
            if columns < lanes:
                masked(rows, there, at, pixel, to, step, first, w, count, columns)
            elif count == some and first >= 0 and first + reach < w:
                inside(rows, there, at, pixel, to, step, first, w, count, columns)
            else:
                guarded(rows, there, at, pixel, to, step, first, w, count, columns)
            to += some * step

    return line
