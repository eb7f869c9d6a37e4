"""The processor that kernels are compiled for."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

__all__ = ["Target", "host", "target_machine"]


@dataclass(frozen=True, slots=True)
class Target:
    """`vector_bits` is the width of a vector register, `vector_registers` their number."""

    cpu: str
    features: str
    vector_bits: int
    vector_registers: int

    def lanes(self, bytes_each: int) -> int:
        """Elements of that size in one vector register."""
        return self.vector_bits // (8 * bytes_each)


@cache
def host() -> Target:
    """The processor of this machine."""
    found = llvm.get_host_cpu_features()
    wide = bool(found.get("avx512f") and found.get("avx512vl") and found.get("avx512dq"))
    features = found.flatten()
    if wide:
        # LLVM keeps to half registers on some processors that have whole ones.
        features += ",-prefer-256-bit"
    if platform.machine() not in ("x86_64", "AMD64"):
        return Target(llvm.get_host_cpu_name(), features, 128, 32)
    bits = 512 if wide else 256 if found.get("avx2") else 128
    return Target(llvm.get_host_cpu_name(), features, bits, 32 if wide else 16)


@cache
def target_machine() -> llvm.TargetMachine:
    """LLVM's description of `host()`, for code that is loaded into this process."""
    _initialize()
    target = host()
    # Code for a just-in-time linker is linked at known addresses on x86 and relative to itself
    # elsewhere.
    reloc = "static" if platform.machine() in ("x86_64", "AMD64") else "default"
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=3,
        reloc=reloc,
        codemodel="jitdefault",
        jit=True,
    )


def _initialize() -> None:
    # llvmlite 0.45 and later initialize LLVM's core by themselves and say so by raising.
    with suppress(RuntimeError):
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
