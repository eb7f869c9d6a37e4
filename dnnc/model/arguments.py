"""Arrays from Python as the data inputs of a graph: checked in full once for each set of shapes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np

from dnnc.diagnostics import Diagnostic, DnnError, closest
from dnnc.elaborate.network import FieldShape
from dnnc.ir.binding import BindingError, bind_symbols
from dnnc.ir.graph import Graph
from dnnc.ir.types import DType, TensorType
from dnnc.model.indices import IndexRange, index_ranges

__all__ = ["Arguments", "as_arrays", "field_shapes"]

#: Sets of shapes that are remembered as fitting.
_REMEMBERED = 256

#: Kinds of NumPy element types that convert to an element type without loss of meaning.
_FLOAT_FROM, _INTEGER_FROM = "fiub", "iub"


class Arguments:
    """The data inputs of a graph, and whether arrays fit them.

    `labels` are the inputs that are compared with outputs, and may be numbers of classes.
    """

    def __init__(self, graph: Graph, labels: Collection[str] = ()) -> None:
        self._graph = graph
        self._types = {i.name: i.value.type for i in graph.inputs if i.role == "data"}
        self._wanted = [(name, type_.dtype.numpy) for name, type_ in self._types.items()]
        self._integers = [(n, t.dtype.numpy) for n, t in self._types.items() if t.dtype.is_integer]
        self._ranges: dict[str, list[IndexRange]] = {}
        for found in index_ranges(graph, labels):
            self._ranges.setdefault(found.name, []).append(found)
        self._fitting: set[Hashable] = set()
        #: Name, shape and wanted element type of each array of the call before.
        self._last: list[tuple[str, tuple[int, ...], np.dtype[Any]]] = []

    @property
    def names(self) -> Collection[str]:
        """The names of the inputs."""
        return self._types.keys()

    def fit(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Contiguous arrays of the wanted element types; DnnError (E412) with all that is wrong."""
        if given.keys() == self._types.keys() and self._fits_as_before(given):
            return dict(given)
        arrays = as_arrays(given)
        key = tuple([(name, array.shape, array.dtype) for name, array in arrays.items()])
        if key not in self._fitting:
            self._check_types(arrays)
            if len(self._fitting) >= _REMEMBERED:
                self._fitting.clear()
            self._fitting.add(key)
        if self._integers:
            self._check_values(arrays)
        self._last = [(name, arrays[name].shape, dtype) for name, dtype in self._wanted]
        return {name: _converted(arrays[name], dtype) for name, dtype in self._wanted}

    def _fits_as_before(self, given: Mapping[str, Any]) -> bool:
        """Whether the shapes are those of the call before and nothing is to be converted."""
        if self._integers or not self._last:
            return False
        for name, shape, dtype in self._last:
            array = given[name]
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
            if not array.flags.c_contiguous:
                return False
        return True

    def _check_types(self, arrays: Mapping[str, np.ndarray]) -> None:
        problems = [self._unknown(name) for name in arrays if name not in self._types]
        for name, type_ in self._types.items():
            if name not in arrays:
                problems.append(Diagnostic("E412", f"the input `{name}: {type_}` is missing"))
            elif problem := _misfit(name, type_, arrays[name]):
                problems.append(problem)
        if problems:
            raise DnnError(problems)
        self._sizes(arrays)

    def _unknown(self, name: str) -> Diagnostic:
        near = closest(name, self._types)
        help = f"did you mean `{near}`?" if near else f"inputs: {', '.join(self._types)}"
        return Diagnostic("E412", f"there is no input `{name}`", help=help)

    def _sizes(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        try:
            return bind_symbols(self._graph, {name: a.shape for name, a in arrays.items()})
        except BindingError as error:
            raise DnnError(Diagnostic("E412", str(error))) from None

    def _check_values(self, arrays: Mapping[str, np.ndarray]) -> None:
        problems = []
        for name, dtype in self._integers:
            array = arrays[name]
            if not array.size or array.dtype == np.bool_:
                continue
            found = []
            for wanted in self._ranges.get(name, ()):
                sizes = {} if wanted.is_constant else self._sizes(arrays)
                if message := wanted.complaint(array, sizes):
                    found.append(Diagnostic("E412", message, wanted.span, "looked up here"))
            if not found and not np.can_cast(array.dtype, dtype):
                found = _overflow(name, array, dtype)
            problems += found
        if problems:
            raise DnnError(problems)


def as_arrays(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """NumPy arrays of what is given; DnnError (E412) where something is none."""
    return {
        name: value if isinstance(value, np.ndarray) else _as_array(name, value)
        for name, value in given.items()
    }


def field_shapes(arrays: Mapping[str, np.ndarray], dtype: DType) -> dict[str, FieldShape]:
    """Element type and shape of one example for each array; floating-point ones become `dtype`.

    Raises DnnError (E412) for what is no batch of numbers.
    """
    fields = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise DnnError(Diagnostic("E412", f"`{name}` is a scalar; its first axis is the batch"))
        fields[name] = FieldShape(_element_type(name, array, dtype), array.shape[1:])
    return fields


def _element_type(name: str, array: np.ndarray, dtype: DType) -> DType:
    if array.dtype.kind == "f":
        return dtype
    if array.dtype.kind not in _INTEGER_FROM:
        raise DnnError(_no_numbers(name, array))
    try:
        return DType.of(array)
    except ValueError:
        return DType.I64


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DnnError(Diagnostic("E412", f"`{name}` is not an array: {error}")) from None


def _misfit(name: str, type_: TensorType, array: np.ndarray) -> Diagnostic | None:
    if array.dtype.kind not in _FLOAT_FROM:
        return _no_numbers(name, array)
    if not type_.dtype.is_float and array.dtype.kind not in _INTEGER_FROM:
        return Diagnostic("E412", f"`{name}` is {type_}, got an array of {array.dtype}")
    sizes = [size.constant for size in type_.shape]
    if len(sizes) == array.ndim and all(
        size in (None, given) for size, given in zip(sizes, array.shape, strict=True)
    ):
        return None
    shown = ", ".join(map(str, array.shape))
    help = None
    if len(sizes) == array.ndim + 1:
        help = f"the first axis is `{type_.shape[0]}`: for one example give {name}[None]"
    return Diagnostic("E412", f"`{name}` is {type_}, got an array of [{shown}]", help=help)


def _no_numbers(name: str, array: np.ndarray) -> Diagnostic:
    return Diagnostic("E412", f"`{name}` is an array of {array.dtype}, not of numbers")


def _overflow(name: str, array: np.ndarray, dtype: np.dtype[Any]) -> list[Diagnostic]:
    limits = np.iinfo(dtype)
    for value in (int(array.min()), int(array.max())):
        if not limits.min <= value <= limits.max:
            return [Diagnostic("E412", f"`{name}` holds {value}, which is no {dtype}")]
    return []


def _converted(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    # A number too large for single precision becomes infinite, as it would in a kernel.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype)
