"""The processor that kernels are compiled for."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from dnnc import environment
from dnnc.tuning.processor import matrix_unit

__all__ = ["Target", "foreign_machine", "host", "second_cache", "target_machine", "unit_usable"]


@dataclass(frozen=True, slots=True)
class Target:
    """A processor, in LLVM's words.

    `vector_bits` is the width of a vector register, `vector_registers` their number.
    """

    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith("x86_64")

    def lanes(self, bytes_each: int) -> int:
        """Elements of that size in one vector register."""
        return self.vector_bits // (8 * bytes_each)


@cache
def host() -> Target:
    """The processor of this machine, or an older one where DNNC_VECTOR_BITS asks for less."""
    return _limited(_found(), environment.vector_bits())


def _found() -> Target:
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    found = llvm.get_host_cpu_features()
    wide = bool(found.get("avx512f") and found.get("avx512vl") and found.get("avx512dq"))
    features = found.flatten()
    if wide:
        # LLVM keeps to half registers on some processors that have whole ones.
        features += ",-prefer-256-bit"
    if platform.machine() not in ("x86_64", "AMD64"):
        return Target(triple, cpu, features, 128, 32)
    bits = 512 if wide else 256 if found.get("avx2") else 128
    return Target(triple, cpu, features, bits, 32 if wide else 16)


def _limited(target: Target, bits: int | None) -> Target:
    if bits is None or bits >= target.vector_bits:
        return target
    return Target(target.triple, "x86-64-v3" if bits == 256 else "x86-64", "", bits, 16)


def unit_usable() -> bool:
    """Whether kernels may use the matrix unit, and LLVM compiles for a processor that has it."""
    target = host()
    compiled = {"+amx-tile", "+amx-bf16"}.issubset(target.features.split(","))
    return matrix_unit() and compiled and target.vector_bits == 512


@cache
def second_cache() -> int:
    """Bytes of the second-level cache of a core; 1 MiB where the system does not tell."""
    units = {"K": 1 << 10, "M": 1 << 20}
    with suppress(OSError, ValueError, KeyError):
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text[:-1]) * units[text[-1]]
    return 1 << 20


@cache
def target_machine() -> llvm.TargetMachine:
    """LLVM's description of `host()`, for code that is loaded into this process."""
    _initialize()
    target = host()
    # Code for a just-in-time linker is linked at known addresses on x86 and relative to itself
    # elsewhere.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=3,
        reloc="static" if target.is_x86 else "default",
        codemodel="jitdefault",
        jit=True,
    )


def foreign_machine(target: Target) -> llvm.TargetMachine:
    """LLVM's description of any processor, for code to look at; RuntimeError where this LLVM cannot
    compile for it."""
    _initialize()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3
    )


def _initialize() -> None:
    # llvmlite 0.45 and later initialize LLVM's core by themselves and say so by raising.
    with suppress(RuntimeError):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
