"""When Winograd's method is chosen."""

from __future__ import annotations

import pytest

from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Value
from dnnc.ir.text import parse_graph
from dnnc.ir.types import DType, TensorType
from dnnc.ops.channels_last import ConvLast, ConvLastWeightGradient, PackWeights
from dnnc.ops.conv import Movement
from dnnc.passes import layout
from dnnc.passes.check import check_pass
from dnnc.passes.fast_convolution import winograd_tile

PLAIN: Movement = {
    "strides": (dim(1), dim(1)),
    "pads": (dim(0),) * 4,  # type: ignore[typeddict-item]
    "dilations": (dim(1), dim(1)),
    "groups": 1,
}


def tile(taps: tuple[int, int], channels: int, size: tuple[Dim | int, Dim | int], **how: object):
    movement: Movement = {**PLAIN, **how}  # type: ignore[typeddict-item]
    kernel = (dim(taps[0]), dim(taps[1]))
    x = Value(TensorType(DType.F32, (dim("n"), dim("h"), dim("w"), dim(channels))))
    return winograd_tile("predict", x, movement, kernel, dim(8), tuple(map(dim, size)))


def test_sizes_that_pay() -> None:
    assert tile((3, 3), 8, (4, 4)) == 4
    assert tile((5, 5), 32, (14, 14)) == 4
    assert tile((5, 5), 32, (3, 14)) == 2


def test_dilations_make_smaller_images() -> None:
    two = (dim(2), dim(2))
    assert tile((3, 3), 8, (8, 8), dilations=two) == 4
    assert tile((3, 3), 8, (8, 7), dilations=two) == 4
    assert tile((3, 3), 8, (8, 6), dilations=two) == tile((3, 3), 8, (4, 3))


@pytest.mark.parametrize(
    ("taps", "channels", "size"),
    [
        ((3, 3), 7, (8, 8)),
        ((3, 3), 8, (3, 8)),
        ((3, 5), 8, (8, 8)),
        ((1, 1), 8, (8, 8)),
        ((7, 7), 8, (8, 8)),
        ((3, 3), 8, (dim("h"), 8)),
    ],
)
def test_sizes_that_do_not(
    taps: tuple[int, int], channels: int, size: tuple[Dim | int, Dim | int]
) -> None:
    assert tile(taps, channels, size) == 0


def test_steps_that_forbid_it() -> None:
    two = (dim(1), dim(2))
    assert tile((3, 3), 8, (8, 8), strides=two) == 0
    assert tile((3, 3), 8, (8, 8), groups=2) == 0


def three_convolutions() -> Graph:
    return parse_graph("""
    graph f(x: f32[n, 8, 6, 7], dy: f32[n, 9, 6, 5], w: f32[9, 8, 3, 3]) {
      %0: f32[n, 9, 6, 5] = conv x, w {pads = [1, 0, 1, 0]}
      %1: f32[n, 8, 6, 7] = conv_input_gradient dy, w {pads = [1, 0, 1, 0], shape = [n, 8, 6, 7]}
      %2: f32[9, 8, 3, 3] = conv_weight_gradient x, dy {pads = [1, 0, 1, 0], shape = [9, 8, 3, 3]}
      return y = %0, dx = %1, dw = %2
    }
    """)


def test_convolutions_and_their_gradients_take_it() -> None:
    graph = three_convolutions()
    after = layout.run(graph)
    kinds = PackWeights | ConvLast | ConvLastWeightGradient
    found = [node.op.tile for node in after.nodes if isinstance(node.op, kinds)]
    assert found == [4] * 5
    check_pass("layout", graph, after)
