"""The arrays handed over in a call: checked against the graph; their shapes give the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnnc.ir.binding import bind_symbols
from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType
from dnnc.program.memory import address_of

__all__ = ["Feed", "Feeds"]


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """The sizes that the shapes of inputs tell; `key` identifies them."""

    sizes: dict[str, int]
    key: tuple[int, ...]


class Feeds:
    """The inputs of a graph. What was checked for the call before is not checked again.

    Their addresses are written into `addresses`, in the order of the graph.
    """

    def __init__(self, graph: Graph, addresses: memoryview) -> None:
        self.graph, self.inputs = graph, graph.inputs
        self.updated = {o.updates for o in graph.outputs if o.updates is not None}
        self.symbols = sorted(graph.symbols)
        count = len(graph.inputs)
        self._places = {item.name: k for k, item in enumerate(graph.inputs)}
        #: The inputs that every call gives.
        self._named = list(enumerate(item.name for item in graph.inputs))
        self._dtypes = [item.value.type.dtype.numpy for item in graph.inputs]
        #: Inputs whose arrays the next call is unlikely to hand over again.
        self._passing = [
            k for k, item in enumerate(graph.inputs) if item.role not in ("parameter", "state")
        ]
        self._given: list[object] = [None] * count
        self._held: list[np.ndarray | None] = [None] * count
        self._shapes: list[tuple[int, ...] | None] = [None] * count
        self._addresses = addresses
        self._feed: Feed | None = None

    def hold(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Take arrays for all calls from now on, which give the other inputs alone.

        ValueError names the first that does not fit.
        """
        for name, given in inputs.items():
            self._accept(self._places[name], given)
        self._named = [(k, name) for k, name in self._named if name not in inputs]
        kept = {self._places[name] for name in inputs}
        self._passing = [k for k in self._passing if k not in kept]

    def take(self, inputs: Mapping[str, np.ndarray]) -> Feed:
        """Check the inputs of a call; ValueError names the first that does not fit."""
        given_before = self._given
        for k, name in self._named:
            try:
                given = inputs[name]
            except KeyError:
                expected = self.inputs[k].value.type
                raise ValueError(f"input {name} ({expected}) is missing") from None
            if given is not given_before[k]:
                self._accept(k, given)
        if len(inputs) != len(self._named):
            unknown = sorted(set(inputs) - {name for _, name in self._named})
            raise ValueError(f"there is no input {', '.join(unknown)}")
        if self._feed is None:
            self._feed = self._measure()
        return self._feed

    def release(self) -> None:
        """Let go of arrays that the next call is unlikely to hand over again."""
        for k in self._passing:
            self._given[k] = self._held[k] = None

    def forget(self) -> None:
        """Let go of all arrays that were not given to be held."""
        for k, _ in self._named:
            self._given[k] = self._held[k] = None

    def _accept(self, k: int, given: np.ndarray) -> None:
        # Until it has passed, a failed array must not look like one seen before.
        self._given[k] = None
        fitting = given
        if (
            type(given) is not np.ndarray
            or given.dtype != self._dtypes[k]
            or given.shape != self._shapes[k]
            or not given.flags.c_contiguous
            or not given.flags.writeable
        ):
            fitting = self._convert(k, given)
        self._held[k] = fitting
        self._addresses[k] = address_of(fitting)
        # A copy would go stale when its original changes.
        self._given[k] = given if fitting is given else None

    def _convert(self, k: int, given: np.ndarray) -> np.ndarray:
        """The array in the layout that kernels read; ValueError where it does not fit."""
        item = self.inputs[k]
        self._shapes[k], self._feed = None, None
        expected, dtype = item.value.type, self._dtypes[k]
        array = _checked_array(item.name, expected, given)
        if item.name in self.updated:
            if array is not given or array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(
                    f"input {item.name} is updated in place: it must be a contiguous array of "
                    f"{expected.dtype}, got {_described(given)}"
                )
            if not array.flags.writeable:
                raise ValueError(f"input {item.name} is updated in place, but is read-only")
        self._shapes[k] = array.shape
        if array.dtype == dtype and array.flags.c_contiguous:
            return array
        return np.ascontiguousarray(array, dtype).reshape(array.shape)

    def _measure(self) -> Feed:
        shapes = {
            item.name: shape
            for item, shape in zip(self.inputs, self._shapes, strict=True)
            if shape is not None
        }
        sizes = bind_symbols(self.graph, shapes)
        return Feed(sizes, tuple(sizes[symbol] for symbol in self.symbols))


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
