"""What the operators of expressions do with plain numbers, by their symbols."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["ARITHMETIC", "COMPARISON", "ORDER"]

Functions = Mapping[str, Callable[[Any, Any], Any]]

ARITHMETIC: Functions = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
ORDER: Functions = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COMPARISON: Functions = {"==": operator.eq, "!=": operator.ne, **ORDER}
