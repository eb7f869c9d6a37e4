"""Blocks: applying a definition to tensors, as a layer of the network."""

from __future__ import annotations

from typing import Any

from dnnc.diagnostics import DnnError, Note, Span
from dnnc.elaborate.plan import Layer
from dnnc.elaborate.session import LAYER_LIMIT, ExhaustedError, PoisonError
from dnnc.elaborate.shapes import check_shape, match_shape
from dnnc.elaborate.statements import Statements, bound_inside
from dnnc.elaborate.values import (
    BlockValue,
    ChainValue,
    Env,
    Instance,
    Partial,
    Poison,
    Tensor,
    describe,
    is_number,
)
from dnnc.syntax import tree

__all__ = ["Elaborator"]


class Elaborator(Statements):
    """Elaborates everything: expressions, statements and blocks."""

    def call_block(
        self,
        callee: BlockValue | ChainValue,
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
        branches: list[ChainValue],
        name: str | None,
        env: Env,
    ) -> Any:
        if isinstance(callee, ChainValue):
            return self.call_chain(callee, positional, named, span)
        definition = callee.definition
        if definition.kind == "optimizer":
            if positional and isinstance(positional[0], Tensor) and positional[0].rank:
                self.session.fail("E311", f"`{callee.name}` is an optimizer, not a layer", span)
            return Partial(callee, tuple(positional), named, span)
        if not positional or not isinstance(positional[0], Tensor):
            if positional and self.graphic(positional[0]) is False and not is_number(positional[0]):
                self.session.fail(
                    "E311", f"`{callee.name}` is applied to {describe(positional[0])}"
                )
            # A block with settings but no input yet: `activation = prelu`, `layer = dense(64)`.
            return Partial(callee, tuple(positional), named, span)
        tensors = self.inputs(callee, positional[0], named, span)
        settings = [setting.name for setting in definition.settings]
        bound = self.match(callee, settings, positional[1:], named, span)
        return self.apply_block(callee, tensors, bound, span, branches, name, env)

    def inputs(
        self, callee: BlockValue, first: Tensor, named: dict[str, Any], span: Span
    ) -> dict[str, Any]:
        """What a block is applied to, by the names of its inputs; taken out of `named`."""
        ports = [
            (port, name) for port in callee.definition.body if isinstance(port, tree.Port)
            and port.direction == "in" for name in port.names
        ]  # fmt: skip
        if not ports:
            self.session.fail("E311", f"`{callee.name}` has no input", span)
        tensors: dict[str, Any] = {ports[0][1]: first}
        for port, name in ports[1:]:
            if name not in named:
                self.session.fail(
                    "E104", f"`{callee.name}` needs the input `{name}`", span,
                    help=f"give it by name: `{callee.name}({name} = …)`",
                    notes=(Note(f"`{name}` is declared here", port.span),),
                )  # fmt: skip
            tensors[name] = named.pop(name)
        return tensors

    def call_chain(
        self, callee: ChainValue, positional: list[Any], named: dict[str, Any], span: Span
    ) -> Any:
        if len(positional) != 1 or named:
            self.session.fail("E103", "a chain of blocks takes one tensor", span)
        value = positional[0]
        for stage in callee.chain.stages:
            value = self.stage(stage, value, callee.env)
        return value

    def apply_block(
        self,
        callee: BlockValue,
        tensors: dict[str, Any],
        bound: dict[str, Any],
        span: Span,
        branches: list[ChainValue],
        name: str | None,
        env: Env,
    ) -> Any:
        session = self.session
        if len(session.layers) >= LAYER_LIMIT:
            session.exhausted(
                f"more than {LAYER_LIMIT:,} layers", span, "given up here",
                "a layer stands for one application of a block",
            )  # fmt: skip
        label = session.instance_name(callee.name, name)
        inner = Env(callee.env)
        instance = Instance(session.dotted(label), callee.name, span=span)
        inner.define("$layer", instance, None)
        session.path.append(label)
        errors = len(session.errors.diagnostics)
        index = len(session.layers)
        session.layers.append(Layer(instance.path, callee.name, 0, None, session.user_span(span)))
        try:
            with session.frame(callee.definition.kind, callee.name, span), session.at(span):
                self.bind_settings(callee, bound, inner, span)
                inner.define("branches", branches, None)
                results = self.run_block(callee.definition, tensors, inner, span)
                self.keep_states(instance, inner)
        finally:
            session.path.pop()
        if len(session.errors.diagnostics) > errors:
            raise PoisonError
        first = next(iter(results.values()))
        own = session.own.get(instance.path, 0)
        session.layers[index] = Layer(
            instance.path, callee.name, own, first.type, session.user_span(span)
        )
        if name is not None:
            self.name_layer(name, instance, span, env)
        return first if len(results) == 1 else list(results.values())

    def name_layer(self, name: str, instance: Instance, span: Span, env: Env) -> None:
        """`as name`: the last layer of a name is the one that is meant by it."""
        existing = env.local(name)
        if existing is not None and isinstance(existing.value, Instance):
            existing.value = instance
        else:
            self.assign(name, instance, span, env)
        self.member(name, instance, env)

    def keep_states(self, instance: Instance, env: Env) -> None:
        """What the states of a layer have been bound to is their next value."""
        prefix = f"{instance.path}." if instance.path else ""
        for name, binding in env.names.items():
            declared = self.session.declared.get(prefix + name)
            if declared is None or declared.role != "state" or not binding.rebindable:
                continue
            value = binding.value
            if not isinstance(value, Tensor) or value.shape != declared.variable.type.shape:
                if isinstance(value, Poison):
                    continue
                self.session.fail(
                    "E308", f"state `{name}` is {declared.variable.type}, it becomes "
                    f"{describe(value)}", binding.span,
                )  # fmt: skip
            declared.next = self.converted(value, declared.variable.type.dtype).value

    def bind_settings(
        self, callee: BlockValue, bound: dict[str, Any], env: Env, span: Span
    ) -> None:
        for setting in callee.definition.settings:
            if setting.name in bound:
                value = bound[setting.name]
            elif setting.default is not None:
                value = self.expr(setting.default, env)
            else:
                self.session.fail(
                    "E104", f"{describe(callee)} needs the setting `{setting.name}`", span,
                    help=f"give it: `{callee.name}({setting.name} = …)`",
                    notes=(Note(f"`{setting.name}` is declared here", setting.span),),
                )  # fmt: skip
            env.define(setting.name, value, setting.span)

    def run_block(
        self, definition: tree.Block, tensors: dict[str, Any], env: Env, span: Span
    ) -> dict[str, Tensor]:
        """Run a block's body with its inputs bound; the outputs by name."""
        ports = [s for s in definition.body if isinstance(s, tree.Port)]
        rest = [s for s in definition.body if not isinstance(s, tree.Port)]
        early = [
            s for s in rest if isinstance(s, tree.Require) and s.span.start < ports[0].span.start
        ]
        self.run(early, env)
        first: Tensor | None = None
        for port in ports:
            if port.direction != "in":
                continue
            for name in port.names:
                tensor = self.input_port(port, name, tensors[name], env)
                first = first or tensor
                env.define(name, tensor, port.span)
        self.run([s for s in rest if s not in early], env)
        outputs = [(n, port) for port in ports if port.direction == "out" for n in port.names]
        if not outputs:
            self.session.fail("E312", f"`{definition.name}` has no `out` port", definition.span)
        results: dict[str, Tensor] = {}
        for name, port in outputs:
            try:
                self.require_bound(definition, port, name, env)
                results[name] = self.output_port(port, name, env, first)
            except ExhaustedError:
                raise
            except DnnError as error:
                self.session.errors.add(error)
            except PoisonError:
                pass  # reported where the output was to be bound
        if len(results) < len(outputs):
            raise PoisonError
        return results

    def input_port(self, port: tree.Port, name: str, value: Any, env: Env) -> Tensor:
        if not isinstance(value, Tensor):
            self.session.fail("E311", f"input `{name}` is given {describe(value)}")
        if port.shape is None:
            return value
        dtype = self.dtype(port.shape) if port.shape.dtype else None
        if dtype is not None and dtype is not value.dtype:
            if dtype.is_integer and value.dtype.is_integer:
                value = self.converted(value, dtype)
            else:
                self.session.fail(
                    "E202", f"input `{name}` is {dtype}, got {value.type}", notes=(
                        Note(f"`{name}` is declared here", port.span),
                        *self.session.made_at(value),
                    ),
                    help=f"convert it with `cast(…, {dtype})`",
                )  # fmt: skip
        return match_shape(self, port.shape, value, name, env)

    def require_bound(self, definition: tree.Block, port: tree.Port, name: str, env: Env) -> None:
        """E313 where an output has no value."""
        if env.local(name) is None:
            help = f"bind it: `{name} = …`"
            if bound_inside(definition.body, name):
                help = f"bind `{name}` before the loop as well, and each round carries it on"
            self.session.fail(
                "E313", f"the output `{name}` is never given a value", port.span, help=help
            )

    def output_port(self, port: tree.Port, name: str, env: Env, first: Tensor | None) -> Tensor:
        binding = env.local(name)
        assert binding is not None
        if isinstance(binding.value, Poison):
            raise PoisonError
        if not isinstance(binding.value, Tensor):
            self.session.fail(
                "E313", f"the output `{name}` is {describe(binding.value)}, not a tensor",
                binding.span, notes=(Note(f"`{name}` is declared here", port.span),),
            )  # fmt: skip
        if port.shape is None:
            return binding.value
        tensor, place = binding.value, binding.span or port.span
        if port.shape.dtype and self.dtype(port.shape) is not tensor.dtype:
            self.session.fail(
                "E202", f"`{name}` is declared {port.shape.dtype}, but is {tensor.type}", place,
                f"this is {tensor.type}", f"convert it with `cast(…, {port.shape.dtype})`",
                (Note(f"`{name}` is declared here", port.shape.span),),
            )  # fmt: skip
        with self.session.at(place):
            return check_shape(self, port.shape, tensor, name, env, first)
