"""Small programs for the tests of the Python face, and what they should compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dnnc.diagnostics import Diagnostic, DnnError
from dnnc.ir.interpret import interpret
from dnnc.model import Model

__all__ = ["LANGUAGE", "MLP", "PAIR", "diagnostics", "one", "predicted"]

MLP = """
model Mlp(hidden = 8, classes = 3) {
    in  x: [batch, 4]
    out logits: [batch, classes]
    logits = x -> dense(hidden) -> tanh -> dense(classes) as head
}
"""

LANGUAGE = """
model Language(vocab = 11, dim = 4, context = 6) {
    in  tokens: i32[batch, seq <= context]
    out logits: [batch, seq, vocab]
    logits = tokens -> embedding(vocab, dim) as table -> dense(vocab)
}
"""

PAIR = """
model Pair {
    in  left, right: [batch, n]
    out total: [batch, n]
    out gap: [batch]
    total = left + right
    gap   = sum(abs(left - right), axis = n)
}
"""


def predicted(net: Model, **inputs: np.ndarray) -> Any:
    """What the reference interpreter makes of the network."""
    graph = net.network.predict
    given = {**inputs, **net.variables, "seed": np.array(net.seed), "step": np.array(1)}
    names = {item.name: item.value.type.dtype.numpy for item in graph.inputs}
    results = interpret(graph, {n: np.asarray(given[n], t) for n, t in names.items()})
    return next(iter(results.values())) if len(results) == 1 else results


def diagnostics(call: Callable[[], object]) -> list[Diagnostic]:
    """The diagnostics of the DnnError that a call raises."""
    with pytest.raises(DnnError) as caught:
        call()
    return caught.value.diagnostics


def one(call: Callable[[], object]) -> tuple[str, str]:
    """Code and text of the one diagnostic that a call raises."""
    (diagnostic,) = diagnostics(call)
    return diagnostic.code, diagnostic.render()
