"""The arrays handed over in a call: checked against the graph; their shapes give the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnnc.ir.graph import Graph, Input
from dnnc.ir.types import TensorType

__all__ = ["Feed", "Feeds"]


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """Addresses of the inputs in their order, and the sizes; `key` identifies the sizes."""

    addresses: list[int]
    sizes: dict[str, int]
    key: tuple[int, ...]


class Feeds:
    """The inputs of a graph. An array that is handed over again is not checked again."""

    def __init__(self, graph: Graph) -> None:
        self.inputs = graph.inputs
        self.bounds = graph.bounds
        self.updated = {o.updates for o in graph.outputs if o.updates is not None}
        self.symbols = sorted(graph.symbols)
        self._check_symbols()
        count = len(graph.inputs)
        self._given: list[object] = [None] * count
        self._held: list[np.ndarray | None] = [None] * count
        self._addresses = [0] * count
        self._feed: Feed | None = None

    def _check_symbols(self) -> None:
        plain = {s.name for item in self.inputs for s in item.value.shape if s.name is not None}
        for symbol in self.symbols:
            if symbol not in plain:
                raise ValueError(f"size {symbol} is not itself the size of an axis of any input")

    def take(self, inputs: Mapping[str, np.ndarray]) -> Feed:
        """Check the inputs of a call; ValueError names the first that does not fit."""
        changed = self._feed is None
        for k, item in enumerate(self.inputs):
            try:
                given = inputs[item.name]
            except KeyError:
                raise ValueError(f"input {item.name} ({item.value.type}) is missing") from None
            if given is not self._given[k]:
                changed = True
                self._accept(k, item, given)
        if len(inputs) != len(self.inputs):
            unknown = sorted(set(inputs) - {item.name for item in self.inputs})
            raise ValueError(f"there is no input {', '.join(unknown)}")
        if changed or self._feed is None:
            self._feed = self._measure()
        return self._feed

    def release(self) -> None:
        """Let go of arrays that the next call is unlikely to hand over again."""
        for k, item in enumerate(self.inputs):
            if item.role not in ("parameter", "state"):
                self._given[k] = self._held[k] = None

    def forget(self) -> None:
        """Let go of all arrays."""
        self._given = [None] * len(self.inputs)
        self._held = [None] * len(self.inputs)
        self._feed = None

    def _accept(self, k: int, item: Input, given: np.ndarray) -> None:
        # Until it has passed, a failed array must not look like one seen before.
        self._given[k], self._feed = None, None
        expected = item.value.type
        array = _checked_array(item.name, expected, given)
        dtype = expected.dtype.numpy
        if item.name in self.updated:
            if array is not given or array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(
                    f"input {item.name} is updated in place: it must be a contiguous array of "
                    f"{expected.dtype}, got {_described(given)}"
                )
            if not array.flags.writeable:
                raise ValueError(f"input {item.name} is updated in place, but is read-only")
        fitting = np.ascontiguousarray(array, dtype).reshape(array.shape)
        self._held[k] = fitting
        self._addresses[k] = fitting.ctypes.data
        # A copy would go stale when its original changes.
        self._given[k] = given if fitting is array or fitting.base is array else None

    def _measure(self) -> Feed:
        sizes: dict[str, int] = {}
        owner: dict[str, str] = {}
        for item, array in self._pairs():
            for size, found in zip(item.value.shape, array.shape, strict=True):
                name = size.name
                if name is None:
                    continue
                if sizes.setdefault(name, found) != found:
                    raise ValueError(
                        f"size {name} is {sizes[name]} in input {owner[name]} and {found} in "
                        f"input {item.name} ({item.value.type}, got {_described(array)})"
                    )
                owner.setdefault(name, item.name)
        for item, array in self._pairs():
            if item.value.type.concrete(sizes) != array.shape:
                raise ValueError(
                    f"input {item.name} must be {item.value.type}, got {_described(array)}"
                )
        for symbol, bound in self.bounds.items():
            if symbol in sizes and sizes[symbol] > bound.evaluate(sizes):
                raise ValueError(
                    f"size {symbol} is {sizes[symbol]} in input {owner[symbol]}, "
                    f"but may be at most {bound.evaluate(sizes)}"
                )
        key = tuple(sizes[symbol] for symbol in self.symbols)
        return Feed(list(self._addresses), sizes, key)

    def _pairs(self) -> list[tuple[Input, np.ndarray]]:
        return [
            (item, array)
            for item, array in zip(self.inputs, self._held, strict=True)
            if array is not None
        ]


def _checked_array(name: str, expected: TensorType, given: np.ndarray) -> np.ndarray:
    array = given if isinstance(given, np.ndarray) else np.asarray(given)
    if array.ndim != expected.rank:
        raise ValueError(f"input {name} must be {expected}, got {_described(array)}")
    for size, found in zip(expected.shape, array.shape, strict=True):
        if size.constant is not None and size.constant != found:
            raise ValueError(f"input {name} must be {expected}, got {_described(array)}")
    if array.dtype != expected.dtype.numpy and not np.can_cast(
        array.dtype, expected.dtype.numpy, "same_kind"
    ):
        raise ValueError(f"input {name} must be {expected}, got {_described(array)}")
    return array


def _described(array: object) -> str:
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"
