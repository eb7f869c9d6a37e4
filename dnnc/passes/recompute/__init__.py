"""Keep within a budget of memory: compute values again rather than keep them for the backward part.

    %a = fused %z {...}                   %a = fused %z {...}
    %p = matmul %a, %w          →         %p = matmul %a, %w
    ...                                   ...
    %dp = ...                             %dp = ...
    %dw = matmul %a, %dp                  %t = after %z, %dp
                                          %b = fused %t {...}
                                          %dw = matmul %b, %dp

The pass measures the program that would run: the order of its calls, what is live at each, and the
time of each node. While more is live than the budget allows, it picks values and gaps between their
readers (`choice`) and runs their nodes again after the gaps (`rewrite`); then it measures again,
because the order of other nodes may have changed. It comes after fusion: what runs again is the
same kernel on the same operands, or a part of one that is certain to round as the whole (`part`),
so results keep every bit. `after` is what puts a copy where it belongs, and keeps it apart from the
first one. Loops are never run again, but what is made in them may be an operand of what is. This is
rematerialization as of Chen et al., "Training deep nets with sublinear memory cost" (2016), with
values chosen as by Kumar et al., "Efficient rematerialization for deep networks" (NeurIPS 2019):
most memory for least time.
"""

from __future__ import annotations

import dataclasses

from dnnc.diagnostics import Diagnostic, DnnError, register_codes
from dnnc.ir.graph import Graph
from dnnc.passes.recompute.choice import choose
from dnnc.passes.recompute.footprint import Budget, Footprint
from dnnc.passes.recompute.rewrite import repeat

__all__ = ["Budget", "Footprint", "run"]

register_codes({"E704": "a training step does not fit into its memory budget"})

#: Most times that a program is measured and changed. Each round serves many values.
_ROUNDS = 32
#: Rounds without a new low of memory after which there is no more to be gained.
_PATIENCE = 2
#: Budgets that are tried to tell what is possible.
_TRIALS = 6


def run(graph: Graph, budget: Budget) -> Graph:
    """The graph, changed if its arena is larger than the budget.

    Raises DnnError (E704) where no choice that the pass knows brings it down so far.
    """
    whole = budget.arena(graph)
    if whole <= budget.bytes:
        return graph
    footprint = budget.measure(graph)
    fitting = _reduce(graph, footprint, budget)[0]
    if fitting is None:
        fitting, least = _smallest(graph, footprint, budget, whole)
        if least > budget.bytes:
            raise _too_small(budget, whole, min(least, whole))
    return fitting


def _smallest(graph: Graph, footprint: Footprint, budget: Budget, whole: int) -> tuple[Graph, int]:
    """A budget that can be met, and the graph that meets it: the same whatever was asked for, so
    that any larger one can be met, too."""
    least = _reduce(graph, footprint, dataclasses.replace(budget, bytes=0))[1]
    for _ in range(_TRIALS):
        # What the error says in round numbers must do.
        least = -(-least // _unit(least)) * _unit(least)
        fitting = _reduce(graph, footprint, dataclasses.replace(budget, bytes=least))[0]
        if fitting is not None:
            return fitting, least
        least += least // 16
    return graph, whole


def _reduce(graph: Graph, footprint: Footprint, budget: Budget) -> tuple[Graph | None, int]:
    """The first graph found that keeps within the budget, and about the least arena found."""
    target, low, waited = budget.bytes, int(footprint.live.max()), 0
    for _ in range(_ROUNDS):
        choices = choose(graph, footprint, target)
        if not choices:
            break
        graph = repeat(graph, footprint, choices)
        footprint = budget.measure(graph)
        live = int(footprint.live.max())
        waited = 0 if live < low else waited + 1
        if waited > _PATIENCE:
            break
        low = min(low, live)
        if live <= budget.bytes:
            arena = footprint.arena()
            if arena <= budget.bytes:
                return graph, arena
            # Storages do not fit together without gaps: aim lower by as much.
            target = min(target, live - (arena - budget.bytes))
    return None, low


def _too_small(budget: Budget, whole: int, smallest: int) -> DnnError:
    return DnnError(
        Diagnostic(
            "E704",
            f"a training step does not fit into {_size(budget.bytes)}",
            budget.span,
            f"with batches of {budget.batch} it takes {_size(whole)}, and {_size(smallest)} where "
            "what can be is computed again",
            help=f"allow {_size(smallest)} or more, or train on smaller batches",
        )
    )


def _unit(count: int) -> int:
    """What sizes of memory are rounded to."""
    return 1000 if count < 10**6 else 10**5


def _size(count: int) -> str:
    """Bytes in megabytes, rounded up so that the number is enough."""
    units = -(-count // _unit(count))
    return f"{units}KB" if count < 10**6 else f"{units / 10:g}MB"
