"""What Numba knows while it compiles kernels: numbers, ranges, tuples, enums, and intrinsics.

Its own contexts know all that it supports of Python and NumPy, which takes long to load, and which
it looks through whenever something is called that is new.

Imports numba: import it only inside functions that compile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from dnnc.kernels.builtin_code import BUILTINS, Counter, Definition, Range, iterator_of, next_of

__all__ = ["contexts"]

# Numba has annotations, but none that hold.
typing: Any = import_module("numba.core.typing")
cpu: Any = import_module("numba.core.cpu")
templates: Any = import_module("numba.core.typing.templates")
types: Any = import_module("numba.core.types")
models: Any = import_module("numba.core.datamodel.models")
fastmath: Any = import_module("numba.core.fastmathpass")
_Overloaded: Any = templates._OverloadAttributeTemplate
NumbaIntrinsic: Any = import_module("numba.core.extending")._Intrinsic


@cache
def contexts() -> tuple[Any, Any]:
    """What finds types, and what makes code."""
    found = _Types()
    return found, _Target(found)


class _Intrinsic(types.Callable, types.Opaque):  # type: ignore[misc]
    """The type of an intrinsic. It has one definition for each number of arguments.

    With `literal` it is told of arguments that are known numbers.
    """

    def __init__(self, name: str, define: Definition, literal: bool = False) -> None:
        self.define, self.literal = define, literal
        self._known: dict[tuple[Any, ...], Any] = {}
        self._writers: dict[tuple[Any, ...], Any] = {}
        super().__init__(name)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        args = tuple(args if self.literal else map(types.unliteral, args))
        found = self._known.get(args)
        if found is None:
            found, code = self.define(context, *args, **kws)
            self._known[args], self._writers[found.args] = found, code
        return found

    def get_call_signatures(self) -> Any:
        return list(self._known.values()), True

    def get_impl_key(self, sig: Any) -> Any:
        return self._writers[sig.args]


class _Function(types.Function):  # type: ignore[misc]
    """A function of Numba's, such as an operator, with the signatures of its calls."""

    def __init__(self, templates: Any) -> None:
        self._known: dict[tuple[Any, ...], Any] = {}
        super().__init__(templates)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        args = tuple(map(types.unliteral, args))
        found = self._known.get(args)
        if found is None:
            found = self._known[args] = super().get_call_type(context, args, kws)
        return found


for _kind in (_Intrinsic, _Function):
    models.register_default(_kind)(models.OpaqueModel)


class _Loader(templates.RegistryLoader):  # type: ignore[misc]
    """Lets through what Numba knows but for methods and attributes written in Python: to make the
    first of these loads all of its own contexts, and SciPy."""

    def new_registrations(self, name: str) -> Any:
        for item in super().new_registrations(name):
            if not (isinstance(item, type) and issubclass(item, _Overloaded)):
                yield item


class _Types(typing.Context):  # type: ignore[misc]
    def init(self) -> None:
        self._callables: dict[Any, Any] = {
            function: _Intrinsic(function.__name__, define, function is range)
            for function, define in BUILTINS.items()
        }
        self._registries[templates.builtin_registry] = _Loader(templates.builtin_registry)

    def _load_builtins(self) -> None:
        for name in ("builtins", "collections"):
            import_module(f"numba.core.typing.{name}")
        self.install_registry(templates.builtin_registry)

    def load_additional_registries(self) -> None:
        self.install_registry(import_module("numba.core.typing.enumdecl").registry)

    def resolve_value_type(self, value: Any) -> Any:
        if not callable(value):
            return super().resolve_value_type(value)
        found = self._callables.get(value)
        if found is None:
            found = self._callables[value] = self._type_of(value)
        return found

    def _type_of(self, value: Any) -> Any:
        if isinstance(value, NumbaIntrinsic):
            return _Intrinsic(f"{value.__name__} {len(self._callables)}", value._defn)
        found = self._lookup_global(value)
        if type(found) is types.Function:
            return _Function(found.templates)
        return super().resolve_value_type(value) if found is None else found

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if isinstance(func, _Intrinsic | _Function):
            return func.get_call_type(self, args, kws)
        return super().resolve_function_type(func, args, kws)


class _Target(cpu.CPUContext):  # type: ignore[misc]
    def init(self) -> None:
        super().init()
        self._sizes: dict[Any, int] = {}
        self._written: dict[tuple[Any, Any], Callable[..., Any]] = {}

    def load_additional_registries(self) -> None:
        for name in ("builtins", "enumimpl", "numbers", "tupleobj"):
            import_module(f"numba.cpython.{name}")

    def post_lowering(self, mod: Any, library: Any) -> None:
        # Numba also links its memory management, which kernels have no use for.
        fastmath.rewrite_module(mod, self.fastmath)

    def get_abi_sizeof(self, ty: Any) -> Any:
        # LLVM would be asked for each variable, by a module of its own.
        found = self._sizes.get(ty)
        if found is None:
            found = self._sizes[ty] = super().get_abi_sizeof(ty)
        return found

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        found = self._written.get((fn, sig))
        if found is None:
            if isinstance(fn, _Intrinsic):
                found = _without_place(fn.get_impl_key(sig))
            elif fn == "getiter" and isinstance(sig.args[0], Range):
                found = iterator_of
            elif fn == "iternext" and isinstance(sig.args[0], Counter):
                found = next_of
            else:
                found = super().get_function(fn, sig, _firstcall)._imp
            self._written[fn, sig] = found
        return lambda builder, args, loc=None: found(self, builder, sig, args, loc=loc)

    def pair_first(self, builder: Any, val: Any, ty: Any) -> Any:
        return val[0]

    def pair_second(self, builder: Any, val: Any, ty: Any) -> Any:
        return val[1]


def _without_place(generate: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, builder, signature, values, loc: generate(
        context, builder, signature, values
    )
