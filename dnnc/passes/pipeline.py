"""The one ordered list of passes, and the functions that run it.

    share       a loop and the same loop that a gradient has extended are one
    sweep       one node makes all small variables anew that the optimizer treats alike
    fold        constants are computed while compiling
    simplify    algebra that is exact, and movements of data that cancel
    cse         one value for each expression
    hoist       what a loop need not do in every turn leaves it, before or after
    fold_norm   in programs that only predict: affine steps after a product go into its weights
    masks       the gradient of a rectifier reads its result, so that its operand need not be kept
    softmax     its gradient is written in terms of its result
    sums        constant factors leave sums, so that fewer passes over a tensor do
    layout      images are convolved and pooled with channels last, by packed weights
    pack        what loops multiply by in every turn becomes panels that products read
    fuse        pointwise work and reductions become one kernel a group
    recompute   with a budget of memory: values are computed again rather than kept

`share` comes first because bodies of loops share values only until they are rewritten, then `sweep`
because other passes need not see what it gathers, and `fold` because constants unlock algebra.
`hoist` compares values before it and after it, so common ones are one before, and it merges again
what it has made equal. `masks` wants the graph that will run, `layout` comes after all that knows
the operators that programs are written with, and `fuse` after all others because nothing but
`recompute` looks inside its groups. A pass is a module with `run(graph) -> Graph`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dnnc import environment
from dnnc.autodiff import share_scans
from dnnc.diagnostics import Diagnostic, DnnError, closest, register_codes
from dnnc.ir.graph import Graph, uncollected
from dnnc.ir.text import print_graph
from dnnc.passes import (
    cse,
    fold,
    fold_norm,
    fuse,
    hoist,
    layout,
    masks,
    pack,
    prepare,
    recompute,
    simplify,
    softmax,
    sums,
    sweep,
)
from dnnc.passes.check import check_pass
from dnnc.passes.recompute import Budget
from dnnc.passes.trace import counting, say

__all__ = ["PACK", "PASSES", "Pass", "optimize", "optimize_split"]

register_codes({"E701": "there is no compiler pass of that name"})


@dataclass(frozen=True, slots=True)
class Pass:
    """A named step of the compiler."""

    name: str
    run: Callable[[Graph], Graph]


PASSES: tuple[Pass, ...] = (
    Pass("share", share_scans),
    Pass("sweep", sweep.run),
    Pass("fold", fold.run),
    Pass("simplify", simplify.run),
    Pass("cse", cse.run),
    Pass("hoist", hoist.run),
    Pass("fold_norm", fold_norm.run),
    Pass("masks", masks.run),
    Pass("softmax", softmax.run),
    Pass("sums", sums.run),
    Pass("layout", layout.run),
    Pass("pack", pack.run),
    Pass("fuse", fuse.run),
)
#: Runs before `fuse` where weights are prepared; where each call would pack, it would not pay.
PACK = Pass("pack_prepared", pack.run_prepared)


def optimize(graph: Graph, after: str | None = None, budget: Budget | None = None) -> Graph:
    """The graph after all passes, or after the one named `after` and those before it.

    With a `budget` of memory, `recompute` follows, and DnnError (E704) is raised where it fails.

    Raises DnnError (E701) where no pass has that name, and PassError where DNNC_VERIFY finds a pass
    that changes what the program computes.
    """
    steps = _upto(after)
    if budget is not None:
        steps = (*steps, Pass("recompute", partial(recompute.run, budget=budget)))
    return _run_all(graph, steps)


def optimize_split(graph: Graph) -> tuple[Graph, Graph]:
    """A program that predicts, as one graph to run when weights have changed and one for each call.

    Both are optimized; see `dnnc.passes.prepare`.
    """
    steps = _upto(None)
    first, rest = steps[:-1], steps[-1:]
    before, main = prepare.split_prepared(_run_all(graph, (*first, PACK)))
    return _run_all(before, rest), _run_all(main, rest)


def _upto(after: str | None) -> Sequence[Pass]:
    if after is None:
        return PASSES
    names = [item.name for item in PASSES]
    if after in names:
        return PASSES[: names.index(after) + 1]
    near = closest(after, names)
    raise DnnError(
        Diagnostic(
            "E701",
            f"unknown pass `{after}`",
            help=f"did you mean `{near}`?" if near else f"passes are {', '.join(names)}",
        )
    )


def _run_all(graph: Graph, steps: Sequence[Pass]) -> Graph:
    level, verify = environment.debug(), environment.verify()
    for step in steps:
        start = time.perf_counter()
        with counting() as counts, uncollected():
            result = step.run(graph)
        if level >= 1:
            elapsed = 1e3 * (time.perf_counter() - start)
            say(f"{graph.name}: {step.name}: {elapsed:.1f} ms, {len(result.nodes)} nodes")
        if level >= 3:
            for rule, count in sorted(counts.items()):
                say(f"    {count} x {rule}")
        if level >= 2:
            say(print_graph(result))
        if verify:
            check_pass(step.name, graph, result)
        graph = result
    return graph
