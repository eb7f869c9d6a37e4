"""Sources of data: functions of the language that read files and arrays."""

from dnnc.data.signature import Function
from dnnc.data.sources.delimited import CSV, TSV
from dnnc.data.sources.idx import IDX
from dnnc.data.sources.images import IMAGES
from dnnc.data.sources.numpy_files import ARRAY, NPY, NPZ
from dnnc.data.sources.parquet import PARQUET
from dnnc.data.sources.text import TEXT

#: Every source by its name in the language; `files` joins them and is the evaluator's own.
SOURCES: dict[str, Function] = {
    source.name: source for source in (ARRAY, CSV, IDX, IMAGES, NPY, NPZ, PARQUET, TEXT, TSV)
}

__all__ = ["SOURCES"]
