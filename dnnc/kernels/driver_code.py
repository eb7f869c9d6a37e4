"""The code of the kernels in `dnnc.kernels.driver`. Imports numba."""

from __future__ import annotations

from functools import partial

from numba.core import types

from dnnc.kernels.driver import (
    ALONE,
    BARRIER,
    CALL,
    CALL_WORDS,
    END,
    LOOP_WORDS,
    PATCH_WORDS,
    SERIAL,
    SHARE,
    Header,
    TeamState,
)
from dnnc.kernels.intrinsics import (
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap,
    call_kernel,
    copy_bytes,
    load,
    pause,
    share,
    slot,
    store,
)
from dnnc.kernels.subroutine import subroutine

__all__ = ["copy", "driver", "launch", "worker"]

#: Rounds of a spin loop before a thread offers its processor to others: some microseconds. Where
#: other work keeps the team on one processor, this is what every barrier costs.
_SPINS = 256

_get, _put = load("i64"), store("i64")
_give_way = types.ExternalFunction("sched_yield", types.int32())

_TABLE, _START, _STOP = int(Header.TABLE), int(Header.START), int(Header.STOP)
_SLOTS, _SLOTS_STRIDE, _COUNT = int(Header.SLOTS), int(Header.SLOTS_STRIDE), int(Header.COUNT)
_ROOTS, _WHICH, _OFFSETS = int(Header.ROOTS), int(Header.WHICH), int(Header.OFFSETS)
_STRIDES, _PATCHES, _BARRIER = int(Header.STRIDES), int(Header.PATCHES), int(Header.BARRIER)
#: Where in a loop's instruction the rounds are counted that threads have taken.
_TAKEN = LOOP_WORDS - 1
_RELEASED = 8 * (TeamState.RELEASED - TeamState.ARRIVED)
_AT_HEADER, _AT_THREADS = 8 * TeamState.HEADER, 8 * TeamState.THREADS
_AT_DRIVER = 8 * TeamState.DRIVER
_WORKERS, _WORKER_BYTES = 8 * TeamState.WORKERS, 8 * TeamState.WORKER_WORDS


@subroutine
def _barrier(state: int, threads: int) -> None:
    generation = atomic_load(state + _RELEASED)
    if atomic_add(state, 1) == threads - 1:
        atomic_store(state, 0)
        atomic_add(state + _RELEASED, 1)
        return
    spins = 0
    while atomic_load(state + _RELEASED) == generation:
        pause()
        spins += 1
        if spins > _SPINS:
            _give_way()


@subroutine
def _fill(header: int, slots: int, tid: int) -> None:
    roots, which = slot(header, _ROOTS), slot(header, _WHICH)
    offsets, strides = slot(header, _OFFSETS), slot(header, _STRIDES)
    for k in range(slot(header, _COUNT)):
        _put(slots, k, _get(roots, _get(which, k)) + _get(offsets, k) + tid * _get(strides, k))


@subroutine
def _patch(slots: int, patches: int, loop: int, i: int) -> None:
    """Begin round `i` of the loop whose instruction is at address `loop`."""
    _put(slots, _get(loop, 3), i)
    first = _get(loop, 4)
    for k in range(first, first + _get(loop, 5)):
        patch = patches + 8 * PATCH_WORDS * k
        if i == 0:
            _put(slots, _get(patch, 0), _get(slots, _get(patch, 1)))
        else:
            base = _get(patch, 3) if i & 1 else _get(patch, 2)
            _put(slots, _get(patch, 0), _get(slots, base) + i * _get(patch, 4))


@subroutine
def _call(call: int, slots: int, state: int, tid: int, threads: int) -> None:
    flags = _get(call, 3)
    if flags & BARRIER and threads > 1:
        _barrier(state, threads)
    args = slots + 8 * _get(call, 2)
    if flags & ALONE or (flags & SERIAL and tid == 0):
        call_kernel(_get(call, 1), args, 0, 1)
    elif not flags & SERIAL:
        call_kernel(_get(call, 1), args, tid, threads)


@partial(subroutine, returns=1)
def _round(table: int, start: int, slots: int, patches: int, i: int) -> int:
    """Begin round `i` of the loop that stands at `start`, or the next one that no thread has taken;
    where that leads: into the loop, or behind it."""
    loop = table + 8 * start
    if _get(loop, 0) == SHARE:
        i = atomic_add(loop + 8 * _TAKEN, 1)
    if i >= _get(loop, 1):
        end: int = _get(loop, 2)
        return end
    _patch(slots, patches, loop, i)
    return start + LOOP_WORDS


def driver(header: int, tid: int, threads: int) -> int:
    """See `dnnc.kernels.driver.driver_kernel`."""
    slots = slot(header, _SLOTS) + tid * slot(header, _SLOTS_STRIDE)
    _fill(header, slots, tid)
    table, patches = slot(header, _TABLE), slot(header, _PATCHES)
    state, stop = slot(header, _BARRIER), slot(header, _STOP)
    pc = slot(header, _START)
    while pc < stop:
        kind = _get(table, pc)
        if kind == CALL:
            _call(table + 8 * pc, slots, state, tid, threads)
            pc += CALL_WORDS
        elif kind == END:
            start = _get(table, pc + 1)
            i = _get(slots, _get(table, start + 3)) + 1
            pc = _round(table, start, slots, patches, i)
        else:
            if kind == SHARE:
                if tid == 0:
                    _put(table, pc + _TAKEN, 0)
                if threads > 1:
                    _barrier(state, threads)
            pc = _round(table, pc, slots, patches, 0)
    if threads > 1:
        _barrier(state, threads)
    return 0


def worker(state: int, tid: int, spins: int) -> int:
    """See `dnnc.kernels.driver.worker_kernel`."""
    own = state + _WORKERS + _WORKER_BYTES * tid
    idle = 0
    while True:
        generation = atomic_load(state)
        if generation != _get(own, 1):
            _put(own, 1, generation)
            threads = atomic_load(state + _AT_THREADS)
            driver_address = atomic_load(state + _AT_DRIVER)
            call_kernel(driver_address, atomic_load(state + _AT_HEADER), tid, threads)
            idle = 0
        elif idle < spins:
            pause()
            idle += 1
            if idle % _SPINS == 0:
                _give_way()
        else:
            atomic_store(own, 1)
            # Work may come between the last look and the mark. Who takes the mark away, the
            # worker or the one who posts, decides whether it must be woken.
            if atomic_load(state) == generation or atomic_swap(own, 0) == 0:
                return 0
            idle = 0


def launch(state: int, header: int, threads: int) -> int:
    """See `dnnc.kernels.driver.launch_kernel`."""
    atomic_store(state + _AT_HEADER, header)
    atomic_store(state + _AT_THREADS, threads)
    atomic_add(state, 1)
    asleep = 0
    for tid in range(1, threads):
        if atomic_swap(state + _WORKERS + _WORKER_BYTES * tid, 0) != 0:
            asleep |= 1 << tid
    if asleep == 0:
        call_kernel(atomic_load(state + _AT_DRIVER), header, 0, threads)
    return asleep


def copy(args: int, tid: int, threads: int) -> int:
    """See `dnnc.kernels.driver.copy_kernel`."""
    start, stop = share(slot(args, 2), 4096, tid, threads)
    if stop > start:
        copy_bytes(slot(args, 0) + start, slot(args, 1) + start, stop - start)
    return 0
