"""Programs of one kernel, or of a layer that should be one or two, over a sweep of shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import dnnc
from benchmarks.flops import graph_flops
from dnnc import ops
from dnnc.autodiff import gradients
from dnnc.elaborate.network import graph_of, walk_model
from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Graph, Input, Output, Value
from dnnc.ir.types import DType, TensorType
from dnnc.ops.base import apply
from dnnc.ops.channels_last import (
    ConvLast,
    ConvLastInputGradient,
    ConvLastWeightGradient,
    PackWeights,
)
from dnnc.ops.conv import Movement
from dnnc.program.arrays import side_by_side

__all__ = ["FAMILIES", "KernelCase"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KernelCase:
    """A program and what to say of it.

    `flops` counts its products, or where it has none, none; `bytes` what it reads and writes at
    least.
    """

    family: str
    shape: str
    graph: Graph
    sizes: dict[str, int]
    flops: int
    bytes: int

    def arrays(self) -> dict[str, np.ndarray]:
        """Values for the inputs. States are positive, as variances are."""
        random = np.random.default_rng(1)
        arrays: dict[str, np.ndarray] = {}
        for item in self.graph.inputs:
            shape = item.value.type.concrete(self.sizes)
            draw = random.random if item.role == "state" else random.standard_normal
            arrays[item.name] = np.asarray(draw(shape), np.float32)
        return side_by_side(arrays)


def _case(family: str, shape: str, graph: Graph, sizes: dict[str, int] | None = None) -> KernelCase:
    sizes = sizes or {}
    values = [i.value for i in graph.inputs] + [o.value for o in graph.outputs]
    moved = sum(4 * value.type.elements.evaluate(sizes) for value in values)
    return KernelCase(family, shape, graph, sizes, graph_flops(graph, sizes), moved)


def _value(*shape: int) -> Value:
    return Value(TensorType.make(DType.F32, shape))


def _graph(x: Value, w: Value, y: Value) -> Graph:
    return Graph("kernel", (Input("x", x, "data"), Input("w", w, "parameter")), (Output("y", y),))


# --- products -------------------------------------------------------------------------------------

#: Rows, columns and depth of a layer's forward product.
PRODUCTS = (
    (1, 512, 784), (1, 512, 3136), (32, 512, 128), (32, 512, 784), (256, 512, 784),
    (256, 10, 512), (64, 512, 3136), (1024, 256, 256), (1024, 1024, 256), (1024, 256, 1024),
    (128, 256, 256), (1024, 1024, 1024), (127, 509, 761), (33, 65, 129), (100, 100, 100),
    (17, 1000, 31), (250, 10, 517), (61, 13, 1999),
)  # fmt: skip


def matmul_forward() -> Iterator[KernelCase]:
    """y = x @ w"""
    for m, n, k in PRODUCTS:
        x, w = _value(m, k), _value(k, n)
        graph = _graph(x, w, ops.matmul(x, w))
        yield _case("matmul", f"{m}x{n}x{k}", graph)


def matmul_input() -> Iterator[KernelCase]:
    """dx = dy @ transpose(w)"""
    for m, n, k in PRODUCTS:
        dy, w = _value(m, n), _value(k, n)
        graph = _graph(dy, w, ops.matmul(dy, w, transpose_b=True))
        yield _case("matmul by input", f"{m}x{k}x{n}", graph)


def matmul_weight() -> Iterator[KernelCase]:
    """dw = transpose(x) @ dy"""
    for m, n, k in PRODUCTS:
        x, dy = _value(m, k), _value(m, n)
        graph = _graph(x, dy, ops.matmul(x, dy, transpose_a=True))
        yield _case("matmul by weight", f"{k}x{n}x{m}", graph)


def matmul_batched() -> Iterator[KernelCase]:
    """Scores of attention and what is mixed by them."""
    for lead, m, n, k in ((32, 128, 128, 64), (4, 128, 128, 64), (24, 77, 77, 40)):
        q, v = _value(lead, m, k), _value(lead, n, k)
        scores = _value(lead, m, n)
        graph = _graph(q, v, ops.matmul(q, v, transpose_b=True))
        yield _case("batched q @ kT", f"{lead}x{m}x{n}x{k}", graph)
        yield _case(
            "batched s @ v", f"{lead}x{m}x{k}x{n}", _graph(scores, v, ops.matmul(scores, v))
        )


# --- convolutions ---------------------------------------------------------------------------------

#: Shape of x, width, kernel, stride, dilation, groups; the padding is half of the kernel's reach.
CONVOLUTIONS: tuple[tuple[Shape, int, int, int, int, int], ...] = (
    ((64, 28, 28, 1), 32, 5, 1, 1, 1), ((64, 14, 14, 32), 64, 5, 1, 1, 1),
    ((64, 32, 32, 3), 16, 3, 1, 1, 1), ((64, 32, 32, 16), 16, 3, 1, 1, 1),
    ((64, 32, 32, 16), 32, 3, 2, 1, 1), ((64, 32, 32, 16), 32, 1, 2, 1, 1),
    ((64, 16, 16, 32), 32, 3, 1, 1, 1), ((64, 16, 16, 32), 64, 3, 2, 1, 1),
    ((64, 8, 8, 64), 64, 3, 1, 1, 1), ((1, 32, 32, 16), 16, 3, 1, 1, 1),
    ((1, 8, 8, 64), 64, 3, 1, 1, 1), ((8, 56, 56, 64), 64, 3, 1, 1, 1),
    ((8, 28, 28, 128), 128, 3, 1, 1, 1), ((8, 14, 14, 256), 256, 3, 1, 1, 1),
    ((8, 14, 14, 256), 64, 1, 1, 1, 1), ((4, 112, 112, 3), 64, 7, 2, 1, 1),
    ((5, 19, 23, 37), 53, 3, 1, 1, 1), ((3, 31, 17, 71), 67, 3, 2, 1, 1),
    ((8, 28, 28, 64), 64, 3, 1, 2, 1), ((8, 28, 28, 64), 64, 3, 1, 1, 4),
    ((8, 56, 56, 64), 64, 3, 1, 1, 64),
)  # fmt: skip
#: Results in a line of a tile by Winograd's method; 0 is the direct sum.
TILES = (0, 2, 4)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution of images with channels last."""

    text: str
    x: TensorType
    w: TensorType
    y: TensorType
    movement: Movement
    tile: int

    @property
    def kernel(self) -> tuple[Dim, Dim]:
        return self.w.shape[2], self.w.shape[3]

    def packed(self, **how: Any) -> Value:
        pack = PackWeights(groups=self.movement["groups"], tile=self.tile, **how)
        return Value(pack.infer(self.w)[0])

    def case(self, family: str, a: Value, b: Value, result: Value) -> KernelCase:
        """Its operations are those of the direct sum, whatever computes it."""
        flops = 2 * int(self.y.elements) * int(product(self.w.shape[1:]))
        return replace(_case(family, self.text, _graph(a, b, result)), flops=flops)


