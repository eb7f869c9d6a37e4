"""Operators over numbers and columns, with the types they give.

Integers among themselves are computed as i64 and stay i64; `/` and anything with a fraction gives
f32 (f64 where a column was cast to f64). Comparisons give bool. Shapes of examples are aligned at
their last axes, as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dnnc.data.codes import fault
from dnnc.data.rows import Array, Rows, first_row, map_rows
from dnnc.data.signature import describe_value
from dnnc.data.table import FLOATS, Column, Value
from dnnc.diagnostics import Span, suggestion
from dnnc.syntax.symbols import ARITHMETIC, COMPARISON

_LOGIC: dict[str, Callable[[Any, Any], Any]] = {"and": np.logical_and, "or": np.logical_or}

#: Powers of integers beyond this many bits are refused rather than computed.
_LARGEST_POWER = 4096


def binary(symbol: str, left: Value, right: Value, span: Span) -> Value:
    """`left symbol right`, on constants or on columns."""
    if isinstance(left, Column) or isinstance(right, Column):
        return _columns(symbol, left, right, span)
    if symbol in ("==", "!="):
        plain = (int, float, str, list, type(None))
        if not (isinstance(left, plain) and isinstance(right, plain)):
            raise _undefined(symbol, left, right, span)
        return bool(COMPARISON[symbol](left, right))
    if symbol in _LOGIC:
        if isinstance(left, bool) and isinstance(right, bool):
            return left and right if symbol == "and" else left or right
        raise _undefined(symbol, left, right, span)
    if isinstance(left, str) and isinstance(right, str) and symbol == "+":
        return left + right
    if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
        raise _undefined(symbol, left, right, span)
    return _constants(symbol, left, right, span)


def _constants(symbol: str, left: float, right: float, span: Span) -> Value:
    whole = isinstance(left, int) and isinstance(right, int)
    if symbol == "**" and whole and int(left).bit_length() * abs(right) > _LARGEST_POWER:
        raise fault("E522", f"{left} ** {right} is too large", span)
    try:
        result = {**ARITHMETIC, **COMPARISON}[symbol](left, right)
    except KeyError:
        raise _undefined(symbol, left, right, span) from None
    except (ZeroDivisionError, OverflowError) as error:
        raise fault("E522", f"this cannot be computed: {error}", span) from error
    if isinstance(result, complex):
        raise fault("E522", "a fractional power of a negative number is not real", span)
    return result  # type: ignore[no-any-return]


def negate(value: Value, span: Span) -> Value:
    """`-value`."""
    if isinstance(value, (int, float)):
        return -value
    return binary("*", value, -1, span)


def invert(value: Value, span: Span) -> Value:
    """`not value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Column) and value.dtype == "bool":
        return elementwise(np.logical_not, [value], "bool", span)
    raise fault("E522", f"`not` needs true or false, not {describe_value(value)}", span)


def select(test: Column, yes: Value, no: Value, span: Span) -> Column:
    """`if test then yes else no`, element by element."""
    if test.dtype != "bool":
        raise fault("E522", "the test must be true or false", span, label=describe_value(test))
    for value in (yes, no):
        _check_number(value, "if", span)
    return elementwise(np.where, [test, yes, no], _join([yes, no]), span)


def elementwise(
    function: Callable[..., Any], operands: Sequence[Value], dtype: str, span: Span
) -> Column:
    """Apply a NumPy function of the operands, examples aligned at their last axes."""
    columns = [value for value in operands if isinstance(value, Column)]
    check_rows(columns, span)
    try:
        shape = np.broadcast_shapes(*(column.shape for column in columns))
    except ValueError:
        shapes = " and ".join(str(list(column.shape)) for column in columns)
        raise fault("E521", f"the shapes {shapes} do not fit each other", span) from None

    def apply(*arrays: Array) -> Array:
        aligned = iter(_align(array, len(shape)) for array in arrays)
        given = [next(aligned) if isinstance(v, Column) else v for v in operands]
        return np.asarray(function(*given))

    return map_columns(apply, columns, dtype, span)


def map_columns(
    function: Callable[..., Array],
    columns: Sequence[Column],
    dtype: str,
    span: Span,
    classes: tuple[str, ...] | None = None,
) -> Column:
    """Apply a function of arrays [rows, ...] to columns, part by part."""
    check_rows(columns, span)
    try:
        parts: dict[str, Rows] = {
            part: map_rows(function, tuple(column.parts[part] for column in columns))
            for part in columns[0].parts
        }
    except (OverflowError, MemoryError) as error:
        raise fault("E522", f"this is too large to compute: {error}", span) from error
    shape = first_row(next(iter(parts.values()))).shape[1:]
    what = columns[0].what if len(columns) == 1 else "this expression"
    return Column(parts, dtype, tuple(shape), what, classes)


def check_rows(columns: Sequence[Column], span: Span) -> None:
    """All columns must have the same parts and as many rows in each."""
    first = columns[0]
    for column in columns[1:]:
        if set(column.parts) != set(first.parts):
            raise fault(
                "E516",
                "columns of files(…) and of a single file cannot be joined",
                span,
                label=f"{first.what} and {column.what}",
            )
        for part, rows in column.parts.items():
            here, there = first.parts[part].total, rows.total
            if here is not None and there is not None and here != there:
                named = f" of `{part}`" if part else ""
                raise fault(
                    "E516",
                    f"columns have different numbers of rows{named}: {here} and {there}",
                    span,
                    label=f"{first.what} has {here}, {column.what} has {there}",
                )


def _columns(symbol: str, left: Value, right: Value, span: Span) -> Column:
    if symbol in ("==", "!="):
        return _equality(symbol, left, right, span)
    if symbol in _LOGIC:
        if not (_is_flag(left) and _is_flag(right)):
            raise _undefined(symbol, left, right, span)
        return elementwise(_LOGIC[symbol], [left, right], "bool", span)
    for value in (left, right):
        _check_number(value, symbol, span)
    if symbol in COMPARISON:
        return elementwise(COMPARISON[symbol], [left, right], "bool", span)
    if symbol not in ARITHMETIC:
        raise _undefined(symbol, left, right, span)
    function, dtype = ARITHMETIC[symbol], _join([left, right])
    fractional = symbol == "/" or (symbol == "**" and isinstance(right, int) and right < 0)
    if dtype not in FLOATS and not fractional:
        return _of_integers(symbol, left, right, span)
    dtype = dtype if dtype in FLOATS else "f32"
    return elementwise(lambda x, y: function(_real(x), _real(y)), [left, right], dtype, span)


def _of_integers(symbol: str, left: Value, right: Value, span: Span) -> Column:
    """Arithmetic in i64; what has no integer answer is an error."""

    def compute(x: Any, y: Any) -> Any:
        if symbol in ("//", "%") and np.any(np.equal(y, 0)):
            raise fault("E514", "this divides by zero", span)
        if symbol == "**" and np.any(np.less(y, 0)):
            raise fault("E522", "integers have no negative powers", span, help="cast one to f32")
        return ARITHMETIC[symbol](_whole(x), _whole(y))

    return elementwise(compute, [left, right], "i64", span)


def _is_flag(value: Value) -> bool:
    return isinstance(value, bool) or (isinstance(value, Column) and value.dtype == "bool")


def _equality(symbol: str, left: Value, right: Value, span: Span) -> Column:
    """`==` also compares text columns with texts, and classes with their names."""
    pair = [_class_number(left, right, span), _class_number(right, left, span)]
    kinds = {_is_text(value) for value in pair}
    if len(kinds) > 1 or not all(isinstance(v, (Column, int, float, str)) for v in pair):
        raise _undefined(symbol, left, right, span)
    return elementwise(COMPARISON[symbol], pair, "bool", span)


def _class_number(value: Value, other: Value, span: Span) -> Value:
    if not (isinstance(value, str) and isinstance(other, Column) and other.classes):
        return value
    if value in other.classes:
        return other.classes.index(value)
    raise fault(
        "E523", f"no class is called `{value}`", span, help=suggestion(value, other.classes)
    )


def _is_text(value: Value) -> bool:
    return isinstance(value, str) or (isinstance(value, Column) and value.dtype == "text")


def _join(values: Sequence[Value]) -> str:
    dtypes = [value.dtype for value in values if isinstance(value, Column)]
    if "f64" in dtypes:
        return "f64"
    if "f32" in dtypes or any(isinstance(value, float) for value in values):
        return "f32"
    if set(dtypes) == {"bool"} and all(isinstance(v, (bool, Column)) for v in values):
        return "bool"
    return "i64"


def _align(array: Array, rank: int) -> Array:
    missing = rank - (array.ndim - 1)
    return array.reshape(array.shape[:1] + (1,) * missing + array.shape[1:])


def _real(x: Any) -> Any:
    """Integers as floats wide enough for them; Python numbers stay weak."""
    if isinstance(x, np.ndarray) and x.dtype.kind != "f":
        return x.astype(np.result_type(x.dtype, np.float32))
    return x


def _whole(x: Any) -> Any:
    return x.astype(np.int64) if isinstance(x, np.ndarray) else int(x)


def check_number(column: Column, name: str, span: Span) -> None:
    """A column that a computation needs as numbers must not be text."""
    if column.dtype == "text":
        raise fault(
            "E511",
            f"`{name}` needs numbers, and {column.what} is text",
            span,
            label=f"{column.text}" if column.text else "",
            help="`categories(…)` makes class numbers of text",
        )


def _check_number(value: Value, symbol: str, span: Span) -> None:
    if isinstance(value, Column):
        check_number(value, symbol, span)
    elif not isinstance(value, (int, float)):
        raise fault("E522", f"`{symbol}` is not defined on {describe_value(value)}", span)


def _undefined(symbol: str, left: Value, right: Value, span: Span) -> Exception:
    return fault(
        "E522",
        f"`{symbol}` is not defined on {describe_value(left)} and {describe_value(right)}",
        span,
    )
