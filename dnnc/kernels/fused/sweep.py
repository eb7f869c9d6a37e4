"""One formula on several groups of tensors: a call for all of them.

The kernel of the formula runs on one flat tensor. A driver calls it for group after group, with the
slots of that group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dnnc.ir.dims import Dim, dim, product
from dnnc.ir.graph import Graph, Input, Node, Output, Value
from dnnc.ir.rewrite import replace
from dnnc.ir.types import TensorType
from dnnc.kernels.abi import Argument, Buffer, Call, Integer, lowering, make_kernel
from dnnc.kernels.code import Code
from dnnc.kernels.fused.lower import elementwise_calls
from dnnc.ops.control import Fused, Sweep

__all__: list[str] = []

_COUNT = "elements"
_CODE, _GROUPS, _EACH, _FIRST = range(4)


@lowering(Sweep)
def lower_sweep(node: Node) -> list[Call]:
    op = node.op
    assert isinstance(op, Sweep)
    fused = _flat(op)
    inputs = [Value(item.value.type) for item in fused.body.inputs]
    outputs = [Value(output.value.type) for output in fused.body.outputs]
    (call,) = elementwise_calls(fused, inputs, outputs)
    arguments: list[Argument] = []
    pairs: list[tuple[Value, Value]] = []
    groups, total = op.groups(node.operands), dim(0)
    for i, group in enumerate(groups):
        results = node.results[i * len(outputs) : (i + 1) * len(outputs)]
        outside = (*node.operands[: op.shared], *group, *results)
        values = dict(zip((*inputs, *outputs), outside, strict=True))
        count = product(group[0].shape)
        arguments += _placed(call.arguments, values, count)
        pairs += [(values[result], values[operand]) for result, operand in call.in_place]
        total += call.flops.substitute({_COUNT: count})
    sizes = (Integer.of(len(groups)), Integer.of(len(call.arguments)))
    return [
        Call(
            make_kernel("sweep", _build, unrolled=False),
            (Code(call.kernel), *sizes, *arguments), total, tuple(pairs),
        )
    ]  # fmt: skip


def _flat(op: Sweep) -> Fused:
    """The formula on tensors of one axis."""
    axis, body = (dim(_COUNT),), op.body
    inputs = [
        Input(item.name, Value(TensorType(item.value.type.dtype, axis if k >= op.shared else ())))
        for k, item in enumerate(body.inputs)
    ]
    known = {old.value: new.value for old, new in zip(body.inputs, inputs, strict=True)}
    values = replace((output.value for output in body.outputs), known)
    outputs = tuple(Output(f"y{k}", value) for k, value in enumerate(values))
    return Fused(Graph(body.name, tuple(inputs), outputs), axis)


def _placed(
    arguments: Sequence[Argument], values: Mapping[Value, Value], count: Dim
) -> list[Argument]:
    """Arguments for one group of so many elements."""
    placed: list[Argument] = []
    for argument in arguments:
        if isinstance(argument, Buffer):
            placed.append(Buffer(values[argument.value], argument.written))
        else:
            # Loops over flat tensors need no scratch memory.
            assert isinstance(argument, Integer)
            placed.append(Integer(argument.size.substitute({_COUNT: count})))
    return placed


def _build() -> Callable[[int, int, int], int]:
    """Small tensors stay with one thread, each with another one."""
    from dnnc.kernels.intrinsics import call_kernel, slot

    def kernel(args: int, tid: int, threads: int) -> int:
        own = args + 8 * _FIRST
        for group in range(slot(args, _GROUPS)):
            call_kernel(slot(args, _CODE), own, (tid + group) % threads, threads)
            own += 8 * slot(args, _EACH)
        return 0

    return kernel
