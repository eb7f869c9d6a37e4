"""Options of a `train` job, as written in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnc.diagnostics import Collector, DnnError, Span, closest
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


def read_options(
    job: tree.Job, env: Env, walk_errors: Collector, overrides: Mapping[str, Any]
) -> TrainOptions:
    """The options of a job; unknown, doubled, missing and wrong ones go to `walk_errors`."""
    from dnnc.elaborate.elaborator import Elaborator
    from dnnc.elaborate.session import Session

    el = Elaborator(Session(training=True, errors=walk_errors))
    fail = el.session.error
    rules: dict[str, tree.Rule] = {}
    for entry in job.entries:
        if not isinstance(entry, tree.Rule):
            walk_errors.add(fail("E403", "a `train` job has options only", entry.span))
        elif entry.key not in _OPTIONS:
            near = closest(entry.key, _OPTIONS)
            walk_errors.add(
                fail(
                    "E403", f"`train` has no option `{entry.key}`", entry.span,
                    f"its options: {', '.join(_OPTIONS)}",
                    f"did you mean `{near}`?" if near else None,
                )
            )  # fmt: skip
        elif entry.key in rules:
            walk_errors.add(fail("E106", f"`{entry.key}` is given twice", entry.span))
        else:
            rules[entry.key] = entry
    if "loss" not in rules:
        walk_errors.add(
            fail("E404", "`train` needs a `loss`", job.span, help="for example "
                 "`loss = cross_entropy(logits, label)`")
        )  # fmt: skip
    walk_errors.raise_if_any()
    options = TrainOptions(loss=rules["loss"].value, rules=rules)
    for name, least in (("epochs", 1), ("batch", 1), ("seed", 0)):
        value: Any = overrides.get(name)
        place = rules[name].value.span if name in rules else job.span
        if value is None and name in rules:
            try:
                value = plain(el.expr(rules[name].value, env))
            except DnnError as error:
                walk_errors.add(error)
                continue
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
            walk_errors.add(
                fail("E405", f"`{name}` is a whole number of at least {least}, got "
                     f"{describe(value)}", place)
            )  # fmt: skip
            continue
        setattr(options, name, value)
    for name in ("optimizer", "clip", "stop", "monitor"):
        if name in rules:
            setattr(options, name, rules[name].value)
    if "dtype" in rules:
        options.dtype = _dtype(el.expr(rules["dtype"].value, env), fail, rules["dtype"].value.span)
    if "metrics" in rules:
        value = rules["metrics"].value
        options.metrics = list(value.items) if isinstance(value, tree.ListExpr) else [value]
    walk_errors.raise_if_any()
    return options


def _dtype(value: Any, fail: Callable[..., DnnError], span: Span) -> DType:
    if value not in (DType.F32, DType.F64):
        raise fail("E405", f"`dtype` is f32 or f64, got {describe(value)}", span)
    return value  # type: ignore[no-any-return]
