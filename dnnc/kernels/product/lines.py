"""Lists of cache lines that are fetched while a product is computed.

A list is a count and as many addresses. It holds what comes from beyond the second-level cache and
what the processor does not foresee: parts of rows that lie far apart.
"""

from __future__ import annotations

from collections.abc import Callable

from dnnc.kernels.unit.sizes import FETCHED

__all__ = ["LINE", "build_list_lines", "list_bytes"]

#: Bytes of a cache line, and most lines of a list.
LINE, _MOST = 64, 1 << 11


def list_bytes() -> int:
    """Memory for a list, and for entries behind it that may be read."""
    return 8 * (1 + _MOST + FETCHED)


def build_list_lines() -> Callable[[int, int, int, int, int], None]:
    """`f(lines, place, stride, rows, count)`: add `rows` of `count` bytes, `stride` apart, to a
    list; what does not fit is left out."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def list_lines(lines: int, place: int, stride: int, rows: int, count: int) -> None:
        n = slot(lines, 0)
        for row in range(rows):
            for byte in range(0, count, LINE):
                if n < _MOST:
                    n += 1
                    put(lines, n, place + row * stride + byte)
        put(lines, 0, n)

    return list_lines
