"""Movements of data that cancel, join, or turn into something that costs nothing.

    transpose(transpose(x)) → x      reshape(reshape(x)) → reshape(x)      concat(x) → x
    slice(slice(x)) → slice(x)       pad(x) + pad(y) → concat(x, y)

Gradients of a split are sums of padded pieces, which is why neighbouring ones join. Their sum with
zeros leaves -0.0 as it is where the addition would give 0.0.
"""

from __future__ import annotations

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Value
from dnnc.ops.elementwise import Add
from dnnc.ops.linear import MatMul
from dnnc.ops.shape import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from dnnc.passes.blocks import blocks, moved_sizes
from dnnc.passes.simplify.rules import made_by, make, rule, uniform

__all__: list[str] = []

#: Most padded pieces that are put together.
_MOST_PIECES = 16


@rule(Reshape)
def reshape_of_same_shape(op: Reshape, x: Value) -> Value | None:
    return x if op.shape == x.shape else None


@rule(Reshape)
def reshape_of_reshape(op: Reshape, x: Value) -> Value | None:
    inner = made_by(x, Reshape)
    return None if inner is None else make(op, inner[1][0])


@rule(Reshape)
def reshape_of_broadcast(op: Reshape, x: Value) -> Value | None:
    inner = made_by(x, Broadcast)
    if inner is None:
        return None
    source = inner[1][0]
    if source.type.elements == 1:
        return make(Broadcast(op.shape), make(Reshape(()), source))
    pairs = blocks(x.shape, op.shape)
    narrow = None if pairs is None else moved_sizes(source.shape, x.shape, op.shape, pairs)
    return None if narrow is None else make(Broadcast(op.shape), make(Reshape(narrow), source))


@rule(Broadcast)
def broadcast_of_broadcast(op: Broadcast, x: Value) -> Value | None:
    if op.shape == x.shape:
        return x
    inner = made_by(x, Broadcast)
    return None if inner is None else make(op, inner[1][0])


@rule(Transpose)
def transpose_of_transpose(op: Transpose, x: Value) -> Value | None:
    if op.permutation == tuple(range(x.type.rank)):
        return x
    inner = made_by(x, Transpose)
    if inner is None:
        return None
    joined = tuple(inner[0].permutation[axis] for axis in op.permutation)
    return make(Transpose(joined), inner[1][0])


@rule(Transpose)
def transpose_of_size_one_axes(op: Transpose, x: Value) -> Value | None:
    moved = [axis for axis in op.permutation if x.shape[axis] != 1]
    if moved != sorted(moved):
        return None
    return make(Reshape(tuple(x.shape[axis] for axis in op.permutation)), x)


@rule(Transpose)
def transpose_of_pad(op: Transpose, x: Value) -> Value | None:
    """What is moved before it is padded is less."""
    inner = made_by(x, Pad)
    if inner is None:
        return None
    axis = op.permutation.index(inner[0].axis)
    return make(Pad(axis, inner[0].before, inner[0].after), make(op, inner[1][0]))


@rule(Transpose)
def transpose_of_uniform(op: Transpose, x: Value) -> Value | None:
    inner = made_by(x, Broadcast)
    if inner is None or inner[1][0].type.elements != 1:
        return None
    shape = tuple(x.shape[axis] for axis in op.permutation)
    return make(Broadcast(shape), make(Reshape(()), inner[1][0]))


@rule(Concat)
def concat_flat(op: Concat, *parts: Value) -> Value | None:
    if len(parts) == 1:
        return parts[0]
    flat: list[Value] = []
    for part in parts:
        inner = made_by(part, Concat)
        same = inner is not None and inner[0] == op
        flat.extend(inner[1] if same and inner is not None else (part,))
    kept = [part for part in flat if part.shape[op.axis] != 0] or flat[:1]
    return make(op, *kept) if len(kept) != len(parts) else None


@rule(Concat)
def concat_of_neighbours(op: Concat, *parts: Value) -> Value | None:
    """Slices that were neighbours in one tensor are one slice of it."""
    joined: list[Value] = [parts[0]]
    for part in parts[1:]:
        left, right = made_by(joined[-1], Slice), made_by(part, Slice)
        if (
            left is not None
            and right is not None
            and left[1][0] is right[1][0]
            and left[0].axis == right[0].axis == op.axis
            and left[0].stop == right[0].start
        ):
            joined[-1] = make(Slice(op.axis, left[0].start, right[0].stop), left[1][0])
        else:
            joined.append(part)
    return make(op, *joined) if len(joined) < len(parts) else None


@rule(Slice)
def slice_of_whole(op: Slice, x: Value) -> Value | None:
    return x if op.start == 0 and op.stop == x.shape[op.axis] else None


@rule(Slice)
def slice_of_slice(op: Slice, x: Value) -> Value | None:
    inner = made_by(x, Slice)
    if inner is None or inner[0].axis != op.axis:
        return None
    start = inner[0].start
    return make(Slice(op.axis, start + op.start, start + op.stop), inner[1][0])


@rule(Slice)
def slice_of_transpose(op: Slice, x: Value) -> Value | None:
    """A part of a transpose is the transpose of a part, which moves less."""
    inner = made_by(x, Transpose)
    if inner is None:
        return None
    axis = inner[0].permutation[op.axis]
    return make(inner[0], make(Slice(axis, op.start, op.stop), inner[1][0]))


