"""Shapes as equations: what `in x: [batch, 2 * n, h <= 64]` binds, and what it checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dnnc.diagnostics import Note
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.session import is_library
from dnnc.elaborate.values import Axis, Env, Size, Tensor, describe, is_number, quoted, size_of
from dnnc.ir.dims import Dim, dim
from dnnc.syntax import tree

__all__ = ["check_shape", "evaluate_shape", "is_free", "match_shape", "names_in"]


def match_shape(el: Expressions, shape: tree.Shape, x: Tensor, name: str, env: Env) -> Tensor:
    """Bind the free names of a port's shape to the sizes of `x`, and check the others."""
    spread = [i for i, d in enumerate(shape.dims) if isinstance(d, tree.Ellipsis_)]
    if len(spread) > 1:
        el.session.fail("E214", "a shape has one `...` at most", shape.span)
    entries = [d for d in shape.dims if isinstance(d, tree.Dimension)]
    if len(entries) > x.rank or (not spread and len(entries) != x.rank):
        needed = f"at least {len(entries)}" if spread else str(len(entries))
        el.session.fail(
            "E210", f"`{name}` has rank {needed}, got {x.type}",
            notes=(Note(f"`{name}` is declared here", shape.span), *el.session.made_at(x)),
            help="`insert_axis` adds an axis of size one" if x.rank == len(entries) - 1 else None,
        )  # fmt: skip
    first = spread[0] if spread else len(entries)
    middle = x.rank - len(entries)
    if spread:
        env.ellipsis = (x.shape[first : first + middle], x.axes[first : first + middle])
    axes = list(x.axes)
    for i, entry in enumerate(entries):
        position = i if i < first else i + middle
        axes[position] = _match(el, entry, x, position, name, env)
    return Tensor(x.value, tuple(axes), x.span, x.declared if is_library(shape.span) else shape)


def _match(
    el: Expressions, entry: tree.Dimension, x: Tensor, position: int, name: str, env: Env
) -> Axis | None:
    size, axis = x.shape[position], x.axes[position]
    free = [n for n in names_in(entry.size) if is_free(n, env)]
    if isinstance(entry.size, tree.Name) and free:
        axis = axis or Axis(entry.size.name)
        env.define(entry.size.name, Size(size, axis), entry.size.span)
    elif len(set(free)) == 1:
        solution = _solve(el, entry.size, free[0], size, env)
        env.define(free[0], Size(solution, axis), entry.size.span)
    else:
        expected = _size(el, entry.size, env)
        if expected != size:
            written = entry.size.span.text
            shown = written if written == str(expected) else f"{written} = {expected}"
            el.session.fail(
                "E210", f"`{name}` needs {shown} on axis {position}, got {size}",
                label=f"this is {x.type}",
                notes=(Note(f"`{name}` is declared here", entry.span), *el.session.made_at(x)),
            )  # fmt: skip
    if entry.bound is not None:
        _check_bound(el, entry, size, name, env)
    return axis


def _check_bound(el: Expressions, entry: tree.Dimension, size: Dim, name: str, env: Env) -> None:
    assert entry.bound is not None
    bound = _size(el, entry.bound, env)
    known = el.session.bounds.get(size.name or "", size)
    slack = (bound - known).constant
    if slack is None or slack < 0:
        el.session.fail(
            "E211", f"`{name}` allows at most {bound} on this axis, got {size}"
            + ("" if known is size else f", which is up to {known}"),
            notes=(Note("the bound is declared here", entry.span),),
        )  # fmt: skip


def _solve(el: Expressions, expression: tree.Expr, name: str, size: Dim, env: Env) -> Dim:
    """The size that `name` must have for `expression` to be `size`: a linear equation."""
    inner = Env(env)
    unknown = dim(f"?{name}")
    inner.define(name, Size(unknown), None)
    value = _size(el, expression, inner)
    slope = value.substitute({f"?{name}": 1}) - value.substitute({f"?{name}": 0})
    start = value.substitute({f"?{name}": 0})
    linear = slope * unknown + start == value
    notes = (Note("the size is declared here", expression.span),)
    if not linear or slope.constant in (None, 0):
        el.session.fail(
            "E212", f"cannot solve `{expression.span.text} = {size}` for `{name}`", notes=notes,
            help="write the size as a name, and check it with `require`",
        )  # fmt: skip
    solution = (size - start) // slope
    if solution * slope + start != size:
        el.session.fail(
            "E212", f"no whole `{name}` solves `{expression.span.text} = {size}`", notes=notes
        )
    return solution


