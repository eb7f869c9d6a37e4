"""Expressions: a tree and names in scope → numbers, functions and tensors.

What is known when compiling is computed; what is not becomes nodes of the graph. `Expressions`
knows nothing of blocks: `Elaborator` completes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnnc import ops
from dnnc.diagnostics import DnnError, Span, listing, suggestion
from dnnc.elaborate.arithmetic import Arithmetic
from dnnc.elaborate.operands import explain_operands
from dnnc.elaborate.session import PoisonError, Session, is_library
from dnnc.elaborate.values import (
    BlockValue,
    ChainValue,
    Env,
    FunctionValue,
    Instance,
    Namespace,
    Partial,
    Poison,
    Tensor,
    callable_value,
    count_of,
    describe,
    is_number,
    plain,
    quoted,
)
from dnnc.ir.dims import dim
from dnnc.ir.types import DType
from dnnc.syntax import tree

__all__ = ["Expressions"]


class Expressions(Arithmetic):
    """Evaluates expressions within a session."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.argument_spans: dict[str, Span] = {}

    # Supplied by the elaborator of blocks.
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
        raise NotImplementedError

    def run_function(self, callee: FunctionValue, env: Env, span: Span) -> Any:
        raise NotImplementedError

    # --- dispatch ---------------------------------------------------------------------------------

    def expr(self, node: tree.Expr, env: Env) -> Any:
        """The value of an expression; DnnError where it has none."""
        session = self.session
        outer, scope = session.here, session.scope
        session.here, session.scope = node.span, env
        try:
            session.spend(1)
            return self._expr(node, env)
        finally:
            session.here, session.scope = outer, scope

    def _expr(self, node: tree.Expr, env: Env) -> Any:  # noqa: C901 - one line a kind of node
        match node:
            case tree.Name():
                return self.name(node, env)
            case tree.Number() | tree.String() | tree.Boolean():
                return node.value
            case tree.Group():
                return self.expr(node.value, env)
            case tree.Attribute():
                return self.attribute(self.expr(node.value, env), node)
            case tree.Index():
                return self.index(self.expr(node.value, env), self.expr(node.index, env), node)
            case tree.Unary():
                return self.unary(node, env)
            case tree.Binary():
                return self.binary_node(node, env)
            case tree.Conditional():
                return self.conditional(node, env)
            case tree.ListExpr():
                return [self.expr(item, env) for item in node.items]
            case tree.Call():
                callee = self.callee(node.callee, env)
                positional, named = self.arguments(node.arguments, env)
                return self.call(callee, positional, named, node.callee.span, env)
            case tree.Pipe():
                first, stages = node.unroll()
                value = self.expr(first, env)
                for stage in stages:
                    value = self.stage(stage, value, env)
                return value
        raise AssertionError(node)

    def stage(self, stage: tree.Stage, value: Any, env: Env) -> Any:
        """`value -> stage`."""
        with self.session.at(stage.span):
            callee = self.callee(stage.callee, env)
            positional, named = self.arguments(stage.arguments, env)
            branches = [ChainValue(chain, env) for chain in stage.branches]
            return self.call(
                callee, [value, *positional], named, stage.callee.span, env, branches, stage.name
            )

    def arguments(
        self, nodes: Sequence[tree.Argument], env: Env
    ) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        spans = {node.name: node.span for node in nodes if node.name is not None}
        for node in nodes:
            value = self.expr(node.value, env)
            if node.name is None:
                if named:
                    self.session.fail(
                        "E105", "a positional argument follows a named one", node.span,
                        help="write the arguments without names first",
                    )  # fmt: skip
                positional.append(value)
            elif node.name in named:
                self.session.fail("E106", f"`{node.name}` is given twice", node.span)
            else:
                named[node.name] = value
        self.argument_spans = spans
        return positional, named

    def argument_span(self, name: str, call: Span) -> Span:
        """The place of a named argument of the call that is about to run."""
        span = self.argument_spans.get(name)
        inside = span is not None and span.source is call.source and span.start >= call.start
        return span if inside and span is not None else call

    # --- names ------------------------------------------------------------------------------------

    def name(self, node: tree.Name, env: Env) -> Any:
        binding = env.find(node.name)
        in_library = binding is None or binding.span is None or is_library(binding.span)
        if in_library and node.name in self.session.ambient:
            # Inside a schedule, `step` is the number of the step, not the schedule of that name.
            return self.session.ambient[node.name]
        if binding is None:
            help = suggestion(node.name, [*env.visible(), *self.session.ambient])
            if node.name in ("step", "steps"):
                help = "`step` and `steps` are known only to schedules and optimizers"
            self.session.fail("E101", f"unknown name `{node.name}`", node.span, "not found", help)
        if isinstance(binding.value, Poison):
            raise PoisonError
        return binding.value

    def callee(self, node: tree.Expr, env: Env) -> Any:
        """What is called: a tensor named `mean` does not hide the function `mean`."""
        if isinstance(node, tree.Name):
            for value in env.meanings(node.name):
                if callable_value(value):
                    return value
        return self.expr(node, env)

    def attribute(self, value: Any, node: tree.Attribute) -> Any:
        if isinstance(value, Namespace):
            members = {name: b.value for name, b in value.env.names.items()}
        elif isinstance(value, Instance):
            members = value.members
        else:
            help = "attributes belong to layers named with `as` and to imported files"
            scope = self.session.scope
            if scope is not None and any(map(callable_value, scope.meanings(node.name))):
                help = f"apply it by `->`: `… -> {node.name}`"
            self.session.fail("E107", f"{describe(value)} has no attributes", node.span, help=help)
        if node.name not in members:
            known = listing(sorted(members)) or "nothing"
            self.session.fail(
                "E107", f"{describe(value)} has no `{node.name}`", node.span, f"it has {known}",
                suggestion(node.name, members),
            )  # fmt: skip
        return members[node.name]

    def index(self, value: Any, index: Any, node: tree.Index) -> Any:
        position = plain(index)
        if not isinstance(value, list | tuple | Tensor):
            self.session.fail("E108", f"{describe(value)} has no elements", node.span)
        if not isinstance(position, int) or isinstance(position, bool):
            self.session.fail(
                "E108", f"an element is named by a whole number, got {describe(index)}",
                node.index.span,
            )  # fmt: skip
        if isinstance(value, Tensor):
            return self.row(value, position, node)
        if not -len(value) <= position < len(value):
            self.session.fail(
                "E108", f"element {position} of a list of {len(value)}", node.span,
                f"from 0 to {len(value) - 1}" if value else "the list is empty",
            )  # fmt: skip
        return value[position]

    def row(self, x: Tensor, position: int, node: tree.Index) -> Tensor:
        """`x[position]`, without its first axis."""
        if x.rank == 0:
            self.session.fail("E108", "a scalar has no elements", node.span)
        start = dim(position) if position >= 0 else x.shape[0] + position
        sliced = self.emit(ops.slice, x.value, axis=0, start=start, stop=start + 1)
        return self.reshaped(self.tensor(sliced, x.axes), x.shape[1:], x.axes[1:])

    # --- calls ------------------------------------------------------------------------------------

    def call(
        self,
        callee: Any,
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
        env: Env,
        branches: list[ChainValue] | None = None,
        name: str | None = None,
    ) -> Any:
        """Apply anything that can be called."""
        if isinstance(callee, Partial):
            first = positional[:1] if isinstance(callee.callee, BlockValue) else []
            rest = positional[len(first) :]
            positional = [*first, *callee.positional, *rest]
            named = {**callee.named, **named}
            return self.call(callee.callee, positional, named, span, env, branches, name)
        if isinstance(callee, BlockValue | ChainValue):
            return self.call_block(callee, positional, named, span, branches or [], name, env)
        if branches:
            self.session.fail(
                "E109", f"{describe(callee)} takes no blocks in braces", span,
                help="only a block can be given branches",
            )  # fmt: skip
        if name is not None:
            self.session.fail(
                "E110", f"{describe(callee)} makes no layer that could be named `{name}`", span,
                help="bind its result with `=` instead",
            )  # fmt: skip
        if isinstance(callee, FunctionValue):
            return self.call_function(callee, positional, named, span)
        if hasattr(callee, "builtin"):
            return callee.builtin(self, positional, named, span)
        self.session.fail(
            "E111", f"{describe(callee)} cannot be called", span,
            help="remove the parentheses" if is_number(callee) and _parenthesis(span) else None,
        )  # fmt: skip
        return None

    def call_function(
        self, callee: FunctionValue, positional: list[Any], named: dict[str, Any], span: Span
    ) -> Any:
        settings = callee.definition.settings
        bound = self.match(callee, [s.name for s in settings], positional, named, span)
        if any(s.default is None and s.name not in bound for s in settings):
            return Partial(callee, tuple(positional), named, span)
        env = Env(callee.env)
        with self.session.frame("function", callee.name, span):
            for setting in settings:
                if setting.name in bound:
                    value = bound[setting.name]
                else:
                    assert setting.default is not None
                    value = self.expr(setting.default, env)
                env.define(setting.name, value, setting.span)
            return self.run_function(callee, env, span)

    def match(
        self,
        callee: Any,
        names: Sequence[str],
        positional: list[Any],
        named: dict[str, Any],
        span: Span,
    ) -> dict[str, Any]:
        """Arguments by the name of their setting; unknown, doubled and surplus ones are errors."""
        if len(positional) > len(names):
            self.session.fail(
                "E103", f"{describe(callee)} got {count_of(len(positional), 'argument')}", span,
                f"it takes {len(names)}: {listing(names)}" if names else "it takes none",
                f"blocks stand in braces: `{callee.name} {{ … }}`"
                if isinstance(callee, BlockValue) and callable_value(positional[-1]) else None,
            )  # fmt: skip
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names:
                self.session.fail(
                    "E102", f"{describe(callee)} has no setting `{name}`",
                    self.argument_span(name, span), f"its settings: {listing(names) or 'none'}",
                    suggestion(name, names),
                )  # fmt: skip
            if name in bound:
                self.session.fail(
                    "E106", f"`{name}` is given twice, by position and by name",
                    self.argument_span(name, span),
                )  # fmt: skip
            bound[name] = value
        return bound

    # --- operators --------------------------------------------------------------------------------

    def unary(self, node: tree.Unary, env: Env) -> Any:
        value = self.expr(node.operand, env)
        if node.operator == "-":
            return self.binary("-", 0, value) if not self.graphic(value) else self.negate(value)
        if isinstance(value, bool):
            return not value
        if isinstance(value, Tensor) and value.dtype is DType.BOOL:
            return self.tensor(self.emit(ops.logical_not, value.value), value.axes)
        self.session.fail("E112", f"`not` needs true or false, got {describe(value)}")
        return None

    def binary_node(self, node: tree.Binary, env: Env) -> Any:
        left = self.expr(node.left, env)
        if node.operator in ("and", "or") and isinstance(left, bool):
            # The right side may only make sense when the left one holds.
            if left is (node.operator == "or"):
                return left
            right = self.expr(node.right, env)
            if isinstance(right, bool):
                return right
            self.session.fail(
                "E112", f"`{node.operator}` needs true or false, got {describe(right)}",
                node.right.span,
            )  # fmt: skip
        right = self.expr(node.right, env)
        try:
            return self.binary(node.operator, left, right)
        except DnnError as error:
            if len(error.diagnostics) != 1 or error.diagnostics[0].code not in ("E203", "E205"):
                raise
            raise explain_operands(self.session, error.diagnostics[0], node, left, right) from None

    def conditional(self, node: tree.Conditional, env: Env) -> Any:
        test = self.expr(node.test, env)
        if isinstance(test, bool):
            return self.expr(node.yes if test else node.no, env)
        if not isinstance(test, Tensor) or test.dtype is not DType.BOOL:
            self.session.fail(
                "E112", f"a condition is true or false, got {describe(test)}", node.test.span,
                f"this is {quoted(node.test)}" if is_library(node.span) else "",
            )  # fmt: skip
        yes, no = self.promote(self.expr(node.yes, env), self.expr(node.no, env))
        value = self.emit(ops.select, test.value, yes.value, no.value)
        return self.tensor(value, self.merged_axes([yes, no, test], value.type.rank))


def _parenthesis(span: Span) -> bool:
    """Whether a parenthesis follows a place."""
    return span.source.text[span.end :].lstrip()[:1] == "("
