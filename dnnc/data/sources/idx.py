"""`idx`: the format of MNIST and its kin, one array a file, gzip or plain.

Two zero bytes, a type byte, the number of axes, the sizes as big-endian u32, then the values.
"""

from __future__ import annotations

import math

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.reader import SAMPLE_BYTES, Content
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import Cells, cells_of_array
from dnnc.diagnostics import Span

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse_idx(content: Content, span: Span) -> Cells:
    """The array of an IDX file; of a sample, the rows that are there whole."""
    data, shown = content.data, content.shown
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or data[3] == 0:
        raise fault("E508", f"{shown} is not an IDX file", span, label="its first bytes differ")
    dtype, rank = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise fault("E509", f"{shown} ends within its header", span)
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    each, held = math.prod(shape[1:]) * dtype.itemsize, len(data) - start
    if content.complete and each * shape[0] != held:
        raise fault(
            "E509",
            f"{shown} declares {each * shape[0]} bytes of data and holds {held}",
            span,
            label=f"shape {list(shape)} of {dtype.name}",
        )
    if each == 0 or shape[0] == 0:
        raise fault("E515", f"{shown} is empty", span, label=f"shape {list(shape)}")
    rows = min(shape[0], held // each)
    if rows == 0:
        raise fault("E509", f"one row of {shown} is larger than {SAMPLE_BYTES} bytes", span)
    values = np.frombuffer(data, dtype, rows * math.prod(shape[1:]), start)
    return cells_of_array(values.reshape(rows, *shape[1:]), shown, span, total=shape[0])


def _idx(bound: Bound, scope: Scope) -> Cells:
    span = bound.at("path")
    return parse_idx(scope.reader.read(bound["path"], span), span)


IDX = Function("idx", (Parameter("path", "string"),), _idx)