def evaluate_shape(
    el: Expressions, shape: tree.Shape, env: Env
) -> tuple[tuple[Dim, ...], tuple[Axis | None, ...]]:
    """The sizes and axes that a shape stands for; every name in it must be bound."""
    dims: list[Dim] = []
    axes: list[Axis | None] = []
    for entry in shape.dims:
        if isinstance(entry, tree.Ellipsis_):
            found = env.find_ellipsis()
            if found is None:
                el.session.fail("E214", "`...` stands for nothing here", entry.span,
                                help="an `in` shape of this block must have `...`")  # fmt: skip
            dims.extend(found[0])
            axes.extend(found[1])
            continue
        value = el.expr(entry.size, env)
        size = size_of(value)
        if size is None:
            shown = f"this is {quoted(entry.size)}" if is_library(entry.span) else ""
            el.session.fail(
                "E112", f"a size is a whole number, got {describe(value)}", entry.span, shown
            )
        if size.constant is not None and not 0 <= size.constant < 2**40:
            el.session.fail("E114", f"{size} is no size of an axis", entry.span)
        dims.append(size)
        axes.append(value.axis if isinstance(value, Size) else None)
    el.check_rank(len(dims))
    return tuple(dims), tuple(axes)


def check_shape(
    el: Expressions, shape: tree.Shape, x: Tensor, name: str, env: Env, first: Tensor | None
) -> Tensor:
    """Check a result against its `out` shape; its axes take the identities that the shape tells.

    An axis whose size is not one of the inputs' keeps the identity of the axis at the same place of
    the first input, where ranks agree: a convolution's channels are still the channels.
    """
    for entry in shape.dims:
        if isinstance(entry, tree.Dimension) and isinstance(entry.size, tree.Name):
            free = entry.size.name
            if is_free(free, env) and not any(isinstance(d, tree.Ellipsis_) for d in shape.dims):
                position = shape.dims.index(entry)
                if position < x.rank:
                    env.define(free, Size(x.shape[position], Axis(free)), entry.span)
    dims, axes = evaluate_shape(el, shape, env)
    if dims != x.shape:
        declared = ", ".join(map(str, dims))
        el.session.fail(
            "E210", f"`{name}` is declared [{declared}], but is {x.type}",
            label=f"this is {x.type}", notes=(Note(f"`{name}` is declared here", shape.span),),
            help="`flatten`, `mean` over some axes and `last` leave fewer axes"
            if x.rank > len(dims) else None,
        )  # fmt: skip
    given: list[Axis | None] = []
    for i, axis in enumerate(axes):
        if axis is None and first is not None and first.rank == x.rank:
            axis = first.axes[i]
        given.append(axis or x.axes[i])
    return Tensor(x.value, tuple(given), x.span)


def names_in(node: tree.Expr) -> Iterator[str]:
    """Plain names in a size."""
    match node:
        case tree.Name():
            yield node.name
        case tree.Group():
            yield from names_in(node.value)
        case tree.Unary():
            yield from names_in(node.operand)
        case tree.Binary():
            yield from names_in(node.left)
            yield from names_in(node.right)
        case tree.Call():
            for argument in node.arguments:
                yield from names_in(argument.value)
        case tree.Conditional():
            for part in (node.test, node.yes, node.no):
                yield from names_in(part)
        case _:
            return


def is_free(name: str, env: Env) -> bool:
    """Whether a name in a shape is open: one that stands for a function, as `size`, is."""
    binding = env.find(name)
    return binding is None or not (is_number(binding.value) or binding.value is None)


def _size(el: Expressions, node: tree.Expr, env: Env) -> Dim:
    value: Any = el.expr(node, env)
    size = size_of(value)
    if size is None:
        el.session.fail("E112", f"a size is a whole number, got {describe(value)}", node.span)
    return size
