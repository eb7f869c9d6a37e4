"""What Numba knows while it compiles kernels: numbers, ranges, tuples, enums, and intrinsics.

Its own contexts know all that it supports of Python and NumPy, which takes as long to load as ten
kernels to compile, and which it looks through whenever something is called that is new.

Imports numba: import it only inside functions that compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache, reduce
from importlib import import_module
from typing import Any

from llvmlite import ir

__all__ = ["contexts"]

# Numba has annotations, but none that hold.
typing: Any = import_module("numba.core.typing")
cpu: Any = import_module("numba.core.cpu")
types: Any = import_module("numba.core.types")
models: Any = import_module("numba.core.datamodel.models")
NumbaIntrinsic: Any = import_module("numba.core.extending")._Intrinsic

i64: Any = types.int64
#: What an intrinsic is: from a context and types of arguments to a signature, and what writes code.
Definition = Callable[..., tuple[Any, Any]]


@cache
def contexts() -> tuple[Any, Any]:
    """What finds types, and what makes code."""
    found = _Types()
    return found, _Target(found)


class _Intrinsic(types.Callable, types.Opaque):  # type: ignore[misc]
    """The type of an intrinsic. It has one definition for each number of arguments."""

    def __init__(self, name: str, define: Definition) -> None:
        self.define = define
        self._known: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        super().__init__(name)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        args = tuple(map(types.unliteral, args))
        found = self._known.get(args)
        if found is None:
            found = self.define(context, *args, **kws)
            self._known[args] = self._known[found[0].args] = found
        return found[0]

    def get_call_signatures(self) -> Any:
        return [signature for signature, _ in self._known.values()], True

    def get_impl_key(self, sig: Any) -> Any:
        return self._known[sig.args][1]


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


class _Types(typing.Context):  # type: ignore[misc]
    def init(self) -> None:
        self._callables: dict[Any, Any] = {
            min: _Intrinsic("min", _extreme("<")),
            max: _Intrinsic("max", _extreme(">")),
            int: _Intrinsic("int", _whole),
            operator.floordiv: _Intrinsic("floordiv", _division(_quotient)),
            operator.mod: _Intrinsic("mod", _division(_remainder)),
        }

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
        for name in ("builtins", "enumimpl", "numbers", "rangeobj", "tupleobj"):
            import_module(f"numba.cpython.{name}")

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
            else:
                found = super().get_function(fn, sig, _firstcall)._imp
            self._written[fn, sig] = found
        return lambda builder, args, loc=None: found(self, builder, sig, args, loc=loc)


def _without_place(generate: Callable[..., Any]) -> Callable[..., Any]:
    return lambda context, builder, signature, values, loc: generate(
        context, builder, signature, values
    )


def _extreme(how: str) -> Definition:
    """The smallest or largest of int64: Numba's own are compiled for each number of arguments."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return reduce(lambda a, b: builder.select(builder.icmp_signed(how, a, b), a, b), values)

    return lambda context, *arguments: (i64(*(i64 for _ in arguments)), generate)


def _whole(context: Any, argument: Any) -> tuple[Any, Any]:
    """A truth value or an integer as int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.cast(builder, values[0], argument, i64)

    return i64(argument), generate


def _division(of: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]) -> Definition:
    """Quotient or remainder of int64, rounded down; 0 by 0. Numba's own branches, eight times."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x, y = values
        if isinstance(y, ir.Constant):
            return of(builder, x, y)
        zero = builder.icmp_signed("==", y, y.type(0))
        return builder.select(zero, y, of(builder, x, builder.select(zero, y.type(1), y)))

    return lambda context, x, y: (i64(i64, i64), generate)


def _quotient(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if _is_power(y):
        return b.ashr(x, y.type(y.constant.bit_length() - 1))
    _, down = _rest(b, x, y)
    return b.add(b.sdiv(x, y), b.sext(down, x.type))


def _remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    if _is_power(y):
        return b.and_(x, y.type(y.constant - 1))
    rest, down = _rest(b, x, y)
    return b.add(rest, b.select(down, y, y.type(0)))


def _is_power(y: ir.Value) -> bool:
    return isinstance(y, ir.Constant) and y.constant > 0 and y.constant & (y.constant - 1) == 0


def _rest(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """What division towards zero leaves, and whether division downwards goes one further."""
    rest = b.srem(x, y)
    differs = b.icmp_signed("<", b.xor(rest, y), y.type(0))
    return rest, b.and_(differs, b.icmp_signed("!=", rest, y.type(0)))
