"""Options of a `train` job, as written in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dnnc.diagnostics import Collector, suggestion
from dnnc.elaborate.elaborator import Elaborator
from dnnc.elaborate.session import Session
from dnnc.elaborate.values import (
    Env,
    describe,
    plain,
)
from dnnc.ir.types import DType
from dnnc.syntax import tree

__all__ = ["TrainOptions", "read_options"]

_OPTIONS = (
    "loss", "optimizer", "clip", "metrics", "epochs", "batch", "seed", "stop", "monitor", "dtype",
)  # fmt: skip


@dataclass(slots=True)
class TrainOptions:
    """Options of a `train` job, as written."""

    loss: tree.Expr
    optimizer: tree.Expr | None = None
    clip: tree.Expr | None = None
    metrics: list[tree.Expr] = field(default_factory=list)
    epochs: int = 1
    batch: int = 32
    seed: int = 0
    stop: tree.Expr | None = None
    monitor: tree.Expr | None = None
    dtype: DType = DType.F32
    rules: dict[str, tree.Rule] = field(default_factory=dict)

    def written(self) -> dict[str, Any]:
        """Options by name as the file has them, for the record of a run."""
        texts = {name: rule.value.span.text for name, rule in self.rules.items()}
        return {"epochs": self.epochs, "batch": self.batch, "seed": self.seed, **texts}


def read_options(job: tree.Job, env: Env, errors: Collector) -> TrainOptions | None:
    """The options of a job, None where it has no loss.

    Those that are unknown, missing or wrong are added to `errors` and left at their defaults.
    """
    el = Elaborator(Session(training=True, errors=errors))
    rules = _rules(job, el, errors)
    if "loss" not in rules:
        return None
    options = TrainOptions(loss=rules["loss"].value, rules=rules)
    for name, least in (("epochs", 1), ("batch", 1), ("seed", 0)):
        if name in rules:
            with el.session.collecting(errors):
                setattr(options, name, _whole(name, least, rules[name].value, el, env))
    for name in ("optimizer", "clip", "stop", "monitor"):
        if name in rules:
            setattr(options, name, rules[name].value)
    if "dtype" in rules:
        with el.session.collecting(errors):
            options.dtype = _dtype(rules["dtype"].value, el, env)
    if "metrics" in rules:
        value = rules["metrics"].value
        options.metrics = list(value.items) if isinstance(value, tree.ListExpr) else [value]
    return options


def _rules(job: tree.Job, el: Elaborator, errors: Collector) -> dict[str, tree.Rule]:
    fail = el.session.error
    rules: dict[str, tree.Rule] = {}
    for entry in job.entries:
        if not isinstance(entry, tree.Rule):
            errors.add(fail("E403", "a `train` job has options only", entry.span))
        elif entry.key not in _OPTIONS:
            errors.add(
                fail(
                    "E403", f"`train` has no option `{entry.key}`", entry.span,
                    f"its options: {', '.join(_OPTIONS)}",
                    suggestion(entry.key, _OPTIONS),
                )
            )  # fmt: skip
        elif entry.key in rules:
            errors.add(fail("E106", f"`{entry.key}` is given twice", entry.span))
        else:
            rules[entry.key] = entry
    if "loss" not in rules:
        example = "for example `loss = cross_entropy(logits, label)`"
        errors.add(fail("E404", "`train` needs a `loss`", job.span, help=example))
    return rules


def _whole(name: str, least: int, node: tree.Expr, el: Elaborator, env: Env) -> int:
    value = plain(el.expr(node, env))
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        el.session.fail(
            "E405", f"`{name}` is a whole number of at least {least}, got {describe(value)}",
            node.span,
        )  # fmt: skip
    return value


def _dtype(node: tree.Expr, el: Elaborator, env: Env) -> DType:
    value = el.expr(node, env)
    if value not in (DType.F32, DType.F64):
        el.session.fail("E405", f"`dtype` is f32 or f64, got {describe(value)}", node.span)
    return DType(value)
