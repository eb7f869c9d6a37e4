"""`scan x in xs along time { carry …; …; emit … }` → one `scan` operator.

The body is elaborated once, over the slice of one step. Whatever in it does not depend on the step
is left outside and enters the body as a capture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dnnc import ops
from dnnc.diagnostics import Note
from dnnc.elaborate.layout import axis_of
from dnnc.elaborate.session import PoisonError
from dnnc.elaborate.shapes import evaluate_shape
from dnnc.elaborate.values import Axis, Env, Tensor, count_of, describe
from dnnc.ir.graph import Graph, Input, Output, Value, sorted_nodes
from dnnc.ir.rewrite import replace
from dnnc.ir.types import TensorType
from dnnc.syntax import tree

if TYPE_CHECKING:
    from dnnc.elaborate.statements import Statements

__all__ = ["run_scan"]


def run_scan(el: Statements, node: tree.Scan, env: Env) -> None:
    sequences, position = _sequences(el, node, env)
    axis = sequences[0].axes[0]
    inner = Env(env, is_round=True)
    slices: list[Value] = []
    for name, xs in zip(node.names, sequences, strict=True):
        piece = Value(xs.type.with_shape(xs.shape[1:]), hint=name)
        slices.append(piece)
        inner.define(name, Tensor(piece, xs.axes[1:], xs.span), node.span)
    carries = [s for s in node.body if isinstance(s, tree.Carry)]
    emits = [s for s in node.body if isinstance(s, tree.Emit)]
    if not emits and not carries:
        el.session.fail("E314", "a scan needs a `carry` or an `emit`", node.span)
    starts, states = _carries(el, carries, inner, env)
    el.session.scan_depth += 1
    try:
        errors = len(el.session.errors.diagnostics)
        el.run([s for s in node.body if not isinstance(s, tree.Carry | tree.Emit)], inner)
        emitted = [(emit.name, _emitted(el, emit, inner)) for emit in emits]
        if len(el.session.errors.diagnostics) > errors:
            raise PoisonError
    finally:
        el.session.scan_depth -= 1
    nexts = [_next(el, c, state, inner) for c, state in zip(carries, states, strict=True)]
    body, captures = _body(
        [*(s.value for s in states), *slices],
        [*(n.value for n in nexts), *(e.value for _, e in emitted)],
    )
    finals, stacked = el.emit(
        lambda: ops.scan(body, [s.value for s in starts], [x.value for x in sequences], captures)
    )
    for carry, final, start in zip(carries, finals, starts, strict=True):
        el.assign(carry.name, el.tensor(final, start.axes), carry.span, env)
    for (name, emission), whole in zip(emitted, stacked, strict=True):
        el.assign(name, _placed(el, emission, whole, position, axis), node.span, env)


def _placed(
    el: Statements, emission: Tensor, whole: Value, position: int, axis: Axis | None
) -> Tensor:
    """What the steps emitted, with the scanned axis at the place that it had in the sequence."""
    place = min(position, emission.rank)
    order = [*range(1, place + 1), 0, *range(place + 1, emission.rank + 1)]
    value = el.emit(ops.transpose, whole, permutation=tuple(order))
    return el.tensor(value, (*emission.axes[:place], axis, *emission.axes[place:]))


def _sequences(el: Statements, node: tree.Scan, env: Env) -> tuple[list[Tensor], int]:
    """The scanned tensors with their time axis first, and where it was in the first one."""
    if len(node.names) != len(node.values):
        el.session.fail(
            "E304", f"{count_of(len(node.names), 'name')} for "
            f"{count_of(len(node.values), 'scanned tensor')}", node.span,
        )  # fmt: skip
    along = el.expr(node.axis, env)
    moved: list[Tensor] = []
    first = 0
    for i, expression in enumerate(node.values):
        xs = el.expr(expression, env)
        if not isinstance(xs, Tensor):
            el.session.fail("E311", f"a scan runs over a tensor, got {describe(xs)}")
        position = axis_of(el, xs, along)
        first = position if i == 0 else first
        order = (position, *(k for k in range(xs.rank) if k != position))
        value = el.emit(ops.transpose, xs.value, permutation=order)
        moved.append(Tensor(value, tuple(xs.axes[k] for k in order), xs.span))
        if moved[-1].shape[0] != moved[0].shape[0]:
            el.session.fail(
                "E203", "the scanned tensors differ in length: "
                f"{moved[0].shape[0]} and {moved[-1].shape[0]}",
                expression.span,
            )  # fmt: skip
    return moved, first


def _carries(
    el: Statements, carries: list[tree.Carry], inner: Env, env: Env
) -> tuple[list[Tensor], list[Tensor]]:
    starts: list[Tensor] = []
    states: list[Tensor] = []
    for carry in carries:
        with el.session.at(carry.span):
            dims, axes = evaluate_shape(el, carry.shape, env)
            dtype = el.dtype(carry.shape) if carry.shape.dtype else el.session.dtype
            start = el.converted(el.lift(el.expr(carry.start, env), dtype), dtype)
            type_ = TensorType(dtype, dims)
            if start.rank == 0:
                start = Tensor(el.emit(ops.broadcast, start.value, shape=dims), axes, carry.span)
            if start.type != type_:
                el.session.fail(
                    "E308", f"carry `{carry.name}` is {type_}, it starts as {start.type}"
                )
            state = Tensor(Value(type_, hint=carry.name), axes, carry.span)
            starts.append(Tensor(start.value, axes, carry.span))
            states.append(state)
            inner.define(carry.name, state, carry.span)
    return starts, states


def _next(el: Statements, carry: tree.Carry, state: Tensor, inner: Env) -> Tensor:
    binding = inner.find(carry.name)
    assert binding is not None
    value = binding.value
    if not isinstance(value, Tensor):
        el.session.fail("E308", f"carry `{carry.name}` becomes {describe(value)}", binding.span)
    if value.type != state.type:
        el.session.fail(
            "E308", f"carry `{carry.name}` is {state.type}, it becomes {value.type}",
            binding.span,
            notes=(Note("it is declared here", carry.shape.span),),
        )  # fmt: skip
    return value


def _emitted(el: Statements, emit: tree.Emit, inner: Env) -> Tensor:
    with el.session.at(emit.span):
        value: Any = el.expr(emit.value, inner)
        if not isinstance(value, Tensor):
            el.session.fail("E311", f"`emit` needs a tensor, got {describe(value)}")
        return value


def _body(inputs: list[Value], outputs: list[Value]) -> tuple[Graph, list[Value]]:
    """The graph of one step, and the outer values that it captures."""
    inside: set[int] = {id(v) for v in inputs}
    nodes = sorted_nodes(tuple(outputs))
    made_here: set[int] = set()
    for node in nodes:
        if any(id(o) in inside for o in node.operands) or not node.operands:
            made_here.add(id(node))
            inside.update(id(r) for r in node.results)
    # Constants may live in the body, unless they are all that a value is made of.
    captures: list[Value] = []
    for node in nodes:
        if id(node) in made_here:
            for operand in node.operands:
                if id(operand) not in inside and operand not in captures:
                    captures.append(operand)
    for output in outputs:
        if id(output) not in inside and output not in captures:
            captures.append(output)
    placeholders = [Value(v.type, hint=v.hint) for v in captures]
    bodies = replace(outputs, dict(zip(captures, placeholders, strict=True)))
    graph = Graph(
        "step",
        tuple(Input(f"x{i}", v) for i, v in enumerate([*inputs, *placeholders])),
        tuple(Output(f"y{i}", v) for i, v in enumerate(bodies)),
    )
    return graph, captures
