"""A `train` job → the graphs of one training step and of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Span
from dnnc.elaborate.metrics import build_evaluation
from dnnc.elaborate.network import FieldShape, Walk, build_network, graph_of, walk_model
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.plan import TrainingPlan
from dnnc.elaborate.resolve import AMBIENT, names_bound, unknown_names, walk_tree
from dnnc.elaborate.scope import JobScope
from dnnc.elaborate.session import Declared
from dnnc.elaborate.stopping import stopping
from dnnc.elaborate.values import (
    BlockValue,
    Env,
)
from dnnc.ir.graph import Graph, Input, Output
from dnnc.syntax import tree

__all__ = ["plan_training"]


def plan_training(
    block: BlockValue,
    settings: Mapping[str, Any],
    fields: Mapping[str, FieldShape],
    options: TrainOptions,
    *,
    name: str,
    data: str,
    env: Env,
    span: Span | None = None,
    sizes: Mapping[str, int] | None = None,
) -> TrainingPlan:
    """Everything that training needs; raises DnnError with every independent error."""
    make = {"dtype": options.dtype, "fields": fields, "sizes": sizes, "span": span}
    errors = Collector(_unknown_names(block, fields, options))
    try:
        walk = walk_model(block, settings, training=True, **make)  # type: ignore[arg-type]
        predicting = walk_model(block, settings, training=False, **make)  # type: ignore[arg-type]
    except DnnError as error:
        errors.add(error)
        raise DnnError(errors.diagnostics) from None
    errors.raise_if_any()
    job, evaluating = JobScope(walk, fields), JobScope(predicting, fields)
    with predicting.session.collecting(errors):
        evaluation = build_evaluation(evaluating, options.loss, options.metrics)
        stop, monitor, larger = stopping(evaluating, options, evaluation.names)
    step = _step(job, options, errors)
    declared, own = walk.session.declared, predicting.session.declared
    states = {name: state for name, state in declared.items() if name not in own}
    return TrainingPlan(
        name=name,
        network=build_network(predicting),
        data=data,
        fields=tuple(dict.fromkeys([*job.data, *evaluating.data])),
        step=step,
        optimizer_states={n: d.variable for n, d in states.items()},
        initial_optimizer=_initial(states, declared),
        evaluation=evaluation,
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
        target=_target(options.loss, walk, fields),
        stop=stop,
        monitor=monitor,
        monitor_larger=larger,
        learning_rate=job.rate,
        settings=options.written(),
        span=span,
    )


def _step(job: JobScope, options: TrainOptions, errors: Collector) -> Graph:
    """One training step; raises DnnError with `errors` and its own."""
    session = job.session
    with session.collecting(errors), job.scheduled():
        optimizer = job.optimizer(options.optimizer)
    with session.collecting(errors), job.scheduled():
        loss = job.loss(options.loss)
    errors.raise_if_any()
    with session.collecting(errors), job.scheduled():
        updates = job.updates(loss, optimizer, options.clip)
    errors.raise_if_any()
    return graph_of("step", session, {"loss": loss.value}, job.data, updates)


def _unknown_names(
    block: BlockValue, fields: Mapping[str, FieldShape], options: TrainOptions
) -> list[Diagnostic]:
    """Errors for names in the options that neither the file nor model nor data can have."""
    known = {*block.env.visible(), *AMBIENT, *names_bound(block.definition), *fields}
    known |= {"weights", "parameters"}
    written = (options.loss, options.optimizer, options.clip, *options.metrics)
    return [error for node in written for error in unknown_names(node, known)]


def _initial(states: Mapping[str, Declared], declared: Mapping[str, Declared]) -> Graph:
    inputs = tuple(
        Input(n, d.value, "parameter") for n, d in declared.items() if d.role == "parameter"
    )
    outputs = tuple(Output(n, d.initial) for n, d in states.items())
    return Graph("initial_optimizer", inputs, outputs)


def _target(
    loss: tree.Expr, walk: Walk, fields: Mapping[str, FieldShape]
) -> tuple[str, str] | None:
    """The pair (output, field) in the first call `f(output, field)` of a loss."""
    for node in walk_tree(loss):
        if isinstance(node, tree.Call) and len(node.arguments) >= 2:
            first, second = node.arguments[0].value, node.arguments[1].value
            if not isinstance(first, tree.Name) or not isinstance(second, tree.Name):
                continue
            if first.name in walk.outputs and second.name in fields:
                return first.name, second.name
    return None
