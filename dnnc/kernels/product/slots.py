"""What the drivers of matrix products have in common: their slots, by number, and limits."""

__all__: list[str] = []

#: Products [M, N] of A [M, K] and B [K, N], BATCH times. FLIP_A and FLIP_B mean that a matrix is
#: stored the other way round; WIDTH is that of the panels of B where it is packed, and 0 otherwise;
#: PIECES tells whether the pieces of panels follow them.
OUT, A, B, BATCH, M, N, K, FLIP_A, FLIP_B, WIDTH, PIECES = range(11)
#: Rows of A that one strip takes, and bytes of panels that are multiplied by at a time.
BLOCK, GROUP = range(11, 13)
#: The code of strips of one, two and three vectors, that of the last column of products, and, where
#: sizes may favour one, that of products with one row or column, that of another order of loops,
#: and that of the matrix unit.
ONE, TWO, THREE, COLUMN, VECTOR, OTHER, UNIT = range(13, 20)
#: Scratch memory: packed panels of B, packed rows of A, the words of a strip and of a region, sums,
#: and a list of cache lines. For the matrix unit the first three are pieces of what is fixed, be it
#: rows of A or columns of B; the rings of what streams by, and what is turned; and the words of a
#: stream and of a region.
PANELS, ROWS, WORDS, TILE, LINES = range(20, 25)
#: The code of the epilogue or 0, and its slots.
EPILOGUE, SLOTS = range(25, 27)

#: The longest sum that a strip takes: longer ones are added to what is stored. Columns of A that
#: are much longer evict one another where they share sets of the second-level cache.
DEPTH = 832
#: Least depth of a product whose lanes are added up at the end. Where B is stored transposed, all
#: with no more rows than DOTS_ROWS are such. So are all with no more columns than DOTS_COLUMNS; but
#: where B has to be transposed for it, from as many rows on, and up to DOTS_WIDEST columns may be.
DOTS_DEPTH, DOTS_ROWS, DOTS_COLUMNS, DOTS_WIDEST = 128, 24, 16, 48
#: Most of the depth that they sum at a time: so much of the columns of a tile, with its rows of A,
#: stays in the first-level cache.
DOTS_BLOCK = 1024
#: Most columns of a product by a matrix A that is stored transposed, whose result may be computed
#: transposed and turned.
TURNED_COLUMNS = 128
