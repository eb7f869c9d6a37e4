"""The scope of a job: the names that losses, metrics and optimizers see, and what they make of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.diagnostics import DnnError
from dnnc.elaborate.network import FieldShape, Walk
from dnnc.elaborate.plan import Variable
from dnnc.elaborate.session import Declared, PoisonError
from dnnc.elaborate.values import (
    BlockValue,
    Bundle,
    Env,
    Partial,
    Tensor,
    callable_value,
    describe,
    is_number,
)
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value, sorted_nodes
from dnnc.ir.types import TensorType
from dnnc.syntax import tree

__all__ = ["JobScope"]


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
            raise DnnError(self.session.errors.diagnostics) from None
        self._note_fields(result)
        return result

    def _note_fields(self, result: Any) -> None:
        if isinstance(result, Tensor):
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

    def updates(self, loss: Tensor, optimizer: Partial, clip: tree.Expr | None) -> dict[str, Value]:
        """Next values of parameters and states, by name."""
        session = self.session
        parameters = [d for d in session.declared.values() if d.role == "parameter"]
        states = [d for d in session.declared.values() if d.role == "state"]
        slopes = gradients(loss.value, [d.value for d in parameters])
        grads = [Tensor(g, (None,) * g.type.rank) for g in slopes]
        if clip is not None:
            grads = self.clipped(grads, clip)
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
        clip, result = self.value(expression), None
        if callable_value(clip):
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
        names = [setting.name for setting in settings]
        bound = self.el.match(callee, names, list(value.positional), value.named, span)
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
                raise DnnError(self.session.errors.diagnostics)
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
                binding.span,
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
