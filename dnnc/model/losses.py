"""Graphs that a loss makes of a model: gradients, training steps, first states of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping

from dnnc.autodiff import gradients
from dnnc.diagnostics import Collector
from dnnc.elaborate.network import FieldShape, Walk, graph_of
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.scope import JobScope
from dnnc.elaborate.values import Tensor
from dnnc.ir.graph import Graph, Input, Output, Value, uncollected
from dnnc.syntax import tree

__all__ = ["LOSS", "first_states", "gradients_graph", "step_graph"]

#: The loss among the outputs, under a name that no parameter can have.
LOSS = "$loss"


def gradients_graph(walk: Walk, fields: Mapping[str, FieldShape], loss: tree.Expr) -> Graph:
    """The loss, and its gradient by each parameter under the parameter's name."""
    job, session, errors = JobScope(walk, fields), walk.session, Collector()
    with session.collecting(errors), job.scheduled():
        value = job.loss(loss).value
    errors.raise_if_any()
    wanted = {n: d.value for n, d in session.declared.items() if d.role == "parameter"}
    slopes = gradients(value, list(wanted.values()))
    outputs = {LOSS: value, **dict(zip(wanted, slopes, strict=True))}
    return graph_of("gradients", session, outputs, job.data)


def step_graph(walk: Walk, fields: Mapping[str, FieldShape], options: TrainOptions) -> Graph:
    """The loss, and the updates of parameters, states and the optimizer's states."""
    job, session, errors = JobScope(walk, fields), walk.session, Collector()
    with uncollected(), session.collecting(errors), job.scheduled():
        loss = job.loss(options.loss)
        updates = job.updates(loss, job.optimizer(options.optimizer), options.clip)
    errors.raise_if_any()
    return graph_of("step", session, {LOSS: loss.value}, job.data, updates)


def first_states(walk: Walk, options: TrainOptions) -> Graph:
    """The optimizer's states before the first step, by name, from the parameters. The walk is left
    as it was."""
    job, session, errors = JobScope(walk, {}), walk.session, Collector()
    own = dict(session.declared)
    parameters = {n: d for n, d in own.items() if d.role == "parameter"}
    with uncollected(), session.collecting(errors), job.scheduled():
        optimizer = job.optimizer(options.optimizer)
        for declared in parameters.values():
            slope = Value(declared.value.type)
            job.optimize(optimizer, declared, Tensor(slope, (None,) * slope.type.rank))
    errors.raise_if_any()
    inputs = tuple(Input(n, d.value, "parameter") for n, d in parameters.items())
    states = {n: d for n, d in session.declared.items() if n not in own}
    for name in states:
        del session.declared[name]
    return Graph("first_states", inputs, tuple(Output(n, d.initial) for n, d in states.items()))
