"""Functions that kernels call, compiled as a part of the kernel.

Numba would compile a function that another one calls for itself, to machine code that nobody runs.
Here it becomes LLVM code alone, which is linked into the kernel and optimized with it, once.

Imports numba: import it only inside `Kernel.build`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import cache
from importlib import import_module
from typing import Any

from dnnc.kernels.frontend import Library, compile_function

__all__ = ["shared", "subroutine"]

types: Any = import_module("numba.core.types")
intrinsic: Any = import_module("numba.extending").intrinsic
_PARAMETER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def subroutine(function: Callable[..., Any], returns: int = 0) -> Any:
    """What a kernel calls in the place of `function`, whose parameters are int64.

    `returns` is the number of its results: with 0 it returns nothing, with 1 an int64, else a
    tuple of that many.
    """
    names = list(inspect.signature(function).parameters)
    result = types.UniTuple(types.int64, returns) if returns > 1 else types.int64
    kind = (result if returns else types.none)(*(types.int64 for _ in names))
    compiled: list[Any] = []

    def typer(typing_context: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            if not compiled:
                library = _Unoptimized(context.codegen(), function.__name__)
                made = compile_function(function, kind.args, kind.return_type, library)
                compiled.append(made)
            context.active_code_library.add_linking_library(compiled[0].library)
            # It raises nothing, so its status need not be asked for.
            made = compiled[0].fndesc
            return context.call_internal_no_propagate(builder, made, kind, values)[1]

        return kind, generate

    parameters = [inspect.Parameter(name, _PARAMETER) for name in ("typing_context", *names)]
    typer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(typer)


@cache
def shared(build: Callable[..., Callable[..., Any]], *arguments: Hashable, returns: int = 0) -> Any:
    """The subroutine of `build(*arguments)`, which is made once for all kernels of a process and
    for all callers within one: most of the time to compile goes into finding types."""
    return subroutine(build(*arguments), returns)


class _Unoptimized(Library):  # type: ignore[misc]
    """LLVM code to be linked into a kernel."""

    def _optimize_functions(self, module: Any) -> None:
        pass

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True
