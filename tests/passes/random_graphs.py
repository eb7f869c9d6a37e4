"""Graphs drawn at random, for tests that hold for every graph."""

from __future__ import annotations

import random
from collections.abc import Callable

from dnnc import ops
from dnnc.autodiff import gradients, share_scans
from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType

#: Shapes over which values are drawn; `n` is a symbol.
_SHAPES: tuple[tuple[Dim, ...], ...] = (
    (dim("n"), dim(4)),
    (dim(4),),
    (dim("n"), dim(1)),
    (dim("n"), dim(4), dim(3)),
    (dim(4), dim(4)),
    (),
)

_UNARY: tuple[Callable[[Value], Value], ...] = (
    ops.tanh,
    ops.sigmoid,
    ops.negate,
    ops.absolute,
    ops.sin,
    lambda x: ops.exp(ops.negate(ops.absolute(x))),
    lambda x: ops.maximum(x, 0),
    lambda x: ops.multiply(x, 1),
    lambda x: ops.divide(x, 4),
    lambda x: ops.power(x, 2),
    lambda x: ops.add(x, 0.0),
)
_BINARY: tuple[Callable[[Value, Value], Value], ...] = (
    ops.add,
    ops.subtract,
    ops.multiply,
    ops.maximum,
    lambda x, y: ops.divide(x, ops.add(ops.multiply(y, y), 1)),
    lambda x, y: ops.select(ops.greater(x, y), x, y),
)


def random_graph(seed: int, size: int = 25, backward: bool = False) -> Graph:
    """A graph of about `size` operators in f64; with `backward`, also gradients of the sum."""
    draw = random.Random(seed)
    inputs = [
        Input(f"x{i}", Value(TensorType(DType.F64, shape)), draw.choice(("data", "parameter")))
        for i, shape in enumerate(_SHAPES)
    ]
    values = [item.value for item in inputs]
    for _ in range(size):
        made = _step(draw, values)
        # Nothing grows without bounds, so that results can be compared.
        values.append(ops.sin(made) if draw.random() < 0.1 else made)
    outputs = [Output(f"y{i}", value) for i, value in enumerate(draw.sample(values[-8:], 3))]
    if backward:
        parts = [ops.reduce_sum(o.value, range(o.value.type.rank)) for o in outputs]
        loss = ops.add(ops.add(parts[0], parts[1]), parts[2])
        found = gradients(loss, [item.value for item in inputs])
        outputs += [Output(f"d{i}", value) for i, value in enumerate(found)]
    return Graph(f"random_{seed}", tuple(inputs), tuple(outputs))


def _step(draw: random.Random, values: list[Value]) -> Value:
    x = draw.choice(values[-12:])
    kind = draw.random()
    if kind < 0.3:
        return draw.choice(_UNARY)(x)
    if kind < 0.6:
        partners = [v for v in values if _fits(x, v)]
        return draw.choice(_BINARY)(x, draw.choice(partners))
    if x.type.rank == 0:
        return ops.tanh(x)
    axis = draw.randrange(x.type.rank)
    if kind < 0.7:
        return _reduced(draw, x, axis)
    if kind < 0.8:
        return _moved(draw, x, axis)
    if kind < 0.9:
        partners = [v for v in values if v.type.rank == x.type.rank == 2 and _multiplies(x, v)]
        if partners:
            return ops.multiply(ops.matmul(x, draw.choice(partners)), 0.25)
    return _cut(draw, x, axis)


def _fits(x: Value, y: Value) -> bool:
    one = {dim(1)}
    pairs = zip(reversed(x.shape), reversed(y.shape), strict=False)
    return all(len({a, b} - one) <= 1 for a, b in pairs)


def _multiplies(x: Value, y: Value) -> bool:
    return x.shape[1] == y.shape[0]


def _reduced(draw: random.Random, x: Value, axis: int) -> Value:
    keep = draw.random() < 0.5
    if draw.random() < 0.3:
        return ops.reduce_max(x, axis, keep=keep)
    total = ops.reduce_sum(x, axis, keep=keep)
    return ops.divide(total, ops.size(x.shape[axis], DType.F64))


