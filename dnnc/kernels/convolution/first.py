"""Convolutions and pooling of images [N, C, H, W], which `dnnc.passes.layout` leaves to no program.

A graph that no pass has seen is lowered as the pass would have rewritten each of these nodes: as a
transpose, the node with channels last, and a transpose back, with scratch memory in between.
"""

from __future__ import annotations

from dataclasses import replace

from dnnc.ir.graph import Graph, Input, Node, Output, Value, apply
from dnnc.kernels.abi import Argument, Buffer, Call, Scratch, lower, lowering
from dnnc.kernels.convolution.integer import integer_conv_call
from dnnc.ops.conv import Conv, ConvInputGradient, Convolution, ConvWeightGradient
from dnnc.ops.shape import Reshape
from dnnc.passes import layout

__all__ = ["first_calls"]


@lowering(Conv, ConvInputGradient, ConvWeightGradient)
def lower_conv(node: Node) -> list[Call]:
    op, (first, second), result = node.op, node.operands, node.results[0]
    assert isinstance(op, Convolution)
    if result.type.dtype.is_float:
        return first_calls(node)
    return [integer_conv_call(op, first, second, result)]


def first_calls(node: Node) -> list[Call]:
    """The calls of a node whose images are [N, C, H, W] by those of the same with channels last."""
    inner = [Value(operand.type) for operand in node.operands]
    inputs = tuple(Input(f"x{i}", value) for i, value in enumerate(inner))
    graph = layout.run(Graph("first", inputs, (Output("y", apply(node.op, *inner)),)))
    buffers: dict[Value, Value | Scratch] = dict(zip(inner, node.operands, strict=True))
    buffers[_memory(graph.outputs[0].value)] = node.results[0]
    calls = []
    for step in graph.nodes:
        if isinstance(step.op, Reshape):
            continue
        made = step.results[0]
        if made not in buffers:
            buffers[made] = Scratch(made.type.elements * made.type.dtype.size)
        calls.extend(lower(step))
    return [_placed(call, buffers) for call in calls]


def _memory(value: Value) -> Value:
    """The value whose memory a value shares."""
    while value.node is not None and isinstance(value.node.op, Reshape):
        value = value.node.operands[0]
    return value


def _placed(call: Call, buffers: dict[Value, Value | Scratch]) -> Call:
    """The call with values of the rewritten graph in the memory that `buffers` says."""

    def placed(argument: Argument) -> Argument:
        if not isinstance(argument, Buffer):
            return argument
        target = buffers[_memory(argument.value)]
        return target if isinstance(target, Scratch) else Buffer(target, argument.written)

    return replace(call, arguments=tuple(map(placed, call.arguments)), in_place=())
