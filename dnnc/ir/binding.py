"""Finding the sizes behind symbols when a program gets its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from dnnc.ir.dims import Dim
from dnnc.ir.graph import Graph

__all__ = ["BindingError", "bind_symbols"]


class BindingError(ValueError):
    """The shapes of the arrays do not fit the inputs of a graph."""


def bind_symbols(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The size of every symbol in the inputs' types, from the shapes of the arrays by input name.

    Symbols in `known` keep that size. Raises BindingError where shapes contradict each other or
    do not determine a symbol, the number of axes is wrong, or a bound of the graph is exceeded. An
    input missing from `shapes` is ignored.
    """
    sizes = dict(known or {})
    pending: list[_Axis] = []
    for item in graph.inputs:
        shape = shapes.get(item.name)
        if shape is None:
            continue
        if len(shape) != item.value.type.rank:
            raise BindingError(f"`{item.name}` is {item.value.type}, got an array {list(shape)}")
        declared = enumerate(zip(item.value.shape, shape, strict=True))
        pending += [(item.name, axis, size, actual) for axis, (size, actual) in declared]
    known_before = -1
    while known_before < len(sizes):
        known_before = len(sizes)
        pending = [axis for axis in pending if not _settle(axis, sizes)]
    for name, position, size, actual in pending:
        raise BindingError(
            f"axis {position} of `{name}` is {size}, which {actual} does not determine"
        )
    for symbol, bound in graph.bounds.items():
        if symbol in sizes and sizes[symbol] > bound.evaluate(sizes):
            raise BindingError(f"{symbol} is {sizes[symbol]}, more than {bound}")
    return sizes


#: The name of an input, the axis, its declared size and that of the array.
_Axis: TypeAlias = tuple[str, int, Dim, int]


def _settle(axis: _Axis, sizes: dict[str, int]) -> bool:
    """Solve for the axis' only unknown symbol, if any; False where that is not possible yet."""
    name, position, size, actual = axis
    free = size.symbols - sizes.keys()
    if free:
        solved = _solve(size, free, actual, sizes)
        if solved is None:
            return False
        sizes[next(iter(free))] = solved
    _check(name, position, size, actual, sizes)
    return True


def _check(name: str, axis: int, size: Dim, actual: int, sizes: Mapping[str, int]) -> None:
    expected = size.evaluate(sizes)
    if expected != actual:
        meaning = str(size) if size.constant is not None else f"{size} = {expected}"
        raise BindingError(f"axis {axis} of `{name}` must be {meaning}, got {actual}")


def _solve(size: Dim, free: frozenset[str], actual: int, sizes: Mapping[str, int]) -> int | None:
    """The one free symbol where the size is linear in it and the solution is whole."""
    if len(free) != 1:
        return None
    (symbol,) = free
    at = [size.evaluate({**sizes, symbol: value}) for value in (0, 1, 2)]
    slope = at[1] - at[0]
    if slope == 0 or at[2] - at[1] != slope or (actual - at[0]) % slope:
        return None
    solved = (actual - at[0]) // slope
    return solved if size.evaluate({**sizes, symbol: solved}) == actual else None
