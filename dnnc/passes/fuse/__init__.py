"""Make one kernel of what can run together.

    %0 = reduce_max %x {axes = [1], keep = true}
    %1 = subtract %x, %0
    %2 = exp %1                                       →      %4 = fused %x {space = [n, k], ...}
    %3 = reduce_sum %2 {axes = [1], keep = true}
    %4 = divide %2, %3

Products take the elementwise nodes that follow them (`epilogues`). Other elementwise nodes and
reductions join along the values that flow between them (`joining`), unless the result would have
to run before and after something else (`units`). Cheap values are computed again in every kernel
that reads them (`reads`). Each elementwise node or reduction left alone becomes a kernel of its
own, so that kernels for them exist once.
"""

from __future__ import annotations

import dataclasses

from dnnc.ir.graph import Graph, Node, Value, origin
from dnnc.ir.rewrite import map_regions, uses
from dnnc.ops.base import apply, apply_all
from dnnc.ops.control import Scan
from dnnc.ops.creation import Constant
from dnnc.ops.shape import Reshape
from dnnc.passes.fuse.body import Body
from dnnc.passes.fuse.epilogues import epilogue
from dnnc.passes.fuse.joining import Joiner
from dnnc.passes.fuse.reads import (
    ANCHORS,
    REDUCTIONS,
    Reads,
    frame,
    is_fusable,
    is_inner_reshape,
    strip_reshapes,
)
from dnnc.passes.fuse.reshapes import sink_reshapes
from dnnc.passes.fuse.units import Partition, Unit
from dnnc.passes.trace import fired

__all__ = ["run"]


def run(graph: Graph) -> Graph:
    return _Fusion(sink_reshapes(graph)).result()


