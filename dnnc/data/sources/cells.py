"""Numbers from the text of many cells at once.

Cells are ranges of one byte array. Plain decimals are read digit by digit over all cells together;
what is not plain (exponents, spaces, missing values, text) is sorted out afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnnc.data.rows import Array

#: Cells that mean "not known", in lower case.
MISSING = (b"", b"na", b"nan", b"n/a", b"null", b"?")

#: Longer cells are text and longer runs of digits are read by the general route.
_LONGEST_NUMBER = 64
_LONGEST_PLAIN = 18

#: Mantissas and powers of ten up to here are exact in float64, so that quotients round correctly.
_EXACT_MANTISSA = 1 << 53
_POWERS = 10.0 ** np.arange(_LONGEST_PLAIN + 1)

_NEWLINE, _DOT, _MINUS, _PLUS, _ZERO = 10, 46, 45, 43, 48


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` is int64 where `whole`, else float64 with NaN where `missing` (or None).

    `text` is the index of the first cell that is no number, or None.
    """

    values: Array
    whole: bool
    missing: Array | None
    text: int | None


def parse_numbers(data: Array, starts: Array, ends: Array) -> Numbers:
    """Read the cells `data[starts[i]:ends[i]]`."""
    mantissa, decimals, odd = _plain(data, starts, ends)
    whole = not decimals.any()
    values: Array = mantissa
    if not whole:
        odd |= (decimals > 0) & (np.abs(mantissa) >= _EXACT_MANTISSA)
        values = mantissa / _POWERS[decimals]
    if not odd.any():
        return Numbers(values, whole, None, None)
    return _general(data, starts, ends, values, whole, np.flatnonzero(odd))


def _plain(data: Array, starts: Array, ends: Array) -> tuple[Array, Array, Array]:
    """Signed mantissa, digits after the point, and which cells are not plain decimals."""
    lengths = ends - starts
    longest = min(int(lengths.max(initial=0)), _LONGEST_PLAIN + 2)
    size = len(starts)
    mantissa = np.zeros(size, np.int64)
    digits = np.zeros(size, np.int8)
    decimals = np.zeros(size, np.int8)
    points = np.zeros(size, np.bool_)
    odd = (lengths == 0) | (lengths > longest)
    negative = np.zeros(size, np.bool_)
    for k in range(longest):
        inside = lengths > k
        char = data[np.minimum(starts + k, len(data) - 1)]
        digit = (char - np.uint8(_ZERO) < 10) & inside
        mantissa = np.where(digit, mantissa * 10 + (char - np.uint8(_ZERO)), mantissa)
        digits += digit
        decimals += digit & points
        other = inside & ~digit
        if not other.any():
            continue
        point = other & (char == _DOT)
        odd |= point & points
        points |= point
        other &= ~point
        if k == 0:
            minus = other & (char == _MINUS)
            negative |= minus
            other &= ~(minus | (char == _PLUS))
        odd |= other
    odd |= (digits == 0) | (digits > _LONGEST_PLAIN)
    # A point without decimals ("3.") still says that the column is fractional.
    odd |= points & (decimals == 0)
    np.negative(mantissa, out=mantissa, where=negative)
    return mantissa, decimals, odd


def _general(
    data: Array, starts: Array, ends: Array, values: Array, whole: bool, odd: Array
) -> Numbers:
    """Sort out the cells `odd`: missing, numbers of another form, or text."""
    texts = cell_bytes(data, starts[odd], np.minimum(ends[odd], starts[odd] + _LONGEST_NUMBER))
    texts = np.char.strip(texts)
    unknown = np.isin(np.char.lower(texts), MISSING)
    missing = None
    if unknown.any():
        missing = np.zeros(len(starts), np.bool_)
        missing[odd[unknown]] = True
    others, texts = odd[~unknown], texts[~unknown]
    read, text = _convert(texts)
    if text is not None:
        return Numbers(values, whole, missing, int(others[text]))
    if whole and not np.issubdtype(read.dtype, np.integer):
        values, whole = values.astype(np.float64), False
    values[others] = read
    if missing is not None and not whole:
        values[missing] = np.nan
    return Numbers(values, whole, missing, None)


def _convert(texts: Array) -> tuple[Array, int | None]:
    """Numbers of texts, whole if all are; or the index of the first that is no number."""
    if not len(texts):
        return np.zeros(0, np.int64), None
    signless = np.char.lstrip(texts, b"+-")
    short = np.char.str_len(signless) <= _LONGEST_PLAIN
    if (np.char.isdigit(signless) & short).all() and not (np.char.find(texts, b"+-") >= 0).any():
        try:
            return texts.astype(np.int64), None
        except ValueError:
            pass
    try:
        if not (np.char.find(texts, b"_") >= 0).any():
            return texts.astype(np.float64), None
    except ValueError:
        pass
    for index, text in enumerate(texts.tolist()):
        if b"_" in text or not _is_number(text):
            return np.zeros(0), index
    return np.array([float(text) for text in texts.tolist()]), None


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell_bytes(data: Array, starts: Array, ends: Array) -> Array:
    """Cells as an array of byte strings, padded to the longest."""
    lengths = ends - starts
    longest = max(1, int(lengths.max(initial=0)))
    steps = np.arange(longest)
    places = np.minimum(starts[:, None] + steps, len(data) - 1)
    chars = np.where(steps < lengths[:, None], data[places], np.uint8(0))
    packed: Array = np.ascontiguousarray(chars, np.uint8).view(f"S{longest}").reshape(len(starts))
    return packed
