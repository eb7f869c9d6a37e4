"""What kernels are written with beyond plain Python: memory, slots, partition of work.

Imports numba; import it only inside `Kernel.build`. An address is an int64. Kernels see no arrays:
they load and store elements at `address + index * size`.

`load(dtype, buffer)` and `store(dtype, buffer)` make intrinsics. `buffer` numbers the memory that
the kernel's accesses go to: accesses with different numbers are declared not to overlap, which lets
loops vectorize without checks; None may overlap anything. A result that may overwrite an operand
(`Call.in_place`) keeps its own number: that is sound because every store there waits for the load
of the same element.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as _intrinsic

from dnnc.kernels.subroutine import subroutine
from dnnc.kernels.vector_ir import BYTES, I1, I32, I64, NUMBERS, declare, prefetch_at

__all__ = [
    "NUMBA_TYPES",
    "atomic_add",
    "atomic_load",
    "atomic_store",
    "atomic_swap",
    "call_kernel",
    "copy_bytes",
    "intrinsic",
    "load",
    "lookup",
    "pause",
    "prefetch",
    "share",
    "slot",
    "store",
    "zero_bytes",
]

#: Typed for callers: kernels call an intrinsic without its first parameter.
intrinsic: Any = _intrinsic

#: Numba's type of each element type. Bool is held as Numba's boolean, one byte in memory.
NUMBA_TYPES: dict[str, Any] = {
    "f32": types.float32,
    "f64": types.float64,
    "i32": types.int32,
    "i64": types.int64,
    "u8": types.uint8,
    "i8": types.int8,
    "bool": types.boolean,
}

_BYTE = BYTES.pointee
_LLVM_TYPES = {**NUMBERS, "bool": _BYTE}
#: Alias classes that one kernel may tell apart.
_CLASSES = 48
#: What was written for `mark` into each module, by buffer.
_METADATA: WeakKeyDictionary[ir.Module, dict[int, tuple[Any, Any]]] = WeakKeyDictionary()


@intrinsic
def slot(typing_context, args, k):  # type: ignore[no-untyped-def]
    """`slot(args, k)`: argument `k` of the call, an int64."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        table = builder.inttoptr(values[0], I64.as_pointer())
        return builder.load(builder.gep(table, [values[1]]))

    return types.int64(types.int64, types.int64), generate


@cache
def lookup(numbers: tuple[int, ...]) -> Any:
    """The intrinsic `f(index)`: one of the numbers, all of int64, by its index from 0 on.

    It is a load; indexing a tuple becomes a branch for each of its elements.
    """
    kind = ir.ArrayType(I64, len(numbers))
    name = "dnnc_table_" + "_".join(map(str, numbers))

    @intrinsic
    def entry(typing_context, index):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            found = builder.module.globals.get(name)
            if found is None:
                found = ir.GlobalVariable(builder.module, kind, name)
                found.linkage, found.global_constant = "internal", True
                found.initializer = ir.Constant(kind, list(numbers))
            return builder.load(builder.gep(found, [I64(0), values[0]], inbounds=True))

        return types.int64(types.int64), generate

    return entry


@cache
def load(dtype: str, buffer: int | None = None) -> Any:
    """The intrinsic `f(address, index)`: element `index` of type `dtype` from `address`."""
    numba_type, llvm_type = NUMBA_TYPES[dtype], _LLVM_TYPES[dtype]

    @intrinsic
    def load_element(typing_context, address, index):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            pointer = element_pointer(builder, llvm_type, values[0], values[1])
            result = builder.load(pointer)
            mark(builder.module, result, buffer)
            if dtype == "bool":
                return builder.icmp_unsigned("!=", result, llvm_type(0))
            return result

        return numba_type(types.int64, types.int64), generate

    return load_element


@cache
def store(dtype: str, buffer: int | None = None) -> Any:
    """The intrinsic `f(address, index, value)`: set element `index`; `value` is of type `dtype`."""
    numba_type, llvm_type = NUMBA_TYPES[dtype], _LLVM_TYPES[dtype]

    @intrinsic
    def store_element(typing_context, address, index, value):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            pointer = element_pointer(builder, llvm_type, values[0], values[1])
            value = builder.zext(values[2], llvm_type) if dtype == "bool" else values[2]
            mark(builder.module, builder.store(value, pointer), buffer)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, numba_type), generate

    return store_element


