"""Tables of choices: those measured on this machine, kept in the cache, and those that are shipped.

A table is kept as JSON, {decision: {case: {amount: choice}}}; the shipped file has one for each
kind of processor, and that in the cache is named after the processor and the source of the kernels,
so that an upgrade of either measures anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeAlias

from dnnc import environment
from dnnc.cache import cache_directory, sources_digest, write_atomically
from dnnc.tuning.processor import processor

__all__ = [
    "Table",
    "consulted",
    "measured",
    "measured_path",
    "merged",
    "read_shipped",
    "shipped",
    "store",
    "write_shipped",
]

#: Decision, case, amount -> choice.
Table: TypeAlias = Mapping[str, Mapping[str, Mapping[int, int]]]

_SHIPPED = Path(__file__).with_name("defaults.json")
_KERNELS = Path(__file__).parents[1] / "kernels"


def consulted() -> Sequence[Table]:
    """The tables that choices are looked up in, the first to be asked first."""
    return _consulted(environment.snapshot())


@lru_cache(maxsize=1)
def _consulted(settings: tuple[str | None, ...]) -> Sequence[Table]:
    kept = environment.tune()
    if kept == "off":
        return ()
    return (measured(), shipped()) if kept == "on" else (shipped(),)


def measured() -> Table:
    """Choices measured on this machine with the kernels as they are; empty where there are none."""
    path = measured_path()
    return _table_of(path) if path else {}


def measured_path() -> Path | None:
    """The file of measured choices, which need not exist; None where there is no cache."""
    directory = cache_directory()
    if directory is None:
        return None
    facts = f"{processor().facts}\n{sources_digest(_KERNELS)}"
    return directory / "tuning" / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.json"


@cache
def _table_of(path: Path) -> Table:
    """The table of a file, read once in a process; empty where it is missing or broken."""
    try:
        return _table(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def store(choices: Table) -> Path | None:
    """Add choices to those measured on this machine; the file, or None where there is no cache.

    Other processes may add theirs at the same time. Raises OSError where writing fails.
    """
    path = measured_path()
    if path is None:
        return None
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        _table_of.cache_clear()
        table = merged(_table_of(path), choices)
        write_atomically(path, _text(table).encode() + b"\n")
    _table_of.cache_clear()
    _consulted.cache_clear()
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among processes, where the system has locks: else the last to write wins."""
    with path.open("wb") as file:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def shipped() -> Table:
    """The choices that come with the compiler for this kind of processor."""
    return _all_shipped().get(processor().kind, {})


@cache
def _all_shipped() -> dict[str, Table]:
    return read_shipped(_SHIPPED)


def read_shipped(path: Path) -> dict[str, Table]:
    """Tables by kind of processor; ValueError where the file is none, OSError without one."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no tables")
    return {kind: _table(table) for kind, table in data.items()}


def write_shipped(path: Path, choices: Table) -> None:
    """Add choices for this kind of processor to a file such as the shipped one, which may be
    missing. Raises OSError and ValueError."""
    tables = read_shipped(path) if path.exists() else {}
    kind = processor().kind
    tables[kind] = merged(tables.get(kind, {}), choices)
    parts = [f"{json.dumps(kind)}: {_text(table)}" for kind, table in sorted(tables.items())]
    write_atomically(path, ("{" + ",\n".join(parts) + "}\n").encode())


def merged(old: Table, new: Table) -> Table:
    """All choices of both; those of `new` where both have one."""
    result: dict[str, dict[str, dict[int, int]]] = {}
    for table in (old, new):
        for name, cases in table.items():
            for case, choices in cases.items():
                result.setdefault(name, {}).setdefault(case, {}).update(choices)
    return result


def _table(data: object) -> Table:
    """The table that JSON holds; ValueError where it holds something else."""
    return {
        name: {
            case: {int(amount): _whole(choice) for amount, choice in _mapping(choices).items()}
            for case, choices in _mapping(cases).items()
        }
        for name, cases in _mapping(data).items()
    }


def _mapping(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise ValueError("a table of choices is made of mappings")
    return data


def _whole(data: object) -> int:
    if type(data) is not int:
        raise ValueError("a choice is a whole number")
    return data


def _text(table: Table) -> str:
    """JSON with a line for each case, in order, so that changes are easy to see."""
    decisions = []
    for name, cases in sorted(table.items()):
        lines = [
            f"  {json.dumps(case)}: {json.dumps(dict(sorted(choices.items())))}"
            for case, choices in sorted(cases.items())
        ]
        decisions.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "}")
    return "{\n" + ",\n".join(decisions) + "}"
