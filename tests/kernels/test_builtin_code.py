"""Python's functions of integers, as kernels compile them, against Python's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from dnnc.kernels.abi import KernelFunction, make_kernel
from dnnc.kernels.compile import load_kernels
from dnnc.program.team import NativeFunction

Build = Callable[[], KernelFunction]


def compiled(name: str, build: Build, results: int) -> Callable[..., list[int]]:
    """What a kernel writes to the address in its first slot, from the numbers in the others."""
    native = NativeFunction(load_kernels([make_kernel(name, build)])[0])

    def run(*numbers: int) -> list[int]:
        found, status = np.zeros(results, np.int64), np.zeros(2, np.int64)
        slots = np.array([found.ctypes.data, *numbers], np.int64)
        assert native(status.ctypes.data, status.ctypes.data + 8, slots.ctypes.data, 0, 1) == 0
        return [int(number) for number in found]

    return run


def build_divisions() -> KernelFunction:
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def kernel(args: int, tid: int, threads: int) -> int:
        to, x, y = slot(args, 0), slot(args, 1), slot(args, 2)
        put(to, 0, x // y)
        put(to, 1, x % y)
        put(to, 2, x // 8)
        put(to, 3, x % 8)
        put(to, 4, x // 6)
        put(to, 5, x % 6)
        put(to, 6, x // -3)
        put(to, 7, x % -3)
        x //= 4
        put(to, 8, x)
        return 0

    return kernel


def test_division_rounds_down() -> None:
    divide = compiled("divisions", build_divisions, 9)
    for x, y in product((-17, -16, -8, -1, 0, 1, 5, 8, 24, 1 << 40), (-7, -1, 0, 1, 3, 16)):
        by = [*divmod(x, y)] if y else [0, 0]
        assert divide(x, y) == [*by, *divmod(x, 8), *divmod(x, 6), *divmod(x, -3), x // 4]


def build_ranges() -> KernelFunction:
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def kernel(args: int, tid: int, threads: int) -> int:
        to, start, stop, step = slot(args, 0), slot(args, 1), slot(args, 2), slot(args, 3)
        total = 0
        for k in range(start, stop, step):
            total = total * 3 + k
        put(to, 0, total)
        total = 0
        for k in range(start, stop, 3):
            total = total * 3 + k
        put(to, 1, total)
        total = 0
        for k in range(start, stop, -2):
            total = total * 3 + k
        put(to, 2, total)
        total, numbers = 0, range(stop)
        for k in numbers:
            for j in numbers:
                if j > 4:
                    break
                total = total * 3 + k + j
        put(to, 3, total)
        return 0

    return kernel


def folded(*numbers: int) -> int:
    total = 0
    for number in numbers:
        total = total * 3 + number
    return total


def test_ranges_hold_what_pythons_hold() -> None:
    fold = compiled("ranges", build_ranges, 4)
    for start, stop, step in product((-3, 0, 2, 7), (-4, 0, 1, 6), (-3, -1, 1, 2, 5)):
        expected = [
            folded(*range(start, stop, step)),
            folded(*range(start, stop, 3)),
            folded(*range(start, stop, -2)),
            folded(*(k + j for k in range(stop) for j in range(min(stop, 5)))),
        ]
        assert fold(start, stop, step) == expected


def build_extremes() -> KernelFunction:
    from dnnc.kernels.intrinsics import slot, store

    put = store("i64")

    def kernel(args: int, tid: int, threads: int) -> int:
        to, x, y, z = slot(args, 0), slot(args, 1), slot(args, 2), slot(args, 3)
        put(to, 0, min(x, y))
        put(to, 1, max(x, y, z, 2))
        put(to, 2, int(x < y) + int(z))
        return 0

    return kernel


def test_extremes_take_any_number_of_arguments() -> None:
    extremes = compiled("extremes", build_extremes, 3)
    for x, y, z in product((-5, 0, 4), repeat=3):
        assert extremes(x, y, z) == [min(x, y), max(x, y, z, 2), int(x < y) + z]
