"""The functions that the language itself knows: the primitive operators under their users' names.

Everything else is written in the language, in the standard library. A builtin is a function whose
parameter names are its argument names; elementwise ones work on numbers, tensors and bundles alike.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from dnnc import ops
from dnnc.diagnostics import Span, closest
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.values import (
    Axis,
    Bundle,
    Env,
    Partial,
    Ratio,
    Size,
    Tensor,
    describe,
    is_number,
    plain,
    size_of,
)
from dnnc.ir.dims import Dim, ceil_div, dim
from dnnc.ir.types import DType, broadcast_shapes

__all__ = ["Builtin", "builtin_environment"]

_REQUIRED = object()


class Builtin:
    """A builtin function: checks its arguments, then calls its meaning."""

    __slots__ = ("meaning", "name", "parameters")

    def __init__(self, name: str, meaning: Callable[..., Any]) -> None:
        self.name, self.meaning = name, meaning
        parameters = list(inspect.signature(meaning).parameters.values())[1:]
        self.parameters = {
            p.name.rstrip("_"): _REQUIRED if p.default is p.empty else p.default for p in parameters
        }

    def builtin(
        self, el: Expressions, positional: list[Any], named: dict[str, Any], span: Span
    ) -> Any:
        names = list(self.parameters)
        if len(positional) > len(names):
            el.session.fail(
                "E103", f"`{self.name}` got {len(positional)} arguments", span,
                f"it takes {len(names)}",
            )  # fmt: skip
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in self.parameters:
                near = closest(name, names)
                el.session.fail(
                    "E102", f"`{self.name}` has no setting `{name}`", span,
                    f"its settings: {', '.join(f'`{n}`' for n in names)}",
                    f"did you mean `{near}`?" if near else None,
                )  # fmt: skip
            if name in bound:
                el.session.fail("E106", f"`{name}` is given twice", span)
            bound[name] = value
        missing = [n for n, d in self.parameters.items() if d is _REQUIRED and n not in bound]
        if missing:
            if "shape" in missing:
                return Partial(self, tuple(positional), named, span)
            el.session.fail("E104", f"`{self.name}` needs `{missing[0]}`", span)
        return self.meaning(el, *(bound.get(n, d) for n, d in self.parameters.items()))


# --- elementwise ------------------------------------------------------------------------------------


def _unary(name: str, static: Callable[[Any], Any], *, fractional: bool = True) -> Builtin:
    build = getattr(ops, {"abs": "absolute"}.get(name, name))

    def meaning(el: Expressions, x: Any) -> Any:
        if isinstance(x, Bundle):
            return Bundle(tuple(meaning(el, t) for t in x.tensors))
        value = plain(x)
        if isinstance(value, int | float):
            try:
                return static(value)
            except (ValueError, OverflowError):
                el.session.fail("E113", f"`{name}` of {value} is not a number")
        if isinstance(value, Tensor) and not value.dtype.is_float:
            if not fractional:
                return value if name in ("floor", "ceil", "round") else el.elementwise(build, value)
            value = el.converted(value, el.session.dtype)
        return el.elementwise(build, value)

    return Builtin(name, meaning)


def _rounding(name: str, static: Callable[[Any], int]) -> Builtin:
    inner = _unary(name, static, fractional=False)

    def meaning(el: Expressions, x: Any) -> Any:
        if isinstance(x, Size):
            return x
        if isinstance(x, Ratio):
            a, b = x.numerator, x.denominator
            if name == "ceil":
                return Size(ceil_div(a, b), x.axis)
            return Size(a // b if name == "floor" else (a * 2 + b) // (b * 2), x.axis)
        return inner.meaning(el, x)

    return Builtin(name, meaning)


def _extremum(name: str, static: Callable[[Any, Any], Any]) -> Builtin:
    build = getattr(ops, name)

    def meaning(el: Expressions, a: Any, b: Any) -> Any:
        a, b = plain(a), plain(b)
        if isinstance(a, Bundle):
            return Bundle(tuple(meaning(el, t, b) for t in a.tensors))
        if isinstance(a, int | float) and isinstance(b, int | float):
            return static(a, b)
        return el.elementwise(build, a, b)

    return Builtin(name, meaning)


def _cast(el: Expressions, x: Any, dtype: Any) -> Any:
    if isinstance(dtype, Tensor):
        dtype = dtype.dtype
    if not isinstance(dtype, DType):
        el.session.fail("E112", f"an element type is needed, got {describe(dtype)}")
    return el.converted(el.as_tensor(x), dtype)


def _stop_gradient(el: Expressions, x: Any) -> Any:
    return el.elementwise(ops.stop_gradient, x) if isinstance(x, Tensor) else x


# --- axes and shapes --------------------------------------------------------------------------------


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


def _tensor(el: Expressions, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if is_number(x) or isinstance(x, bool | Ratio):
        return el.as_tensor(x)
    if isinstance(x, list):
        return _from_list(el, x)
    return el.session.fail("E112", f"a tensor is needed, got {describe(x)}")


def _from_list(el: Expressions, items: list[Any]) -> Tensor:
    if all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
        whole = all(isinstance(i, int) for i in items)
        dtype = DType.I64 if whole else el.session.dtype
        return el.tensor(el.emit(ops.constant, value=items, dtype=dtype), (None,))
    parts = [_insert_axis(el, _tensor(el, i), 0) for i in items]
    return _join(el, parts, 0)


def _shape(el: Expressions, x: Any) -> list[Size]:
    t = _tensor(el, x)
    return [Size(d, a) for d, a in zip(t.shape, t.axes, strict=True)]


def _size(el: Expressions, x: Any, axis: Any = None) -> Any:
    if isinstance(x, list):
        return len(x)
    t = _tensor(el, x)
    total: Any = 1
    for position in axes_of(el, t, axis):
        total = el.binary("*", total, Size(t.shape[position], t.axes[position]))
    return total


def _rank(el: Expressions, x: Any) -> int:
    return len(x) if isinstance(x, list) else _tensor(el, x).rank


def _reshape(el: Expressions, x: Any, shape: Any) -> Tensor:
    t = _tensor(el, x)
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


def _transpose(el: Expressions, x: Any, axes: Any = None) -> Tensor:
    t = _tensor(el, x)
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


def _broadcast(el: Expressions, x: Any, shape: Any) -> Tensor:
    t = _tensor(el, x)
    dims, axes = dims_of(el, shape)
    if broadcast_shapes(t.shape, dims) != dims:
        el.session.fail("E203", f"{t.type} does not broadcast to [{', '.join(map(str, dims))}]")
    return el.tensor(el.emit(ops.broadcast, t.value, shape=dims), axes)


def _insert_axis(el: Expressions, x: Any, axis: Any) -> Tensor:
    t = _tensor(el, x)
    position = plain(axis)
    if not isinstance(position, int) or not -t.rank - 1 <= position <= t.rank:
        el.session.fail("E204", f"{t.type} has no place {describe(axis)} for a further axis")
    position %= t.rank + 1
    shape, axes = list(t.shape), list(t.axes)
    shape.insert(position, dim(1))
    axes.insert(position, None)
    return el.reshaped(t, shape, tuple(axes))


def _join(el: Expressions, parts: Any, axis: Any = -1) -> Tensor:
    if not isinstance(parts, list) or not parts:
        el.session.fail("E112", "`join` needs a list of tensors")
    tensors = el.promote(*(_tensor(el, p) for p in parts))
    position = axis_of(el, tensors[0], axis)
    value = el.emit(lambda: ops.concat([t.value for t in tensors], axis=position))
    return el.tensor(value, tensors[0].axes)


def _split(el: Expressions, x: Any, parts: Any, axis: Any = -1) -> list[Tensor]:
    t = _tensor(el, x)
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


def _slice(el: Expressions, x: Any, start: Any, stop: Any, axis: Any = 0) -> Tensor:
    t = _tensor(el, x)
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


def _pad(el: Expressions, x: Any, before: Any, after: Any, axis: Any = -1) -> Tensor:
    t = _tensor(el, x)
    low, high = size_of(before), size_of(after)
    if low is None or high is None:
        el.session.fail("E112", "`pad` needs whole numbers")
    value = el.emit(ops.pad, t.value, axis=axis_of(el, t, axis), before=low, after=high)
    return el.tensor(value, t.axes)


def _reverse(el: Expressions, x: Any, axis: Any) -> Tensor:
    t = _tensor(el, x)
    return el.tensor(el.emit(ops.reverse, t.value, axis=axis_of(el, t, axis)), t.axes)


def _gather(el: Expressions, table: Any, indices: Any) -> Tensor:
    t, i = _tensor(el, table), _tensor(el, indices)
    if not i.dtype.is_integer:
        el.session.fail("E202", f"indices are whole numbers, got {i.type}")
    return el.tensor(el.emit(ops.gather, t.value, i.value), (*i.axes, *t.axes[1:]))


# --- reductions -------------------------------------------------------------------------------------


def _reduction(name: str, build: Callable[..., Any], static: Callable[[Any], Any]) -> Builtin:
    def meaning(el: Expressions, x: Any, axis: Any = None, keep: Any = False) -> Any:
        if isinstance(x, Bundle):
            return _sum_bundle(el, x, name)
        if isinstance(x, list) and all(is_number(i) for i in x):
            if not x:
                el.session.fail("E112", f"`{name}` of an empty list")
            return static([plain(i) for i in x])
        t = _tensor(el, x)
        if t.dtype is DType.BOOL and name == "sum":
            t = el.converted(t, el.session.dtype)
        positions = axes_of(el, t, axis)
        if not positions:
            return t
        value = el.emit(build, t.value, axes=positions, keep=bool(keep))
        axes = tuple(
            (None if i in positions else a)
            for i, a in enumerate(t.axes)
            if keep or i not in positions
        )
        return el.tensor(value, axes)

    return Builtin(name, meaning)


def _sum_bundle(el: Expressions, x: Bundle, name: str) -> Any:
    if name != "sum":
        el.session.fail("E112", f"`{name}` does not apply to a bundle of tensors")
    total: Any = 0
    for t in x.tensors:
        value = el.emit(ops.reduce_sum, t.value, axes=tuple(range(t.rank)), keep=False)
        part = el.tensor(value, ())
        total = el.binary("+", total, part) if isinstance(total, Tensor) else part
    return total


def _argmax(el: Expressions, x: Any, axis: Any = -1) -> Tensor:
    t = _tensor(el, x)
    position = axis_of(el, t, axis)
    axes = tuple(a for i, a in enumerate(t.axes) if i != position)
    return el.tensor(el.emit(ops.argmax, t.value, axis=position), axes)


# --- making tensors ---------------------------------------------------------------------------------


def _full(el: Expressions, value: Any, shape: Any) -> Tensor:
    dims, axes = dims_of(el, shape)
    scalar = _tensor(el, float(value) if isinstance(value, int) else value)
    return el.tensor(el.emit(ops.broadcast, scalar.value, shape=dims), axes)


def _iota(el: Expressions, size: Any) -> Tensor:
    dims, axes = dims_of(el, [size])
    return el.tensor(el.emit(ops.iota, shape=dims, axis=0, dtype=DType.I64), axes)


def _random(el: Expressions, shape: Any) -> Tensor:
    dims, axes = dims_of(el, shape)
    s = el.session
    value = el.emit(
        ops.random_uniform, s.seed, s.step, shape=dims, place=s.place(), dtype=s.dtype
    )  # fmt: skip
    return el.tensor(value, axes)


# --- primitive layers -------------------------------------------------------------------------------


def _numbers(el: Expressions, value: Any, count: int, what: str) -> tuple[Dim, ...]:
    items = value if isinstance(value, list) else [value] * count
    sizes = [size_of(item) for item in items]
    if len(items) != count or any(s is None for s in sizes):
        el.session.fail("E112", f"`{what}` is a whole number or a list of {count}")
    return tuple(s for s in sizes if s is not None)


def _integers(el: Expressions, value: Any, count: int, what: str, least: int) -> tuple[int, ...]:
    sizes = _numbers(el, value, count, what)
    for size in sizes:
        if size.constant is None or not least <= size.constant < 2**31:
            el.session.fail("E112", f"`{what}` is a whole number of at least {least}, got {size}")
    return tuple(int(size) for size in sizes)


def _convolve(
    el: Expressions, x: Any, w: Any, strides: Any = 1, pads: Any = 0, dilations: Any = 1,
    groups: Any = 1,
) -> Tensor:  # fmt: skip
    x, w = el.promote(_tensor(el, x), _tensor(el, w))
    value = el.emit(
        ops.conv, x.value, w.value,
        strides=_integers(el, strides, 2, "strides", 1),
        pads=_numbers(el, pads, 4, "pads"),
        dilations=_integers(el, dilations, 2, "dilations", 1),
        groups=_integers(el, groups, 1, "groups", 1)[0],
    )  # fmt: skip
    channel = x.axes[1] if x.rank == 4 else None
    return el.tensor(value, (x.axes[0], channel, *x.axes[2:]))


def _window(name: str, build: Callable[..., Any]) -> Builtin:
    def meaning(el: Expressions, x: Any, window: Any, strides: Any, pads: Any = 0) -> Tensor:
        t = _tensor(el, x)
        value = el.emit(
            build, t.value,
            window=_integers(el, window, 2, "window", 1),
            strides=_integers(el, strides, 2, "strides", 1),
            pads=_numbers(el, pads, 4, "pads"),
        )  # fmt: skip
        return el.tensor(value, t.axes)

    return Builtin(name, meaning)


def _is_list(el: Expressions, x: Any) -> bool:
    return isinstance(x, list)


def _is_whole(el: Expressions, x: Any) -> bool:
    return size_of(x) is not None


def _is_known(el: Expressions, x: Any) -> bool:
    return isinstance(plain(x), int | float | bool | str) or x is None


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


def builtin_environment() -> Env:
    """An environment with every builtin and constant."""
    env = Env()
    builtins = [
        _unary("exp", math.exp), _unary("log", math.log), _unary("log1p", math.log1p),
        _unary("sqrt", math.sqrt), _unary("sin", math.sin), _unary("cos", math.cos),
        _unary("tanh", math.tanh), _unary("erf", math.erf),
        _unary("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        _unary("abs", abs, fractional=False), _unary("sign", _sign, fractional=False),
        _unary("is_finite", math.isfinite), _rounding("floor", math.floor),
        _rounding("ceil", math.ceil), _rounding("round", round),
        _extremum("maximum", max), _extremum("minimum", min),
        _reduction("sum", ops.reduce_sum, sum), _reduction("max", ops.reduce_max, max),
        _reduction("min", ops.reduce_min, min),
        _window("max_window", ops.max_pool), _window("sum_window", ops.sum_pool),
    ]  # fmt: skip
    named = {
        "cast": _cast, "stop_gradient": _stop_gradient, "shape": _shape, "size": _size,
        "rank": _rank, "reshape": _reshape, "transpose": _transpose, "broadcast": _broadcast,
        "insert_axis": _insert_axis, "join": _join, "split": _split, "slice": _slice, "pad": _pad,
        "reverse": _reverse, "gather": _gather, "argmax": _argmax, "full": _full, "iota": _iota,
        "random": _random, "convolve": _convolve, "is_list": _is_list, "is_whole": _is_whole, "is_known": _is_known,
        "tensor": _tensor,
    }  # fmt: skip
    for builtin in (*builtins, *(Builtin(name, meaning) for name, meaning in named.items())):
        env.define(builtin.name, builtin, None)
    for dtype in DType:
        env.define(dtype.value, dtype, None)
    env.define("pi", math.pi, None)
    env.define("infinity", math.inf, None)
    env.define("none", None, None)
    return env
