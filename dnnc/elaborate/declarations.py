"""Declarations: parameters and states, their shapes, element types and first values."""

from __future__ import annotations

from typing import Any

from dnnc import ops
from dnnc.diagnostics import Span, suggestion
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.layout import from_list
from dnnc.elaborate.plan import Variable
from dnnc.elaborate.session import Declared
from dnnc.elaborate.shapes import evaluate_shape
from dnnc.elaborate.values import (
    Env,
    FunctionValue,
    Partial,
    Size,
    Tensor,
    describe,
    is_number,
)
from dnnc.ir.graph import Value, sorted_nodes
from dnnc.ir.types import DType, TensorType
from dnnc.syntax import tree

__all__ = ["Declarations"]

#: Bytes of one parameter or state.
BYTE_LIMIT = 2**36


class Declarations(Expressions):
    """Declares parameters and states."""

    # Supplied by statements.
    def assign(self, name: str, value: Any, span: Span, env: Env) -> None:
        raise NotImplementedError

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
        most = BYTE_LIMIT // dtype.size
        if int(type_.elements) >= most:
            self.session.fail(
                "E216", f"`{name}` would be {type_}, of {int(type_.elements):.3g} elements",
                shape.span, help=f"fewer than {most:.2g} fit one parameter or state",
            )  # fmt: skip
        return type_, axes

    def dtype(self, shape: tree.Shape) -> DType:
        names = [d.value for d in DType]
        if shape.dtype not in names:
            self.session.fail(
                "E217", f"unknown element type `{shape.dtype}`", shape.span,
                help=suggestion(shape.dtype or "", names, f"one of {', '.join(names)}"),
            )  # fmt: skip
        dtype = DType(shape.dtype)
        # In double precision everything that is f32 by default or by name becomes f64.
        return self.session.dtype if dtype is DType.F32 else dtype

    def initial(self, start: Any, type_: TensorType, axes: Any, name: str) -> Value:
        """The first value: an initializer called with the shape, or a number."""
        if isinstance(start, FunctionValue | Partial):
            start = self.initialized(start, type_, axes, name)
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

    def initialized(
        self, start: FunctionValue | Partial, type_: TensorType, axes: Any, name: str
    ) -> Any:
        """What an initializer makes of a shape."""
        callee = start.callee if isinstance(start, Partial) else start
        definition = getattr(callee, "definition", None)
        if definition is not None and "shape" not in [s.name for s in definition.settings]:
            self.session.fail(
                "E308", f"`{name}` starts from {describe(start)}, which takes no `shape`",
                help="an initializer is a function of `shape`, such as `normal(0.02)`",
            )  # fmt: skip
        shape = [Size(d, a) for d, a in zip(type_.shape, axes, strict=True)]
        assert self.session.here is not None
        return self.call(start, [], {"shape": shape}, self.session.here, Env())

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


def _leaves(value: Value) -> list[Value]:
    """The inputs that a value depends on."""
    if value.node is None:
        return [value]
    return [
        operand for node in sorted_nodes((value,)) for operand in node.operands
        if operand.node is None
    ]  # fmt: skip