class _Fusion:
    """The fusion of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.index = {node: i for i, node in enumerate(self.nodes)}
        self.outputs = {output.value for output in graph.outputs}
        self.partition, self.reads = Partition(), Reads()
        self.kept: set[Value] = set()
        self.readers: dict[Value, list[Node]] = {}
        # Results in the new graph, by the value of the old one.
        self.made: dict[Value, Value] = {}

    def result(self) -> Graph:
        absorbed = self._add_anchors()
        self._find_written(absorbed)
        self.reads.classify(self.nodes, absorbed)
        self._add_units(absorbed)
        self._connect()
        joiner = Joiner(self.partition, self.reads, self.readers, self.kept)
        joiner.join_all(node for node in self.nodes if node in self.partition.of)
        for unit in self.partition:
            self._emit(unit)
        outputs = tuple(
            dataclasses.replace(output, value=self._resolved(output.value))
            for output in self.graph.outputs
        )
        return dataclasses.replace(self.graph, outputs=outputs)

    def _add_anchors(self) -> set[Node]:
        """A unit for every product with its epilogue; the nodes of all of them."""
        users = uses(self.graph)
        taken: set[Node] = set()
        for node in self.nodes:
            if not isinstance(node.op, ANCHORS):
                continue
            rest = epilogue(node, users, self.outputs, self.index, taken)
            taken.update((node, *rest))
            shape = node.results[0].shape
            place = tuple(axis for axis, size in enumerate(shape) if size != 1)
            nodes = [node, *sorted(rest, key=self.index.__getitem__)]
            unit = Unit(nodes, self.index[nodes[-1]], open=False, space=shape, anchor=node)
            unit.places = dict.fromkeys(rest, place)
            self.partition.add(unit)
        return taken

    def _find_written(self, absorbed: set[Node]) -> None:
        """Values that are stored whatever is fused: inputs, and what nodes that are never fused
        use."""
        self.kept.update(map(strip_reshapes, self.outputs))
        for node in self.nodes:
            if isinstance(node.op, Reshape) and not is_inner_reshape(node):
                self.kept.add(strip_reshapes(node.operands[0]))
            if not self._is_open(node, absorbed) and not isinstance(node.op, Reshape):
                if node not in absorbed:
                    self.reads.written.update(node.results)
                if node not in absorbed or isinstance(node.op, ANCHORS):
                    self.kept.update(map(strip_reshapes, node.operands))
        self.reads.written.update(item.value for item in self.graph.inputs)
        self.reads.written.update(self.kept)
        for unit in self.partition.units:
            self.reads.written.add(unit.nodes[-1].results[0])

    def _is_open(self, node: Node, absorbed: set[Node]) -> bool:
        return node not in absorbed and is_fusable(node)

    def _add_units(self, absorbed: set[Node]) -> None:
        for node in self.nodes:
            if node in absorbed or any(r in self.reads.virtual for r in node.results):
                continue
            if isinstance(node.op, Reshape | Constant):
                continue
            unit = Unit([node], self.index[node], open=is_fusable(node))
            if unit.open:
                self._place_alone(unit, node)
            self.partition.add(unit)

    def _place_alone(self, unit: Unit, node: Node) -> None:
        unit.space = frame(node)
        unit.places = {node: tuple(range(len(unit.space)))}
        if isinstance(node.op, REDUCTIONS):
            shape = node.operands[0].shape
            axes = [axis for axis, size in enumerate(shape) if size != 1]
            unit.reduced = tuple(i for i, axis in enumerate(axes) if axis in node.op.axes)

    def _connect(self) -> None:
        for unit in self.partition.units:
            for node in unit.nodes:
                for value in self._needed(unit, node):
                    unit.reads[value] = None
                    source = strip_reshapes(value)
                    self.readers.setdefault(source, []).append(node)
                    if source.node is not None and source.node in self.partition.of:
                        self.partition.connect(unit, (self.partition.of[source.node],))
        self.partition.settle()

    def _needed(self, unit: Unit, node: Node) -> list[Value]:
        if node in unit.places:
            return [value for value, _ in self.reads.of_node(node)]
        return [v for v in node.operands if not isinstance(strip_reshapes(v).node, Constant)]

    def _emit(self, unit: Unit) -> None:
        """Make the node of a unit, whose operands have been made."""
        last = unit.nodes[-1]
        with origin(last.origin):
            if not unit.places:
                self._emit_alone(last)
            else:
                unit.nodes.sort(key=self.index.__getitem__)
                self._emit_fused(unit)

    def _emit_alone(self, node: Node) -> None:
        op = map_regions(node.op, run) if isinstance(node.op, Scan) else node.op
        operands = tuple(self._resolved(value) for value in node.operands)
        if op is node.op and operands == node.operands:
            return
        results = apply_all(op, *operands, hint=node.results[0].hint)
        self.made.update(zip(node.results, results, strict=True))

    def _emit_fused(self, unit: Unit) -> None:
        inner = set(unit.nodes)
        outputs = [
            value
            for value in (node.results[0] for node in unit.nodes)
            if value in self.kept or any(r not in inner for r in self.readers.get(value, ()))
        ]
        body = Body(unit, self.reads, outputs)
        operands = [_shaped(self._resolved(value), shape) for value, shape in body.operands]
        results = apply_all(body.op, *operands, hint=outputs[-1].hint)
        fired(f"fuse {len(unit.nodes)} nodes" if len(unit.nodes) > 1 else "wrap a node")
        for value, result in zip(outputs, results, strict=True):
            self.made[value] = _shaped(result, value.shape)

    def _resolved(self, value: Value) -> Value:
        """A stored value, or a reshape of one, in the new graph."""
        chain: list[Value] = []
        while value not in self.made and value.node is not None:
            if not isinstance(value.node.op, Reshape):
                break
            chain.append(value)
            value = value.node.operands[0]
        result = self.made.get(value, value)
        for old in reversed(chain):
            assert old.node is not None
            source = old.node.operands[0]
            if result is not source:
                with origin(old.node.origin):
                    result = _shaped(result, old.shape)
                self.made[old] = result
            else:
                result = old
        return result


def _shaped(value: Value, shape: tuple[object, ...]) -> Value:
    if value.shape == shape:
        return value
    while value.node is not None and isinstance(value.node.op, Reshape):
        value = value.node.operands[0]
    target = tuple(shape)
    return value if value.shape == target else apply(Reshape(target), value)  # type: ignore[arg-type]
