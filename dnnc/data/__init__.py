"""Data blocks: sources, columns, splits and batches, over NumPy arrays.

`describe` tells the fields of a block from the beginnings of its files, `load` reads them,
`batches` gives the order of an epoch. The language of data blocks is told in `options.py` (entries
that are options), `functions.py` (functions of columns) and `sources/` (a file each).
"""

from dnnc.data.dataset import Dataset, Field, Split, batches
from dnnc.data.load import describe, learns, load
from dnnc.data.statistics import Statistics

__all__ = ["Dataset", "Field", "Split", "Statistics", "batches", "describe", "learns", "load"]