def _layers() -> Iterator[_Layer]:
    for shape, width, kernel, stride, dilation, groups in CONVOLUTIONS:
        x = TensorType.make(DType.F32, shape)
        w = TensorType.make(DType.F32, (width, shape[3] // groups, kernel, kernel))
        pad, step, apart = dim(dilation * (kernel // 2)), dim(stride), dim(dilation)
        movement = Movement(
            strides=(step, step), pads=(pad,) * 4, dilations=(apart, apart), groups=groups
        )
        size = (dim(kernel), dim(kernel))
        op = ConvLast(outputs=dim(width), kernel=size, **movement)
        text = f"{'x'.join(map(str, shape))} > {width}, {kernel}x{kernel}"
        parts = (("/", stride), (" dilated ", dilation), (" groups ", groups))
        text += "".join(f"{name}{count}" for name, count in parts if count > 1)
        plain = kernel in (3, 5) and stride == groups == 1
        for tile in TILES if plain else (0,):
            y = op.infer(x, PackWeights(groups=groups).infer(w)[0])[0]
            yield _Layer(f"{text} tile {tile}" if tile else text, x, w, y, movement, tile)


def conv_forward() -> Iterator[KernelCase]:
    """y from x and packed weights"""
    for layer in _layers():
        x, packed = Value(layer.x), layer.packed()
        outputs, kernel = layer.w.shape[0], layer.kernel
        op = ConvLast(outputs=outputs, kernel=kernel, tile=layer.tile, **layer.movement)
        yield layer.case("conv", x, packed, apply(op, x, packed))


def conv_input() -> Iterator[KernelCase]:
    """dx from dy and packed weights: with strides, or else by a convolution of dy"""
    for layer in _layers():
        dy, movement = Value(layer.y), layer.movement
        kernel, channels = layer.kernel, layer.x.shape[3]
        if movement["strides"][0] != 1:
            how = {name: movement[name] for name in ("strides", "dilations")}
            packed = layer.packed(backward=True, **how)
            shape = layer.x.shape
            dx = apply(ConvLastInputGradient(kernel=kernel, shape=shape, **movement), dy, packed)
        else:
            # The padding is the same at all sides, and the image keeps its size.
            packed = layer.packed(backward=True)
            op = ConvLast(outputs=channels, kernel=kernel, tile=layer.tile, **movement)
            dx = apply(op, dy, packed)
        yield layer.case("conv by input", dy, packed, dx)


def conv_weight() -> Iterator[KernelCase]:
    """dw from x and dy"""
    for layer in _layers():
        x, dy = Value(layer.x), Value(layer.y)
        op = ConvLastWeightGradient(shape=layer.w.shape, tile=layer.tile, **layer.movement)
        yield layer.case("conv by weight", x, dy, apply(op, x, dy))


def conv_packing() -> Iterator[KernelCase]:
    """Weights in the order of the direct sum"""
    for outputs, channels, kernel in ((16, 3, 3), (64, 64, 3), (256, 256, 3), (64, 256, 1)):
        w = _value(outputs, channels, kernel, kernel)
        for backward in (False, True):
            graph = Graph(
                "kernel",
                (Input("w", w, "data"),),
                (Output("packed", apply(PackWeights(backward=backward), w)),),
            )
            name = "packing by input" if backward else "packing"
            yield _case(name, f"{outputs}x{channels}x{kernel}x{kernel}", graph)


# --- layers of the library ------------------------------------------------------------------------


def _layer(family: str, layer: str, shape: Shape, *, training: bool, backward: bool) -> KernelCase:
    """`x -> layer`, or with `backward` that and the gradients of x and of the parameters from those
    of y, which are the data `dy`."""
    inner = ", ".join(map(str, shape[1:]))
    text = (
        f"model Layer {{ in x: [batch, {inner}]\n in dy: [batch, {inner}]\n out y\n out loss\n"
        f" y = x -> {layer}\n loss = sum(y * dy) }}"
    )
    if not backward:
        text = f"model Layer {{ in x: [batch, {inner}]\n out y\n y = x -> {layer} }}"
    walk = walk_model(dnnc.parse(text).models["Layer"], {}, training=training)
    data = {name: tensor.value for name, tensor in walk.inputs.items()}
    outputs = {"y": walk.outputs["y"].value}
    if backward:
        declared = walk.session.declared.values()
        wrt = {"x": data["x"]}
        wrt |= {d.variable.name: d.value for d in declared if d.role == "parameter"}
        slopes = gradients(walk.outputs["loss"].value, list(wrt.values()))
        outputs |= {f"d{name}": slope for name, slope in zip(wrt, slopes, strict=True)}
    graph = graph_of("kernel", walk.session, outputs, data, keep=False)
    return _case(family, "x".join(map(str, shape)), graph, {walk.batch: shape[0]})


def elementwise() -> Iterator[KernelCase]:
    """Activations and a chain of arithmetic."""
    for shape in ((1024, 1024), (101, 103)):
        for layer in ("relu", "exp", "log1p", "sigmoid", "tanh", "gelu", "silu"):
            yield _layer(layer, layer, shape, training=False, backward=False)
        yield _layer("gelu backward", "gelu", shape, training=False, backward=True)


def softmax() -> Iterator[KernelCase]:
    """Over the last axis."""
    for shape in ((4096, 128), (64, 10), (64, 1000), (513, 1003)):
        for backward in (False, True):
            family = "softmax backward" if backward else "softmax"
            yield _layer(family, "softmax", shape, training=False, backward=backward)


def normalization() -> Iterator[KernelCase]:
    """Batch norm over the statistics of the batch, and layer norm."""
    shapes: dict[str, tuple[Shape, ...]] = {
        "batch_norm": ((64, 16, 32, 32), (64, 64, 8, 8), (7, 37, 19, 23)),
        "layer_norm": ((1024, 256), (128, 1024), (77, 1001)),
    }
    for layer, sweep in shapes.items():
        for shape in sweep:
            for backward in (False, True):
                family = f"{layer} backward" if backward else layer
                yield _layer(family, layer, shape, training=True, backward=backward)


def scan() -> Iterator[KernelCase]:
    """All steps of recurrent layers; [batch, steps, features], as many units as features."""
    for shape in ((1, 64, 128), (32, 64, 128), (7, 33, 100)):
        for layer in ("lstm", "gru"):
            for backward in (False, True):
                yield _layer(
                    f"{layer} backward" if backward else layer,
                    f"{layer}({shape[2]})",
                    shape,
                    training=True,
                    backward=backward,
                )


FAMILIES = {
    "matmul": (matmul_forward, matmul_input, matmul_weight, matmul_batched),
    "conv": (conv_forward, conv_input, conv_weight, conv_packing),
    "elementwise": (elementwise,),
    "softmax": (softmax,),
    "norm": (normalization,),
    "scan": (scan,),
}
