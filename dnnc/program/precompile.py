"""Help for a cold start: a second process compiles some of a program's kernels.

It is started as soon as the cache turns out to be empty, and imports numba and compiles what every
program needs, while the first process is still at its passes. Then it is given the graph, pickled,
makes the same plan, and puts kernels into the disk cache from the last to the first, until the
first process, which begins with the first, has them all and stops it.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from dnnc.ir.graph import Graph
from dnnc.kernels.abi import Kernel
from dnnc.kernels.compile import missing_kernels, prepare_kernel
from dnnc.program.team import team_kernels

__all__ = ["from_both_ends", "get_ready", "helped", "main"]

#: Fewer kernels are compiled before a second process has started.
_FEWEST = 8


class _Helper:
    """A process that waits for a graph."""

    def __init__(self) -> None:
        path = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dnnc.program.precompile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )
        atexit.register(self.end)
        threading.Thread(target=self.process.wait, daemon=True).start()

    def give(self, graph: Graph) -> None:
        """Have it compile for a graph until `release`."""
        data = pickle.dumps(graph)
        # It may be importing still, and what a pipe holds is less than a large graph.
        threading.Thread(
            target=self._write, args=(b"%d\n" % len(data) + data,), daemon=True
        ).start()

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        # Without help the program is the same, only later.
        with suppress(OSError, ValueError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def release(self) -> None:
        """Stop it: what it is at would take a processor from the program's first run."""
        assert self.process.stdin is not None
        self.process.kill()
        with suppress(OSError):
            self.process.stdin.close()

    def end(self) -> None:
        self.release()
        self.process.wait()


_READY: list[_Helper] = []
#: Whether a process helps with what this one compiles.
_HELPED: ContextVar[bool] = ContextVar("helped", default=False)
_LOCK = threading.Lock()


def get_ready() -> None:
    """Start a process that will help with the next program, where the cache has not even the
    kernels that all programs need."""
    with _LOCK:
        if not _READY and _is_possible() and missing_kernels(team_kernels()):
            with suppress(OSError):
                _READY.append(_Helper())


@contextmanager
def helped(graph: Graph) -> Iterator[Callable[[Sequence[Kernel]], None]]:
    """While inside, another process compiles some kernels of a program, where that pays.

    It does where one is ready; else call what is yielded with the kernels, once they are known.
    Programs that are compiled inside have no other one: the graph is that of the largest.
    """
    with _LOCK:
        helpers = [_READY.pop()] if _READY else []
    alone = not _HELPED.get()

    def start(kernels: Sequence[Kernel]) -> None:
        if alone and not helpers and _pays(kernels):
            with suppress(OSError):
                helpers.append(_Helper())
                helpers[0].give(graph)

    token = _HELPED.set(_HELPED.get() or bool(helpers))
    try:
        for helper in helpers:
            helper.give(graph)
        yield start
    finally:
        _HELPED.reset(token)
        for helper in helpers:
            helper.release()


def _pays(kernels: Sequence[Kernel]) -> bool:
    return _is_possible() and len(missing_kernels(kernels)) >= _FEWEST


def _is_possible() -> bool:
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return processors > 1 and os.name == "posix"


def from_both_ends(kernels: Sequence[Kernel]) -> list[Kernel]:
    """An order to compile in from both ends at once: the costly ones are outside, so that little is
    done twice where the two meet, and each end begins with as much of them."""
    # Kernels that were written take long; generated ones as long as they are.
    costly = sorted(kernels, key=lambda k: len(k.source) if k.source else 1 << 30, reverse=True)
    return [*costly[::2], *reversed(costly[1::2])]


def main() -> None:
    """Compile for the process that writes a graph, behind a line with the length of its pickle."""
    # A process that soon ends need not tidy up.
    gc.disable()
    for kernel in team_kernels():
        prepare_kernel(kernel)
    # The first process has not come to its plan yet: what ours will need is imported meanwhile.
    from dnnc.kernels.load import load_lowerings
    from dnnc.program.plan import make_plan
    from dnnc.program.show import needed_kernels

    load_lowerings()
    pipe = sys.stdin.buffer
    data = pipe.read(int(pipe.readline() or b"0"))
    if not data:
        return
    kernels = from_both_ends(needed_kernels(make_plan(pickle.loads(data))))
    for kernel in reversed(kernels):
        if select.select([pipe], [], [], 0)[0]:
            return
        prepare_kernel(kernel)


if __name__ == "__main__":
    main()
