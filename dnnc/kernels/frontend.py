"""From Python functions over int64 to LLVM code: Numba's compiler, cut down to what kernels need.

Imports numba: import it only inside functions that compile.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["Library", "compile_function", "compiling", "i64"]

# Numba has annotations, but none that hold.
compiler: Any = import_module("numba.core.compiler")
machinery: Any = import_module("numba.core.compiler_machinery")
untyped: Any = import_module("numba.core.untyped_passes")
typed: Any = import_module("numba.core.typed_passes")
cpu: Any = import_module("numba.core.cpu")
cpu_target: Any = import_module("numba.core.registry").cpu_target
lock: Any = import_module("numba.core.compiler_lock").global_compiler_lock
Library: Any = import_module("numba.core.codegen").JITCodeLibrary

i64: Any = import_module("numba.core.types").int64

#: What a call of a function with arguments of some types returns.
_SIGNATURES: dict[tuple[Any, tuple[Any, ...]], Any] = {}


class _LeanCompiler(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's compiler without passes over forms of Python that kernels are not written in."""

    def define_pipelines(self) -> list[Any]:
        passes = machinery.PassManager("kernel")
        for step in (
            untyped.TranslateByteCode,
            untyped.FixupArgs,
            untyped.IRProcessing,
            untyped.ReconstructSSA,
            typed.NopythonTypeInference,
            typed.PreLowerStripPhis,
            typed.IRLegalization,
            typed.AnnotateTypes,
            typed.NativeLowering,
            typed.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


def compile_function(
    function: Callable[..., Any], arguments: Sequence[Any], returns: Any, library: Any
) -> Any:
    """Compile a function for types of numba into a code library; numba's result.

    Call it inside `compiling()`.
    """
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    # Contraction alone: reassociation would undo the compensated steps of elementary functions, and
    # flags that assume no NaN would hide what the training layer must detect.
    flags.fastmath = cpu.FastMathOptions({"contract"})
    typing, target = cpu_target.typing_context, cpu_target.target_context
    pipeline = _LeanCompiler(typing, target, library, tuple(arguments), returns, flags, {})
    return pipeline.compile_extra(function)


@contextmanager
def compiling() -> Iterator[Any]:
    """Hold numba's lock, with everything set up to compile fast; yields its target context.

    Numba infers the type of each call by trying all definitions of the function, and makes so many
    objects that the garbage collector would take a tenth of the time. So signatures are remembered,
    and garbage is collected once, at the end.
    """
    typing, target = cpu_target.typing_context, cpu_target.target_context
    infer = typing.resolve_function_type

    def inferred(function: Any, arguments: tuple[Any, ...], keywords: Any) -> Any:
        if keywords:
            return infer(function, arguments, keywords)
        key = function, arguments
        signature = _SIGNATURES.get(key)
        if signature is None:
            signature = infer(*key, keywords)
            if signature is not None:
                _SIGNATURES[key] = signature
        return signature

    collecting = gc.isenabled()
    with lock:
        gc.disable()
        typing.refresh()
        target.refresh()
        typing.resolve_function_type = inferred
        try:
            yield target
        finally:
            del typing.resolve_function_type
            if collecting:
                gc.collect(0)
                gc.enable()
