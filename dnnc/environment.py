"""The one table of `DNNC_*` environment variables, and the functions that read them.

A variable that is not in the table, or whose value does not fit, is an error: a misspelled switch
that does nothing would be worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnnc.diagnostics import Diagnostic, DnnError, closest, register_codes

__all__ = [
    "VARIABLES",
    "Variable",
    "cache",
    "check",
    "debug",
    "matrix_unit",
    "snapshot",
    "threads",
    "vector_bits",
    "verify",
]

register_codes(
    {
        "E702": "an environment variable that starts with DNNC_ is not one of the compiler's",
        "E703": "the value of an environment variable does not fit",
    }
)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. `kind` says in words what values it takes; `parse` raises ValueError for
    others."""

    name: str
    meaning: str
    kind: str
    default: str
    parse: Callable[[str], Any]


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _level(text: str) -> int:
    level = int(text)
    if not 0 <= level <= 5:
        raise ValueError(text)
    return level


def _count(text: str) -> int | None:
    if text == "":
        return None
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _width(text: str) -> int | None:
    return {"": None, "128": 128, "256": 256, "512": 512}[text]


def _kept(text: str) -> str:
    if text not in ("on", "shipped", "off"):
        raise ValueError(text)
    return text


def _folder(text: str) -> Path | None:
    if text == "off":
        return None
    if text:
        return Path(text).expanduser()
    # A relative XDG_CACHE_HOME is invalid by its specification and is ignored.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "dnnc"


#: Every variable, in the order in which documentation lists them.
VARIABLES: tuple[Variable, ...] = (
    Variable(
        "DNNC_DEBUG",
        "what to print on standard error: 1 passes and times, 2 the program after each pass, "
        "3 rules that fired, 4 loops, 5 LLVM and assembly; each level includes those below",
        "an integer from 0 to 5",
        "0",
        _level,
    ),
    Variable(
        "DNNC_VERIFY",
        "after every pass, check the program and compare its results with those of the "
        "reference interpreter, naming the pass at fault",
        "0 or 1",
        "0",
        _flag,
    ),
    Variable(
        "DNNC_THREADS",
        "number of threads of a program; empty for all cores that the process may use",
        "a positive integer, or empty",
        "",
        _count,
    ),
    Variable(
        "DNNC_VECTOR_BITS",
        "widest vectors that kernels use, in bits, as on a processor that has no wider ones; "
        "empty for those of this processor",
        "128, 256, 512, or empty",
        "",
        _width,
    ),
    Variable(
        "DNNC_MATRIX_UNIT",
        "whether float32 products run on the matrix unit of the processor where it has one and "
        "that is faster, each number as the sum of three in bfloat16; results then differ by "
        "rounding, and infinite numbers give NaN",
        "0 or 1",
        "1",
        _flag,
    ),
    Variable(
        "DNNC_CACHE",
        "folder of compiled programs and measured choices; empty for `dnnc` in the user's cache "
        "folder, `off` to keep nothing on disk",
        "a folder, empty, or `off`",
        "",
        _folder,
    ),
    Variable(
        "DNNC_TUNE",
        "which measured choices between methods programs take: `on` for those of `dnnc tune`, then "
        "those that come with the compiler for the kind of processor; `shipped` for the latter "
        "alone; `off` for neither, so that nothing but the program decides",
        "`on`, `shipped` or `off`",
        "on",
        _kept,
    ),
)

_BY_NAME = {variable.name: variable for variable in VARIABLES}


def check(environment: Mapping[str, str] | None = None) -> None:
    """Check every `DNNC_*` variable; raises DnnError with E702 and E703 for all that are wrong."""
    settings = os.environ if environment is None else environment
    diagnostics = []
    for name in sorted(settings):
        if not name.startswith("DNNC_"):
            continue
        if name not in _BY_NAME:
            diagnostics.append(_unknown(name))
            continue
        try:
            _BY_NAME[name].parse(settings[name])
        except (ValueError, KeyError):
            diagnostics.append(_unfit(_BY_NAME[name], settings[name]))
    if diagnostics:
        raise DnnError(diagnostics)


def snapshot() -> tuple[str | None, ...]:
    """All variables as they are set, as a key for what depends on them."""
    return tuple([os.environ.get(name) for name in _BY_NAME])


def debug() -> int:
    """The level of DNNC_DEBUG, 0 to 5."""
    return int(_read("DNNC_DEBUG"))


def verify() -> bool:
    """Whether DNNC_VERIFY asks for a check after every pass."""
    return bool(_read("DNNC_VERIFY"))


def threads() -> int:
    """The number of threads that DNNC_THREADS asks for; by default one for each available core."""
    count = _read("DNNC_THREADS")
    if count is not None:
        return int(count)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def vector_bits() -> int | None:
    """The width of vectors that DNNC_VECTOR_BITS limits kernels to, or None."""
    bits: int | None = _read("DNNC_VECTOR_BITS")
    return bits


def matrix_unit() -> bool:
    """Whether DNNC_MATRIX_UNIT lets kernels use the processor's matrix unit."""
    return bool(_read("DNNC_MATRIX_UNIT"))


def tune() -> str:
    """Which measured choices programs take: "on", "shipped" or "off"."""
    return str(_read("DNNC_TUNE"))


def cache() -> Path | None:
    """The folder of compiled kernels, or None where DNNC_CACHE turns the disk cache off."""
    folder = _read("DNNC_CACHE")
    return None if folder is None else Path(folder)


def _read(name: str) -> Any:
    check()
    variable = _BY_NAME[name]
    return variable.parse(os.environ.get(name, variable.default))


def _unknown(name: str) -> Diagnostic:
    near = closest(name, _BY_NAME)
    return Diagnostic(
        "E702",
        f"unknown environment variable `{name}`",
        help=f"did you mean `{near}`?" if near else f"known are {', '.join(_BY_NAME)}",
    )


def _unfit(variable: Variable, value: str) -> Diagnostic:
    return Diagnostic(
        "E703",
        f"environment variable `{variable.name}` is `{value}`",
        help=f"give it {variable.kind}: {variable.meaning}",
    )
