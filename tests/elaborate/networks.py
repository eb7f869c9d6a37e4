"""What the tests of elaboration run: texts become networks, which the interpreter evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dnnc.diagnostics import Diagnostic, DnnError, Source
from dnnc.elaborate.metrics import build_evaluation
from dnnc.elaborate.module import load_module
from dnnc.elaborate.network import FieldShape, Walk, build_network, graph_of, walk_model
from dnnc.elaborate.plan import Evaluation
from dnnc.elaborate.scope import JobScope
from dnnc.ir.interpret import interpret
from dnnc.ir.types import DType
from dnnc.syntax.parse import parse_expression

Arrays = dict[str, np.ndarray]


def walk(
    text: str,
    settings: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
    sizes: Mapping[str, int] | None = None,
    dtype: DType = DType.F64,
) -> Walk:
    """The last model of a text, elaborated."""
    models = list(load_module(Source("m.dnn", text)).models.values())
    return walk_model(models[-1], settings or {}, training=training, sizes=sizes, dtype=dtype)


def codes(text: str, **options: Any) -> list[str]:
    """The codes of the errors of a text."""
    return [d.code for d in diagnostics(text, **options)]


def diagnostics(text: str, **options: Any) -> list[Diagnostic]:
    """The errors of a text, each of which has a place."""
    with pytest.raises(DnnError) as caught:
        walk(text, **options)
    assert all(d.span is not None for d in caught.value.diagnostics)
    return caught.value.diagnostics


def shapes(walked: Walk) -> dict[str, str]:
    """Types of parameters and states by name."""
    return {n: str(d.variable.type) for n, d in walked.session.declared.items()}


class Net:
    """The last model of a text, with weights from a seed, run by the interpreter in f64."""

    def __init__(self, text: str, *, training: bool = False, seed: int = 3, **options: Any) -> None:
        self.walk = walk(text, training=training, **options)
        self.seed = np.array(seed, np.int64)
        network = build_network(self.walk)
        self.variables = interpret(network.initial, {"seed": self.seed})
        outputs = {n: t.value for n, t in self.walk.outputs.items()}
        updates = {n: d.next for n, d in self.walk.session.declared.items() if d.next is not None}
        inputs = {n: t.value for n, t in self.walk.inputs.items()}
        self.graph = graph_of("test", self.walk.session, outputs, inputs, updates)
        self.types = {n: t.type for n, t in self.walk.inputs.items()}

    def __call__(self, *, step: int = 1, **inputs: Any) -> Any:
        """Outputs for inputs, with the next states: the array where there is but one."""
        values: Arrays = {**self.variables, "seed": self.seed, "step": np.array(step, np.int64)}
        for name, value in inputs.items():
            values[name] = np.asarray(value, self.types[name].dtype.numpy)
        found = interpret(self.graph, values)
        return next(iter(found.values())) if len(found) == 1 else found


def run(body: str, outside: str = "", *, training: bool = False, **inputs: Any) -> Any:
    """The value `y` of a body over inputs, whose shapes are taken as they are."""
    arrays = {n: np.asarray(v) for n, v in inputs.items()}
    ports = []
    for name, array in arrays.items():
        dtype = "i64" if array.dtype.kind == "i" else "bool" if array.dtype.kind == "b" else "f64"
        listed = ", ".join(["batch", *map(str, array.shape[1:])])
        ports.append(f"in {name}: {dtype}[{listed}]")
    text = f"{outside}\nmodel M {{\n" + "\n".join(ports) + f"\nout y\n{body}\n}}"
    return Net(text, training=training)(**arrays)


class Measured:
    """Metrics of a model, evaluated over batches."""

    def __init__(self, text: str, fields: Mapping[str, np.ndarray], *metrics: str) -> None:
        self.fields = dict(fields)
        shapes = {n: FieldShape(DType.of(a), a.shape[1:]) for n, a in fields.items()}
        block = list(load_module(Source("m.dnn", text)).models.values())[-1]
        walked = walk_model(block, {}, training=False, dtype=DType.F64, fields=shapes)
        job = JobScope(walked, shapes)
        loss, *rest = (parse_expression(Source(f"<{m}>", m)) for m in metrics)
        self.evaluation: Evaluation = build_evaluation(job, loss, rest)
        network = build_network(walked)
        self.variables = interpret(network.initial, {"seed": np.array(0, np.int64)})

    def over(self, parts: Sequence[slice]) -> dict[str, float]:
        """The metrics from sums over these parts of the rows."""
        totals: Arrays = {}
        count = 0
        wanted = {item.name for item in self.evaluation.sums.inputs}
        for part in parts:
            batch = {n: a[part] for n, a in self.fields.items()}
            count += len(next(iter(batch.values())))
            given = {n: a for n, a in {**batch, **self.variables}.items() if n in wanted}
            for name, value in interpret(self.evaluation.sums, given).items():
                merge = _MERGE[self.evaluation.combine[name]]
                totals[name] = merge(totals[name], value) if name in totals else value
        totals["batch"] = np.array(count, np.int64)
        return {n: float(v) for n, v in interpret(self.evaluation.finish, totals).items()}


_MERGE = {"add": np.add, "max": np.maximum, "min": np.minimum}
