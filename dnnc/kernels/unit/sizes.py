"""Sizes of tiles of the matrix unit, known without compiling."""

from dnnc.ops.packed import CHUNK

__all__ = ["CHUNK", "CHUNK_BYTES", "FETCHED", "LINE", "PIECES", "SETTINGS", "SIDE", "TILE_BYTES"]

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
