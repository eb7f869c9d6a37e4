"""Programs that outlive the process: what passes and planning make of a graph is kept in the cache.

An entry is found by the graph, pickled, and by everything else that decides: the sources of the
compiler, the processor. It holds the plans of the program, and the questions that its passes have
asked with the answers that they got: where choices depend on the size of the batch, or other ones
have been measured, there are several variants, of which one is taken whose answers are those of
today. Of kernels there are the names alone, since machine code has a cache of its own
(`dnnc.kernels.compile`); should one be missing there, it is built from plans that are made anew.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dnnc import environment
from dnnc.cache import Shelf, cache_directory, sources_digest
from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph, uncollected
from dnnc.kernels.abi import Kernel, KernelFunction
from dnnc.kernels.target import host, second_cache, unit_usable
from dnnc.program.executable import Executable
from dnnc.program.plan import Plan, make_plan
from dnnc.program.precompile import helped
from dnnc.program.show import needed_kernels
from dnnc.tuning.decisions import Question, answer, asked, choose

__all__ = ["executables", "pack", "unpack"]

_SHELF = Shelf("programs", ".plan", most=500)
#: Variants of a program that are kept, the newest, and their bytes before they are compressed: a
#: program with constants larger than that is sooner made than read.
_VARIANTS, _MOST_BYTES = 8, 1 << 24
_PROTOCOL = 5
_SOURCES = Path(__file__).parents[1]

Make: TypeAlias = Callable[[], Sequence[Graph]]


@dataclass(frozen=True, slots=True)
class Variant:
    """The answers that passes got to their questions, and the plans that they made of them."""

    answers: dict[Question, int]
    plans: bytes

    def fits(self) -> bool:
        """Whether passes would make the same today."""
        return all(answer(question) == choice for question, choice in self.answers.items())


def executables(
    graph: Graph, make: Make, recipe: str, threads: int | None = None
) -> tuple[Executable, ...]:
    """Compile the graphs that `make` gets by passes from `graph`, the one that does most last.

    `recipe` says what `make` does, as far as that is not to be seen from the graph. Errors are
    those of `make`. While DNNC_DEBUG or DNNC_VERIFY watch the passes, nothing is kept.
    """
    if environment.debug() or environment.verify() or cache_directory() is None:
        return _compiled(make(), threads)
    key = _key(graph, recipe)
    entry = _SHELF.read(key)
    variants: list[Variant] = pickle.loads(zlib.decompress(entry)) if entry is not None else []
    for variant in variants:
        if variant.fits():
            for question in variant.answers:
                # Whoever listens is told what the passes would have asked.
                choose(question)
            return _compiled(unpack(variant.plans, make), threads)
    with asked() as questions:
        made = _compiled(make(), threads)
    answers = {question: answer(question) for question in questions}
    variants.append(Variant(answers, pack([program.plan for program in made])))
    found = pickle.dumps(variants[-_VARIANTS:], _PROTOCOL)
    if len(found) <= _MOST_BYTES:
        _SHELF.write(key, zlib.compress(found, 1))
    return made


def _compiled(parts: Sequence[Graph | Plan], threads: int | None) -> tuple[Executable, ...]:
    last = parts[-1]
    with helped(last.graph if isinstance(last, Plan) else last):
        return tuple(Executable(part, threads) for part in parts)


def _key(graph: Graph, recipe: str) -> str:
    file = io.BytesIO()
    pickler = _GraphPickler(file, _PROTOCOL)
    pickler.dump(graph)
    processor = host(), unit_usable(), second_cache()
    versions = sys.version_info, np.__version__, sources_digest(_SOURCES)
    digest = hashlib.sha256(file.getbuffer())
    digest.update(repr((list(pickler.sizes), recipe, processor, versions)).encode())
    return digest.hexdigest()


class _GraphPickler(pickle.Pickler):
    """Pickles equal graphs alike. Which sizes are one object depends on what else a process has
    computed with sizes, and pickles show what is one object: so sizes have numbers."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.sizes: dict[Dim, int] = {}

    def persistent_id(self, obj: object) -> object:
        if type(obj) is not Dim:
            return None
        return self.sizes.setdefault(obj, len(self.sizes))


def pack(plans: Sequence[Plan]) -> bytes:
    """Plans as bytes."""
    file = io.BytesIO()
    _Pickler(file, _PROTOCOL).dump(list(plans))
    return file.getvalue()


def unpack(packed: bytes, make: Make) -> list[Plan]:
    """Plans from bytes; `make` makes their graphs anew."""
    with uncollected():
        plans: list[Plan] = _Unpickler(io.BytesIO(packed), make).load()
    return plans


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
