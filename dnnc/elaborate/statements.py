"""Statements: running the body of a function or block, line by line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from dnnc import ops
from dnnc.diagnostics import DnnError, Note, Span, closest
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.layout import from_list
from dnnc.elaborate.plan import Variable
from dnnc.elaborate.resolve import PLACEHOLDER
from dnnc.elaborate.scan import run_scan
from dnnc.elaborate.session import Declared, ExhaustedError, PoisonError, is_library
from dnnc.elaborate.shapes import evaluate_shape
from dnnc.elaborate.values import (
    Env,
    FunctionValue,
    Partial,
    Poison,
    Size,
    Tensor,
    count_of,
    describe,
    is_number,
    plain,
)
from dnnc.ir.graph import Value, sorted_nodes
from dnnc.ir.types import DType, TensorType
from dnnc.syntax import tree

__all__ = ["Statements"]

#: Rounds of one `repeat` or `for`.
ROUND_LIMIT = 10_000


class ReturnValue(Exception):  # noqa: N818 - control flow, not an error
    """Carries the result of `return` out of nested statements."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Statements(Expressions):
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
                self.session.keep(error)
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
                        node.test.span, f"this is {describe(test)}",
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
                f"this is {describe(test)}",
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

    # --- parameters and states --------------------------------------------------------------------

    def declared_type(self, shape: tree.Shape, name: str, env: Env) -> tuple[TensorType, Any]:
        dims, axes = evaluate_shape(self, shape, env)
        dtype = self.session.dtype
        if shape.dtype is not None:
            dtype = self.dtype(shape)
        for size in dims:
            if size.constant is None:
                self.session.fail(
                    "E215", f"the size of `{name}` depends on `{size}`, which is not known",
                    shape.span, f"its shape is [{', '.join(map(str, dims))}]",
                    "give the size as a number in the model's input, or when the model is made",
                )  # fmt: skip
        type_ = TensorType(dtype, dims)
        if int(type_.elements) * dtype.size >= 2**36:
            self.session.fail(
                "E216", f"`{name}` would be {type_}, of {int(type_.elements):.3g} elements",
                shape.span, help=f"at most {2**36 // dtype.size:.2g} fit one parameter or state",
            )  # fmt: skip
        return type_, axes

    def dtype(self, shape: tree.Shape) -> DType:
        names = [d.value for d in DType]
        if shape.dtype not in names:
            near = closest(shape.dtype or "", names)
            self.session.fail(
                "E217", f"unknown element type `{shape.dtype}`", shape.span,
                help=f"did you mean `{near}`?" if near else f"one of {', '.join(names)}",
            )  # fmt: skip
        dtype = DType(shape.dtype)
        # In double precision everything that is f32 by default or by name becomes f64.
        return self.session.dtype if dtype is DType.F32 else dtype

    def initial(self, start: Any, type_: TensorType, axes: Any, name: str) -> Value:
        """The first value: an initializer called with the shape, or a number."""
        if isinstance(start, FunctionValue | Partial):
            callee = start.callee if isinstance(start, Partial) else start
            settings = getattr(callee, "definition", None)
            if settings is not None and "shape" not in [s.name for s in settings.settings]:
                self.session.fail(
                    "E308", f"`{name}` starts from {describe(start)}, which takes no `shape`",
                    help="an initializer is a function of `shape`, such as `normal(0.02)`",
                )  # fmt: skip
            shape = [Size(d, a) for d, a in zip(type_.shape, axes, strict=True)]
            start = self.call(start, [], {"shape": shape}, self.session.here, Env())  # type: ignore[arg-type]
        if isinstance(start, Partial | FunctionValue):
            self.session.fail("E308", f"the start of `{name}` still waits for arguments")
        if not (is_number(start) or isinstance(start, Tensor | list)):
            self.session.fail("E308", f"`{name}` starts from {describe(start)}",
                              help="give a number or an initializer")  # fmt: skip
        if isinstance(start, list):
            start = from_list(self, start)
        x = self.converted(self.lift(start, type_.dtype), type_.dtype)
        allowed = {self.session.seed, self.session.step}
        for value in _leaves(x.value):
            if value not in allowed:
                self.session.fail("E308", f"the start of `{name}` depends on data")
        if x.shape != type_.shape:
            if x.rank > 0:
                self.session.fail("E308", f"`{name}` is {type_}, its start is {x.type}")
            wide: Value = self.emit(ops.broadcast, x.value, shape=type_.shape)
            return wide
        return x.value

    def declare(
        self, role: str, name: str, type_: TensorType, initial: Value, span: Span
    ) -> Declared:
        full = self.session.dotted(name)
        if full in self.session.declared:
            self.session.fail("E305", f"`{full}` is declared twice", span)
        variable = Variable(full, type_, self.session.user_span(span))
        declared = Declared(variable, Value(type_, hint=full), initial, role)
        self.session.declared[full] = declared
        if role == "parameter":
            path = ".".join(self.session.path)
            self.session.own[path] = self.session.own.get(path, 0) + variable.size
        return declared

    def parameter(self, node: tree.Parameter, env: Env) -> None:
        if env.find("$layer") is None:
            self.session.fail("E303", "`param` stands inside a block or model")
        type_, axes = self.declared_type(node.shape, node.name, env)
        if not type_.dtype.is_float:
            self.session.fail("E217", f"a parameter is trained, so it cannot be {type_}")
        initial = self.initial(self.expr(node.start, env), type_, axes, node.name)
        declared = self.declare("parameter", node.name, type_, initial, node.span)
        tensor = Tensor(declared.value, axes, self.session.user_span(node.span), node.shape)
        self.member(node.name, tensor, env)
        self.assign(node.name, tensor, node.span, env)

    def state(self, node: tree.State, env: Env) -> None:
        if node.shape is None:
            self.session.fail("E303", f"state `{node.name}` needs a shape in a block", node.span)
        if self.session.scan_depth:
            self.session.fail("E309", "a state cannot be declared inside a scan", node.span,
                              help="use `carry` for what passes from step to step")  # fmt: skip
        type_, axes = self.declared_type(node.shape, node.name, env)
        initial = self.initial(self.expr(node.start, env), type_, axes, node.name)
        declared = self.declare("state", node.name, type_, initial, node.span)
        tensor = Tensor(declared.value, axes, self.session.user_span(node.span), node.shape)
        self.member(node.name, tensor, env)
        if env.local(node.name) is not None:
            self.assign(node.name, tensor, node.span, env)
        env.define(node.name, tensor, node.span, rebindable=True)

    def member(self, name: str, value: Any, env: Env) -> None:
        """Make a name an attribute of the layer whose body is running."""
        binding = env.find("$layer")
        if binding is not None:
            binding.value.members[name] = value


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


def _leaves(value: Value) -> list[Value]:
    """The inputs that a value depends on."""
    if value.node is None:
        return [value]
    return [
        operand for node in sorted_nodes((value,)) for operand in node.operands
        if operand.node is None
    ]  # fmt: skip
