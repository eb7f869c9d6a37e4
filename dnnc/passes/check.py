"""Whether a pass has kept the meaning of a graph: types verify, and the interpreter computes the
same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dnnc.ir.graph import Graph, Input
from dnnc.ir.interpret import interpret
from dnnc.ir.operator import Array
from dnnc.ir.types import DType
from dnnc.ir.verify import IRError, verify
from dnnc.passes.trace import say

__all__ = ["PassError", "check_pass", "compare", "random_inputs"]

#: Sizes that are tried for symbols, until the graph accepts them: the first differ from each other,
#: so that mixed-up axes are noticed; the others suit divisions.
_SIZES: tuple[tuple[int, ...], ...] = ((3, 2, 5, 4), (4,), (8,), (2,), (12,), (16,))


class PassError(Exception):
    """A pass of the compiler has changed what a program computes: a fault of the compiler."""


def check_pass(name: str, before: Graph, after: Graph) -> None:
    """Raise PassError where `after`, made by the pass `name`, is malformed or computes other
    results."""
    try:
        verify(after)
    except IRError as error:
        raise PassError(f"pass `{name}` makes a malformed graph: {error}") from error
    difference = compare(before, after)
    if difference is not None:
        raise PassError(f"pass `{name}` changes `{before.name}`: {difference}")


def compare(before: Graph, after: Graph, seed: int = 0) -> str | None:
    """How the results of two graphs differ on random inputs, in words; None where they agree.

    `after` may lack inputs that it does not need.
    """
    inputs, expected = _run_somehow(before, seed)
    if expected is None:
        say(f"{before.name}: no sizes were found to compare results with")
        return None
    needed = {item.name for item in after.inputs}
    results = interpret(after, {k: v for k, v in inputs.items() if k in needed})
    if results.keys() != expected.keys():
        return f"outputs {sorted(expected)} became {sorted(results)}"
    for key, wanted in expected.items():
        difference = _difference(wanted, results[key])
        if difference is not None:
            return f"output `{key}` {difference}"
    return None


def random_inputs(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """An array for every input, determined by the seed: states are positive, integers small."""
    generator = np.random.default_rng(seed)
    return {item.name: _random_input(item, sizes, generator) for item in graph.inputs}


def _random_input(item: Input, sizes: Mapping[str, int], generator: np.random.Generator) -> Array:
    shape, dtype = item.value.type.concrete(sizes), item.value.type.dtype
    if dtype is DType.BOOL:
        return np.asarray(generator.random(shape) < 0.5)
    if dtype.is_integer:
        # 0 and 1 index every table of two rows; a step counts from 1.
        low = 1 if item.role == "scalar" else 0
        return np.asarray(generator.integers(low, 2 + low, shape), dtype.numpy)
    values = generator.standard_normal(shape)
    if item.role == "parameter" and len(shape) > 1:
        # As weights are initialized: large ones make a deep network chaotic.
        values /= np.sqrt(values.size / max(shape))
    if item.role in ("state", "scalar"):
        values = 0.5 + np.abs(values)
    return np.asarray(values, dtype.numpy)


def _run_somehow(graph: Graph, seed: int) -> tuple[dict[str, Array], dict[str, Array] | None]:
    for sizes in _candidate_sizes(graph):
        inputs = random_inputs(graph, sizes, seed)
        try:
            return inputs, interpret(graph, inputs)
        except (ValueError, IndexError, TypeError, ArithmeticError):
            continue
    return {}, None


def _candidate_sizes(graph: Graph) -> Iterator[dict[str, int]]:
    names = sorted(graph.symbols)
    for cycle in _SIZES:
        sizes: dict[str, int] = {}
        for i, name in enumerate(names):
            bound = graph.bounds.get(name)
            limit = bound.constant if bound is not None else None
            wanted = cycle[i % len(cycle)]
            sizes[name] = wanted if limit is None else min(wanted, limit)
        yield sizes
        if not names:
            return


def _difference(wanted: Array, found: Array) -> str | None:
    if wanted.dtype != found.dtype or wanted.shape != found.shape:
        return f"is {found.dtype}{list(found.shape)}, not {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind != "f":
        return None if np.array_equal(wanted, found) else f"is {found}, not {wanted}"
    if not np.array_equal(np.isnan(wanted), np.isnan(found)):
        return "has NaN in other places"
    finite = wanted[np.isfinite(wanted)]
    scale = float(np.abs(finite).max(initial=0.0))
    relative = 1e-3 if wanted.dtype == np.float32 else 1e-9
    with np.errstate(all="ignore"):
        near = np.isclose(wanted, found, rtol=relative, atol=relative * scale, equal_nan=True)
    if near.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~near)[0])
    return f"at {list(place)} is {found[place]}, not {wanted[place]}"
