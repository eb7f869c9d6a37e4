"""Early stopping, and the measure by which the best weights are chosen."""

from __future__ import annotations

from dnnc.diagnostics import suggestion
from dnnc.elaborate.options import TrainOptions
from dnnc.elaborate.plan import EarlyStop
from dnnc.elaborate.scope import JobScope
from dnnc.elaborate.values import (
    plain,
)
from dnnc.syntax import tree

__all__ = ["stopping"]


def stopping(
    job: JobScope, options: TrainOptions, names: tuple[str, ...]
) -> tuple[EarlyStop | None, str, bool]:
    """Early stopping, and what the best weights are chosen by."""
    stop = None
    if options.stop is not None:
        node = options.stop
        called = isinstance(node, tree.Call) and isinstance(node.callee, tree.Name)
        if not called or node.callee.name != "early":  # type: ignore[union-attr]
            job.session.fail(
                "E405", "`stop` is `early(patience = 5)`", node.span,
                help="settings: patience, monitor, minimum_gain",
            )  # fmt: skip
        stop = _early(job, node, names)  # type: ignore[arg-type]
    monitor = stop.monitor if stop is not None else names[0]
    if options.monitor is not None:
        monitor = _monitor(job, options.monitor, names)
    return stop, monitor, _larger(monitor)


def _early(job: JobScope, node: tree.Call, names: tuple[str, ...]) -> EarlyStop:
    patience, gain, monitor = 5, 0.0, names[0]
    for position, argument in enumerate(node.arguments):
        key = argument.name or ("patience" if position == 0 else "")
        if key == "monitor":
            monitor = _monitor(job, argument.value, names)
            continue
        value = plain(job.value(argument.value))
        if key == "patience" and isinstance(value, int) and value > 0:
            patience = value
        elif key == "minimum_gain" and isinstance(value, int | float) and value >= 0:
            gain = float(value)
        else:
            settings = ("patience", "monitor", "minimum_gain")
            remedy = "settings: patience (from 1), monitor, minimum_gain (from 0)"
            job.session.fail(
                "E405", f"`early` cannot take `{argument.span.text}`", argument.span,
                help=remedy if key in settings else suggestion(key, settings, remedy),
            )  # fmt: skip
    return EarlyStop(monitor, patience, gain, _larger(monitor))


def _monitor(job: JobScope, node: tree.Expr, names: tuple[str, ...]) -> str:
    if not isinstance(node, tree.Name) or node.name not in names:
        job.session.fail(
            "E405", f"`{node.span.text}` is not measured", node.span,
            f"measured: {', '.join(names)}", suggestion(node.span.text, names),
        )  # fmt: skip
    return node.name


def _larger(name: str) -> bool:
    """Whether more of a measure is better: so for all but losses and perplexity."""
    small = ("loss", "cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "kl")
    return not name.startswith((*small, "perplexity"))