def _moved(draw: random.Random, x: Value, axis: int) -> Value:
    choice = draw.randrange(4)
    if choice == 0:
        order = list(range(x.type.rank))
        draw.shuffle(order)
        return ops.transpose(x, order)
    if choice == 1:
        return ops.reverse(x, axis)
    if choice == 2:
        return ops.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))
    return ops.reshape(x, (x.type.elements,))


def _cut(draw: random.Random, x: Value, axis: int) -> Value:
    size = x.shape[axis].constant
    if size is None or size < 2:
        return ops.cos(x)
    middle = draw.randrange(1, size)
    first = ops.slice(x, axis, 0, middle)
    second = ops.slice(x, axis, middle, size)
    if draw.random() < 0.5:
        return ops.concat([second, ops.tanh(first)], axis)
    padded = ops.pad(first, axis, 0, size - middle)
    return ops.add(padded, ops.pad(second, axis, middle, 0))


def random_loop(seed: int, size: int = 14, backward: bool = False) -> Graph:
    """A graph around a loop of about `size` operators; with `backward`, also its gradients."""
    draw = random.Random(seed)
    inputs = [
        Input(name, Value(TensorType.make(DType.F64, shape)), role)
        for name, shape, role in (
            ("h", (dim("n"), 4), "data"),
            ("c", (dim("n"), 4), "data"),
            ("x", (dim("t"), dim("n"), 4), "data"),
            ("z", (dim("t"), dim("n"), 4), "data"),
            ("w", (4, 4), "parameter"),
            ("b", (4,), "parameter"),
        )
    ]
    h, c, x, z, w, b = (item.value for item in inputs)
    if draw.random() < 0.3:
        z = ops.broadcast(h, x.shape)
    body = _random_body(draw, size)
    carries, stacks = ops.scan(body, [h, c], [x, z], [w, b], reverse=draw.random() < 0.5)
    results = [*carries, *(ops.tanh(stack) for stack in stacks)]
    outputs = [Output(f"y{i}", value) for i, value in enumerate(results) if draw.random() < 0.7]
    outputs = outputs or [Output("y", results[0])]
    if backward:
        parts = [ops.reduce_sum(o.value, range(o.value.type.rank)) for o in outputs]
        loss = parts[0]
        for part in parts[1:]:
            loss = ops.add(loss, part)
        found = gradients(loss, [item.value for item in inputs])
        outputs += [Output(f"d{item.name}", d) for item, d in zip(inputs, found, strict=True)]
    return share_scans(Graph(f"loop_{seed}", tuple(inputs), tuple(outputs)))


def _random_body(draw: random.Random, size: int) -> Graph:
    n4, f4 = (dim("n"), dim(4)), (dim(4),)
    shapes = {"h": n4, "c": n4, "x": n4, "z": n4, "w": (dim(4), dim(4)), "b": f4}
    inputs = [Input(k, Value(TensorType(DType.F64, shape))) for k, shape in shapes.items()]
    given = {item.name: item.value for item in inputs}
    values = [given[name] for name in ("h", "c", "x", "z")]
    for _ in range(size):
        x = draw.choice(values)
        kind = draw.random()
        if kind < 0.25:
            values.append(draw.choice(_UNARY)(x))
        elif kind < 0.55:
            values.append(draw.choice(_BINARY)(x, draw.choice([*values, given["b"]])))
        elif kind < 0.75:
            values.append(ops.multiply(ops.matmul(x, given["w"]), 0.25))
        elif kind < 0.85:
            total = ops.reduce_sum(x, 1, keep=True)
            values.append(ops.add(ops.multiply(total, 0.25), given["b"]))
        else:
            values.append(_cut(draw, x, 1))
    bounded = [ops.tanh(value) for value in draw.sample(values, 2)]
    if draw.random() < 0.5:
        bounded[1] = ops.add(given["c"], ops.tanh(draw.choice(values)))
    emits = draw.sample(values, 2)
    outputs = [Output(f"o{i}", value) for i, value in enumerate((*bounded, *emits))]
    return Graph("turn", tuple(inputs), tuple(outputs))
