"""The kernels that run programs: an interpreter of call tables, and the loop of a worker thread.

A program is a table of int64 instructions over one array of slots, of which every thread has a
copy:

    CALL   address  slot  flags                          call a kernel on the slots from `slot` on
    LOOP   count  end  counter  patch  patches  taken    run what follows, up to END, `count` times
    SHARE  count  end  counter  patch  patches  taken    a LOOP whose rounds threads share
    END    loop                                          jump back to after `loop`, or go on

`flags`: BARRIER waits for the team before the call; SERIAL lets thread 0 do all of a small call;
with ALONE each thread does a call by itself, as in the rounds that it takes of a SHARE. The team
meets before a SHARE; then each thread takes the next round when it is done with the last one, and
`taken` counts them. Slot `counter` holds the round. A patch `target first even odd stride` is done
when round `i` of its loop begins: it sets slot `target` to slot `first` where i = 0, else to slot
`even` or `odd` (by the parity of i) plus `i * stride`. So sequences advance, carries alternate
between two buffers, and loops nest.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from dnnc.kernels.abi import Kernel, make_kernel

__all__ = [
    "ALONE",
    "BARRIER",
    "CALL",
    "CALL_WORDS",
    "END",
    "END_WORDS",
    "LOOP",
    "LOOP_WORDS",
    "PATCH_WORDS",
    "SERIAL",
    "SHARE",
    "Header",
    "TeamState",
    "copy_kernel",
    "driver_kernel",
    "launch_kernel",
    "worker_kernel",
]

CALL, LOOP, SHARE, END = 1, 2, 3, 4
CALL_WORDS, LOOP_WORDS, END_WORDS, PATCH_WORDS = 4, 7, 2, 5
BARRIER, SERIAL, ALONE = 1, 2, 4


class Header(IntEnum):
    """Words of the table that describes one run; a slot `k` begins as
    `roots[which[k]] + offsets[k] + tid * strides[k]`."""

    TABLE = 0
    START = 1
    STOP = 2
    SLOTS = 3
    SLOTS_STRIDE = 4
    COUNT = 5
    ROOTS = 6
    WHICH = 7
    OFFSETS = 8
    STRIDES = 9
    PATCHES = 10
    BARRIER = 11
    WORDS = 12


class TeamState(IntEnum):
    """Words of the memory that a team shares; each stands on a cache line of its own."""

    GENERATION = 0
    HEADER = 8
    THREADS = 16
    DRIVER = 24
    ARRIVED = 32
    RELEASED = 40
    #: From here a line for each worker: asleep or not, and the last generation seen.
    WORKERS = 48
    WORKER_WORDS = 8


def driver_kernel() -> Kernel:
    """Runs instructions [START, STOP) of the program that a header describes."""
    return make_kernel("driver", lambda: _code().driver)


def worker_kernel() -> Kernel:
    """Takes work as thread `tid` until none comes for a while, and returns with `tid` marked
    asleep.

    Called as (team state, tid, number of spins to wait).
    """
    return make_kernel("worker", lambda: _code().worker)


def launch_kernel() -> Kernel:
    """Gives the workers a program, and does the part of thread 0: called as (team state, header,
    threads).

    Where workers sleep it returns at once, with the set of them as bits: they are to be woken, and
    the driver is to be called as thread 0.
    """
    return make_kernel("launch", lambda: _code().launch)


def copy_kernel() -> Kernel:
    """Copies: arguments target, source, bytes."""
    return make_kernel("copy", lambda: _code().copy)


def _code() -> Any:
    # Imports numba, which a warm start does without.
    from dnnc.kernels import driver_code

    return driver_code
