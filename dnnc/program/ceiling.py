"""What the processor's multiply-add units and its matrix unit can do, measured: nothing comes from
beyond the first-level cache.

Figures of a profile are set against this one, taken in the same run: clock rates differ from
machine to machine and from minute to minute. They also depend on what is computed: a processor that
limits its power slows down as soon as vectors come from its cache as often as a product needs them.
So the ceiling is that of multiply-adds which read as seldom as a product can; those between
registers alone are measured, too.
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

__all__ = ["measure_ceiling", "measure_register_ceiling", "measure_unit_ceiling", "unit_rates"]

#: Independent sums: enough to cover the latency of the units, few enough for every register file.
_SUMS = 12
#: How many of them are multiplied by a number that is read: as in the tiles of a product that read
#: least often for each multiply-add, 4 x 6 vectors (10 reads for 24) with 32 registers and 4 x 3
#: (7 for 12) with 16.
_READS, _READS_OF_FEW_REGISTERS = 5, 7
#: Places that each of them is read from in turn; a power of two.
_TURNS = 16
#: Tiles of sums, and products of pieces for each product of float32.
_TILES, _PRODUCTS = 2, 6
_UNIT_OPERATIONS = _TILES * 2 * SIDE * SIDE * CHUNK / _PRODUCTS
_ROUNDS = 7
_SECONDS = 0.01


def measure_ceiling(threads: int = 1) -> float:
    """Float32 operations a second (a multiply-add is two) that `threads` reach together, where
    numbers come from the first-level cache as seldom as a product of matrices can do with.

    The best of several rounds of about 10 ms each.
    """
    many = host().vector_registers >= 32
    return _measured_of_vectors(threads, _READS if many else _READS_OF_FEW_REGISTERS)


def measure_register_ceiling(threads: int = 1) -> float:
    """As `measure_ceiling`, but nothing is read. No product reaches this where the processor takes
    a higher clock for it."""
    return _measured_of_vectors(threads, 0)


def _measured_of_vectors(threads: int, reads: int) -> float:
    lanes = host().lanes(4)
    return _measured(_loop(_module(lanes, reads)), 2 * _SUMS * lanes, threads)


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


def _module(lanes: int, reads: int) -> str:
    """LLVM code of `_SUMS` chains s = s * 0.5 + 1, vector by vector, whose sum is the result; so
    many of them read the 0.5."""
    vector = f"<{lanes} x float>"
    half, one = (_same(number, lanes) for number in ("0.5", "1.0"))
    fma = f"llvm.fmuladd.v{lanes}f32"
    # The chains start from the argument, or they would be one chain to the optimizer.
    numbers = [f"  %n{i} = add i64 %n, {i}" for i in range(_SUMS)]
    starts = [
        f"  %f{i} = sitofp i64 %n{i} to float\n"
        f"  %s{i} = insertelement {vector} {one}, float %f{i}, i64 0"
        for i in range(_SUMS)
    ]
    phis = [f"  %p{i} = phi {vector} [%s{i}, %entry], [%q{i}, %loop]" for i in range(_SUMS)]
    # The place changes with every turn, or numbers would be read once, before the loop.
    place = [f"  %turn = and i64 %k, {_TURNS - 1}"] if reads else []
    loads = [
        f"  %i{i} = add i64 %turn, {_TURNS * i}\n"
        f"  %a{i} = getelementptr float, ptr @numbers, i64 %i{i}\n"
        f"  %e{i} = load float, ptr %a{i}\n"
        f"  %o{i} = insertelement {vector} undef, float %e{i}, i64 0\n"
        f"  %v{i} = shufflevector {vector} %o{i}, {vector} undef, <{lanes} x i32> zeroinitializer"
        for i in range(reads)
    ]
    factors = [f"%v{i}" if i < reads else half for i in range(_SUMS)]
    steps = [
        f"  %q{i} = call {vector} @{fma}({vector} %p{i}, {vector} {factors[i]}, {vector} {one})"
        for i in range(_SUMS)
    ]
    totals = [
        f"  %t{i} = fadd {vector} {'%q0' if i == 1 else f'%t{i - 1}'}, %q{i}"
        for i in range(1, _SUMS)
    ]
    held = f"[{_SUMS * _TURNS} x float]"
    halves = ", ".join(["float 0.5"] * (_SUMS * _TURNS))
    return _function(
        declared=[
            f"@numbers = internal global {held} [{halves}], align 64",
            f"declare {vector} @{fma}({vector}, {vector}, {vector})",
        ],
        before=[*numbers, *starts],
        turn=[*phis, *place, *loads, *steps],
        after=[*totals, f"  %r = extractelement {vector} %t{_SUMS - 1}, i64 0"],
        result="%r",
    )


def _same(number: str, lanes: int) -> str:
    """A vector of one number."""
    return f"<{', '.join([f'float {number}'] * lanes)}>"


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
