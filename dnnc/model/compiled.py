"""Graphs as something to call, alone or with the arrays of a model."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError, Span
from dnnc.elaborate.network import FieldShape
from dnnc.ir.graph import Graph
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType
from dnnc.model.arena import Arena
from dnnc.model.arguments import Arguments, as_arrays, field_shapes
from dnnc.model.variants import Variants, examples
from dnnc.passes.pipeline import optimize, optimize_split

__all__ = [
    "Compiled",
    "MemoryBudget",
    "Predictor",
    "Runner",
    "Runners",
    "bytes_in",
    "compile_graph",
    "require_distinct_names",
]

Arrays = Mapping[str, np.ndarray]
Compiled = Callable[[Arrays], dict[str, np.ndarray]]
Make: TypeAlias = Callable[[Mapping[str, FieldShape]], "Runner"]

#: Compiled programs that are kept of each kind.
_KEPT = 32


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Most bytes for the arena of a program on batches of `batch` examples.

    `span` is the place of errors.
    """

    bytes: int
    batch: int
    span: Span | None = None

    @classmethod
    def of(cls, size: int | str, batch: int, span: Span | None = None) -> MemoryBudget:
        """From bytes, or a text such as "200MB"; DnnError (E412) where it is neither."""
        return cls(size if isinstance(size, int) else bytes_in(size), batch, span)


#: Units of sizes of memory, in bytes.
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


def bytes_in(text: str) -> int:
    """Bytes of a text such as "200MB", "1.5 GiB" or "4096"; DnnError (E412) where it is none."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMG]?I?B)?\s*", text, re.IGNORECASE)
    unit = (found[2] or "B").upper() if found else ""
    if found is None or unit not in _UNITS:
        help = "write a number and a unit: 200MB, 1.5GB or 512MiB"
        raise DnnError(Diagnostic("E412", f"{text!r} is no size of memory", help=help))
    return round(float(found[1]) * _UNITS[unit])


def compile_graph(
    graph: Graph, threads: int | None = None, memory: MemoryBudget | None = None
) -> Compiled:
    """A graph as something to call: arrays by name in, arrays out, updates written in place.

    With `memory`, values are computed again rather than kept where that is needed to keep within
    it; DnnError (E704) where that does not do.

    What has no symbolic size runs once or on scalars, and is interpreted: initial values, totals.
    """
    require_distinct_names(graph)
    if not graph.symbols:
        return _Interpreted(graph)
    from dnnc.program.kept import executables
    from dnnc.program.precompile import get_ready
    from dnnc.program.team import default_threads

    get_ready()
    if memory is None:
        return executables(graph, lambda: (optimize(graph),), "whole", threads)[0]
    threads, limit = threads or default_threads(), memory

    def within_limit() -> tuple[Graph]:
        from dnnc.program.footprint import memory_budget

        budget = memory_budget(limit.bytes, graph, limit.batch, threads, limit.span)
        return (optimize(graph, budget=budget),)

    recipe = f"{limit.bytes} bytes for {limit.batch} on {threads}"
    return executables(graph, within_limit, recipe, threads)[0]


def require_distinct_names(graph: Graph, span: Span | None = None) -> None:
    """Raise DnnError (E305) where data have a name that programs give to something else."""
    roles: dict[str, str] = {}
    for item in graph.inputs:
        if item.name in roles:
            other = item.role if item.role != "data" else roles[item.name]
            meaning = "a number that training counts or draws by" if other == "scalar" else other
            raise DnnError(
                Diagnostic(
                    "E305",
                    f"`{item.name}` is both data and {meaning}",
                    span,
                    help="give the data another name",
                )
            )
        roles[item.name] = item.role


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
        memory: MemoryBudget | None = None,
    ) -> None:
        self.arguments = Arguments(graph, labels)
        self._held = {item.name: variables[item.name] for item in graph.inputs if item.is_variable}
        self._scalars = [item.name for item in graph.inputs if item.role == "scalar"]
        self._run = compile_graph(graph, threads, memory)

    def __call__(self, given: Mapping[str, Any], scalars: Mapping[str, int | None]) -> Any:
        """The outputs by name; DnnError (E412) where the data do not fit."""
        inputs = {**self._held, **self.arguments.fit(given)}
        for name in self._scalars:
            inputs[name] = _scalar(name, scalars[name])
        return self._run(inputs)


class Predictor:
    """A program that predicts, with what depends on weights alone computed when they change."""

    def __init__(self, graph: Graph, arena: Arena, threads: int | None) -> None:
        require_distinct_names(graph)
        from dnnc.program.kept import executables

        make = partial(optimize_split, graph)
        prepare, self._run = executables(graph, make, "split", threads)
        self._prepare = prepare if prepare.graph.outputs else None
        self.arguments = Arguments(graph)
        inputs = self._run.graph.inputs
        self._scalars = [item.name for item in inputs if item.role == "scalar"]
        self._weights = {item.name: arena.arrays[item.name] for item in prepare.graph.inputs}
        self._arena, self._version = arena, -1
        self._run.hold(
            {
                item.name: arena.arrays[item.name]
                for item in inputs
                if item.is_variable and item.name in arena.arrays
            }
        )
        self._lock = threading.Lock()

    def __call__(self, given: Mapping[str, Any], scalars: Mapping[str, int | None]) -> Any:
        """The outputs by name; DnnError (E412) where the data do not fit."""
        if self._version != self._arena.version:
            self._renew()
        inputs = self.arguments.fit(given)
        for name in self._scalars:
            inputs[name] = _scalar(name, scalars[name])
        return self._run(inputs)

    def _renew(self) -> None:
        """Compute anew what is made of weights."""
        with self._lock:
            # Read before: what changes meanwhile is prepared by the next call.
            version = self._arena.version
            if self._version == version:
                return
            if self._prepare is not None:
                self._run.hold(Arena(self._prepare(self._weights)).arrays)
            self._version = version


class Runners:
    """Runners by what they were made for and the shapes of one example; the oldest go first."""

    def __init__(self, own: Arguments, dtype: DType) -> None:
        self._own, self._dtype = own, dtype
        self._first = next(iter(own.names), "")
        self._made: dict[object, Variants[Runner]] = {}
        self._met: dict[object, Variants[Runner]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._made)

    def find(self, key: object, given: Mapping[str, Any], make: Make) -> Runner:
        """The runner for arrays like these, made where there is none; their number is no matter.

        Raises DnnError (E412) where inputs of the model's own are missing or do not fit.
        """
        arrays = as_arrays(given)
        met = (key, tuple([(n, a.dtype, a.ndim, a.shape[1:]) for n, a in arrays.items()]))
        with self._lock:
            variants = self._met.get(met)
            if variants is None:
                variants = self._make(key, arrays, make)
                _remember(self._met, met, variants)
        return variants.find(examples(arrays, self._first))

    def _make(self, key: object, arrays: Mapping[str, np.ndarray], make: Make) -> Variants[Runner]:
        fields = field_shapes(arrays, self._dtype)
        full = (key, tuple((name, f.dtype, f.shape) for name, f in fields.items()))
        if full not in self._made:
            self._own.fit({n: a for n, a in arrays.items() if n in self._own.names})
            _remember(self._made, full, Variants(lambda: make(fields)))
        return self._made[full]


def _remember(
    runners: dict[object, Variants[Runner]], key: object, runner: Variants[Runner]
) -> None:
    while len(runners) >= _KEPT:
        runners.pop(next(iter(runners)))
    runners[key] = runner


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