@rule(Slice)
def slice_of_concat(op: Slice, x: Value) -> Value | None:
    """A slice that lies in one part of a concatenation is a slice of that part."""
    inner = made_by(x, Concat)
    if inner is None or inner[0].axis != op.axis:
        return None
    start = dim(0)
    for part in inner[1]:
        stop = start + part.shape[op.axis]
        if _not_after(start, op.start) and _not_after(op.stop, stop):
            return make(Slice(op.axis, op.start - start, op.stop - start), part)
        start = stop
    return None


@rule(Slice)
def slice_of_pad(op: Slice, x: Value) -> Value | None:
    inner = made_by(x, Pad)
    if inner is None or inner[0].axis != op.axis:
        return None
    before, source = inner[0].before, inner[1][0]
    if _not_after(before, op.start) and _not_after(op.stop, before + source.shape[op.axis]):
        return make(Slice(op.axis, op.start - before, op.stop - before), source)
    return None


@rule(Slice, Reverse)
def part_of_uniform(op: Slice | Reverse, x: Value) -> Value | None:
    inner = made_by(x, Broadcast)
    if inner is None or inner[1][0].type.elements != 1:
        return None
    return make(Broadcast(op.infer(x.type)[0].shape), make(Reshape(()), inner[1][0]))


def _not_after(a: Dim, b: Dim) -> bool:
    """Whether `a <= b` is known."""
    difference = (b - a).constant
    return difference is not None and difference >= 0


@rule(Pad)
def pad_by_nothing(op: Pad, x: Value) -> Value | None:
    return x if op.before == 0 and op.after == 0 else None


@rule(Pad)
def pad_of_pad(op: Pad, x: Value) -> Value | None:
    inner = made_by(x, Pad)
    if inner is None or inner[0].axis != op.axis:
        return None
    before, after = inner[0].before + op.before, inner[0].after + op.after
    return make(Pad(op.axis, before, after), inner[1][0])


@rule(Pad)
def pad_of_zeros(op: Pad, x: Value) -> Value | None:
    if uniform(x) != 0:
        return None
    zero = made_by(x, Broadcast)
    if zero is None or zero[1][0].type.rank:
        return None
    return make(Broadcast(op.infer(x.type)[0].shape), zero[1][0])


@rule(Add)
def add_neighbouring_pads(_: Add, x: Value, y: Value) -> Value | None:
    """Padded pieces that touch and do not overlap are one concatenation."""
    if x.type != y.type:
        return None
    last = made_by(y, Pad) or made_by(x, Pad)
    if last is None:
        return None
    pieces: list[Value] = []
    if not _gather_pads((x, y), last[0].axis, pieces):
        return None
    return _tiled(last[0].axis, pieces)


def _gather_pads(operands: tuple[Value, ...], axis: int, pieces: list[Value]) -> bool:
    """Collect the padded pieces of a sum; False where it is of something else, or too long."""
    for value in operands:
        pad, inner = made_by(value, Pad), made_by(value, Add)
        if pad is not None and pad[0].axis == axis and len(pieces) < _MOST_PIECES:
            pieces.append(value)
        elif inner is None or not _gather_pads(inner[1], axis, pieces):
            return False
    return True


def _tiled(axis: int, pieces: list[Value]) -> Value | None:
    """Padded pieces, put side by side; None where one does not begin where another ends."""
    pads = [pad for pad in (made_by(value, Pad) for value in pieces) if pad is not None]
    begins = {pad[0].before: pad for pad in pads}
    ends = {pad[0].before + pad[1][0].shape[axis] for pad in pads}
    first = [begin for begin in begins if begin not in ends]
    if len(begins) != len(pads) or len(first) != 1:
        return None
    ordered: list[Value] = []
    begin, after = first[0], dim(0)
    while begin in begins and len(ordered) < len(pads):
        pad = begins[begin]
        ordered.append(pad[1][0])
        begin, after = begin + pad[1][0].shape[axis], pad[0].after
    if len(ordered) < len(pads):
        return None
    return make(Pad(axis, first[0], after), make(Concat(axis), *ordered))


@rule(Reverse)
def reverse_of_reverse(op: Reverse, x: Value) -> Value | None:
    inner = made_by(x, Reverse)
    return inner[1][0] if inner is not None and inner[0] == op else None


@rule(MatMul)
def matmul_of_transpose(op: MatMul, x: Value, y: Value) -> Value | None:
    """A transpose of the last two axes becomes a flag of the product."""
    left, right = _swapped(x), _swapped(y)
    if left is None and right is None:
        return None
    flags = (op.transpose_a != (left is not None), op.transpose_b != (right is not None))
    return make(MatMul(*flags), left or x, right or y)


def _swapped(x: Value) -> Value | None:
    """The operand with its last two axes as they lie in memory, where a transpose swaps them."""
    inner = made_by(x, Transpose)
    if inner is None or inner[0].permutation[-2] != x.type.rank - 1:
        return None
    *first, a, b = inner[0].permutation
    return make(Transpose((*first, b, a)), inner[1][0])


@rule(MatMul)
def matmul_by_broadcast(op: MatMul, x: Value, y: Value) -> Value | None:
    """A batch of products with one and the same matrix is one product of more rows."""
    inner = made_by(y, Broadcast)
    if inner is None or op.transpose_a or x.type.rank == 2:
        return None
    matrix = inner[1][0]
    if matrix.type.rank < 2 or matrix.shape[-2:] != y.shape[-2:]:
        return None
    if any(size != 1 for size in matrix.shape[:-2]):
        return None
    rows = dim(1)
    for size in x.shape[:-1]:
        rows = rows * size
    flat = make(Reshape((rows, x.shape[-1])), x)
    product = make(op, flat, make(Reshape(matrix.shape[-2:]), matrix))
    return make(Reshape((*x.shape[:-1], product.shape[-1])), product)
