"""Programs that outlive the process: what passes and planning make of a graph is kept in the cache.

An entry holds the plans of a program, pickled, and the questions about choices that its passes have
asked. It is found by the graph, pickled too, and by everything else that decides: the sources of
the compiler, the processor, the choices that are known. Of kernels it holds the names alone, since
machine code has a cache of its own (`dnnc.kernels.compile`); should one be missing there, it is
built from plans that are made anew.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dnnc import environment
from dnnc.cache import Shelf, sources_digest
from dnnc.ir.graph import Graph, uncollected
from dnnc.kernels.abi import Kernel, KernelFunction
from dnnc.kernels.target import host, second_cache, unit_usable
from dnnc.program.executable import Executable
from dnnc.program.plan import Plan, make_plan
from dnnc.program.precompile import helped
from dnnc.program.show import needed_kernels
from dnnc.tuning.decisions import Question, asked, batch_size, choose
from dnnc.tuning.tables import consulted

__all__ = ["executables", "pack", "unpack"]

#: A large network takes some 100 KB.
_SHELF = Shelf("programs", ".plan", most=500)
_PROTOCOL = 5
_SOURCES = Path(__file__).parents[1]

Make: TypeAlias = Callable[[], Sequence[Graph]]


def executables(
    graph: Graph, make: Make, recipe: str, threads: int | None = None
) -> tuple[Executable, ...]:
    """Compile the graphs that `make` gets by passes from `graph`, the one that does most last.

    `recipe` says what `make` does, as far as that is not to be seen from the graph. Errors are
    those of `make`. While DNNC_DEBUG or DNNC_VERIFY watch the passes, nothing is kept.
    """
    if environment.debug() or environment.verify():
        return _compiled(make(), threads)
    key = _key(graph, recipe)
    entry = _SHELF.read(key)
    if entry is not None:
        plans, questions = unpack(entry, make)
        for question in questions:
            # Whoever listens is told what the passes would have asked.
            choose(question)
        return _compiled(plans, threads)
    with asked() as noted:
        made = _compiled(make(), threads)
    _SHELF.write(key, pack([program.plan for program in made], list(noted)))
    return made


def _compiled(parts: Sequence[Graph | Plan], threads: int | None) -> tuple[Executable, ...]:
    last = parts[-1]
    with helped(last.graph if isinstance(last, Plan) else last):
        return tuple(Executable(part, threads) for part in parts)


def _key(graph: Graph, recipe: str) -> str:
    facts = (recipe, batch_size(), host(), unit_usable(), second_cache())
    versions = (sys.version_info, np.__version__, sources_digest(_SOURCES))
    digest = hashlib.sha256(pickle.dumps((graph, consulted()), _PROTOCOL))
    digest.update(repr((facts, versions)).encode())
    return digest.hexdigest()


def pack(plans: list[Plan], questions: list[Question]) -> bytes:
    """Plans, and the questions asked for them, as an entry of the cache."""
    file = io.BytesIO()
    _Pickler(file, _PROTOCOL).dump((plans, questions))
    return zlib.compress(file.getvalue(), 1)


def unpack(entry: bytes, make: Make) -> tuple[list[Plan], list[Question]]:
    """The plans and questions of an entry; `make` makes their graphs anew."""
    with uncollected():
        found: tuple[list[Plan], list[Question]]
        found = _Unpickler(io.BytesIO(zlib.decompress(entry)), make).load()
    return found


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return (obj.name, obj.key, obj.unrolled) if isinstance(obj, Kernel) else None


class _Unpickler(pickle.Unpickler):
    """Restores plans whose kernels, if they are ever built, come from plans made anew."""

    def __init__(self, file: io.BytesIO, make: Make) -> None:
        super().__init__(file)
        self._make = make
        self._kernels: dict[str, Kernel] = {}
        self._made: dict[str, Kernel] = {}

    def persistent_load(self, pid: tuple[str, str, bool]) -> Kernel:
        name, key, unrolled = pid
        if key not in self._kernels:
            build = partial(self._build, key)
            self._kernels[key] = Kernel(name, key, build, unrolled=unrolled)
        return self._kernels[key]

    def _build(self, key: str) -> KernelFunction:
        if not self._made:
            for graph in self._make():
                self._made |= {kernel.key: kernel for kernel in needed_kernels(make_plan(graph))}
        return self._made[key].build()
