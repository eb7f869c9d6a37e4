"""What the drivers of matrix products have in common: their slots, by number."""

__all__: list[str] = []

#: Products [M, N] of A [M, K] and B [K, N], BATCH times. FLIP_A and FLIP_B mean that a matrix is
#: stored the other way round; WIDTH is that of the panels of B where it is packed, and 0 otherwise.
OUT, A, B, BATCH, M, N, K, FLIP_A, FLIP_B, WIDTH = range(10)
#: Columns of a tile, and rows of A that one strip takes.
WIDE, BLOCK = range(10, 12)
#: The code of strips as wide as tiles, and of those of at most one vector; that of a product with
#: one row or column, and that of another order of loops, where sizes may favour one.
STRIP, NARROW, VECTOR, OTHER = range(12, 16)
#: Scratch memory: packed panels of B, packed rows of A, the words of a strip and of a region, sums.
PANELS, ROWS, WORDS, TILE = range(16, 20)
#: The code of the epilogue or 0, and its slots.
EPILOGUE, SLOTS = range(20, 22)
