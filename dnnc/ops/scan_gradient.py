"""The gradient of a loop: a loop the other way round.

    forward     c[t+1], e[t] = body(c[t], s[t], k)
    backward    dc[t], ds[t], dk[t] = gradient of body (dc[t+1], de[t]; c[t], s[t], k)

The backward loop carries dc and the sum of dk over time, scans de and whatever the gradient needs
of the forward turn, and emits ds. What it needs is stacked by an extended forward loop: the same
body, whose values it shares, with further emits. `dnnc.autodiff.share_scans` later makes one loop
of the two. Values that depend on captures alone and repeated smaller values are not stacked but
computed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dnnc.ir.graph import Graph, Input, Output, Value, apply_all
from dnnc.ir.rewrite import replace
from dnnc.ops.base import Gradients
from dnnc.ops.elementwise import add
from dnnc.ops.shape import Broadcast, zeros

if TYPE_CHECKING:
    from dnnc.ops.control import Scan

__all__ = ["Walk", "scan_gradient"]

#: `dnnc.autodiff.pullback`: gradients of some values from those of others.
Walk: TypeAlias = Callable[
    [Sequence[Value], Sequence[Value | None], Sequence[Value]], list[Value | None]
]


def scan_gradient(
    op: Scan,
    dz: Sequence[Value | None],
    z: Sequence[Value],
    operands: Sequence[Value],
    needed: Sequence[bool],
    walk: Walk,
) -> Gradients:
    """Gradients of a loop's operands, for those that are `needed`, else None."""
    turn = _differentiate(op, dz, needed, walk)
    used = _forward_values(op, turn.gradients.values())
    stacks = _stacks(op, operands, z, used)
    loop = _Backward(op, turn)
    loop.add_forward(operands, used, stacks)
    return loop.apply(dz, operands)


@dataclass(frozen=True)
class _Turn:
    """One turn, differentiated.

    `gradients` are those of the body's inputs, by position; `incoming` are inputs of the backward
    turn that hold the gradients of the body's outputs, by position.
    """

    gradients: dict[int, Value]
    incoming: dict[int, Value]


def _differentiate(
    op: Scan, dz: Sequence[Value | None], needed: Sequence[bool], walk: Walk
) -> _Turn:
    inputs = [item.value for item in op.body.inputs]
    outputs = [item.value for item in op.body.outputs]
    active = _active(op, needed)
    wanted = [i for i, value in enumerate(inputs) if value in active]
    incoming = {
        i: Value(value.type, hint="d" + op.body.outputs[i].name)
        for i, value in enumerate(outputs)
        if value.type.dtype.is_float and (i in wanted if i < op.carries else dz[i] is not None)
    }
    found = walk(
        [outputs[i] for i in incoming], list(incoming.values()), [inputs[i] for i in wanted]
    )
    gradients = {i: g for i, g in zip(wanted, found, strict=True) if g is not None}
    # A carry stays one of the backward loop where a turn does not pass its gradient on.
    for i in wanted:
        if i < op.carries and i not in gradients:
            gradients[i] = zeros(inputs[i].type)
    return _Turn(dict(sorted(gradients.items())), incoming)


def _active(op: Scan, needed: Sequence[bool]) -> set[Value]:
    """Floating-point inputs of the body that depend, over all turns, on the needed operands."""
    inputs = [item.value for item in op.body.inputs]
    carried = list(zip(inputs, op.body.outputs[: op.carries], strict=False))
    active = {value for value, need in zip(inputs, needed, strict=True) if need}
    while True:
        reached = _dependent(op.body, active)
        more = {
            carry
            for carry, output in carried
            if output.value in reached and carry.type.dtype.is_float
        }
        if more <= active:
            return active
        active |= more


def _dependent(body: Graph, sources: Iterable[Value]) -> set[Value]:
    reached = set(sources)
    for node in body.nodes:
        if any(operand in reached for operand in node.operands):
            reached.update(node.results)
    return reached


def _forward_values(op: Scan, gradients: Iterable[Value]) -> list[Value]:
    """Values of the forward turn that the backward turn is to be given: inputs and results."""
    inputs = {item.value for item in op.body.inputs}
    varying = _dependent(op.body, _turn_inputs(op))
    forward = {result for node in op.body.nodes for result in node.results}
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    pending = list(reversed(list(gradients)))
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in inputs or (value in forward and value in varying and not _cheap(value)):
            found[value] = None
        elif value.node is not None:
            pending.extend(reversed(value.node.operands))
    return list(found)


