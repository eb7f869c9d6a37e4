"""The standard library: layers, activations, losses, optimizers and schedules, in the language."""

from __future__ import annotations

import pickle
import sys
from functools import lru_cache
from pathlib import Path

import dnnc.syntax
from dnnc.cache import Shelf, sources_digest
from dnnc.diagnostics import Source
from dnnc.syntax import tree
from dnnc.syntax.parse import parse
from dnnc.syntax.tables import grammar_path

__all__ = ["library_items", "library_sources"]

_SHELF = Shelf("library", ".tree", most=20)


@lru_cache(maxsize=1)
def library_sources() -> tuple[Source, ...]:
    """Every file of the library, by name; errors show them as `std/layers.dnn`."""
    folder = Path(__file__).parent
    return tuple(
        Source(f"std/{path.name}", path.read_text("utf-8")) for path in sorted(folder.glob("*.dnn"))
    )


@lru_cache(maxsize=1)
def library_items() -> tuple[tree.Item, ...]:
    """Every definition of the library, from the cache where a process has parsed it before."""
    parser = sources_digest(Path(dnnc.syntax.__file__).parent), grammar_path().read_bytes()
    texts = [(source.name, source.text) for source in library_sources()]
    key = repr((sys.version_info, parser, texts))
    entry = _SHELF.read(key)
    if entry is not None:
        kept: tuple[tree.Item, ...] = pickle.loads(entry)
        return kept
    items = tuple(item for source in library_sources() for item in parse(source).items)
    _SHELF.write(key, pickle.dumps(items))
    return items
