"""Lists of cache lines that are fetched while a product is computed.

A list is a count and as many addresses. It holds what comes from beyond the second-level cache and
what the processor does not foresee: parts of rows that lie far apart.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["build_list_lines", "list_bytes"]

#: Bytes of a cache line, most lines of a list, and entries behind it that may be read.
_LINE, _MOST, _BEYOND = 64, 1 << 11, 24


def list_bytes() -> int:
    """Memory for a list."""
    return 8 * (1 + _MOST + _BEYOND)


def build_list_lines() -> Callable[[int, int, int, int, int], None]:
    """`f(lines, place, stride, rows, count)`: add `rows` of `count` bytes, `stride` apart, to a
    list; what does not fit is left out."""
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def list_lines(lines: int, place: int, stride: int, rows: int, count: int) -> None:
        n = slot(lines, 0)
        for row in range(rows):
            for byte in range(0, count, _LINE):
                if n < _MOST:
                    n += 1
                    put(lines, n, place + row * stride + byte)
        put(lines, 0, n)

    return list_lines
