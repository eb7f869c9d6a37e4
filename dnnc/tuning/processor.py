"""The processor, without asking LLVM: programs that are compiled already start without it."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dnnc import environment

__all__ = ["Processor", "matrix_unit", "processor"]

#: What tells one processor from another in Linux' description, on x86 and ARM.
_TELLING = {
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "cache size",
    "flags",
    "CPU implementer",
    "CPU part",
    "CPU revision",
    "Features",
}
_WIDE = {"avx512f", "avx512vl", "avx512dq"}
#: What Intel's matrix unit consists of, and what kernels for it need besides.
_UNIT = _WIDE | {"avx512bw", "amx_tile", "amx_bf16"}
_WITH_UNIT = "x86_64 avx512 amx"
#: Linux' system call on x86-64, its request, and the part of the registers that is asked for.
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
#: Enough for the first processor; there may be hundreds.
_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Processor:
    """`kind` is the architecture with its vectors and matrix unit ("x86_64 avx512 amx"), for which
    choices are shipped; `facts` all that is known of the processor; `name` what people call it."""

    name: str
    kind: str
    facts: str


def processor() -> Processor:
    """The processor of this machine, as far as DNNC_VECTOR_BITS and DNNC_MATRIX_UNIT let kernels
    use it."""
    return _processor(environment.vector_bits() or 512, environment.matrix_unit())


@cache
def _processor(bits: int, unit: bool) -> Processor:
    facts, machine = _described(), platform.machine()
    flags = set(facts.get("flags", "").split())
    widths = (("avx512", 512, flags >= _WIDE), ("avx2", 256, "avx2" in flags))
    usable = (f"{machine} {name}" for name, width, found in widths if found and width <= bits)
    kind = next(usable, machine)
    if unit and kind == "x86_64 avx512" and _unit_permitted():
        kind = _WITH_UNIT
    listed = (f"{name}: {facts[name]}" for name in sorted(_TELLING & facts.keys()))
    return Processor(facts.get("model name", machine), kind, "\n".join((kind, *listed)))


def matrix_unit() -> bool:
    """Whether kernels may use the matrix unit of this processor, if it has one: Intel's AMX with
    bfloat16."""
    return processor().kind == _WITH_UNIT


@cache
def _unit_permitted() -> bool:
    """Whether the system gives this process room for the registers of the unit, which it has to ask
    for once."""
    if (
        not sys.platform.startswith("linux")
        or not set(_described().get("flags", "").split()) >= _UNIT
    ):
        return False
    request = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    return bool(request == 0)


@cache
def _described() -> dict[str, str]:
    """Linux' description of the first processor; empty elsewhere."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CHARACTERS)
    except OSError:
        return {}
    lines = text.partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
