"""Help for a cold start: a second process compiles the kernels of a program from the other end.

It is given the graph as text, makes the same plan, and puts kernels into the disk cache from the
last to the first, until it meets one that is there or the first process closes its pipe.
"""

from __future__ import annotations

import atexit
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dnnc.ir.graph import Graph
from dnnc.kernels.abi import Kernel
from dnnc.kernels.compile import missing_kernels, prepare_kernel

__all__ = ["helped", "main"]

#: Fewer kernels are compiled before a second process has started.
_FEWEST = 8


@contextmanager
def helped(graph: Graph, kernels: Sequence[Kernel]) -> Iterator[None]:
    """While inside, another process compiles some of what is missing, where that pays."""
    process = _start(graph) if _pays(kernels) else None
    try:
        yield
    finally:
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()


def _pays(kernels: Sequence[Kernel]) -> bool:
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return processors > 1 and os.name == "posix" and len(missing_kernels(kernels)) >= _FEWEST


def _start(graph: Graph) -> subprocess.Popen[bytes] | None:
    from dnnc.ir.text import print_graph

    text = print_graph(graph).encode()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "dnnc.program.precompile", str(len(text))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.flush()
    except OSError:
        # Without help the program is the same, only later.
        return None
    atexit.register(_end, process)
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def main(length: int) -> None:
    """Compile for the process that writes a graph of `length` bytes to standard input."""
    from dnnc.ir.text import parse_graph
    from dnnc.kernels.load import load_lowerings
    from dnnc.program.plan import make_plan
    from dnnc.program.show import needed_kernels

    load_lowerings()
    pipe = sys.stdin.buffer
    graph = parse_graph(pipe.read(length).decode())
    for kernel in reversed(needed_kernels(make_plan(graph))):
        closed = bool(select.select([pipe], [], [], 0)[0])
        if closed or not missing_kernels([kernel]):
            return
        prepare_kernel(kernel)


if __name__ == "__main__":
    main(int(sys.argv[1]))
