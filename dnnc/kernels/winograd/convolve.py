"""Convolutions with channels last by Winograd's method.

A thread takes a block of bands (`dnnc.kernels.winograd.blocks`). It transforms the tiles of input
into matrices V [product, tile, channel]; then, panel by panel of the weights, each is multiplied
by its packed matrix, and the products [product, tile, output] are transformed back into lines of
the result. All of a block stays in the second-level cache. On a matrix unit the tiles of a few rows
are split once and multiplied by all panels, whose weights each thread has split before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnc.ir.dims import dim
from dnnc.ir.graph import Value
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, Kernel, Scratch, make_kernel
from dnnc.kernels.code import Code
from dnnc.kernels.epilogue import (
    Epilogue,
    Region,
    build_finish,
    convolution_examples,
    epilogue_arguments,
)
from dnnc.kernels.unit.sizes import CHUNK, LINE, PAIR, SIDE, piece_bytes
from dnnc.kernels.winograd.blocks import BUDGET, Scheme, build_fetch, build_products, build_spread

__all__ = ["winograd_calls"]

_OUT, _IN, _PACKED, _PICTURES, _H, _W, _C, _HO, _WO, _O, _TOP, _LEFT = range(12)
_DY, _DX, _ACROSS, _DOWN, _BANDS, _V_STEP, _M_STEP, _FILLED, _ROOM, _WIDTH, _M_PANEL = range(12, 23)
_SLAB, _V, _M, _RESULT, _REGION, _WEIGHTS, _STRIP, _UNIT, _STREAMS = range(23, 32)
#: Least tiles of a convolution on the matrix unit, for which each thread splits the weights.
_LEAST_TILES = 128
#: Bytes of weights that stay in the second-level cache beside a block, and how many tiles are
#: multiplied by a weight in the time in which it comes from the next one.
_KEPT, _STREAMING = 1024 * 1024, 12
#: Images as large as the result that a block reads or writes at its end.
_MOST_STREAMS = 4
_FLAT, _EPILOGUE, _SLOTS = range(_STREAMS + _MOST_STREAMS, _STREAMS + _MOST_STREAMS + 3)


def winograd_calls(
    op: Any, x: Value, packed: Value, y: Value, epilogue: Epilogue | None = None
) -> list[Call]:
    """The call that convolves x [N, H, W, C] by packed weights into the memory of y [N, Ho, Wo, O],
    or gives the sums to an epilogue."""
    scheme = Scheme.of(op, x, y, int(packed.shape[3]))
    products, bands = scheme.count**2, _bands(scheme)
    room = scheme.room(bands, _rows(scheme))
    v_step, m_step = scheme.spread(room * scheme.filled), scheme.spread(room * scheme.width)
    slab = scheme.slab(bands, scheme.filled, scheme.taps - 1)
    result, results = scheme.slab(bands, scheme.width, 0), m_step * products
    sizes = (scheme.across, scheme.down, bands, v_step, m_step, scheme.filled, room, scheme.width)
    unit = scheme.unit
    kept = results * scheme.panels if unit else results
    arguments: tuple[Argument, ...] = (
        # An epilogue stores by itself.
        Integer.of(0) if epilogue else Buffer(y, written=True),
        Buffer(x),
        Buffer(packed),
        Integer(scheme.pictures(x.shape[0])),
        *(Integer.of(s) for s in (*x.shape[1:], *y.shape[1:], *op.pads[:2], *scheme.apart, *sizes)),
        Integer.of(results if unit else 0),
        *(
            Scratch(dim(n), per_thread=True)
            for n in (slab, v_step * products, kept, result, 8 * Region.WORDS)
        ),
        Scratch(dim(scheme.weight_pieces if unit else 1), per_thread=True),
        Scratch(dim(2 * piece_bytes(scheme.filled) if unit else 1), per_thread=True),
        Code(_kernel(scheme, True)) if unit else Integer.of(0),
        *_streams(y, epilogue),
        Integer.of(int(scheme.apart == (1, 1) and (epilogue is None or epilogue.flat))),
        *epilogue_arguments(epilogue),
    )
    flops = 2 * y.type.elements * scheme.channels * scheme.taps**2
    in_place = epilogue.in_place if epilogue else ()
    # The matrix unit is used where there are many tiles, so that bits depend on their number.
    examples = None if unit else convolution_examples(op, y, epilogue)
    return [Call(_kernel(scheme, False), arguments, flops, in_place, examples)]


def _kernel(scheme: Scheme, unit: bool) -> Kernel:
    """The kernel on the matrix unit, or that which calls it where there are enough tiles."""
    return make_kernel("winograd", lambda: _build(scheme, unit), *scheme.code, unit, unrolled=False)


def _streams(y: Value, epilogue: Epilogue | None) -> list[Argument]:
    """What is read and written while results are delivered, to be fetched before; 0 for none."""
    if epilogue is None:
        found: list[Argument] = [Buffer(y, written=True)]
    else:
        buffers = [item for item in epilogue.slots if isinstance(item, Buffer)]
        found = [item for item in buffers if item.value.type == y.type]
    none = [Integer.of(0)] * _MOST_STREAMS
    return [*found, *none][:_MOST_STREAMS]


def _bands(scheme: Scheme) -> int:
    """Bands in a block: as the budget allows, or more where weights have to be read anew for each
    block from beyond the second-level cache; and tiles that fill the register tile."""
    outputs = scheme.filled_outputs if scheme.unit else scheme.width
    each = scheme.count**2 * (scheme.filled + outputs) * scheme.tile.bytes_each
    weights = scheme.count**2 * scheme.filled * scheme.filled_outputs * scheme.tile.bytes_each
    streamed, rows = weights > _KEPT, _rows(scheme)
    most = 64 if streamed else min(BUDGET // each, 64)
    # Time to write and read transformed tiles beyond that cache, in that of their products.
    beyond = 25 * (1 / scheme.filled + 1 / scheme.filled_outputs)

    def cost(bands: int) -> float:
        """Time for each tile, in that of its products where no row of a register tile is void."""
        tiles = bands * scheme.across
        block = (2 + _STREAMING * streamed) / tiles
        return -(-tiles // rows) * rows / tiles + block + beyond * (tiles * each > BUDGET)

    return min(range(1, max(most // scheme.across, 1) + 1), key=cost)


def _rows(scheme: Scheme) -> int:
    """Rows that are multiplied at a time."""
    return PAIR if scheme.unit else scheme.rows


def _build(scheme: Scheme, unit: bool) -> Callable[[int, int, int], int]:
    """The driver. Threads share the bands; or else, where those are few, the panels."""
    from dnnc.kernels.intrinsics import call_kernel, share, slot
    from dnnc.kernels.subroutine import subroutine

    spread = subroutine(build_spread(scheme, "bt"))
    panel = subroutine(_build_panel(scheme))
    multiply, enter, leave = _multiplying(scheme, unit)
    vector = scheme.tile.lanes * scheme.tile.bytes_each

    def kernel(args: int, tid: int, threads: int) -> int:
        width = slot(args, _WIDTH)
        most, bands = slot(args, _BANDS), slot(args, _PICTURES) * slot(args, _DOWN)
        panels = (slot(args, _O) + width - 1) // width
        enough = bands * slot(args, _ACROSS) >= _LEAST_TILES
        if not unit and slot(args, _UNIT) and enough:
            call_kernel(slot(args, _UNIT), args, tid, threads)
            return 0
        start, stop = share(bands, 1, tid, threads)
        first, last = 0, panels
        if bands * slot(args, _ACROSS) < 8 * threads and panels >= threads:
            start, stop = 0, bands
            first, last = share(panels, 1, tid, threads)
        enter(args, first, last)
        for band in range(start, stop, most):
            end = min(band + most, stop)
            spread(
                slot(args, _V), slot(args, _V_STEP), slot(args, _ROOM), vector,
                slot(args, _SLAB), slot(args, _IN),
                slot(args, _H), slot(args, _W),
                slot(args, _C), slot(args, _C), slot(args, _FILLED),
                slot(args, _TOP), slot(args, _LEFT), slot(args, _DY), slot(args, _DX),
                slot(args, _ACROSS), slot(args, _DOWN), band, end,
            )  # fmt: skip
            after = min(end + most, stop)
            for p in range(first, last):
                # The first panel takes long enough to fetch what comes next. On the unit all
                # panels are multiplied at once.
                if p == first or not unit:
                    multiply(args, band, end, after if p == first else 0, p, last)
                panel(args, band, end, p)
        leave()
        return 0

    return kernel


def _build_panel(scheme: Scheme) -> Callable[..., None]:
    """`f(args, band, end, p)`: the outputs of panel p in the bands from `band` to `end`, from their
    products."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    gather = subroutine(_build_gather(scheme))
    deliver = subroutine(_build_deliver(scheme))
    tile, results = scheme.tile, scheme.results
    size, lanes = tile.bytes_each, tile.lanes

    def panel(args: int, band: int, end: int, p: int) -> None:
        down, across, outputs = slot(args, _DOWN), slot(args, _ACROSS), slot(args, _O)
        width = slot(args, _WIDTH)
        ho, wo, dy, dx = slot(args, _HO), slot(args, _WO), slot(args, _DY), slot(args, _DX)
        some = min(outputs - p * width, width)
        # Whole tiles of whole vectors go where they belong; others are cut on their way.
        whole = slot(args, _OUT) != 0 and some % lanes == 0
        whole = whole and ho % (results * dy) == 0 and wo % (results * dx) == 0
        source = slot(args, _M) + p * slot(args, _M_PANEL)
        while band < end:
            picture, row = band // down, band % down
            run = min(down - row, end - band)
            if whole:
                image = picture // (dy * dx)
                first = picture - image * dy * dx
                line = image * ho + row * results * dy + first // dx
                to = slot(args, _OUT) + ((line * wo + first % dx) * outputs + p * width) * size
                pixel = outputs * size
                gather(args, source, run, to, dx * pixel, dy * wo * pixel, some // lanes)
            else:
                pixel = width * size
                line = across * results * pixel
                gather(args, source, run, slot(args, _RESULT), pixel, line, width // lanes)
                deliver(args, picture, row * results, run * results, p * width, some)
            source += run * across * width * size
            band += run

    return panel


def _multiplying(scheme: Scheme, unit: bool) -> tuple[Any, Any, Any]:
    """What multiplies, `f(args, band, end, after, p, last)`; what is to be done before,
    `f(args, first, last)` for the panels from `first` to `last`; and what afterwards, `f()`."""
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.tiles import release

    if unit:
        multiply, enter = _build_multiply_on_unit(scheme), _build_split_weights(scheme)
        return subroutine(multiply), subroutine(enter), release

    @subroutine
    def nothing() -> None:
        pass

    def enter_nothing(args: int, first: int, last: int) -> None:
        pass

    return subroutine(_build_multiply(scheme)), subroutine(enter_nothing), nothing


def _build_split_weights(scheme: Scheme) -> Callable[[int, int, int], None]:
    """`f(args, first, last)`: split the weights of panels for the matrix unit, and begin to use
    it."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine
    from dnnc.kernels.unit.split import split_columns
    from dnnc.kernels.unit.tiles import configure

    bytes_of = subroutine(piece_bytes, returns=1)
    count, size = scheme.count**2, scheme.tile.bytes_each

    def split_weights(args: int, first: int, last: int) -> None:
        filled, width = slot(args, _FILLED), slot(args, _WIDTH)
        panels, apart = (slot(args, _O) + width - 1) // width, bytes_of(filled)
        for f in range(count):
            for p in range(first, last):
                number = f * panels + p
                to = slot(args, _WEIGHTS) + number * width // SIDE * apart
                source = slot(args, _PACKED) + number * filled * width * size
                split_columns(to, apart, source, width * size, filled, width)
        configure()

    return split_weights


def _build_multiply_on_unit(scheme: Scheme) -> Callable[..., None]:
    """`f(args, band, end, after, first, last)`: the products of V by the matrices of panels."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import shared, subroutine
    from dnnc.kernels.unit.operands import build_split_strip
    from dnnc.kernels.unit.tiles import build_multiply_tiles

    count, size, vector = scheme.count**2, scheme.tile.bytes_each, LINE
    split_strip = shared(build_split_strip)
    multiply_tiles, fetch = shared(build_multiply_tiles), subroutine(_build_fetch(scheme))
    bytes_of = subroutine(piece_bytes, returns=1)

    def multiply(args: int, band: int, end: int, after: int, first: int, last: int) -> None:
        filled, tiles = slot(args, _FILLED), (end - band) * slot(args, _ACROSS)
        width, strip = slot(args, _WIDTH), slot(args, _STRIP)
        panels, apart = (slot(args, _O) + width - 1) // width, bytes_of(filled)
        chunks, block = (filled + CHUNK - 1) // CHUNK, slot(args, _ROOM) * vector
        for f in range(count):
            if after:
                fetch(args, band, end, after, f)
            b = slot(args, _WEIGHTS) + f * panels * width // SIDE * apart
            for r in range(0, tiles, PAIR):
                rows = min(PAIR, tiles - r)
                a = slot(args, _V) + f * slot(args, _V_STEP) + r * vector
                split_strip(strip, a, vector, block, min(rows, SIDE), filled)
                if rows > SIDE:
                    a += SIDE * vector
                    split_strip(strip + apart, a, vector, block, rows - SIDE, filled)
                for p in range(first, last):
                    c = slot(args, _M) + p * slot(args, _M_PANEL) + f * slot(args, _M_STEP)
                    c += r * width * size
                    own = b + p * width // SIDE * apart
                    multiply_tiles(
                        chunks, strip, apart, rows, own, apart, width, 0, 0, c, width * size, 0, 0,
                        0,
                    )  # fmt: skip

    return multiply


def _build_multiply(scheme: Scheme) -> Callable[..., None]:
    """`f(args, band, end, after, p, last)`: the products of V by the matrices of panel p.

    Between them, what the block will deliver to and what the next one reads is fetched: these come
    in bursts, which the processor does not foresee.
    """
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    count, lanes = scheme.count**2, scheme.tile.lanes
    size = scheme.tile.bytes_each
    products = subroutine(build_products(scheme, transposed=False))
    fetch = subroutine(_build_fetch(scheme))

    def multiply(args: int, band: int, end: int, after: int, p: int, last: int) -> None:
        filled, tiles = slot(args, _FILLED), (end - band) * slot(args, _ACROSS)
        width = slot(args, _WIDTH)
        panels = (slot(args, _O) + width - 1) // width
        block = slot(args, _ROOM) * lanes * size
        for f in range(count):
            if after:
                fetch(args, band, end, after, f)
            a = slot(args, _V) + f * slot(args, _V_STEP)
            b = slot(args, _PACKED) + (f * panels + p) * filled * width * size
            c = slot(args, _M) + p * slot(args, _M_PANEL) + f * slot(args, _M_STEP)
            products(tiles, width, a, block, filled // lanes, lanes, b, c, 0)

    return multiply


def _build_fetch(scheme: Scheme) -> Callable[..., None]:
    """`f(args, band, end, after, f)`: one part in so many as there are products."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.subroutine import subroutine

    some = subroutine(build_fetch(scheme))
    size = scheme.tile.bytes_each

    def fetch(args: int, band: int, end: int, after: int, f: int) -> None:
        down, h, ho = slot(args, _DOWN), slot(args, _H), slot(args, _HO)
        dy, dx = slot(args, _DY), slot(args, _DX)
        line = slot(args, _WO) * slot(args, _O) * size
        for k in range(_MOST_STREAMS):
            if slot(args, _STREAMS + k):
                some(slot(args, _STREAMS + k), ho, line, dy, dx, down, band, end, f)
        line = slot(args, _W) * slot(args, _C) * size
        some(slot(args, _IN), h, line, dy, dx, down, end, after, f)

    return fetch


def _build_gather(scheme: Scheme) -> Callable[..., None]:
    """`f(args, source, run, to, pixel, line, count)`: `count` vectors of the results of so many
    bands, of which pixels and lines are so far apart at `to`."""
    from dnnc.kernels.intrinsics import slot
    from dnnc.kernels.winograd.transforms import both_sides

    tile, results, taps, count = scheme.tile, scheme.results, scheme.taps, scheme.count
    transform = both_sides(f"at_{results}_{taps}", scheme.matrices.at, tile)
    size, vector = tile.bytes_each, tile.lanes * tile.bytes_each

    def gather(
        args: int, source: int, run: int, to: int, pixel: int, line: int, vectors: int
    ) -> None:
        across, step = slot(args, _ACROSS), slot(args, _M_STEP)
        for i in range(run):
            for j in range(across):
                place = to + i * results * line + j * results * pixel
                transform(place, line, pixel, vector, source, count * step, step, vectors)
                source += slot(args, _WIDTH) * size

    return gather


def _build_deliver(scheme: Scheme) -> Callable[..., None]:
    """`f(args, picture, line, lines, channel, channels)`: results of a run to the epilogue, or to
    the output."""
    from dnnc.kernels.intrinsics import copy_bytes, slot
    from dnnc.kernels.subroutine import shared

    finish, size, results = shared(build_finish), scheme.tile.bytes_each, scheme.results

    def deliver(
        args: int, picture: int, line: int, lines: int, channel: int, channels: int
    ) -> None:
        ho, wo, outputs = slot(args, _HO), slot(args, _WO), slot(args, _O)
        dy, dx = slot(args, _DY), slot(args, _DX)
        wide, pixel = slot(args, _ACROSS) * results, slot(args, _WIDTH) * size
        image = picture // (dy * dx)
        y, x = (picture - image * dy * dx) // dx, picture % dx
        lines = min(lines, (ho - y + dy - 1) // dy - line)
        pixels, step = (wo - x + dx - 1) // dx, 1
        if slot(args, _FLAT) and wide == wo:
            # Lines are one another's continuation.
            pixels, step = lines * wo, lines
        for i in range(0, lines, step):
            source = slot(args, _RESULT) + i * wide * pixel
            at = image * ho + y + (line + i) * dy
            if slot(args, _EPILOGUE):
                finish(
                    slot(args, _EPILOGUE), args + 8 * _SLOTS, slot(args, _REGION), source, pixel,
                    pixels, channels, at, x, channel, dx,
                )  # fmt: skip
            else:
                to = slot(args, _OUT) + ((at * wo + x) * outputs + channel) * size
                for j in range(pixels):
                    copy_bytes(to + j * dx * outputs * size, source + j * pixel, channels * size)

    return deliver
