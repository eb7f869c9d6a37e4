"""Builtins that ask for or change the shape of a tensor."""

from __future__ import annotations

from typing import Any

from dnnc import ops
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.values import (
    Axis,
    Ratio,
    Size,
    Tensor,
    describe,
    is_number,
    plain,
    size_of,
)
from dnnc.ir.dims import Dim, dim
from dnnc.ir.types import DType, broadcast_shapes

__all__ = [
    "axes_of",
    "axis_of",
    "broadcast",
    "dims_of",
    "from_list",
    "gather",
    "insert_axis",
    "join",
    "pad",
    "rank",
    "reshape",
    "reverse",
    "shape",
    "size",
    "slice_",
    "split",
    "tensor",
    "transpose",
]


def axis_of(el: Expressions, x: Tensor, axis: Any) -> int:
    """The position of an axis given by its name or number."""
    if isinstance(axis, Size) and axis.axis is not None:
        found = [i for i, a in enumerate(x.axes) if a is axis.axis]
        if len(found) == 1:
            return found[0]
        names = ", ".join(a.name if a else "?" for a in x.axes)
        problem = "has no axis" if not found else "has more than one axis"
        el.session.fail(
            "E204", f"{x.type} {problem} `{axis.axis.name}`", label=f"its axes: [{names}]",
            help="give the number of the axis; -1 is the last",
        )  # fmt: skip
    position = plain(axis)
    if not isinstance(position, int) or isinstance(position, bool):
        el.session.fail("E204", f"an axis is a name or a whole number, got {describe(axis)}")
    if not -x.rank <= position < x.rank:
        el.session.fail("E204", f"{x.type} has no axis {position}", label=f"its rank is {x.rank}")
    return position % x.rank


def axes_of(el: Expressions, x: Tensor, axis: Any) -> tuple[int, ...]:
    """Positions of one axis, of several, or of all where `none` is given."""
    if axis is None:
        return tuple(range(x.rank))
    listed = axis if isinstance(axis, list) else [axis]
    positions = [axis_of(el, x, a) for a in listed]
    if len(set(positions)) < len(positions):
        el.session.fail("E204", "an axis is named twice")
    return tuple(sorted(positions))


def dims_of(el: Expressions, shape: Any) -> tuple[tuple[Dim, ...], tuple[Axis | None, ...]]:
    """Sizes and axes from a list of sizes."""
    if not isinstance(shape, list):
        el.session.fail("E112", f"a shape is a list of sizes, got {describe(shape)}")
    dims: list[Dim] = []
    for item in shape:
        size = size_of(item)
        if size is None or (size.constant is not None and size.constant < 0):
            el.session.fail("E112", f"a size is a whole number, not negative; got {describe(item)}")
        dims.append(size)
    return tuple(dims), tuple(item.axis if isinstance(item, Size) else None for item in shape)


