"""The reference interpreter: what a graph means, in NumPy, one operator after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dnnc.ir.binding import bind_symbols
from dnnc.ir.graph import Graph, Value

__all__ = ["evaluate", "interpret"]

Array = npt.NDArray[Any]


def interpret(
    graph: Graph, inputs: Mapping[str, Any], sizes: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """The outputs of a graph by name, from arrays by input name.

    Symbols are bound from the shapes of the arrays, after those in `sizes`. Arrays must have the
    element types of the inputs. An output that updates an input is returned like any other;
    nothing is written in place. Raises BindingError for shapes, TypeError for element types, and
    KeyError for an input that the outputs need and that is not given.
    """
    arrays: dict[str, Array] = {}
    for item in graph.inputs:
        if item.name in inputs:
            arrays[item.name] = np.asarray(inputs[item.name])
            if arrays[item.name].dtype != item.value.type.dtype.numpy:
                raise TypeError(
                    f"`{item.name}` is {item.value.type}, got {arrays[item.name].dtype}"
                )
    bound = bind_symbols(graph, {name: a.shape for name, a in arrays.items()}, sizes)
    values = {item.value: arrays[item.name] for item in graph.inputs if item.name in arrays}
    evaluate(graph, values, bound)
    # Copies: an output may be an input, or a view of one.
    return {output.name: np.array(values[output.value]) for output in graph.outputs}


def evaluate(graph: Graph, values: dict[Value, Array], sizes: Mapping[str, int]) -> None:
    """Add the values of the graph's outputs to `values`, which holds those of its inputs.

    Other values are dropped after their last use.
    """
    nodes = graph.nodes
    waiting = Counter(operand for node in nodes for operand in node.operands)
    waiting.update(output.value for output in graph.outputs)
    for node in nodes:
        arrays = [_lookup(graph, values, operand) for operand in node.operands]
        # IEEE 754 without complaint, as the kernels compute.
        with np.errstate(all="ignore"):
            results = node.op.substitute(sizes).evaluate(*arrays)
        values.update(zip(node.results, results, strict=True))
        for operand in node.operands:
            waiting[operand] -= 1
            if not waiting[operand]:
                del values[operand]
    for output in graph.outputs:
        _lookup(graph, values, output.value)


def _lookup(graph: Graph, values: Mapping[Value, Array], value: Value) -> Array:
    if value in values:
        return values[value]
    name = next((item.name for item in graph.inputs if item.value is value), None)
    if name is None:
        raise ValueError(f"graph `{graph.name}` uses {value!r}, which is none of its inputs")
    raise KeyError(name)
