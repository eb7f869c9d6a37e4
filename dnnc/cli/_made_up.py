"""Inputs for programs that are timed or measured, where the values do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from dnnc.ir.graph import Graph

__all__ = ["BATCH", "made_up"]

#: Examples in a batch where nothing says how many.
BATCH = 32

#: Sizes of axes that neither the shapes nor their bounds give.
SIZE = 32


def made_up(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    """Inputs of the right types: small numbers, zeros where integers are wanted, ones for steps."""
    import numpy as np

    draw = np.random.default_rng(0)
    sizes = graph.sizes(batch, SIZE)
    arrays: dict[str, np.ndarray] = {}
    for item in graph.inputs:
        shape = item.value.type.concrete(sizes)
        dtype = item.value.type.dtype
        if item.role == "scalar":
            arrays[item.name] = np.ones(shape, dtype.numpy)
        elif dtype.is_float:
            # Positive, because states such as variances are.
            arrays[item.name] = draw.uniform(0.01, 0.1, shape).astype(dtype.numpy)
        else:
            arrays[item.name] = np.zeros(shape, dtype.numpy)
    return arrays
