"""What the processor's multiply-add units and its matrix unit can do, measured: registers alone, no
memory.

Figures of a profile are set against this one, taken in the same run: clock rates differ from
machine to machine and from minute to minute.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from random import Random
from typing import Any

import llvmlite.binding as llvm

from dnnc.kernels.target import host, target_machine, unit_usable
from dnnc.kernels.unit.sizes import CHUNK, LINE, SETTINGS, SIDE

__all__ = ["measure_ceiling", "measure_unit_ceiling", "unit_rates"]

#: Independent sums: enough to cover the latency of the units, few enough for every register file.
_SUMS = 12
#: Tiles of sums, and products of pieces for each product of float32.
_TILES, _PRODUCTS = 2, 6
_UNIT_OPERATIONS = _TILES * 2 * SIDE * SIDE * CHUNK / _PRODUCTS
_ROUNDS = 7
_SECONDS = 0.01


def measure_ceiling(threads: int = 1) -> float:
    """Float32 operations a second (a multiply-add is two) that `threads` reach together.

    The best of several rounds of about 10 ms each.
    """
    lanes = host().lanes(4)
    return _measured(_loop(_module(lanes)), 2 * _SUMS * lanes, threads)


def measure_unit_ceiling(threads: int = 1) -> float | None:
    """As `measure_ceiling`, for float32 products of pieces on the matrix unit; None without it."""
    if not unit_usable():
        return None
    return _measured(_loop(_unit_module(_TILES + 2)), _UNIT_OPERATIONS, threads)


def unit_rates(registers: Sequence[int], seconds: float) -> list[list[float]]:
    """Operations a second of one thread on the matrix unit, while so many of its registers (4 to 8)
    hold something: the loops take turns of 0.2 ms, and each turn gives a row.

    Which makes a difference while the other thread of a core is at work, and that changes within
    milliseconds. There must be a matrix unit.
    """
    loops = [_loop(_unit_module(count)) for count in registers]
    turns = max(1, _calibrated(loops[0]) // 50)
    rows, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        rows.append([turns * _UNIT_OPERATIONS / _seconds_of(run, turns) for run in loops])
    return rows


def _seconds_of(run: Callable[[int], float], turns: int) -> float:
    start = time.perf_counter()
    run(turns)
    return time.perf_counter() - start


def _measured(run: Callable[[int], float], operations: float, threads: int) -> float:
    """Operations a second of a loop that does so many in a turn."""
    count = _calibrated(run)
    with ThreadPoolExecutor(threads) as pool:
        best = min(_round(pool, run, threads, count) for _ in range(_ROUNDS))
    return threads * count * operations / best


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
def _loop(text: str) -> Callable[[int], float]:
    """The compiled loop, a function of its number of turns."""
    module = llvm.parse_assembly(text)
    module.verify()
    engine = llvm.create_mcjit_compiler(module, target_machine())
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)
    return _Loop(engine, signature(engine.get_function_address("dnnc_ceiling")))


class _Loop:
    """The function together with the engine that owns its code."""

    def __init__(self, engine: Any, function: Callable[[int], float]) -> None:
        self.engine, self.function = engine, function

    def __call__(self, count: int) -> float:
        # A foreign function runs without the interpreter's lock, so threads run side by side.
        return self.function(count)


def _module(lanes: int) -> str:
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
    return _function(
        declared=[f"declare {vector} @{fma}({vector}, {vector}, {vector})"],
        before=[*numbers, *starts],
        turn=[*phis, *steps],
        after=[*totals, f"  %r = extractelement {vector} %t{_SUMS - 1}, i64 0"],
        result="%r",
    )


def _function(
    declared: list[str], before: list[str], turn: list[str], after: list[str], result: str
) -> str:
    """A function of its number of turns, what is done before and after them, and its result."""
    lines = [
        *declared,
        "define float @dnnc_ceiling(i64 %n) {",
        "entry:",
        *before,
        "  br label %loop",
        "loop:",
        "  %k = phi i64 [0, %entry], [%next, %loop]",
        *turn,
        "  %next = add i64 %k, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *after,
        f"  ret float {result}",
        "}",
    ]
    return "\n".join(lines)


def _unit_module(registers: int) -> str:
    """LLVM code of products of tiles of random numbers, which take more power than zeros, while so
    many registers hold something."""
    draw = Random(1).randrange
    # Numbers in bfloat16 between 1 and 2, of either sign.
    numbers = ", ".join(f"i16 {0x3F80 + draw(128) + 0x8000 * draw(2)}" for _ in range(2 * SIDE**2))
    a, b = _TILES, _TILES + 1
    loads = [
        f"  call void @llvm.x86.tileloadd64(i8 {register}, ptr @tile, i64 {LINE})"
        for register in range(_TILES, registers)
    ]
    table = ", ".join(f"i8 {byte}" for byte in SETTINGS)
    return _function(
        declared=[
            f"@tile = internal constant [{2 * SIDE**2} x i16] [{numbers}], align 64",
            f"@table = internal constant [{len(SETTINGS)} x i8] [{table}], align 64",
            "declare void @llvm.x86.ldtilecfg(ptr)",
            "declare void @llvm.x86.tilerelease()",
            "declare void @llvm.x86.tileloadd64(i8, ptr, i64)",
            "declare void @llvm.x86.tilezero(i8)",
            "declare void @llvm.x86.tdpbf16ps(i8, i8, i8)",
        ],
        before=[
            "  call void @llvm.x86.ldtilecfg(ptr @table)",
            *loads,
            *(f"  call void @llvm.x86.tilezero(i8 {i})" for i in range(_TILES)),
        ],
        turn=[f"  call void @llvm.x86.tdpbf16ps(i8 {c}, i8 {a}, i8 {b})" for c in range(_TILES)],
        after=["  call void @llvm.x86.tilerelease()"],
        result="0.0",
    )
