"""What functions written as LLVM vector code share. Imports llvmlite, and numba when called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

from llvmlite import ir

__all__ = [
    "BYTES",
    "FLOATS",
    "I1",
    "I32",
    "I64",
    "NUMBERS",
    "Place",
    "calling",
    "declare",
    "fmuladd",
    "internal",
    "lane_mask",
    "load_at",
    "prefetch_at",
    "rank_one_update",
    "splat",
    "store_at",
    "store_sums",
    "zeros",
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
#: Pointer to bytes, offset in bytes, and which lanes are accessed (None for all): see `load_at`.
Place: TypeAlias = tuple[ir.Value, "int | ir.Value", "ir.Value | None"]
#: Names of types in those of LLVM's intrinsics, where integers have no sign.
_NAMES = {kind: name.replace("u", "i") for name, kind in NUMBERS.items()}


@cache
def zeros(kind: ir.VectorType) -> ir.Constant:
    """Zero in every lane. It is one object for all that need it, of which llvmlite writes the text
    only once; so are other constants here."""
    return ir.Constant(kind, [0] * kind.count)


@cache
def _undefined(kind: ir.VectorType) -> ir.Constant:
    return ir.Constant(kind, ir.Undefined)


@cache
def _counting(first: int, lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes)))


def splat(builder: ir.IRBuilder, number: ir.Value, lanes: int) -> ir.Value:
    undefined = _undefined(ir.VectorType(number.type, lanes))
    first = builder.insert_element(undefined, number, I32(0))
    return builder.shuffle_vector(first, undefined, zeros(ir.VectorType(I32, lanes)))


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


def fmuladd(b: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    """`x * y + z` of vectors of floats, rounded once where the processor can."""
    function = declare(b.module, f"llvm.fmuladd.{_suffix(x.type)}", x.type, [x.type] * 3)
    return b.call(function, [x, y, z])


def rank_one_update(
    b: ir.IRBuilder,
    sums: Sequence[ir.Value],
    column: Sequence[tuple[ir.Value, int | ir.Value]],
    row: Sequence[ir.Value],
) -> list[ir.Value]:
    """`sums` of a tile of vectors, row by row, plus the product of a column and a row: of the
    numbers at places (see `load_at`) with vectors."""
    vector, width = row[0].type, len(row)
    results = []
    for i, place in enumerate(column):
        number = splat(b, load_at(b, vector.element, *place), vector.count)
        results += [fmuladd(b, number, row[j], sums[i * width + j]) for j in range(width)]
    return results


def lane_mask(b: ir.IRBuilder, lanes: int, count: ir.Value, first: int = 0) -> ir.Value:
    """Which lanes k of a vector have `first + k < count`, an i64 within the range of i32."""
    # Compared as i32, a mask of sixteen lanes takes one instruction, and two or more as i64.
    limit = splat(b, b.trunc(count, I32), lanes)
    return b.icmp_signed("<", _counting(first, lanes), limit)


def load_at(
    b: ir.IRBuilder,
    kind: ir.Type,
    base: ir.Value,
    offset: int | ir.Value = 0,
    mask: ir.Value | None = None,
) -> ir.Value:
    """Load a number or a vector `offset` bytes from the pointer `base`, which is one to bytes.

    Only elements need be aligned. With a mask, other lanes are zero and nothing is read of them.
    """
    place = _at(b, base, offset)
    if mask is None:
        return b.load(place, align=_bytes_each(kind), typ=kind)
    load, _ = _masked(b.module, kind)
    return b.call(load, [place, I32(_bytes_each(kind)), mask, zeros(kind)])


def store_at(
    b: ir.IRBuilder,
    value: ir.Value,
    base: ir.Value,
    offset: int | ir.Value = 0,
    mask: ir.Value | None = None,
) -> None:
    """Store a number or a vector, or the lanes of it that are in the mask; see `load_at`."""
    place, alignment = _at(b, base, offset), _bytes_each(value.type)
    if mask is None:
        b.store(value, b.bitcast(place, value.type.as_pointer()), align=alignment)
    else:
        _, store = _masked(b.module, value.type)
        b.call(store, [value, place, I32(alignment), mask])


def store_sums(
    b: ir.IRBuilder, sums: Sequence[ir.Value], places: Sequence[Place], add: ir.Value
) -> None:
    """Store each of `sums` at its place, added to what is there if the bit `add` is set.

    All is read before anything is stored: a load waits for a masked store to bytes next to it.
    """
    before = b.block
    with b.if_then(add):
        adding = b.block
        added = [
            b.fadd(load_at(b, value.type, *place), value)
            for value, place in zip(sums, places, strict=True)
        ]
    results = [b.phi(value.type) for value in sums]
    for result, plain, total, place in zip(results, sums, added, places, strict=True):
        result.add_incoming(plain, before)
        result.add_incoming(total, adding)
        store_at(b, result, *place)


def prefetch_at(
    b: ir.IRBuilder, base: ir.Value, offset: int | ir.Value = 0, written: bool = False
) -> None:
    """Fetch the cache line `offset` bytes from `base` for reading, or for writing too."""
    parameters = [BYTES, I32, I32, I32]
    function = declare(b.module, "llvm.prefetch.p0", ir.VoidType(), parameters)
    b.call(function, [_at(b, base, offset), I32(int(written)), I32(3), I32(1)])


def _at(b: ir.IRBuilder, base: ir.Value, offset: int | ir.Value) -> ir.Value:
    if isinstance(offset, int):
        return b.gep(base, [I64(offset)]) if offset else base
    return b.gep(base, [offset])


def _masked(module: ir.Module, vector: ir.VectorType) -> tuple[ir.Function, ir.Function]:
    """The functions `load(place, alignment, mask, otherwise)` and `store(value, place, alignment,
    mask)` on a vector of numbers; what is not in the mask is not touched."""
    mask = ir.VectorType(I1, vector.count)
    suffix = f"{_suffix(vector)}.p0"
    load = declare(module, f"llvm.masked.load.{suffix}", vector, [BYTES, I32, mask, vector])
    arguments = [vector, BYTES, I32, mask]
    return load, declare(module, f"llvm.masked.store.{suffix}", ir.VoidType(), arguments)


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}{_NAMES[vector.element]}"


def _bytes_each(kind: ir.Type) -> int:
    """Bytes of a number, or of an element of a vector."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    return int(_NAMES[element][1:]) // 8
