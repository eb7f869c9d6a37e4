"""Statements: running the body of a function or block, line by line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from dnnc.diagnostics import DnnError, Note, Span
from dnnc.elaborate.declarations import Declarations
from dnnc.elaborate.resolve import PLACEHOLDER
from dnnc.elaborate.scan import run_scan
from dnnc.elaborate.session import ExhaustedError, PoisonError, is_library
from dnnc.elaborate.values import (
    Env,
    FunctionValue,
    Poison,
    Size,
    Tensor,
    count_of,
    describe,
    plain,
    quoted,
)
from dnnc.syntax import tree

__all__ = ["Statements", "bound_inside"]

#: Rounds of one `repeat` or `for`.
ROUND_LIMIT = 10_000


class ReturnValue(Exception):  # noqa: N818 - control flow, not an error
    """Carries the result of `return` out of nested statements."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Statements(Declarations):
    """Runs the statements of a body."""

    # --- functions --------------------------------------------------------------------------------

    def run_function(self, callee: FunctionValue, env: Env, span: Span) -> Any:
        try:
            self.run(callee.definition.body, env)
        except ReturnValue as result:
            return result.value
        self.session.fail(
            "E301", f"function `{callee.name}` returns nothing", callee.definition.span,
            help="end its body with `return`",
        )  # fmt: skip
        return None

    # --- statements -------------------------------------------------------------------------------

    def run(self, body: Sequence[tree.Statement], env: Env) -> None:
        """Run statements in order. An error in one is kept and the others still run."""
        for statement in body:
            try:
                with self.session.at(statement.span):
                    self.statement(statement, env)
            except PoisonError:
                self.poison(statement, env)
                if self.ends_body(statement):
                    raise
            except ExhaustedError:
                raise
            except RecursionError:
                self.too_deep(statement)
            except DnnError as error:
                self.session.errors.add(error)
                self.poison(statement, env)
                if self.ends_body(statement):
                    raise PoisonError from None

    def ends_body(self, statement: tree.Statement) -> bool:
        """Whether errors after this one would follow from it: those in what a call is made of.

        A call of the library fails because of its arguments, and once a `require` has refused
        them there is nothing more to say.
        """
        inside = [f for f in self.session.frames if f.kind != "model"]
        return bool(inside) and (is_library(statement.span) or isinstance(statement, tree.Require))

    def too_deep(self, statement: tree.Statement) -> NoReturn:
        self.session.exhausted(
            "calls and expressions nest too deeply", statement.span, "at this point",
            "give parts of the expression names of their own",
        )  # fmt: skip

    def poison(self, statement: tree.Statement, env: Env) -> None:
        """Names that a failed statement should have bound stay silent from here on."""
        match statement:
            case tree.Bind() | tree.Port():
                names: tuple[str, ...] = statement.names
            case tree.Parameter() | tree.State() | tree.Carry() | tree.Emit():
                names = (statement.name,)
            case tree.Return():
                if self.session.frames and self.session.frames[-1].kind == "function":
                    raise PoisonError
                names = ()
            case tree.Scan() | tree.Repeat() | tree.For() | tree.If():
                names = tuple(_bound_names(statement))
            case _:
                names = ()
        for name in names:
            binding = env.local(name)
            if binding is not None:
                binding.value = Poison()
            else:
                env.define(name, Poison(), statement.span)

    def statement(self, node: tree.Statement, env: Env) -> None:  # noqa: C901 - one a kind
        match node:
            case tree.Bind():
                self.bind(node, env)
            case tree.Require():
                self.require(node, env)
            case tree.Return():
                if not self.session.frames or self.session.frames[-1].kind != "function":
                    self.session.fail("E303", "`return` stands in a function", node.span,
                                      help="a block binds its outputs: `y = …`")  # fmt: skip
                raise ReturnValue(self.expr(node.value, env))
            case tree.If():
                test = self.expr(node.test, env)
                if not isinstance(test, bool):
                    self.session.fail(
                        "E302", "an `if` statement needs a condition known when compiling",
                        node.test.span, f"{quoted(node.test)} is {describe(test)}",
                        "to select element by element, use `if … then … else …`",
                    )  # fmt: skip
                self.run(node.body if test else node.orelse, env)
            case tree.Repeat():
                count = plain(self.expr(node.count, env))
                self.rounds(node.body, [None] * self.checked_count(count, node.count), None, env)
            case tree.For():
                self.rounds(node.body, self.loop_values(node, env), node.name, env)
            case tree.Scan():
                run_scan(self, node, env)
            case tree.Parameter():
                self.parameter(node, env)
            case tree.State():
                self.state(node, env)
            case tree.Port():
                self.session.fail("E303", "ports stand at the top of a block, not inside a loop")
            case tree.Carry() | tree.Emit():
                word = "carry" if isinstance(node, tree.Carry) else "emit"
                self.session.fail("E303", f"`{word}` stands inside a `scan`")

    def bind(self, node: tree.Bind, env: Env) -> None:
        value = self.expr(node.value, env)
        if len(node.names) == 1:
            self.assign(node.names[0], value, node.span, env)
            return
        if not isinstance(value, list | tuple) or len(value) != len(node.names):
            listed = isinstance(value, list | tuple)
            got = count_of(len(value), "value") if listed else describe(value)
            names = count_of(len(node.names), "name")
            self.session.fail("E304", f"{names} for {got}", node.span)
        for name, item in zip(node.names, value, strict=True):
            self.assign(name, item, node.span, env)

    def assign(self, name: str, value: Any, span: Span, env: Env) -> None:
        """Bind a name; in a round of a loop, an outer name of the body takes its next value."""
        if isinstance(value, Tensor) and not is_library(span):
            self.call_by(value, name)
        binding = env.local(name)
        if binding is None:
            env.define(name, value, span)
        elif isinstance(binding.value, Poison) or env.round or binding.rebindable:
            binding.value, binding.span = value, span
        else:
            notes = (Note(f"`{name}` is bound here", binding.span),) if binding.span else ()
            self.session.fail(
                "E305", f"`{name}` is bound already", span, notes=notes,
                help="a name is bound once outside loops; choose another",
            )  # fmt: skip

    def require(self, node: tree.Require, env: Env) -> None:
        test = self.expr(node.test, env)
        if test is True:
            return
        if test is not False:
            self.session.fail(
                "E302", "`require` needs a condition known when compiling", node.test.span,
                f"{quoted(node.test)} is {describe(test)}",
            )  # fmt: skip
        message = f"`{node.test.span.text}` does not hold"
        if node.message is not None:
            message = self.interpolate(node.message, env)
        frame = self.session.frames[-1].span if self.session.frames else None
        self.session.fail(
            "E306", message, frame or node.span, notes=(Note("required here", node.span),)
        )

    def interpolate(self, message: tree.String, env: Env) -> str:
        """The message with values in place of `{name}`."""

        def shown(match: re.Match[str]) -> str:
            binding = env.find(match[1])
            value = plain(binding.value) if binding is not None else None
            if isinstance(value, Size):
                return str(value.dim)
            number = isinstance(value, int | float | str) and not isinstance(value, bool)
            return str(value) if number else describe(value)

        return PLACEHOLDER.sub(shown, message.value)

    # --- loops ------------------------------------------------------------------------------------

    def checked_count(self, count: Any, node: tree.Expr) -> int:
        if not isinstance(count, int) or isinstance(count, bool):
            self.session.fail(
                "E307", f"a whole number known when compiling is needed, got {describe(count)}",
                node.span,
            )  # fmt: skip
        if count < 0:
            self.session.fail("E307", f"a loop cannot have {count} rounds", node.span)
        if count > ROUND_LIMIT:
            self.session.fail(
                "E307", f"{count:,} rounds are more than {ROUND_LIMIT:,}", node.span,
                help="a loop is unrolled; `scan` runs along an axis of any length",
            )  # fmt: skip
        return count

    def loop_values(self, node: tree.For, env: Env) -> list[Any]:
        start = self.expr(node.values, env)
        if node.stop is None:
            if not isinstance(start, list):
                self.session.fail(
                    "E307", f"`for` runs over a list, got {describe(start)}", node.values.span,
                    help="write `for i in 0 .. n` to count",
                )  # fmt: skip
            self.checked_count(len(start), node.values)
            return start
        ends = []
        for value, place in ((start, node.values), (self.expr(node.stop, env), node.stop)):
            end = plain(value)
            if not isinstance(end, int) or isinstance(end, bool):
                self.session.fail(
                    "E307", "a whole number known when compiling is needed, got "
                    f"{describe(end)}", place.span,
                )  # fmt: skip
            ends.append(end)
        self.checked_count(max(0, ends[1] - ends[0]), node.stop)
        return list(range(*ends))

    def rounds(
        self, body: Sequence[tree.Statement], values: Sequence[Any], name: str | None, env: Env
    ) -> None:
        before = len(self.session.errors.diagnostics)
        for value in values:
            self.session.spend(1)
            inner = Env(env, is_round=True)
            if name is not None:
                inner.define(name, value, None)
            self.run(body, inner)
            if len(self.session.errors.diagnostics) > before:
                break  # further rounds would say the same again


def bound_inside(body: Sequence[tree.Statement], name: str) -> bool:
    """Whether a name is bound in a loop or branch of a body."""
    nested = (tree.Repeat, tree.For, tree.Scan, tree.If)
    return any(name in _bound_names(s) for s in body if isinstance(s, nested))


def _bound_names(statement: tree.Statement) -> list[str]:
    names: list[str] = []
    match statement:
        case tree.Bind():
            names.extend(statement.names)
        case tree.Emit() | tree.Carry():
            names.append(statement.name)
        case tree.Repeat() | tree.For() | tree.Scan():
            for inner in statement.body:
                names.extend(_bound_names(inner))
        case tree.If():
            for inner in (*statement.body, *statement.orelse):
                names.extend(_bound_names(inner))
        case _:
            pass
    return names
