"""Examples of a data set as inputs of a program: order, shapes and element types.

The loop knows data through the two protocols here; `dnnc.data` satisfies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dnnc.data.splits import batches_of
from dnnc.ir.graph import Graph
from dnnc.ir.types import TensorType
from dnnc.train.codes import fault

__all__ = ["Data", "Feed", "Part", "data_types", "inputs_of"]


class Part(Protocol):
    """One split."""

    @property
    def size(self) -> int:
        """Number of examples."""
        ...

    def take(
        self, indices: np.ndarray, names: Iterable[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Fields of these examples (all, or `names`), examples along the first axis."""
        ...


class Data(Protocol):
    """A data set."""

    @property
    def splits(self) -> Mapping[str, Any]:
        """`Part`s by name: "train", "validation", "test"; those that are empty may be missing."""
        ...

    @property
    def fields(self) -> Mapping[str, Any]:
        """Fields by name; each may have `classes`, the names of its integers."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that differs where the data do."""
        ...


class Feed:
    """Batches of one split as the inputs `types` of a program."""

    def __init__(self, part: Part, types: Mapping[str, TensorType], batch: int, seed: int) -> None:
        self.part, self.types, self.batch, self.seed = part, dict(types), batch, seed
        self._shapes = {name: _known_shape(type) for name, type in types.items()}

    @property
    def count(self) -> int:
        """Number of batches; the last may be short."""
        return -(-self.part.size // self.batch)

    def shuffled(self, epoch: int, skip: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an epoch in its own order, without the first `skip`."""
        return self._take(epoch, True, skip)

    def in_order(self) -> Iterator[dict[str, np.ndarray]]:
        """All batches in the order of the data."""
        return self._take(0, False, 0)

    def _take(self, epoch: int, shuffle: bool, skip: int) -> Iterator[dict[str, np.ndarray]]:
        order = batches_of(self.part.size, self.batch, self.seed, epoch, shuffle, False)
        for number, indices in enumerate(order):
            if number >= skip:
                yield self.convert(self.part.take(indices, self.types))

    def convert(self, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The needed fields in the shapes and element types of the program."""
        return {
            name: _fit(name, fields[name], wanted, self._shapes[name])
            for name, wanted in self.types.items()
        }


def data_types(graph: Graph, fields: Sequence[str]) -> dict[str, TensorType]:
    """The types of those inputs of a graph that are data fields."""
    wanted = set(fields)
    return {
        item.name: item.value.type
        for item in graph.inputs
        if item.role == "data" and item.name in wanted
    }


def inputs_of(graph: Graph, *sources: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those arrays that are inputs of a graph; of equal names the one in the later source."""
    names = {item.name for item in graph.inputs}
    return {name: array for held in sources for name, array in held.items() if name in names}


def _known_shape(type: TensorType) -> tuple[int, ...] | None:
    """The shape of an example, None where it depends on symbols."""
    sizes = [size.constant for size in type.shape[1:]]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def _fit(
    name: str, array: np.ndarray, wanted: TensorType, shape: tuple[int, ...] | None
) -> np.ndarray:
    if shape is not None and array.shape[1:] != shape:
        try:
            array = array.reshape(array.shape[0], *shape)
        except ValueError:
            raise fault(
                "E607",
                f"an example of `{name}` has the shape {list(array.shape[1:])}, "
                f"the program reads {wanted}",
            ) from None
    return np.ascontiguousarray(array, dtype=wanted.dtype.numpy)
