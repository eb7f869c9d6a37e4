"""What functions written as LLVM vector code share. Imports llvmlite, and numba when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

__all__ = [
    "BYTES",
    "FLOATS",
    "I1",
    "I32",
    "I64",
    "NUMBERS",
    "calling",
    "declare",
    "internal",
    "masked",
    "splat",
]

I64, I32, I1 = ir.IntType(64), ir.IntType(32), ir.IntType(1)
BYTES = ir.IntType(8).as_pointer()
FLOATS: dict[str, ir.Type] = {"f32": ir.FloatType(), "f64": ir.DoubleType()}
NUMBERS: dict[str, ir.Type] = {
    **FLOATS,
    "i32": I32,
    "i64": I64,
    "u8": ir.IntType(8),
    "i8": ir.IntType(8),
}


def splat(builder: ir.IRBuilder, number: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def internal(module: ir.Module, name: str, arguments: int) -> ir.Function:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function


def calling(
    name: str, arity: int, write: Callable[[ir.Module], ir.Function]
) -> tuple[Any, Callable[..., Any]]:
    """What an intrinsic of `arity` integers returns that calls one function of its module.

    `write` writes the function, of that name, into a module that lacks it.
    """
    from numba.core import types

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        function = builder.module.globals.get(name) or write(builder.module)
        builder.call(function, values)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * arity), generate


def declare(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    found = module.globals.get(name)
    if found is not None:
        return found
    return ir.Function(module, ir.FunctionType(result, arguments), name)


def masked(module: ir.Module, vector: ir.VectorType) -> tuple[ir.Function, ir.Function]:
    """The functions `load(place, alignment, mask, otherwise)` and `store(value, place, alignment,
    mask)` on a vector of numbers; what is not in the mask is not touched."""
    pointer, mask = vector.as_pointer(), ir.VectorType(I1, vector.count)
    kinds = {FLOATS["f32"]: "f32", FLOATS["f64"]: "f64"}
    suffix = f"v{vector.count}{kinds.get(vector.element, vector.element)}.p0"
    load = declare(module, f"llvm.masked.load.{suffix}", vector, [pointer, I32, mask, vector])
    arguments = [vector, pointer, I32, mask]
    return load, declare(module, f"llvm.masked.store.{suffix}", ir.VoidType(), arguments)
