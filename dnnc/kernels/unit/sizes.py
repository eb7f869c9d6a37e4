"""Sizes of tiles of the matrix unit and of what products on it need, known without compiling."""

from dnnc.kernels.product.slots import DEPTH
from dnnc.ops.packed import CHUNK

__all__ = [
    "CHUNK",
    "CHUNK_BYTES",
    "DELIVERED",
    "FETCHED",
    "LINE",
    "MOST_FIXED",
    "PAIR",
    "PART",
    "PIECES",
    "RING",
    "RING_APART",
    "SETTINGS",
    "SIDE",
    "TILE_BYTES",
    "TURNED_PLACE",
    "TURNED_ROW",
    "fixed_room",
    "longest_sum",
    "piece_bytes",
    "ring_room",
    "sums_room",
]

#: Rows of a tile, or columns of one of sums; bytes of a row, and of a tile. A tile of operands
#: spans CHUNK steps of the depth, and so do those of its pieces, one behind the other.
SIDE, LINE = 16, 64
TILE_BYTES = SIDE * LINE
PIECES = 3
CHUNK_BYTES = PIECES * TILE_BYTES
#: What the registers are set to, byte by byte: palette 1, then bytes of a row and rows of each of
#: eight tiles, all of them whole.
SETTINGS = (1, *[0] * 15, *[LINE, 0] * 8, *[0] * 16, *[SIDE] * 8, *[0] * 8)
#: Cache lines that are fetched for each chunk of a tile: one for each product.
FETCHED = 24

# --- products -------------------------------------------------------------------------------------

#: Rows and columns of the largest product of tiles.
PAIR = 2 * SIDE
#: Most rows or columns that are fixed: their sums by what streams by stay in the first-level cache.
MOST_FIXED = 256
#: The longest sum that is taken at once by a product whose result stays in the cache: to add to it
#: costs less than what longer columns of pieces do there.
_LONGEST = 640
#: Chunks that are split before the rest of the fixed operand is multiplied by them. Each of two
#: tiles has a ring of one more, so far from the other's that both are half a page apart in the
#: first-level cache. Numbers that are turned lie behind the rings.
PART = 8
RING = (PART + 1) * CHUNK_BYTES
RING_APART = RING + CHUNK_BYTES
TURNED_PLACE = 2 * RING_APART
#: Bytes from one row to the next of what is turned, 32 numbers: no power of two, so that rows do
#: not share sets of the cache.
TURNED_ROW = 4 * CHUNK + LINE
#: Rows or columns whose sums are delivered at a time, and most that are turned at a time.
DELIVERED = 64


def piece_bytes(depth: int) -> int:
    """Bytes of the pieces of 16 rows or columns."""
    return (depth + CHUNK - 1) // CHUNK * CHUNK_BYTES


def longest_sum(m: int, n: int, group: int, pieces: int) -> int:
    """Most products that are summed at once; with `pieces` B is split already. Half of the cache
    has `group` bytes."""
    return _LONGEST if m * n * 4 <= 2 * group and not pieces else DEPTH


def fixed_room(group: int, count: int | None, depth: int) -> int:
    """Bytes for the pieces of what is fixed: so many rows or columns, or any number, of at most
    that depth. Less deep ones may be more of them in as many bytes."""
    pair = 2 * piece_bytes(depth)
    most = min(group + group // 2, MOST_FIXED // PAIR * pair)
    if count is not None:
        most = min(most, (count + PAIR - 1) // PAIR * pair)
    return max(most, pair)


def ring_room() -> int:
    """Bytes of the ring of what streams by, and for what is turned, of which a row may be read from
    its middle on."""
    return TURNED_PLACE + DELIVERED * TURNED_ROW + LINE


def sums_room() -> int:
    """Bytes for the sums of all that is fixed and 32 rows or columns that stream by, of which a row
    may be read from its middle on."""
    return PAIR * (4 * MOST_FIXED + LINE) + LINE
