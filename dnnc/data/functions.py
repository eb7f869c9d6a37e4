"""Functions of columns. Every row is treated alike; the row axis is never named.

Shapes are those of one example: `reshape(x, [1, 8, 8])` turns rows of 64 into rows of 1 × 8 × 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dnnc.data.arithmetic import check_number, check_rows, elementwise, map_columns
from dnnc.data.codes import fault
from dnnc.data.rows import Array, Rows, Stored
from dnnc.data.signature import Bound, Function, Parameter, Scope
from dnnc.data.table import FLOATS, STORAGE, Column
from dnnc.diagnostics import Span, suggestion

_X = Parameter("x", "column")


def _reshape(bound: Bound, scope: Scope) -> Column:
    """Rows of another shape with as many elements; one size may be -1."""
    x: Column = bound["x"]
    shape = list(bound["shape"])
    size = math.prod(x.shape)
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and known > 0 and size % known == 0:
        shape[shape.index(-1)] = size // known
    if any(n < 0 for n in shape) or math.prod(shape) != size:
        raise fault(
            "E521",
            f"rows of shape {list(x.shape)} cannot become {bound['shape']}",
            bound.at("shape"),
            label=f"{size} elements a row",
        )
    return map_columns(lambda a: a.reshape(len(a), *shape), [x], x.dtype, bound.span, x.classes)


def _flatten(bound: Bound, scope: Scope) -> Column:
    """Rows as vectors."""
    x: Column = bound["x"]
    size = math.prod(x.shape)
    return map_columns(lambda a: a.reshape(len(a), size), [x], x.dtype, bound.span, x.classes)


def _transpose(bound: Bound, scope: Scope) -> Column:
    """The axes of an example in another order, such as [2, 0, 1] for [h, w, c] to [c, h, w]."""
    x: Column = bound["x"]
    axes = bound["axes"]
    if sorted(axes) != list(range(len(x.shape))):
        raise fault(
            "E521",
            f"{axes} does not order the axes of rows of shape {list(x.shape)}",
            bound.at("axes"),
            help="axes count from 0, without the rows",
        )
    order = (0, *(axis + 1 for axis in axes))
    return map_columns(
        lambda a: np.ascontiguousarray(a.transpose(order)), [x], x.dtype, bound.span, x.classes
    )


def _cast(bound: Bound, scope: Scope) -> Column:
    """Values in another type; fractions are cut off, values out of range are an error."""
    x: Column = bound["x"]
    dtype: str = bound["dtype"]
    check_number(x, "cast", bound.at("x"))
    storage = np.dtype(STORAGE[dtype])

    def convert(a: Array) -> Array:
        if storage.kind in "iu" and a.size:
            limits = np.iinfo(storage)
            low, high = a.min(), a.max()
            if not (limits.min <= low and high <= limits.max):
                worst = high if high > limits.max else low
                raise fault("E523", f"{worst} is outside the range of {dtype}", bound.span)
        return a.astype(storage)

    return map_columns(convert, [x], dtype, bound.span, x.classes)


def _one_hot(bound: Bound, scope: Scope) -> Column:
    """f32 vectors with a 1 at the class of the row."""
    x: Column = bound["x"]
    span = bound.at("x")
    check_number(x, "one_hot", span)
    if x.dtype in FLOATS:
        raise fault("E522", f"`one_hot` needs integers, and {x.what} is {x.dtype}", span)
    count: int | None = bound["classes"]
    if count is None:
        count = _class_count(x, scope)
    if not 1 <= count <= 1 << 20:
        raise fault("E503", f"`classes` lies between 1 and 2**20, got {count}", span)
    classes = count

    def spread(a: Array) -> Array:
        if a.size and not 0 <= a.min() <= a.max() < classes:
            wrong = a.max() if a.max() >= classes else a.min()
            raise fault("E523", f"class {wrong} is outside 0 .. {classes - 1}", span)
        hot: Array = a.astype(np.int64)[..., None] == np.arange(classes)
        return hot.astype(np.float32)

    return map_columns(spread, [x], "f32", bound.span, x.classes)


def _class_count(x: Column, scope: Scope) -> int:
    if x.classes is not None:
        return len(x.classes)
    count = scope.fitted("one_hot", lambda: _largest(x, scope) + 1)
    assert isinstance(count, int)
    return count


def _largest(x: Column, scope: Scope) -> int:
    if not x.complete:
        scope.need_all()
    return max(
        int(rows.take(np.arange(start, min(start + 4096, len(rows)))).max())
        for rows in x.parts.values()
        for start in range(0, len(rows), 4096)
    )


def _categories(bound: Bound, scope: Scope) -> Column:
    """Class numbers of texts or integers, in sorted order or in that of `names`."""
    x: Column = bound["x"]
    span = bound.at("x")
    if x.dtype in FLOATS:
        raise fault("E522", f"`categories` needs text or integers, and {x.what} is {x.dtype}", span)
    if x.shape:
        raise fault("E521", f"`categories` needs one value a row, not {list(x.shape)}", span)
    arrays = {part: _values(rows) for part, rows in x.parts.items()}

    def collect() -> tuple[str, ...]:
        if not x.complete:
            scope.need_all()
        known = np.unique(np.concatenate([np.unique(a) for a in arrays.values()]))
        return tuple(str(name) for name in known.tolist())

    names = bound["names"]
    if names is None:
        names = scope.fitted("categories", collect)
    known = np.array(names)
    order = np.argsort(known, kind="stable")
    parts: dict[str, Rows] = {}
    for part, array in arrays.items():
        values = array if x.dtype == "text" else array.astype(np.str_)
        place = np.minimum(np.searchsorted(known[order], values), len(known) - 1)
        numbers = order[place]
        wrong = known[numbers] != values
        if wrong.any():
            row = int(np.argmax(wrong))
            raise fault(
                "E523",
                f"row {row + 1} of {x.what} is {str(values[row])!r}, which is no class",
                span,
                help=suggestion(str(values[row]), names),
            )
        parts[part] = Stored(numbers.astype(np.int64), x.parts[part].total)
    return Column(parts, "i64", (), x.what, tuple(names))


def _values(rows: Rows) -> Array:
    return rows.values if isinstance(rows, Stored) else rows.take(np.arange(len(rows)))


def _concat(bound: Bound, scope: Scope) -> Column:
    """Columns side by side along the last axis; single numbers count as one element."""
    columns: list[Column] = bound["columns"]
    for column in columns:
        check_number(column, "concat", bound.span)
    check_rows(columns, bound.span)
    shapes = [column.shape or (1,) for column in columns]
    if len({shape[:-1] for shape in shapes}) > 1:
        shown = " and ".join(str(list(shape)) for shape in shapes)
        raise fault("E521", f"the shapes {shown} differ before their last axis", bound.span)

    def join(*arrays: Array) -> Array:
        return np.concatenate([a[:, None] if a.ndim == 1 else a for a in arrays], axis=-1)

    dtypes = {column.dtype for column in columns}
    dtype = dtypes.pop() if len(dtypes) == 1 else ("f32" if dtypes & set(FLOATS) else "i64")
    return map_columns(join, columns, dtype, bound.span)


def _standardize(bound: Bound, scope: Scope) -> Column:
    """Values less the mean of the training rows, over their deviation."""
    check_number(bound["x"], "standardize", bound.at("x"))
    return scope.standardized(bound["x"], bound["over"], bound.span)


def _clip(bound: Bound, scope: Scope) -> Column:
    """Values held between two bounds."""
    check_number(bound["x"], "clip", bound.at("x"))
    low, high = bound["low"], bound["high"]
    return elementwise(lambda a: np.clip(a, low, high), [bound["x"]],
                       _of(bound["x"], low, high), bound.span)  # fmt: skip


def _of(*operands: Any) -> str:
    """The type that values of several operands have in common."""
    dtypes = {operand.dtype for operand in operands if isinstance(operand, Column)}
    if "f64" in dtypes:
        return "f64"
    if "f32" in dtypes or any(isinstance(operand, float) for operand in operands):
        return "f32"
    return dtypes.pop() if len(dtypes) == 1 else "i64"


def _floating(name: str, function: Callable[[Any], Any]) -> Function:
    """A function of real numbers, element by element."""

    def run(bound: Bound, scope: Scope) -> Column:
        x: Column = bound["x"]
        check_number(x, name, bound.at("x"))
        dtype = x.dtype if x.dtype in FLOATS else "f32"

        def compute(a: Array) -> Array:
            real = a if a.dtype.kind == "f" else a.astype(np.result_type(a.dtype, np.float32))
            return np.asarray(function(real))

        return elementwise(compute, [x], dtype, bound.span)

    return Function(name, (_X,), run)


def _reduction(name: str, function: Callable[..., Any]) -> Function:
    """A function of all elements of an example, which gives one number a row."""

    def run(bound: Bound, scope: Scope) -> Column:
        x: Column = bound["x"]
        check_number(x, name, bound.at("x"))
        kept = x.dtype in FLOATS or (name in ("max", "min"))
        dtype = x.dtype if kept else ("f32" if name == "mean" else "i64")

        def reduce(a: Array) -> Array:
            wide = a.astype(np.float64 if x.dtype in FLOATS or name == "mean" else np.int64)
            return np.asarray(function(wide.reshape(len(a), -1), axis=1))

        return map_columns(reduce, [x], dtype, bound.span)

    return Function(name, (_X,), run)


def _pair(name: str, function: Callable[..., Any]) -> Function:
    """A function of two operands, element by element."""

    def run(bound: Bound, scope: Scope) -> Column:
        x, y = bound["x"], bound["y"]
        for operand in (x, y):
            if isinstance(operand, Column):
                check_number(operand, name, bound.span)
        if not isinstance(x, Column) and not isinstance(y, Column):
            raise fault("E503", f"`{name}` needs a column", bound.span)
        return elementwise(function, [x, y], _of(x, y), bound.span)

    return Function(name, (Parameter("x", "operand"), Parameter("y", "operand")), run)


def _absolute(bound: Bound, scope: Scope) -> Column:
    """Values without their sign."""
    x: Column = bound["x"]
    check_number(x, "abs", bound.at("x"))
    dtype = x.dtype if x.dtype in FLOATS else "i64"
    storage = None if x.dtype in FLOATS else np.int64
    return elementwise(lambda a: np.abs(a.astype(storage or a.dtype)), [x], dtype, bound.span)


_ALL = (
    Function("reshape", (_X, Parameter("shape", "sizes")), _reshape),
    Function("flatten", (_X,), _flatten),
    Function("transpose", (_X, Parameter("axes", "sizes")), _transpose),
    Function("cast", (_X, Parameter("dtype", "choice", choices=tuple(STORAGE))), _cast),
    Function("one_hot", (_X, Parameter("classes", "integer", None)), _one_hot),
    Function("categories", (_X, Parameter("names", "strings", None)), _categories),
    Function("concat", (Parameter("columns", "column", many=True),), _concat),
    Function(
        "standardize",
        (_X, Parameter("over", "choice", "rows", choices=("rows", "all"))),
        _standardize,
    ),
    Function("clip", (_X, Parameter("low", "number"), Parameter("high", "number")), _clip),
    Function("abs", (_X,), _absolute),
    _pair("maximum", np.maximum),
    _pair("minimum", np.minimum),
    _reduction("sum", np.sum),
    _reduction("mean", np.mean),
    _reduction("max", np.max),
    _reduction("min", np.min),
    *(
        _floating(name, function)
        for name, function in (
            ("log", np.log),
            ("log1p", np.log1p),
            ("exp", np.exp),
            ("sqrt", np.sqrt),
            ("sin", np.sin),
            ("cos", np.cos),
            ("tanh", np.tanh),
            ("round", np.round),
            ("floor", np.floor),
            ("ceil", np.ceil),
        )
    ),
)

#: Every column function by its name in the language.
FUNCTIONS: dict[str, Function] = {function.name: function for function in _ALL}


def element(x: Column, index: int, span: Span) -> Column:
    """`x[index]`: an element along the first axis of every example."""
    if not x.shape or not -x.shape[0] <= index < x.shape[0]:
        raise fault("E521", f"rows of shape {list(x.shape)} have no element {index}", span)
    return map_columns(lambda a: a[:, index], [x], x.dtype, span, x.classes)
