"""The functions that the language itself knows: the primitive operators under their users' names.

Everything else is written in the language, in the standard library. A builtin is a function whose
parameter names are its argument names; elementwise ones work on numbers, tensors and bundles alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dnnc import ops
from dnnc.elaborate import layout
from dnnc.elaborate.builtin import Builtin
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.values import (
    Bundle,
    Env,
    Ratio,
    Size,
    Tensor,
    describe,
    is_number,
    plain,
    size_of,
)
from dnnc.ir.dims import Dim, ceil_div, dim, larger
from dnnc.ir.types import DType

__all__ = ["Builtin", "builtin_environment"]

# --- elementwise ----------------------------------------------------------------------------------


def _unary(name: str, static: Callable[[Any], Any], *, fractional: bool = True) -> Builtin:
    build = getattr(ops, {"abs": "absolute"}.get(name, name))

    def meaning(el: Expressions, x: Any) -> Any:
        if isinstance(x, Bundle):
            return Bundle(tuple(meaning(el, t) for t in x.tensors))
        value = plain(x)
        if isinstance(value, int | float):
            try:
                return static(value)
            except OverflowError:
                el.session.fail("E114", f"`{name}` of {value} is too large")
            except ValueError:
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
        if isinstance(b, Bundle):
            return Bundle(tuple(meaning(el, a, t) for t in b.tensors))
        if isinstance(a, int | float) and isinstance(b, int | float):
            return static(a, b)
        m, n = size_of(a), size_of(b)
        if name == "maximum" and m is not None and n is not None:
            return Size(larger(m, n), getattr(a, "axis", None) or getattr(b, "axis", None))
        return el.elementwise(build, a, b)

    return Builtin(name, meaning)


def _cast(el: Expressions, x: Any, dtype: Any) -> Any:
    if isinstance(dtype, Tensor):
        dtype = dtype.dtype
    if not isinstance(dtype, DType):
        el.session.fail("E112", f"an element type is needed, got {describe(dtype)}")
    # As in shapes: in double precision, what is f32 by name becomes f64.
    dtype = el.session.dtype if dtype is DType.F32 else dtype
    return el.converted(el.as_tensor(x), dtype)


def _stop_gradient(el: Expressions, x: Any) -> Any:
    return el.elementwise(ops.stop_gradient, x) if isinstance(x, Tensor) else x


# --- reductions -----------------------------------------------------------------------------------


def _reduction(name: str, build: Callable[..., Any], static: Callable[[Any], Any]) -> Builtin:
    def meaning(el: Expressions, x: Any, axis: Any = None, keep: Any = False) -> Any:
        if isinstance(x, Bundle):
            return _sum_bundle(el, x, name)
        if isinstance(x, list) and all(is_number(i) for i in x):
            if not x:
                el.session.fail("E112", f"`{name}` of an empty list")
            return static([plain(i) for i in x])
        t = layout.tensor(el, x)
        if t.dtype is DType.BOOL and name == "sum":
            t = el.converted(t, el.session.dtype)
        positions = layout.axes_of(el, t, axis)
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
    t = layout.tensor(el, x)
    position = layout.axis_of(el, t, axis)
    axes = tuple(a for i, a in enumerate(t.axes) if i != position)
    return el.tensor(el.emit(ops.argmax, t.value, axis=position), axes)


# --- making tensors -------------------------------------------------------------------------------


def _full(el: Expressions, value: Any, shape: Any) -> Tensor:
    dims, axes = layout.dims_of(el, shape)
    scalar = layout.tensor(el, float(value) if isinstance(value, int) else value)
    return el.tensor(el.emit(ops.broadcast, scalar.value, shape=dims), axes)


def _iota(el: Expressions, size: Any) -> Tensor:
    dims, axes = layout.dims_of(el, [size])
    return el.tensor(el.emit(ops.iota, shape=dims, axis=0, dtype=DType.I64), axes)


def _random(el: Expressions, shape: Any) -> Tensor:
    dims, axes = layout.dims_of(el, shape)
    s = el.session
    value = el.emit(
        ops.random_uniform, s.seed, s.step, shape=dims, place=s.place(), dtype=s.dtype
    )  # fmt: skip
    return el.tensor(value, axes)


# --- primitive layers -----------------------------------------------------------------------------


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
    x, w = el.promote(layout.tensor(el, x), layout.tensor(el, w))
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
        t = layout.tensor(el, x)
        value = el.emit(
            build, t.value,
            window=_integers(el, window, 2, "window", 1),
            strides=_integers(el, strides, 2, "strides", 1),
            pads=_numbers(el, pads, 4, "pads"),
        )  # fmt: skip
        return el.tensor(value, t.axes)

    return Builtin(name, meaning)


def _attend(
    el: Expressions, q: Any, k: Any, v: Any, causal: Any = False, mask: Any = None,
    scale: Any = None,
) -> Tensor:  # fmt: skip
    q, k, v = el.promote(*(layout.tensor(el, x) for x in (q, k, v)))
    if not isinstance(causal, bool):
        el.session.fail("E112", f"`causal` is true or false, got {describe(causal)}")
    scale = plain(scale)
    if scale is None:
        depth = q.shape[-1].constant if q.rank else None
        if not depth:
            el.session.fail("E112", "`attend` needs a `scale` where the last size is not known")
        scale = depth**-0.5
    if not isinstance(scale, int | float):
        el.session.fail("E112", f"`scale` is a number, got {describe(scale)}")
    operands = [q.value, k.value, v.value]
    if mask is not None:
        m = layout.tensor(el, mask)
        sizes = [Size(dim(1))] * (4 - m.rank) + layout.shape(el, m)
        operands.append(layout.reshape(el, m, sizes).value)
    mixed, _ = el.emit(ops.attention, *operands, scale=float(scale), causal=causal)
    return el.tensor(mixed, (*q.axes[:3], v.axes[3]))


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
        _unary("sigmoid", lambda x: 0.5 * (1 + math.tanh(0.5 * x))),
        _unary("abs", abs, fractional=False), _unary("sign", _sign, fractional=False),
        _unary("is_finite", math.isfinite), _rounding("floor", math.floor),
        _rounding("ceil", math.ceil), _rounding("round", round),
        _extremum("maximum", max), _extremum("minimum", min),
        _reduction("sum", ops.reduce_sum, sum), _reduction("max", ops.reduce_max, max),
        _reduction("min", ops.reduce_min, min),
        _window("max_window", ops.max_pool), _window("sum_window", ops.sum_pool),
    ]  # fmt: skip
    named: dict[str, Callable[..., Any]] = {
        "cast": _cast, "stop_gradient": _stop_gradient, "argmax": _argmax, "full": _full,
        "iota": _iota, "random": _random, "attend": _attend, "convolve": _convolve,
        "is_list": _is_list, "is_whole": _is_whole, "is_known": _is_known,
        "shape": layout.shape, "size": layout.size,
        "rank": layout.rank, "reshape": layout.reshape, "transpose": layout.transpose,
        "broadcast": layout.broadcast, "insert_axis": layout.insert_axis, "join": layout.join,
        "split": layout.split, "slice": layout.slice_, "pad": layout.pad,
        "reverse": layout.reverse, "gather": layout.gather, "tensor": layout.tensor,
    }  # fmt: skip
    for builtin in (*builtins, *(Builtin(name, meaning) for name, meaning in named.items())):
        env.define(builtin.name, builtin, None)
    for dtype in DType:
        env.define(dtype.value, dtype, None)
    env.define("pi", math.pi, None)
    env.define("infinity", math.inf, None)
    env.define("none", None, None)
    return env
