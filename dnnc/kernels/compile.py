"""From kernels to addresses: Numba compiles, the disk cache keeps, llvmlite loads.

A kernel found in the cache is loaded without importing numba. An entry is the object file that LLVM
made; it is found by the kernel's key and everything else that decides the machine code: the sources
of `dnnc.kernels`, the processor, the versions of numba and llvmlite.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from dnnc.cache import Shelf, sources_digest
from dnnc.kernels.abi import Kernel
from dnnc.kernels.target import host, target_machine

__all__ = [
    "compile_object",
    "load_kernels",
    "missing_kernels",
    "optimize_module",
    "optimized_ir",
    "prepare_kernel",
]

#: A large network needs some fifty. Every change of version leaves old ones.
_SHELF = Shelf("kernels", ".o", most=6000)
_LOCK = threading.Lock()


def load_kernels(kernels: Iterable[Kernel]) -> list[int]:
    """Addresses of the machine code of each kernel, compiling what the cache lacks."""
    wanted = list(kernels)
    engine = _engine()
    with _LOCK:
        engine.add({kernel.key: kernel for kernel in wanted})
        return [engine.addresses[kernel.key] for kernel in wanted]


def missing_kernels(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Those kernels that are to be compiled and that the disk cache could hold; none without it."""
    engine = _engine()
    found = []
    for kernel in kernels:
        path = None if kernel.key in engine.addresses else _SHELF.path(_entry(kernel))
        if path is not None and not path.exists():
            found.append(kernel)
    return found


def prepare_kernel(kernel: Kernel) -> None:
    """Have the machine code of a kernel in the disk cache, without loading it."""
    _cached_object(kernel)


class _Engine:
    """Loaded machine code. It lives as long as the process, since programs hold addresses."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        machine = target_machine()
        self._jit = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)

    def add(self, kernels: dict[str, Kernel]) -> None:
        missing = {key: kernel for key, kernel in kernels.items() if key not in self.addresses}
        for kernel in missing.values():
            code = llvm.object_file.ObjectFileRef.from_data(_cached_object(kernel))
            self._jit.add_object_file(code)
        if missing:
            self._jit.finalize_object()
        for key in missing:
            self.addresses[key] = self._jit.get_function_address(_symbol(key))


@cache
def _engine() -> _Engine:
    return _Engine()


def _symbol(key: str) -> str:
    return f"dnnc_{key}"


def _cached_object(kernel: Kernel) -> bytes:
    found = _SHELF.read(_entry(kernel))
    if found is None:
        found = compile_object(kernel)
        _SHELF.write(_entry(kernel), found)
    return found


def _entry(kernel: Kernel) -> str:
    return f"{kernel.key} {_fingerprint()}"


@cache
def _fingerprint() -> str:
    """What decides machine code besides the kernel's key."""
    target, sources = host(), sources_digest(Path(__file__).parent)
    facts = (target.cpu, target.features, version("numba"), version("llvmlite"), sys.version_info)
    return hashlib.sha256(f"{sources} {facts!r}".encode()).hexdigest()


def compile_object(kernel: Kernel) -> bytes:
    """The object file of one kernel, which defines the symbol `dnnc_<key>`."""
    module = _compile_module(kernel)
    _check_symbols(kernel, module)
    return bytes(target_machine().emit_object(module))


def optimized_ir(kernel: Kernel) -> tuple[str, str]:
    """LLVM IR and assembly of a kernel, for people who look at what became of it."""
    module = _compile_module(kernel)
    return str(module), str(target_machine().emit_assembly(module))


def _compile_module(kernel: Kernel) -> Any:
    """Compile by Numba up to an optimized LLVM module."""
    from dnnc.kernels.frontend import compile_function, compiling, i64

    function = kernel.build()
    with compiling() as target:
        library = _library_class()(target.codegen(), kernel.name)
        library.unrolled = kernel.unrolled
        result = compile_function(function, (i64, i64, i64), i64, library)
        library.finalize()
    module = library.module
    module.get_function(result.fndesc.mangled_name).name = _symbol(kernel.key)
    return module


@cache
def _library_class() -> Any:
    """Numba's code library, but optimized for `host()` and never run by Numba's own engine."""
    from dnnc.kernels.frontend import Library

    base: Any = Library

    class KernelLibrary(base):  # type: ignore[misc]
        unrolled = True

        def add_llvm_module(self, module: Any) -> None:
            # Numba optimizes each function here already, which the final passes make needless.
            self._final_module.link_in(module)

        def _optimize_final_module(self) -> None:
            _keep_to_itself(self._final_module)
            optimize_module(self._final_module, target_machine(), self.unrolled)

        def _finalize_final_module(self) -> None:
            self._finalized = True

        @property
        def module(self) -> Any:
            return self._final_module

    return KernelLibrary


def _keep_to_itself(module: Any) -> None:
    """Hide functions that are linked into a kernel.

    Numba numbers their names in each process anew: two objects from different processes may define
    different functions of one name, and the linker would take the first for both.
    """
    for function in module.functions:
        if not function.is_declaration and function.linkage != llvm.Linkage.external:
            function.linkage = llvm.Linkage.internal


def optimize_module(module: Any, machine: llvm.TargetMachine, unrolled: bool = True) -> None:
    """LLVM's passes, as every kernel goes through them; loops are `unrolled` or left as written.

    Kernels whose loops are left have nothing beside them to be joined to vectors either, and passes
    that look further for what could be simplified only take time.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=3 if unrolled else 1)
    options.loop_vectorization = True
    options.slp_vectorization = unrolled
    options.loop_interleaving = True
    options.loop_unrolling = unrolled
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def _check_symbols(kernel: Kernel, module: Any) -> None:
    """Refuse code that calls what this process does not have: the linker would end the process."""
    for function in module.functions:
        name = function.name
        if not function.is_declaration or name.startswith("llvm."):
            continue
        if not llvm.address_of_symbol(name):
            raise AssertionError(
                f"kernel {kernel.name} needs the symbol {name}, which is not there"
            )
