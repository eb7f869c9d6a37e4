"""Where dnnc's time goes in the cases of the benchmark: its programs, kernel by kernel.

python -m benchmarks.steps --only resnet20-train --threads 1
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case, choose
from benchmarks.command_line import make_parser, parse
from benchmarks.flops import product_flops
from benchmarks.frameworks.interface import Variables
from benchmarks.frameworks.with_dnnc import graph_of, prepared, random_variables
from dnnc.ir.graph import Graph
from dnnc.passes.pipeline import optimize
from dnnc.program.arrays import side_by_side
from dnnc.program.ceiling import measure_ceiling
from dnnc.program.executable import Executable
from dnnc.program.profile import ProfileEntry, ProfileTotal, total_by
from dnnc.tuning.decisions import batch

__all__ = ["arrays_of", "by_kernel", "main"]


def arrays_of(case: Case, graph: Graph, variables: Variables) -> Variables:
    """Values for the inputs of a case's program; states of the optimizer are zero, as at first."""
    given = {**case.inputs(), **variables}
    arrays = {}
    for item in graph.inputs:
        shape, dtype = item.value.type.concrete({"batch": case.batch}), item.value.type.dtype.numpy
        fallback = np.full(shape, item.role == "scalar", dtype)
        arrays[item.name] = np.asarray(given.get(item.name, fallback), dtype)
    return side_by_side(arrays)


def by_kernel(entries: Sequence[ProfileEntry]) -> list[ProfileTotal]:
    """Steps gathered by their kernels, those that take longest first."""
    return total_by(lambda entry: " + ".join(dict.fromkeys(entry.kernels)), entries)


def shortest(run: Executable, arrays: Variables, seconds: float) -> float:
    """The shortest of the calls of about that many seconds, of five at least."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run(arrays)
        times.append(time.perf_counter() - start)
    return min(times)


def show(case: Case, threads: int, seconds: float, console: Console) -> None:
    """Print the kernels of a case."""
    graph, variables = graph_of(case), random_variables(case)
    if case.mode == "infer":
        graph, variables = prepared(graph, variables, threads, case.batch)
    else:
        with batch(case.batch):
            graph = optimize(graph)
    run = Executable(graph, threads)
    arrays = arrays_of(case, graph, variables)
    best = shortest(run, arrays, seconds)
    ceiling = max(measure_ceiling(threads) for _ in range(3))
    kinds = by_kernel(run.profile(arrays, 10))
    rate = product_flops(case) / best
    title = f"{case.name}: {1e6 * best:.0f} µs, {rate / 1e9:.0f} GFLOP/s, {rate / ceiling:.0%}"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for heading in ("kernels", "steps", "µs", "share", "GFLOP/s", "of ceiling", "GB/s"):
        table.add_column(heading, justify="left" if heading == "kernels" else "right")
    total = sum(kind.seconds for kind in kinds)
    for kind in kinds:
        rate = kind.flops / kind.seconds
        table.add_row(
            kind.name,
            str(kind.steps),
            f"{1e6 * kind.seconds:.1f}",
            f"{kind.seconds / total:.0%}",
            f"{rate / 1e9:.1f}",
            f"{rate / ceiling:.0%}",
            f"{kind.bytes / kind.seconds / 1e9:.1f}",
        )
    console.print(table)
    console.print(f"  ceiling {ceiling / 1e9:.0f} GFLOP/s on {threads} threads\n")


def main() -> None:
    parser = make_parser("benchmarks.steps", __doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each case")
    arguments = parse(parser, choose)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for case in arguments.cases:
        show(case, arguments.threads, arguments.seconds, console)


if __name__ == "__main__":
    main()
