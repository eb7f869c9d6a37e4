"""Random operands of one node, and how its results are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dnnc.ir.graph import Node, Value
from dnnc.ir.types import DType, TensorType
from dnnc.kernels.abi import Call, lower

#: Begins anew with each test.
RANDOM = np.random.default_rng(5)


def draw(*shape: int, dtype: str = "f4") -> np.ndarray:
    """An array of normally distributed numbers."""
    return RANDOM.standard_normal(shape).astype(dtype)


def value_of(array: np.ndarray) -> Value:
    """A value of an array's type."""
    return Value(TensorType.make(DType.of(array), array.shape))


def run_on_threads(
    run_node: Callable[..., list[np.ndarray]],
    node: Node,
    arrays: Sequence[np.ndarray],
    calls: Sequence[Call] | None = None,
) -> list[np.ndarray]:
    """The results of a node, which must have the same bits on 1, 2 and 3 threads."""
    calls = lower(node) if calls is None else calls
    one, *more = (run_node(node, calls, arrays, threads=t) for t in (1, 2, 3))
    for results in more:
        assert [a.tobytes() for a in results] == [a.tobytes() for a in one]
    return one


def assert_near(got: np.ndarray, wanted: np.ndarray, bound: float) -> None:
    """Compare arrays up to errors of `bound` relative to the largest number wanted, if above 1."""
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
    np.testing.assert_allclose(got, wanted, bound, bound * largest)


def check_node(
    run_node: Callable[..., list[np.ndarray]],
    node: Node,
    arrays: Sequence[np.ndarray],
    wanted: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Compare the results of a node with the reference in float64, unless others are wanted; the
    results."""
    if wanted is None:
        wide = [a.astype("f8") if a.dtype.kind == "f" else a for a in arrays]
        wanted = node.op.evaluate(*wide)
    bound = 1e-12 if arrays[0].dtype == np.float64 else 1e-5
    got = run_on_threads(run_node, node, arrays)
    for found, correct in zip(got, wanted, strict=True):
        assert_near(found, correct, bound)
    return got
