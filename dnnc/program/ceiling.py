"""What the processor's multiply-add units can do, measured: registers alone, no memory.

Figures of a profile are set against this one, taken in the same run: clock rates differ from
machine to machine and from minute to minute.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from dnnc.kernels.target import host, target_machine

__all__ = ["measure_ceiling"]

#: Independent sums: enough to cover the latency of the units, few enough for every register file.
_SUMS = 12
_ROUNDS = 7
_SECONDS = 0.01


def measure_ceiling(threads: int = 1) -> float:
    """Float32 operations a second (a multiply-add is two) that `threads` reach together.

    The best of several rounds of about 10 ms each.
    """
    run, lanes = _loop()
    count = _calibrated(run)
    with ThreadPoolExecutor(threads) as pool:
        best = min(_round(pool, run, threads, count) for _ in range(_ROUNDS))
    return threads * count * _SUMS * lanes * 2 / best


def _round(
    pool: ThreadPoolExecutor, run: Callable[[int], float], threads: int, count: int
) -> float:
    """Seconds from the start until the last of the threads is done."""
    start = time.perf_counter()
    list(pool.map(run, [count] * threads))
    return time.perf_counter() - start


def _calibrated(run: Callable[[int], float]) -> int:
    """How many turns of the loop take about `_SECONDS`."""
    count = 1000
    while True:
        start = time.perf_counter()
        run(count)
        passed = time.perf_counter() - start
        if passed > _SECONDS / 4:
            return max(1, round(count * _SECONDS / passed))
        count *= 4


@cache
def _loop() -> tuple[Callable[[int], float], int]:
    """The compiled loop, a function of its number of turns, and the floats in one register."""
    lanes = host().lanes(4)
    engine = llvm.create_mcjit_compiler(_module(lanes), target_machine())
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)
    function = signature(engine.get_function_address("dnnc_ceiling"))
    return _Loop(engine, function), lanes


class _Loop:
    """The function together with the engine that owns its code."""

    def __init__(self, engine: Any, function: Callable[[int], float]) -> None:
        self.engine, self.function = engine, function

    def __call__(self, count: int) -> float:
        # A foreign function runs without the interpreter's lock, so threads run side by side.
        return self.function(count)


def _module(lanes: int) -> Any:
    """LLVM code of `_SUMS` chains s = s * 0.5 + 1, vector by vector, whose sum is the result."""
    vector = f"<{lanes} x float>"
    half = f"<{', '.join(['float 0.5'] * lanes)}>"
    one = f"<{', '.join(['float 1.0'] * lanes)}>"
    fma = f"llvm.fmuladd.v{lanes}f32"
    # The chains start from the argument, or they would be one chain to the optimizer.
    numbers = [f"  %n{i} = add i64 %n, {i}" for i in range(_SUMS)]
    starts = [
        f"  %f{i} = sitofp i64 %n{i} to float\n"
        f"  %s{i} = insertelement {vector} {one}, float %f{i}, i64 0"
        for i in range(_SUMS)
    ]
    phis = [f"  %p{i} = phi {vector} [%s{i}, %entry], [%q{i}, %loop]" for i in range(_SUMS)]
    steps = [
        f"  %q{i} = call {vector} @{fma}({vector} %p{i}, {vector} {half}, {vector} {one})"
        for i in range(_SUMS)
    ]
    totals = [
        f"  %t{i} = fadd {vector} {'%q0' if i == 1 else f'%t{i - 1}'}, %q{i}"
        for i in range(1, _SUMS)
    ]
    lines = [
        f"declare {vector} @{fma}({vector}, {vector}, {vector})",
        "define float @dnnc_ceiling(i64 %n) {",
        "entry:",
        *numbers,
        *starts,
        "  br label %loop",
        "loop:",
        "  %k = phi i64 [0, %entry], [%next, %loop]",
        *phis,
        *steps,
        "  %next = add i64 %k, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *totals,
        f"  %r = extractelement {vector} %t{_SUMS - 1}, i64 0",
        "  ret float %r",
        "}",
    ]
    module = llvm.parse_assembly("\n".join(lines))
    module.verify()
    return module
