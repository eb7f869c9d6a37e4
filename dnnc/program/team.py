"""Threads that run programs: launched once, meeting at spin barriers, asleep while there is no
work.

A worker takes work from shared memory while it comes quickly and blocks on a lock after a short
while without. All of that is compiled code called through ctypes, which gives up Python's global
lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from dnnc import environment
from dnnc.kernels.abi import Kernel
from dnnc.kernels.compile import load_kernels
from dnnc.kernels.driver import TeamState, driver_kernel, launch_kernel, worker_kernel
from dnnc.program.arrays import aligned
from dnnc.program.memory import ALIGNMENT

__all__ = ["Team", "default_threads", "team", "team_kernels"]

#: How long a worker spins for more work: longer than Python takes between calls, and than it takes
#: to be woken. Seconds.
_IDLE_SECONDS = 1e-4
#: Rounds of spinning that are timed, since processors differ tenfold in what one takes; least and
#: most rounds.
_TIMED_SPINS, _LEAST_SPINS, _MOST_SPINS = 1024, 4000, 100_000
#: The result of a launch: which workers are to be woken; below zero before there is one.
_ASLEEP = 0
#: The result of the driver on thread 0, which it sets to zero when it is done.
_PENDING = 2
_UNREAD = 4

NativeFunction = ctypes.CFUNCTYPE(ctypes.c_int32, *(ctypes.c_int64,) * 5)


def default_threads() -> int:
    """`DNNC_THREADS`, else the processors that this process may use, counting a core once."""
    count = environment.threads()
    if os.environ.get("DNNC_THREADS") or not hasattr(os, "sched_getaffinity"):
        return count
    return len({_core(cpu) for cpu in os.sched_getaffinity(0)})


def _core(cpu: int) -> str:
    """A name for the physical core of a processor; its own number where that is not known."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return siblings.read_text().strip()
    except OSError:
        return str(cpu)


def team_kernels() -> list[Kernel]:
    """The kernels that every program needs."""
    return [driver_kernel(), worker_kernel(), launch_kernel()]


@cache
def _natives() -> tuple[int, ...]:
    return tuple(load_kernels(team_kernels()))


@cache
def _idle_spins() -> int:
    """Rounds of spinning that take `_IDLE_SECONDS`."""
    words = TeamState.WORKERS + TeamState.WORKER_WORDS
    state, result = aligned(8 * words), aligned(ALIGNMENT)
    worker, best = NativeFunction(_natives()[1]), float("inf")
    for _ in range(5):
        # As worker 0 of a team that has no work.
        state[:] = 0
        start = time.perf_counter()
        worker(result.ctypes.data, result.ctypes.data + 8, state.ctypes.data, 0, _TIMED_SPINS)
        best = min(best, time.perf_counter() - start)
    return round(min(max(_TIMED_SPINS * _IDLE_SECONDS / best, _LEAST_SPINS), _MOST_SPINS))


class Team:
    """`threads` threads, the caller of `run` among them. One program runs at a time."""

    def __init__(self, threads: int) -> None:
        driver, worker, launch = _natives()
        self.threads = threads
        self._driver, self._launch = NativeFunction(driver), NativeFunction(launch)
        self._worker = NativeFunction(worker)
        words = TeamState.WORKERS + TeamState.WORKER_WORDS * threads
        self._state = aligned(8 * words).view(np.int64)
        self._state[:] = 0
        self._state[TeamState.DRIVER] = driver
        self._address = self._state.ctypes.data
        #: Address of the barrier, for the headers of programs.
        self.barrier = self._address + 8 * TeamState.ARRIVED
        results = aligned(ALIGNMENT * 2 * (threads + 1)).view(np.int64)
        self._result = results.ctypes.data
        # Elements of a memory view take less time than those of an array.
        self._results = results.data
        self._busy = threading.Lock()
        #: Whether the workers are gone, as in a forked process.
        self.lost = False
        self._locks = [threading.Lock() for _ in range(threads)]
        for tid in range(1, threads):
            self._locks[tid].acquire()
            threading.Thread(
                target=self._work, args=(tid,), name=f"dnnc-{tid}", daemon=True
            ).start()

    def run(self, header: int) -> None:
        """Run the program of a header on all threads, or on this one where the team is at work."""
        if self.threads == 1 or self.lost or not self._busy.acquire(blocking=False):
            self.run_alone(header)
            return
        results = self._results
        results[_ASLEEP] = -1
        results[_PENDING] = 1
        try:
            self._launch(self._result, self._result + 8, self._address, header, self.threads)
            if results[_ASLEEP]:
                self._wake(results[_ASLEEP])
                self._drive(header)
        except BaseException:
            # An interrupt between these calls: workers that began must not wait for ever.
            if results[_ASLEEP] > 0 and results[_PENDING]:
                self._wake(~1)
                self._drive(header)
            raise
        finally:
            self._busy.release()

    def _drive(self, header: int) -> None:
        pending = self._result + 8 * _PENDING
        self._driver(pending, self._result + 8, header, 0, self.threads)

    def _wake(self, asleep: int) -> None:
        for tid in range(1, self.threads):
            if asleep >> tid & 1 and self._locks[tid].locked():
                self._locks[tid].release()

    def run_alone(self, header: int) -> None:
        """Run the program of a header on the calling thread."""
        # Results are not looked at, so calls on several threads may share their place.
        place = self._result + 8 * _UNREAD
        self._driver(place, place + 8, header, 0, 1)

    def _work(self, tid: int) -> None:
        result = self._result + ALIGNMENT * 2 * tid
        worker: Callable[..., int] = self._worker
        spins = _idle_spins()
        while True:
            worker(result, result + 8, self._address, tid, spins)
            self._locks[tid].acquire()


_TEAMS: dict[int, Team] = {}
_TEAMS_LOCK = threading.Lock()


def team(threads: int) -> Team:
    """The team of that size, which programs share."""
    with _TEAMS_LOCK:
        if threads not in _TEAMS:
            _TEAMS[threads] = Team(threads)
        return _TEAMS[threads]


def _after_fork() -> None:
    # A child has none of its parent's threads; programs made before the fork go on alone.
    for old in _TEAMS.values():
        old.lost = True
    _TEAMS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
