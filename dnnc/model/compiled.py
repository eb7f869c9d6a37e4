"""Graphs as something to call, alone or with the arrays of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError
from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.model.arguments import Arguments
from dnnc.passes.pipeline import optimize

__all__ = ["Compiled", "Runner", "compile_graph"]

Arrays = Mapping[str, np.ndarray]
Compiled = Callable[[Arrays], dict[str, np.ndarray]]


def compile_graph(graph: Graph, threads: int | None = None) -> Compiled:
    """A graph as something to call: arrays by name in, arrays out, updates written in place.

    What has no symbolic size runs once or on scalars, and is interpreted: initial values, totals.
    """
    if not graph.symbols:
        return _Interpreted(graph)
    from dnnc.program.executable import Executable

    return Executable(optimize(graph), threads)


@dataclass(frozen=True, slots=True)
class _Interpreted:
    graph: Graph

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        results = interpret(self.graph, inputs)
        for output in self.graph.outputs:
            if output.updates is not None:
                inputs[output.updates][...] = results.pop(output.name)
        return results


class Runner:
    """A compiled graph with the variables of a model in place: data and scalars come by the call.

    `labels` are the data inputs that are compared with outputs, and may be numbers of classes.
    """

    def __init__(
        self,
        graph: Graph,
        variables: Arrays,
        threads: int | None,
        labels: Collection[str] = (),
    ) -> None:
        self.arguments = Arguments(graph, labels)
        self._held = {
            item.name: variables[item.name]
            for item in graph.inputs
            if item.role in ("parameter", "state")
        }
        self._scalars = [item.name for item in graph.inputs if item.role == "scalar"]
        self._run = compile_graph(graph, threads)

    def __call__(self, given: Mapping[str, Any], scalars: Mapping[str, int | None]) -> Any:
        """The outputs by name; DnnError (E412) where the data do not fit."""
        inputs = {**self._held, **self.arguments.fit(given)}
        for name in self._scalars:
            inputs[name] = _scalar(name, scalars[name])
        return self._run(inputs)


def _scalar(name: str, value: int | None) -> np.ndarray:
    if value is None:
        raise DnnError(
            Diagnostic(
                "E412",
                f"`{name}` is not known: the schedule asks for the number of steps",
                help="give it: net.trainer(..., steps=1000)",
            )
        )
    return np.array(value, np.int64)
