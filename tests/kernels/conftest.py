"""Runs the calls of one node on arrays, without a program around them."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from dnnc.ir.graph import Node, Value
from dnnc.kernels.abi import Buffer, Call, Integer, Scratch
from dnnc.kernels.compile import load_kernels
from dnnc.kernels.load import load_lowerings
from tests.kernels.arrays import RANDOM

Runner = Callable[..., list[np.ndarray]]
#: Bytes behind scratch memory that no kernel may write.
_GUARD = 1 << 14
_START = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """A test knows all lowerings, and draws the same numbers whatever ran before it."""
    load_lowerings()
    RANDOM.bit_generator.state = _START


def run_calls(
    calls: Sequence[Call],
    arrays: dict[int, np.ndarray],
    sizes: Mapping[str, int],
    threads: int,
) -> None:
    """Run calls in order; in each, thread after thread. `arrays` holds the memory of values by
    identity."""
    alive: list[np.ndarray] = []
    behind: list[np.ndarray] = []
    scratch: dict[tuple[int, int], int] = {}

    def aligned(size: int) -> int:
        # Poisoned: a kernel that reads what it did not write must not pass by luck.
        if sys.platform.startswith("linux"):
            alive.append(at_guard(np.full(-(-size // 64) * 64, 0xFF, np.uint8)))
            return int(alive[-1].ctypes.data)
        memory = np.full(size + 64 + _GUARD, 0xFF, np.uint8)
        start = -memory.ctypes.data % 64
        behind.append(memory[start + size :])
        return int(memory.ctypes.data) + start

    def address(argument: object, tid: int) -> int:
        if isinstance(argument, Buffer):
            if id(argument.value) not in arrays:
                arrays[id(argument.value)] = guarded(argument.value, sizes)
            return int(arrays[id(argument.value)].ctypes.data)
        if isinstance(argument, Integer):
            return argument.size.evaluate(sizes)
        assert isinstance(argument, Scratch)
        key = (id(argument), tid if argument.per_thread else -1)
        if key not in scratch:
            scratch[key] = aligned(argument.bytes.evaluate(sizes))
        return scratch[key]

    addresses = load_kernels([call.kernel for call in calls])
    i64 = ctypes.c_int64
    for call, code in zip(calls, addresses, strict=True):
        # Numba's convention: i32 f(result*, error**, arguments...).
        function = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, i64, i64, i64
        )(code)
        for tid in range(threads):
            table = np.array([address(a, tid) for a in call.arguments], np.int64)
            result, error = i64(0), ctypes.c_void_p()
            status = function(
                ctypes.addressof(result), ctypes.addressof(error), table.ctypes.data, tid, threads
            )
            assert status == 0
            assert all((part == 0xFF).all() for part in behind), "written behind scratch memory"


@pytest.fixture
def run_node() -> Runner:
    """`run(node, calls, arrays, sizes, threads)`: the results of a node's calls on operand
    arrays."""

    def run(
        node: Node,
        calls: Sequence[Call],
        operands: Sequence[np.ndarray],
        sizes: Mapping[str, int] | None = None,
        threads: int = 1,
    ) -> list[np.ndarray]:
        arrays: dict[int, np.ndarray] = {}
        for value, array in zip(node.operands, operands, strict=True):
            arrays[id(value)] = at_guard(np.ascontiguousarray(array))
        results = []
        for value in node.results:
            results.append(guarded(value, sizes or {}))
            arrays[id(value)] = results[-1]
        run_calls(calls, arrays, sizes or {}, threads)
        return results

    return run


def at_guard(array: np.ndarray) -> np.ndarray:
    """A copy that ends where reading is a fault: a kernel must not read beyond its operands."""
    if not sys.platform.startswith("linux"):
        return array
    whole = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, whole + mmap.PAGESIZE), np.uint8)
    no_access = 0
    protect = ctypes.CDLL(None).mprotect
    assert protect(ctypes.c_void_p(memory.ctypes.data + whole), mmap.PAGESIZE, no_access) == 0
    copy = memory[whole - array.nbytes : whole].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def guarded(value: Value, sizes: Mapping[str, int]) -> np.ndarray:
    """An array of a value's type, full of bytes that no kernel leaves."""
    shape = value.type.concrete(sizes)
    array = np.empty(shape, value.type.dtype.numpy)
    array.reshape(-1).view(np.uint8)[...] = 0xA5
    return array
