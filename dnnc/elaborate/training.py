"""A `train` job → the graphs of one training step and of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.diagnostics import Collector, DnnError, Span, closest
from dnnc.elaborate.metrics import build_evaluation
from dnnc.elaborate.network import FieldShape, Walk, build_network, graph_of, walk_model
from dnnc.elaborate.plan import EarlyStop, TrainingPlan, Variable
from dnnc.elaborate.session import Declared, PoisonError
from dnnc.elaborate.values import (
    BlockValue,
    Bundle,
    Env,
    Partial,
    Tensor,
    describe,
    is_number,
    plain,
)
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import NoGradientError
from dnnc.syntax import tree

__all__ = ["TrainOptions", "plan_training", "read_options"]

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
    walk = walk_model(block, settings, training=True, **make)  # type: ignore[arg-type]
    job = JobScope(walk, fields)
    session = walk.session
    with job.scheduled():
        loss = job.loss(options.loss)
        updates = job.updates(loss, options)
    used = dict(job.data)
    session.errors.raise_if_any()
    step = graph_of("step", session, {"loss": loss.value}, used, updates)

    predicting = walk_model(block, settings, training=False, **make)  # type: ignore[arg-type]
    network = build_network(predicting)
    evaluating = JobScope(predicting, fields)
    evaluation = build_evaluation(evaluating, options.loss, options.metrics)
    optimizer_states = {
        n: d for n, d in session.declared.items() if n not in predicting.session.declared
    }
    metric_names = evaluation.names
    stop, monitor, larger = _stopping(job, options, metric_names)
    field_names = dict.fromkeys([*used, *evaluating.data])
    return TrainingPlan(
        name=name,
        network=network,
        data=data,
        fields=tuple(field_names),
        step=step,
        optimizer_states={n: d.variable for n, d in optimizer_states.items()},
        initial_optimizer=_initial(optimizer_states, session.declared),
        evaluation=evaluation,
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
        target=_target(options.loss, walk, fields),
        stop=stop,
        monitor=monitor,
        monitor_larger=larger,
        learning_rate=job.rate,
        settings={
            "epochs": options.epochs,
            "batch": options.batch,
            "seed": options.seed,
            **{n: r.value.span.text for n, r in options.rules.items()},
        },
        span=span,
    )


class JobScope:
    """The names that a loss, a metric and an optimizer see: the model's, and the data's fields.

    `data` collects the fields that are used, with the inputs of the model.
    """

    def __init__(self, walk: Walk, fields: Mapping[str, FieldShape]) -> None:
        self.walk, self.el, self.session = walk, walk.elaborator, walk.session
        self.env = Env(walk.env)
        self.data: dict[str, Value] = {n: t.value for n, t in walk.inputs.items()}
        self.rate: Graph | None = None
        batch_axis = next(iter(walk.inputs.values())).axes[0]
        self._fields: dict[str, Value] = {}
        for name, shape in fields.items():
            if name in walk.inputs:
                continue
            dtype = self.session.dtype if shape.dtype.is_float else shape.dtype
            type_ = TensorType.make(dtype, (dim(walk.batch), *shape.shape))
            value = Value(type_, hint=name)
            axes = (batch_axis, *(None for _ in shape.shape))
            self._fields[name] = value
            if walk.env.local(name) is None:
                self.env.define(name, Tensor(value, axes, shape.span), shape.span)
        parameters = [d for d in self.session.declared.values() if d.role == "parameter"]
        tensors = [Tensor(d.value, (None,) * d.value.type.rank) for d in parameters]
        self.env.define("parameters", Bundle(tuple(tensors)), None)
        # Matrices and kernels: offsets and scales are not regularized.
        self.env.define("weights", Bundle(tuple(t for t in tensors if t.rank > 1)), None)

    def scheduled(self) -> _Scheduled:
        """A context in which `step` and `steps` are known."""
        return _Scheduled(self)

    def value(self, expression: tree.Expr) -> Any:
        try:
            result = self.el.expr(expression, self.env)
        except PoisonError:
            self.session.errors.raise_if_any()
            raise AssertionError("a value is missing without an error") from None
        self._note_fields(result)
        return result

    def _note_fields(self, result: Any) -> None:
        if isinstance(result, Tensor):
            from dnnc.ir.graph import sorted_nodes

            leaves = {o for n in sorted_nodes((result.value,)) for o in n.operands}
            for name, value in self._fields.items():
                if value in leaves or value is result.value:
                    self.data[name] = value

    def loss(self, expression: tree.Expr) -> Tensor:
        result = self.value(expression)
        if not isinstance(result, Tensor) or result.rank != 0 or not result.dtype.is_float:
            self.session.fail(
                "E409", f"a loss is one number of floating point, got {describe(result)}",
                expression.span, help="reduce it with `mean` or `sum`",
            )  # fmt: skip
        return result

    def gradients_of(self, loss: Tensor, wrt: list[Value], span: Span) -> list[Value]:
        try:
            return gradients(loss.value, wrt)
        except NoGradientError as error:
            raise self.session.error("E414", str(error), span) from None

    def updates(self, loss: Tensor, options: TrainOptions) -> dict[str, Value]:
        """Next values of parameters and states, by name."""
        session = self.session
        parameters = [d for d in session.declared.values() if d.role == "parameter"]
        states = [d for d in session.declared.values() if d.role == "state"]
        slopes = self.gradients_of(loss, [d.value for d in parameters], options.loss.span)
        grads = [
            Tensor(g, (None,) * g.type.rank) for g in slopes
        ]  # fmt: skip
        if options.clip is not None:
            grads = self.clipped(grads, options.clip)
        optimizer = self.optimizer(options.optimizer)
        updates: dict[str, Value] = {}
        for declared, grad in zip(parameters, grads, strict=True):
            updates.update(self.optimize(optimizer, declared, grad))
        for declared in states:
            value = self._next_state(declared)
            if value is not declared.value:
                updates[declared.variable.name] = value
        return updates

    def _next_state(self, declared: Declared) -> Value:
        return declared.next if declared.next is not None else declared.value

    def clipped(self, grads: list[Tensor], expression: tree.Expr) -> list[Tensor]:
        clip = self.value(expression)
        with self.session.at(expression.span):
            result = self.el.call(
                clip, [], {"gradients": Bundle(tuple(grads))}, expression.span, self.env
            )
        if not isinstance(result, Bundle) or len(result.tensors) != len(grads):
            self.session.fail(
                "E405", "`clip` makes gradients of gradients", expression.span,
                help="for example `clip = norm(1.0)` or `clip = value(0.5)`",
            )  # fmt: skip
        return list(result.tensors)

    def optimizer(self, expression: tree.Expr | None) -> Partial:
        """The optimizer with its settings evaluated once: a schedule is computed once a step."""
        span = expression.span if expression is not None else self.walk.block.definition.name_span
        value = self.value(expression) if expression is not None else self._named("adam")
        if isinstance(value, BlockValue):
            value = Partial(value, (), {}, span)
        is_optimizer = (
            isinstance(value, Partial)
            and isinstance(value.callee, BlockValue)
            and value.callee.definition.kind == "optimizer"
        )
        if not is_optimizer:
            self.session.fail(
                "E411", f"an optimizer is needed, got {describe(value)}", span,
                help="for example `optimizer = adam(lr = 1e-3)`",
            )  # fmt: skip
        callee = value.callee
        settings = callee.definition.settings
        bound = self.el.match(callee, settings, list(value.positional), value.named, span)
        env = Env(callee.env)
        with self.session.at(span):
            self.el.bind_settings(callee, bound, env, span)
        self._remember_rate(env)
        found = {s.name: env.find(s.name) for s in settings}
        named = {n: b.value for n, b in found.items() if b is not None}
        return Partial(callee, (), named, span)

    def _named(self, name: str) -> Any:
        binding = self.env.find(name)
        assert binding is not None
        return binding.value

    def _remember_rate(self, env: Env) -> None:
        binding = env.local("lr")
        if binding is None or not (is_number(binding.value) or isinstance(binding.value, Tensor)):
            return
        lr = self.el.lift(binding.value, self.session.dtype)
        inputs = (
            Input("step", self.session.step, "scalar"),
            Input("steps", self.session.steps, "scalar"),
        )
        self.rate = Graph("learning_rate", inputs, (Output("lr", lr.value),))

    def optimize(self, optimizer: Partial, declared: Declared, grad: Tensor) -> dict[str, Value]:
        """Run an optimizer's body for one parameter."""
        callee: BlockValue = optimizer.callee
        definition = callee.definition
        ports = [s for s in definition.body if isinstance(s, tree.Port)]
        names = [n for port in ports for n in port.names]
        if len(names) != 3 or any(p.direction != "in" for p in ports):
            self.session.fail(
                "E411", f"optimizer `{callee.name}` declares `in p, g, t`", definition.span,
                "the parameter, its gradient, and the step",
            )  # fmt: skip
        env = Env(callee.env)
        for name, value in optimizer.named.items():
            env.define(name, value, None)
        axes = (None,) * declared.value.type.rank
        parameter = Tensor(declared.value, axes, declared.variable.span)
        values = (parameter, grad, self.session.ambient["step"])
        for name, value in zip(names, values, strict=True):
            env.define(name, value, ports[0].span, rebindable=name == names[0])
        with self.session.frame("optimizer", callee.name, optimizer.span):
            states = self._optimizer_states(definition, declared, env)
            rest = [s for s in definition.body if not isinstance(s, tree.Port | tree.State)]
            before = len(self.session.errors.diagnostics)
            self.el.run(rest, env)
            if len(self.session.errors.diagnostics) > before:
                self.session.errors.raise_if_any()
            results = {declared.variable.name: self._fitted(env, names[0], declared, definition)}
            for name, state in states.items():
                results[state.variable.name] = self._fitted(env, name, state, definition)
        return results

    def _optimizer_states(
        self, definition: tree.Block, declared: Declared, env: Env
    ) -> dict[str, Declared]:
        states: dict[str, Declared] = {}
        for node in definition.body:
            if not isinstance(node, tree.State):
                continue
            type_ = declared.variable.type
            if node.shape is not None:
                type_, _ = self.el.declared_type(node.shape, node.name, env)
            full = f"optimizer.{node.name}/{declared.variable.name}"
            axes = (None,) * type_.rank
            with self.session.at(node.span):
                start = self.el.expr(node.start, env)
                if isinstance(start, Tensor):
                    initial = start.value
                else:
                    initial = self.el.initial(start, type_, axes, node.name)
            variable = Variable(full, type_, node.span)
            state = Declared(variable, Value(type_, hint=full), initial, "state")
            self.session.declared[full] = state
            states[node.name] = state
            env.define(node.name, Tensor(state.value, axes, node.span), node.span, rebindable=True)
        return states

    def _fitted(self, env: Env, name: str, target: Declared, definition: tree.Block) -> Value:
        binding = env.local(name)
        assert binding is not None
        value = binding.value
        if not isinstance(value, Tensor) or value.shape != target.variable.type.shape:
            self.session.fail(
                "E411", f"`{name}` becomes {describe(value)}, it is {target.variable.type}",
                definition.span,
            )  # fmt: skip
        return self.el.converted(value, target.variable.type.dtype).value


