"""What a fused node does with a product or a convolution once it holds its sums.

The pointwise rest of the body becomes an epilogue: a kernel of its own, which drivers call through
its address as `f(args, region, 0)`, where `args` are its own slots and `region` a table of
`Region.WORDS` words. A region is some rows by some adjacent columns, and still in cache. As
`f(args, region, 1)` it lists the cache lines that it is going to access, for a region whose source
is a list (`dnnc.kernels.product.lines`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from dnnc.ir.graph import Graph, Input, Node, Output, Value
from dnnc.ir.rewrite import replace
from dnnc.kernels.abi import Argument, Call, Integer, Kernel, examples_of
from dnnc.kernels.code import Code
from dnnc.kernels.fused.builder import Body, Builder
from dnnc.kernels.fused.plan import Phases
from dnnc.kernels.fused.space import Axis, Space
from dnnc.kernels.tiles import tiles
from dnnc.ops.channels_last import ConvLast, ConvLastInputGradient
from dnnc.ops.control import Fused
from dnnc.ops.conv import Convolution
from dnnc.ops.creation import Iota

__all__ = [
    "Epilogue",
    "Region",
    "build_finish",
    "calls_apart",
    "convolution_examples",
    "epilogue_arguments",
    "operands_of",
]


class Region(IntEnum):
    """Words of a region: where its sums lie, its extent, and the index of its first element.

    A product has the indices matrix, row, column. A convolution has them, too: a line of an image
    is a matrix, its pixels are rows and channels columns. Adjacent rows of the sums are STEP pixels
    apart in the result.
    """

    SOURCE = 0
    SOURCE_ROW = 1
    ROWS = 2
    COLUMNS = 3
    FIRST = 4
    STEP = 8
    WORDS = 9


@dataclass(frozen=True, slots=True)
class Epilogue:
    """The code of an epilogue and its slots.

    `flat` tells whether the lines of an image may come as one, since nothing depends on the line
    alone or on the column alone: rows then run on over the ends of lines. `in_place` is as in
    `Call`: it holds where the sums lie elsewhere; so are `examples`.
    """

    kernel: Kernel
    slots: tuple[Argument, ...]
    flat: bool
    in_place: tuple[tuple[Value, Value], ...]
    examples: str | None

    @staticmethod
    def of(node: Node, anchor: Node) -> Epilogue:
        """The epilogue of a fused node around `anchor`."""
        op, sums = _without_anchor(node, anchor)
        used = {value for n in op.body.nodes for value in n.operands}
        inputs = {
            item.value: outer
            for item, outer in zip(op.body.inputs, node.operands, strict=False)
            if item.value in used
        }
        inside = [output.value for output in op.body.outputs]
        outputs = tuple(zip(inside, node.results, strict=True))
        space = _Uncollapsed(op)
        body = Body(op, space, Phases(op, space), inputs, outputs)
        call = _write(Builder(body), sums, anchor)
        flat = isinstance(anchor.op, Convolution) and _is_flat(body)
        return Epilogue(call.kernel, call.arguments, flat, body.in_place(), body.examples())


def epilogue_arguments(epilogue: Epilogue | None) -> tuple[Argument, ...]:
    """What follows the slots of a driver."""
    return (Code(epilogue.kernel), *epilogue.slots) if epilogue else (Integer.of(0),)


def convolution_examples(op: Any, y: Value, epilogue: Epilogue | None) -> str | None:
    """The number of examples of a convolution to y and its epilogue; see `Call`."""
    if epilogue is not None and epilogue.examples is None:
        return None
    return examples_of(y, *op.pads, *op.strides, *op.dilations)


def build_finish(ahead: bool = False) -> Callable[..., None]:
    """`f(epilogue, slots, region, source, source_row, rows, columns, matrix, row, column, step)`:
    a driver's call of the epilogue at an address, whose slots begin at `slots`; `ahead`, of what
    lists cache lines at `source`.

    The words of the region are written at `region`; what follows there are those words.
    """
    from dnnc.kernels.intrinsics import call_kernel, store

    put, listing = store("i64"), int(ahead)

    def finish(
        epilogue: int, slots: int, region: int, source: int, source_row: int, rows: int,
        columns: int, matrix: int, row: int, column: int, step: int,
    ) -> None:  # fmt: skip
        put(region, Region.SOURCE, source)
        put(region, Region.SOURCE_ROW, source_row)
        put(region, Region.ROWS, rows)
        put(region, Region.COLUMNS, columns)
        put(region, Region.FIRST, matrix)
        put(region, Region.FIRST + 1, row)
        put(region, Region.FIRST + 2, column)
        put(region, Region.STEP, step)
        call_kernel(epilogue, slots, region, listing)

    return finish


def operands_of(node: Node, anchor: Node) -> tuple[Value, ...]:
    """The operands of the anchor of a fused node, outside of its body."""
    assert isinstance(node.op, Fused)
    outside = dict(zip((i.value for i in node.op.body.inputs), node.operands, strict=True))
    return tuple(outside[value] for value in anchor.operands)


def calls_apart(
    node: Node, anchor: Node, calls: Callable[[tuple[Value, ...], Value], list[Call]]
) -> list[Call]:
    """Calls of the anchor alone, which `calls` makes from operands and result, then of the rest."""
    from dnnc.kernels.fused.lower import elementwise_calls

    op, sums = _without_anchor(node, anchor)
    target = Value(sums.type)
    first = calls(operands_of(node, anchor), target)
    return [*first, *elementwise_calls(op, (*node.operands, target), node.results)]


def _without_anchor(node: Node, anchor: Node) -> tuple[Fused, Value]:
    """The operator with the anchor's result as its last input, and that input."""
    op = node.op
    assert isinstance(op, Fused)
    sums = Value(anchor.results[0].type)
    outputs = replace([output.value for output in op.body.outputs], {anchor.results[0]: sums})
    body = Graph(
        op.body.name,
        (*op.body.inputs, Input("sums", sums)),
        tuple(Output(o.name, v) for o, v in zip(op.body.outputs, outputs, strict=True)),
    )
    return Fused(body, op.space, op.reduced), sums