def element_pointer(
    builder: ir.IRBuilder, element: ir.Type, address: ir.Value, index: ir.Value
) -> ir.Value:
    """Pointer to an element (or the first of a vector): `address` in bytes, `index` in elements."""
    base = builder.inttoptr(address, element.as_pointer())
    return builder.gep(base, [index], inbounds=True)


def mark(module: ir.Module, access: Any, buffer: int | None) -> None:
    """Declare that a load or store goes to memory `buffer` and to no other numbered memory."""
    if buffer is None:
        return
    own, others = _alias_metadata(module, buffer)
    access.set_metadata("alias.scope", own)
    access.set_metadata("noalias", others)


def _alias_metadata(module: ir.Module, buffer: int) -> tuple[Any, Any]:
    assert 0 <= buffer < _CLASSES
    known = _METADATA.setdefault(module, {})
    if buffer not in known:
        known[buffer] = _new_alias_metadata(module, buffer)
    return known[buffer]


def _new_alias_metadata(module: ir.Module, buffer: int) -> tuple[Any, Any]:
    domain = module.add_metadata(["dnnc"])
    scopes = [module.add_metadata([f"dnnc.buffer.{k}", domain]) for k in range(buffer + 1)]
    # Of two accesses it is enough that one tells that it keeps clear of the other.
    return module.add_metadata(scopes[buffer:]), module.add_metadata(scopes[:buffer])


@intrinsic
def zero_bytes(typing_context, address, count):  # type: ignore[no-untyped-def]
    """`zero_bytes(address, count)`: set `count` bytes to zero."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        function = builder.module.declare_intrinsic("llvm.memset", [BYTES, I64])
        target = builder.inttoptr(values[0], BYTES)
        builder.call(function, [target, _BYTE(0), values[1], I1(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def copy_bytes(typing_context, target, source, count):  # type: ignore[no-untyped-def]
    """`copy_bytes(target, source, count)`: copy bytes between places that do not overlap."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        function = builder.module.declare_intrinsic("llvm.memcpy", [BYTES, BYTES, I64])
        to, source = (builder.inttoptr(value, BYTES) for value in values[:2])
        builder.call(function, [to, source, values[2], I1(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """`prefetch(address)`: fetch the cache line there for reading."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        prefetch_at(builder, builder.inttoptr(values[0], BYTES))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@partial(subroutine, returns=2)
def share(count: int, grain: int, tid: int, threads: int) -> tuple[int, int]:
    """The half-open range of `count` items for thread `tid`: whole grains, evenly spread."""
    grains = (count + grain - 1) // grain
    start = grains * tid // threads * grain
    stop = min(grains * (tid + 1) // threads * grain, count)
    return start, stop


@intrinsic
def pause(typing_context):  # type: ignore[no-untyped-def]
    """Tell the processor that this is a spin loop."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        if builder.module.triple.startswith("x86"):
            builder.call(declare(builder.module, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call_kernel(typing_context, address, args, tid, threads):  # type: ignore[no-untyped-def]
    """Call compiled code by its address: Numba's native convention is `i32 f(ret*, exc**, ...)`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        result = I64.as_pointer()
        kind = ir.FunctionType(I32, [result, BYTES.as_pointer(), I64, I64, I64])
        with builder.goto_entry_block():
            value, error = builder.alloca(I64), builder.alloca(BYTES)
        function = builder.inttoptr(values[0], kind.as_pointer())
        builder.call(function, [value, error, *values[1:]])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), generate


@intrinsic
def atomic_load(typing_context, address):  # type: ignore[no-untyped-def]
    """`atomic_load(address)`: an int64; what its writer stored before is visible afterwards."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.load_atomic(builder.inttoptr(values[0], I64.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def atomic_store(typing_context, address, value):  # type: ignore[no-untyped-def]
    """`atomic_store(address, value)`: publish an int64 and everything stored before it."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        builder.store_atomic(values[1], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def atomic_add(typing_context, address, value):  # type: ignore[no-untyped-def]
    """`atomic_add(address, value)`: add to an int64; the value before."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        return builder.atomic_rmw("add", pointer, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def atomic_swap(typing_context, address, value):  # type: ignore[no-untyped-def]
    """`atomic_swap(address, value)`: replace an int64; the value before."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        return builder.atomic_rmw("xchg", pointer, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate
