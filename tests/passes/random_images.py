"""Networks of images drawn at random: convolutions, pooling, normalization, and what may stand
between them."""

from __future__ import annotations

import random

from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.ir.dims import dim
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType

_F64 = DType.F64


class _Drawing:
    """One network of about `size` steps."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.inputs: list[Input] = []
        channels, size = self.draw.choice((1, 2, 3)), self.draw.choice((5, 6, 8))
        self.images = [self.input("x", (dim("n"), channels, size, size), "data")]

    def input(self, name: str, shape: tuple[object, ...], role: str = "parameter") -> Value:
        value = Value(TensorType.make(_F64, shape))  # type: ignore[arg-type]
        self.inputs.append(Input(f"{name}{len(self.inputs)}", value, role))
        return value

    def step(self) -> None:
        x = self.draw.choice(self.images[-3:])
        kind = self.draw.choice(
            (self.conv, self.conv, self.pool, self.norm, self.rectify, self.combine, self.cut)
        )
        y = kind(x)
        self.images.append(ops.sin(y) if self.draw.random() < 0.2 else y)

    def conv(self, x: Value) -> Value:
        channels, high, wide = (int(size) for size in x.shape[1:])
        groups = self.draw.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
        taps = [min(size, self.draw.choice((1, 2, 3))) for size in (high, wide)]
        outputs = groups * self.draw.choice((1, 2))
        w = self.input("w", (outputs, channels // groups, *taps))
        pads = [self.draw.choice((0, 1, 1, 2)) for _ in range(4)]
        strides = [self.draw.choice((1, 1, 2)) for _ in range(2)]
        y = ops.conv(x, w, strides, pads, (1, 1), groups)
        if self.draw.random() < 0.5:
            y = ops.add(y, ops.reshape(self.input("b", (outputs,)), (outputs, 1, 1)))
        return y

    def pool(self, x: Value) -> Value:
        window = [min(int(size), self.draw.choice((1, 2, 3))) for size in x.shape[2:]]
        pool = self.draw.choice((ops.max_pool, ops.sum_pool))
        return pool(x, window, [self.draw.choice((1, 2)) for _ in range(2)])

    def norm(self, x: Value) -> Value:
        axes = self.draw.choice(((0, 2, 3), (1, 2, 3), (1,), (2, 3)))
        count = ops.size(ops.reduce_sum(x, axes).type.elements, _F64)
        centered = ops.subtract(x, ops.divide(ops.reduce_sum(x, axes, keep=True), count))
        square = ops.reduce_sum(ops.multiply(centered, centered), axes, keep=True)
        return ops.divide(centered, ops.sqrt(ops.add(square, 1.0)))

    def rectify(self, x: Value) -> Value:
        if self.draw.random() < 0.5:
            return ops.maximum(x, 0)
        place = self.input("p", x.shape[1:])
        return ops.select(ops.greater(x, place), x, ops.constant(0, _F64))

    def combine(self, x: Value) -> Value:
        partners = [y for y in self.images if y.shape == x.shape]
        y = self.draw.choice(partners)
        if self.draw.random() < 0.4:
            return ops.concat([x, y], self.draw.choice((1, 2)))
        if self.draw.random() < 0.3:
            mean = ops.reduce_sum(y, (2, 3))
            y = ops.reshape(ops.tanh(mean), (*mean.shape, 1, 1))
        return ops.add(x, y) if self.draw.random() < 0.5 else ops.multiply(x, y)

    def cut(self, x: Value) -> Value:
        axis = self.draw.choice((1, 2, 3))
        size = int(x.shape[axis])
        kind = self.draw.randrange(5)
        if kind == 0 and size > 1:
            return ops.slice(x, axis, 1, size)
        if kind == 1:
            return ops.pad(x, axis, 1, 0)
        if kind == 2:
            return ops.reverse(x, axis)
        if kind == 3:
            return ops.transpose(x, (0, 1, 3, 2))
        rows = ops.transpose(ops.reshape(x, (*x.shape[:2], x.shape[2] * x.shape[3])), (0, 2, 1))
        rows = ops.tanh(rows)
        return ops.reshape(ops.transpose(rows, (0, 2, 1)), x.shape)

    def head(self, x: Value) -> Value:
        """A result that is no image."""
        kind = self.draw.randrange(3)
        if kind == 0:
            return ops.cast(ops.argmax(x, 1), _F64)
        if kind == 1:
            return ops.reduce_max(x, (2, 3))
        features = x.shape[1] * x.shape[2] * x.shape[3]
        flat = ops.reshape(x, (x.shape[0], features))
        return ops.matmul(flat, self.input("d", (features, 3)))


def random_images(seed: int, size: int = 10, backward: bool = False) -> Graph:
    """A network of about `size` steps in f64; with `backward`, also gradients of the sum."""
    drawing = _Drawing(seed)
    for _ in range(size):
        drawing.step()
    last = drawing.images[-1]
    results = [drawing.head(last), drawing.draw.choice(drawing.images)]
    outputs = [Output(f"y{i}", value) for i, value in enumerate(results)]
    if backward:
        parts = [ops.reduce_sum(value, range(value.type.rank)) for value in results]
        loss = ops.add(*parts)
        found = gradients(loss, [item.value for item in drawing.inputs])
        outputs += [Output(f"d{i}", value) for i, value in enumerate(found)]
    return Graph(f"images_{seed}", tuple(drawing.inputs), tuple(outputs))