class _Uncollapsed(Space):
    """A space with all its axes: regions are given by index along each."""

    def _collapse(self) -> list[Axis]:
        return [Axis((k,), size, False) for k, size in enumerate(self.op.space)]


def _is_flat(body: Body) -> bool:
    space, nodes = body.space, body.op.body.nodes
    if any(isinstance(node.op, Iota) for node in nodes):
        return False
    if body.op.space[2] == 1:
        return True
    return all(len(set(space.spread(value)[1:3])) == 1 for value in body.inputs)


def _write(b: Builder, sums: Value, anchor: Node) -> Call:
    """The loops: over rows, and within over the columns of a row."""
    last, w = len(b.space.axes) - 1, b.writer
    row = f"i{last - 1} = first_row"
    w.add(f"matrix = slot(tid, {Region.FIRST + 0})")
    b.split_index("matrix", list(range(last - 1)))
    if isinstance(anchor.op, Convolution) and b.body.op.space[2] == 1:
        # The pixels of an image one pixel wide are its lines.
        w.add("line, i2 = i1, 0")
        row = "i1 = line + first_row"
    w.add(
        f"rows, columns = slot(tid, {Region.ROWS + 0}), slot(tid, {Region.COLUMNS + 0})",
        f"first_row, first = slot(tid, {Region.FIRST + 1}), slot(tid, {Region.FIRST + 2})",
        f"source, source_row = slot(tid, {Region.SOURCE + 0}), slot(tid, {Region.SOURCE_ROW + 0})",
        f"step = slot(tid, {Region.STEP + 0})",
    )
    start = f"{row} + {'r * step' if _comes_apart(anchor.op) else 'r'}"
    with w.block("if threads:"):
        _list_lines(b, start)
        w.add("return 0")
    part = _part(b.body)
    if part is None or _is_whole(b.body, sums, anchor, part):
        _write_rows(b, sums, start, part)
        return b.call("epilogue")
    with w.block(f"if columns % {part} == 0:"):
        _write_rows(b, sums, start, part)
    with w.block("else:"):
        _write_rows(b, sums, start)
    return b.call("epilogue")


def _comes_apart(op: Any) -> bool:
    """Whether adjacent rows of the sums are not always adjacent pixels."""
    if isinstance(op, ConvLast):
        return op.tile > 0 and any(apart != 1 for apart in op.dilations)
    return isinstance(op, ConvLastInputGradient)


def _list_lines(b: Builder, start: str) -> None:
    """List the lines of all memory that has a part for each row."""
    last, w = len(b.space.axes) - 1, b.writer
    memories = [m for m in b.memories if m.strides and m.strides[last] == 1]
    memories = [m for m in memories if m.strides[last - 1] is not None]
    with w.block("for r in range(rows):"):
        w.add(start)
        with b.moved(list(range(last))):
            for memory in memories:
                size = memory.dtype.size
                place = f"{memory.address} + ({b.bases[memory.number]} + first) * {size}"
                w.add(f"list_lines(source, {place}, 0, 1, columns * {size})")


def _part(body: Body) -> int | None:
    """Columns that are taken at a time, so that their number is known when code is written: a
    vector's."""
    columns, dtype = body.op.space[-1].constant, str(body.outputs[0][0].type.dtype)
    if columns is None or dtype not in ("f32", "f64"):
        return None
    part = tiles(dtype, 1)[0].columns
    return part if part <= columns else None


def _is_whole(body: Body, sums: Value, anchor: Node, part: int) -> bool:
    """Whether every region has a multiple of `part` columns. Convolutions go by whole vectors up to
    the last channel of a group; products may hand over any number."""
    same = sums.type.dtype is body.outputs[0][0].type.dtype
    last = body.op.space[-1]
    return (
        isinstance(anchor.op, Convolution) and anchor.op.groups == 1 and same and last % part == 0
    )


def _write_rows(b: Builder, sums: Value, start: str, part: int | None = None) -> None:
    last, w, step = len(b.space.axes) - 1, b.writer, part or "columns"
    with w.block("for r in range(rows):"):
        w.add(start, "sums = source + r * source_row")
        with (
            b.moved(list(range(last))),
            w.block(f"for c in range(0, columns, {step}):"),
            w.block(f"for j in range({step}):"),
        ):
            w.add(f"i{last} = first + c + j")
            terms = b.terms(last)
            alias = len(b.memories)
            load = b.source.access("load", sums.type.dtype, alias if alias < 48 else None)
            terms.given[sums] = terms.scope.assign(f"{load}(sums, c + j)", sums.type.dtype)
            b.store(terms, list(dict.fromkeys(value for value, _ in b.body.outputs)))