def tensor(el: Expressions, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if is_number(x) or isinstance(x, bool | Ratio):
        return el.as_tensor(x)
    if isinstance(x, list):
        return from_list(el, x)
    return el.session.fail("E112", f"a tensor is needed, got {describe(x)}")


def from_list(el: Expressions, items: list[Any]) -> Tensor:
    if all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
        whole = all(isinstance(i, int) for i in items)
        dtype = DType.I64 if whole else el.session.dtype
        return el.tensor(el.emit(ops.constant, value=items, dtype=dtype), (None,))
    parts = [insert_axis(el, tensor(el, i), 0) for i in items]
    return join(el, parts, 0)


def shape(el: Expressions, x: Any) -> list[Size]:
    t = tensor(el, x)
    return [Size(d, a) for d, a in zip(t.shape, t.axes, strict=True)]


def size(el: Expressions, x: Any, axis: Any = None) -> Any:
    if isinstance(x, list):
        return len(x)
    t = tensor(el, x)
    sizes: list[Any] = [Size(t.shape[p], t.axes[p]) for p in axes_of(el, t, axis)]
    first, *others = sizes or [1]
    for other in others:
        first = el.binary("*", first, other)
    return first


def rank(el: Expressions, x: Any) -> int:
    return len(x) if isinstance(x, list) else tensor(el, x).rank


def reshape(el: Expressions, x: Any, shape: Any) -> Tensor:
    t = tensor(el, x)
    if isinstance(shape, list) and [plain(s) for s in shape].count(-1) == 1:
        known = dim(1)
        for item in shape:
            if plain(item) != -1:
                size = size_of(item)
                known = known * (size if size is not None else dims_of(el, [item])[0][0])
        rest = Size(t.type.elements // known) if known != 0 else Size(dim(0))
        shape = [rest if plain(item) == -1 else item for item in shape]
    dims, axes = dims_of(el, shape)
    return el.reshaped(t, dims, axes)


def transpose(el: Expressions, x: Any, axes: Any = None) -> Tensor:
    t = tensor(el, x)
    if axes is None:
        if t.rank < 2:
            el.session.fail("E205", f"a matrix is needed, got {t.type}")
        order = (*range(t.rank - 2), t.rank - 1, t.rank - 2)
    else:
        order = tuple(axis_of(el, t, a) for a in (axes if isinstance(axes, list) else [axes]))
        if sorted(order) != list(range(t.rank)):
            el.session.fail("E204", f"`transpose` names every axis of {t.type} once")
    value = el.emit(ops.transpose, t.value, permutation=order)
    return el.tensor(value, tuple(t.axes[i] for i in order))


def broadcast(el: Expressions, x: Any, shape: Any) -> Tensor:
    t = tensor(el, x)
    dims, axes = dims_of(el, shape)
    if broadcast_shapes(t.shape, dims) != dims:
        el.session.fail("E203", f"{t.type} does not broadcast to [{', '.join(map(str, dims))}]")
    return el.tensor(el.emit(ops.broadcast, t.value, shape=dims), axes)


def insert_axis(el: Expressions, x: Any, axis: Any) -> Tensor:
    t = tensor(el, x)
    position = plain(axis)
    if not isinstance(position, int) or not -t.rank - 1 <= position <= t.rank:
        el.session.fail(
            "E204", f"a further axis of {t.type} is a whole number from {-t.rank - 1} to {t.rank}, "
            f"got {describe(axis)}",
        )  # fmt: skip
    position %= t.rank + 1
    shape, axes = list(t.shape), list(t.axes)
    shape.insert(position, dim(1))
    axes.insert(position, None)
    return el.reshaped(t, shape, tuple(axes))


def join(el: Expressions, parts: Any, axis: Any = -1) -> Tensor:
    if not isinstance(parts, list) or not parts:
        el.session.fail("E112", "`join` needs a list of tensors")
    tensors = el.promote(*(tensor(el, p) for p in parts))
    position = axis_of(el, tensors[0], axis)
    value = el.emit(lambda: ops.concat([t.value for t in tensors], axis=position))
    return el.tensor(value, tensors[0].axes)


def split(el: Expressions, x: Any, parts: Any, axis: Any = -1) -> list[Tensor]:
    t = tensor(el, x)
    position, count = axis_of(el, t, axis), plain(parts)
    size = t.shape[position]
    if isinstance(count, list):
        widths = list(dims_of(el, count)[0])
    else:
        if not isinstance(count, int) or count < 1:
            el.session.fail("E112", f"`split` needs a positive number of parts, got {count}")
        if count > 65_536 or (size % count).constant != 0:
            el.session.fail("E206", f"axis of size {size} does not split into {count} equal parts")
        widths = [size // count] * count
    start, pieces = dim(0), []
    for width in widths:
        value = el.emit(ops.slice, t.value, axis=position, start=start, stop=start + width)
        pieces.append(el.tensor(value, t.axes))
        start = start + width
    if start != size:
        el.session.fail("E206", f"the parts of `split` sum to {start}, the axis has {size}")
    return pieces


def slice_(el: Expressions, x: Any, start: Any, stop: Any, axis: Any = 0) -> Tensor:
    t = tensor(el, x)
    position = axis_of(el, t, axis)
    ends = []
    for end in (start, t.shape[position] if stop is None else stop):
        size = size_of(end)
        if size is None:
            el.session.fail("E112", f"`slice` needs whole numbers, got {describe(end)}")
        negative = size.constant is not None and size.constant < 0
        ends.append(size + t.shape[position] if negative else size)
    value = el.emit(ops.slice, t.value, axis=position, start=ends[0], stop=ends[1])
    return el.tensor(value, t.axes)


def pad(el: Expressions, x: Any, before: Any, after: Any, axis: Any = -1) -> Tensor:
    t = tensor(el, x)
    low, high = size_of(before), size_of(after)
    if low is None or high is None:
        el.session.fail("E112", "`pad` needs whole numbers")
    value = el.emit(ops.pad, t.value, axis=axis_of(el, t, axis), before=low, after=high)
    return el.tensor(value, t.axes)


def reverse(el: Expressions, x: Any, axis: Any) -> Tensor:
    t = tensor(el, x)
    return el.tensor(el.emit(ops.reverse, t.value, axis=axis_of(el, t, axis)), t.axes)


def gather(el: Expressions, table: Any, indices: Any) -> Tensor:
    t, i = tensor(el, table), tensor(el, indices)
    if not i.dtype.is_integer:
        el.session.fail("E202", f"indices are whole numbers, got {i.type}")
    return el.tensor(el.emit(ops.gather, t.value, i.value), (*i.axes, *t.axes[1:]))