class _Scheduled:
    """Makes `step` and `steps` known, as floating-point scalars."""

    def __init__(self, job: JobScope) -> None:
        self.job = job

    def __enter__(self) -> None:
        session = self.job.session
        for name, value in (("step", session.step), ("steps", session.steps)):
            scalar = ops.cast(value, session.dtype)
            session.ambient[name] = Tensor(scalar, ())

    def __exit__(self, *_: object) -> None:
        for name in ("step", "steps"):
            self.job.session.ambient.pop(name, None)


def _initial(states: Mapping[str, Declared], declared: Mapping[str, Declared]) -> Graph:
    inputs = tuple(
        Input(n, d.value, "parameter") for n, d in declared.items() if d.role == "parameter"
    )
    outputs = tuple(Output(n, d.initial) for n, d in states.items())
    return Graph("initial_optimizer", inputs, outputs)


def _stopping(
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
            near = closest(key, ["patience", "monitor", "minimum_gain"])
            job.session.fail(
                "E405", f"`early` cannot take `{argument.span.text}`", argument.span,
                help=f"did you mean `{near}`?" if near and near != key
                else "settings: patience (from 1), monitor, minimum_gain (from 0)",
            )  # fmt: skip
    return EarlyStop(monitor, patience, gain, _larger(monitor))


def _monitor(job: JobScope, node: tree.Expr, names: tuple[str, ...]) -> str:
    if not isinstance(node, tree.Name) or node.name not in names:
        near = closest(node.span.text, names)
        job.session.fail(
            "E405", f"`{node.span.text}` is not measured", node.span,
            f"measured: {', '.join(names)}", f"did you mean `{near}`?" if near else None,
        )  # fmt: skip
    return node.name


def _larger(name: str) -> bool:
    """Whether more of a measure is better: so for all but losses and perplexity."""
    small = ("loss", "cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "kl")
    return not name.startswith((*small, "perplexity"))


def _target(
    loss: tree.Expr, walk: Walk, fields: Mapping[str, FieldShape]
) -> tuple[str, str] | None:
    """The pair (output, field) in the first call `f(output, field)` of a loss."""
    from dnnc.elaborate.resolve import walk_tree

    for node in walk_tree(loss):
        if isinstance(node, tree.Call) and len(node.arguments) >= 2:
            first, second = node.arguments[0].value, node.arguments[1].value
            if isinstance(first, tree.Name) and isinstance(second, tree.Name):
                if first.name in walk.outputs and second.name in fields:
                    return first.name, second.name
    return None