def _turn_inputs(op: Scan) -> tuple[Value, ...]:
    """Inputs of the body that differ from turn to turn."""
    return tuple(item.value for item in op.body.inputs[: op.carries + op.sequences])


def _cheap(value: Value) -> bool:
    return value.node is not None and isinstance(value.node.op, Broadcast)


def _stacks(
    op: Scan, operands: Sequence[Value], z: Sequence[Value], used: Sequence[Value]
) -> dict[Value, Value]:
    """The stacked values of all turns, for used values that are not operands already."""
    given = {item.value for item in op.body.inputs[op.carries :]}
    emitted = op.body.outputs[op.carries :]
    stacks = {o.value: stack for o, stack in zip(emitted, z[op.carries :], strict=True)}
    missing = [value for value in used if value not in given and value not in stacks]
    if missing:
        more = tuple(Output(f"saved_{i}", value) for i, value in enumerate(missing))
        body = dataclasses.replace(op.body, outputs=(*op.body.outputs, *more))
        results = apply_all(dataclasses.replace(op, body=body), *operands)
        stacks.update(zip(missing, results[-len(missing) :], strict=True))
    return {value: stacks[value] for value in used if value not in given}


class _Backward:
    """The backward loop in the making.

    Pairs hold an input of its body, and the operand that the loop gets for it.
    """

    def __init__(self, op: Scan, turn: _Turn) -> None:
        self.op, self.turn = op, turn
        self.carries: list[tuple[Value, Value]] = []
        self.sequences: list[tuple[Value, Value]] = []
        self.captures: list[tuple[Value, Value]] = []
        self.given: dict[Value, Value] = {}  # forward value to the input that holds it

    def add_forward(
        self, operands: Sequence[Value], used: Sequence[Value], stacks: Mapping[Value, Value]
    ) -> None:
        """Give the backward turn the forward values that it uses."""
        position = {item.value: i for i, item in enumerate(self.op.body.inputs)}
        first_capture = self.op.carries + self.op.sequences
        for value in used:
            self.given[value] = Value(value.type, hint=value.hint)
            if value in stacks:
                self.sequences.append((self.given[value], stacks[value]))
            elif position[value] < first_capture:
                self.sequences.append((self.given[value], operands[position[value]]))
            else:
                self.captures.append((self.given[value], operands[position[value]]))

    def apply(self, dz: Sequence[Value | None], operands: Sequence[Value]) -> Gradients:
        """Apply the loop: the gradient of each operand of the forward loop, or None."""
        op, turn = self.op, self.turn
        for i, value in turn.incoming.items():
            if i < op.carries:
                self.carries.append((value, dz[i] or zeros(operands[i].type)))
            elif (stack := dz[i]) is not None:
                self.sequences.insert(0, (value, stack))
        if not self.sequences:
            # A loop needs a sequence to know its length.
            first = op.body.inputs[op.carries].value
            self.sequences.append((Value(first.type), operands[op.carries]))

        found = replace(turn.gradients.values(), self.given)
        by_position = dict(zip(turn.gradients, found, strict=True))
        steps = {i: g for i, g in by_position.items() if i < op.carries}
        emits = {i: g for i, g in by_position.items() if 0 <= i - op.carries < op.sequences}
        for i, gradient in by_position.items():
            if i >= op.carries + op.sequences:
                total = Value(operands[i].type, hint=f"d{op.body.inputs[i].name}")
                self.carries.append((total, zeros(operands[i].type)))
                steps[i] = add(total, gradient)
        results = self._loop([*steps.values(), *emits.values()])
        ordered = dict(zip((*steps, *emits), results, strict=True))
        return tuple(ordered.get(i) for i in range(len(operands)))

    def _loop(self, outputs: Sequence[Value]) -> tuple[Value, ...]:
        pairs = [*self.carries, *self.sequences, *self.captures]
        body = Graph(
            f"{self.op.body.name}_gradient",
            tuple(Input(f"i{n}", value) for n, (value, _) in enumerate(pairs)),
            tuple(Output(f"o{n}", value) for n, value in enumerate(outputs)),
            self.op.body.bounds,
        )
        loop = dataclasses.replace(
            self.op,
            body=body,
            carries=len(self.carries),
            sequences=len(self.sequences),
            reverse=not self.op.reverse,
        )
        return apply_all(loop, *(operand for _, operand in pairs))
