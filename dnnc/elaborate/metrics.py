"""Loss and metrics over a whole split, from sums over its batches.

A metric is an ordinary function of the language, written as if the whole split were one batch. Here
its graph is cut where it sums over the batch: what is before the cut runs on each batch, the sums
of the batches are added up, and what is after the cut makes the metric from the totals. So
accuracy, precision, f1, r2 and whatever a user writes with sums are exact for any size of batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from dnnc import ops
from dnnc.diagnostics import Collector
from dnnc.elaborate.network import graph_of
from dnnc.elaborate.plan import Evaluation
from dnnc.elaborate.session import Session
from dnnc.elaborate.values import Tensor, describe
from dnnc.ir.dims import Dim, Symbol
from dnnc.ir.graph import (
    Graph,
    Input,
    Node,
    Output,
    Value,
    apply_all,
    nodes_between,
    origin,
    sorted_nodes,
)
from dnnc.ir.types import DType, TensorType
from dnnc.syntax import tree

if TYPE_CHECKING:
    from dnnc.elaborate.scope import JobScope

__all__ = ["build_evaluation"]

#: Operators whose results over batches combine into that over all.
_COMBINE = {"reduce_sum": "add", "matmul": "add", "reduce_max": "max", "reduce_min": "min"}
_REMEDY = "write it with sums, as variance is E[x*x] - E[x] * E[x]"


def build_evaluation(job: JobScope, loss: tree.Expr, metrics: list[tree.Expr]) -> Evaluation:
    """The evaluation of a loss and metrics; raises DnnError."""
    named = [b.value.value for b in job.walk.env.names.values() if isinstance(b.value, Tensor)]
    model = set(sorted_nodes((*named, *(t.value for t in job.walk.outputs.values()))))
    cut = _Cut(job.session, job.walk.batch, set(job.data.values()), model)
    finished: dict[str, Value] = {}
    errors = Collector()
    for expression in (loss, *metrics):
        name = "loss" if expression is loss else _metric_name(expression, finished)
        with job.session.collecting(errors), job.session.at(expression.span):
            result = job.loss(expression) if expression is loss else _measure(job, expression)
            cut.data.update(job.data.values())
            finished[name] = cut.finish(result.value)
    errors.raise_if_any()
    sums = graph_of("sums", job.session, dict(cut.outputs), job.data, keep=False)
    finish = Graph(
        "finish",
        (
            Input("batch", cut.count, "scalar"),
            *(Input(n, cut.totals[n], "data") for n in cut.outputs),
        ),
        tuple(Output(n, v) for n, v in finished.items()),
    )
    return Evaluation(sums, cut.combine, finish, tuple(finished))


def _measure(job: JobScope, expression: tree.Expr) -> Tensor:
    result = job.value(expression)
    if not isinstance(result, Tensor) or result.rank != 0:
        job.session.fail(
            "E409", f"a metric is one number, got {describe(result)}", expression.span,
            help="reduce it with `mean` or `sum`",
        )  # fmt: skip
    return result


def _metric_name(node: tree.Expr, taken: dict[str, Value]) -> str:
    """`accuracy` for `accuracy(logits, label)`; other expressions by their text."""
    base = node.span.text
    match node:
        case tree.Call(callee=tree.Name(name=name)) | tree.Name(name=name):
            base = name
        case tree.Call(callee=tree.Attribute(name=name)):
            base = name
        case _:
            pass
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


class _Cut:
    """Cuts values where they stop depending on the batch."""

    def __init__(self, session: Session, batch: str, data: set[Value], model: set[Node]) -> None:
        self.session, self.batch, self.data = session, batch, data
        self.model = model
        self.count = Value(TensorType(DType.I64), hint="batch")
        self.outputs: dict[str, Value] = {}
        self.totals: dict[str, Value] = {}
        self.combine: dict[str, str] = {}
        self.done: dict[Value, Value] = {}

    def finish(self, value: Value) -> Value:
        """The value, computed from totals."""
        varying = self._varying(value)
        order = sorted_nodes((value,))
        needed = nodes_between([value], lambda total: self._is_leaf(total, varying))
        for node in order:
            if node not in needed or node.results[0] in self.done:
                continue
            operands = tuple(self._operand(o, varying) for o in node.operands)
            with origin(node.origin):
                results = apply_all(node.op, *operands)
            self.done.update(zip(node.results, results, strict=True))
        return self._operand(value, varying)

    def _varying(self, value: Value) -> set[Value]:
        """Values that depend on the data or on the number of examples."""
        varying = set(self.data)
        for node in sorted_nodes((value,)):
            is_size = node.op.name == "size" and self.batch in node.op.dim.symbols  # type: ignore[attr-defined]
            if is_size or any(o in varying for o in node.operands):
                varying.update(node.results)
        return varying

    def _is_leaf(self, value: Value, varying: set[Value]) -> bool:
        node = value.node
        if node is None or value not in varying or node.op.name == "size":
            return True
        batchy = any(self.batch in o.type.symbols for o in node.operands)
        return batchy and self.batch not in value.type.symbols

    def _operand(self, value: Value, varying: set[Value]) -> Value:
        if value in self.done:
            return self.done[value]
        node = value.node
        if self.batch in value.type.symbols:
            self.again()
        if node is not None and not node.operands and value not in varying:
            return value
        if node is not None and node.op.name == "size" and value in varying:
            result = self._examples(node.op.dim, value.type.dtype)  # type: ignore[attr-defined]
        else:
            result = self._total(value, varying)
        self.done[value] = result
        return result

    def _total(self, value: Value, varying: set[Value]) -> Value:
        """A total over batches; what does not depend on the data is the same in each."""
        name = f"s{len(self.outputs)}"
        how = "max"
        if value in varying:
            assert value.node is not None
            how = _COMBINE.get(value.node.op.name, "")
            if not how:
                self.session.fail(
                    "E410", f"`{value.node.op.name}` over all examples is not a sum over batches",
                    help=_REMEDY,
                )  # fmt: skip
            self._check_batchwise(value.node, varying)
        self.outputs[name] = value
        self.combine[name] = how
        self.totals[name] = Value(value.type, hint=name)
        return self.totals[name]

    def _check_batchwise(self, total: Node, varying: set[Value]) -> None:
        """E410 where what is summed depends on other examples than its own.

        What the model itself makes of a batch is its own affair: the same as when it predicts.
        """
        stack = list(total.operands)
        seen: set[Node] = set()
        while stack:
            value = stack.pop()
            node = value.node
            if node is None or node in seen or node in self.model:
                continue
            if self._tells_places(node) or (value in varying and self._is_leaf(value, varying)):
                self.again()
            seen.add(node)
            stack.extend(node.operands)

    def _tells_places(self, node: Node) -> bool:
        """Whether an operator depends on where in the batch an example stands."""
        match node.op.name, node.operands:
            case "iota", _:
                axis = node.results[0].type.shape[node.op.axis]  # type: ignore[attr-defined]
            case (("reverse" | "slice" | "pad" | "concat"), (x, *_)):
                axis = x.type.shape[node.op.axis]  # type: ignore[attr-defined]
            case "scan", _:
                axis = node.operands[node.op.carries].type.shape[0]  # type: ignore[attr-defined]
            case "gather", (table, _):
                axis = table.type.shape[0]
            case _:
                return False
        return self.batch in axis.symbols

    def again(self) -> NoReturn:
        self.session.fail(
            "E410", "this measure needs the data again after a sum over all examples",
            label="it cannot be made from sums over batches", help=_REMEDY,
        )  # fmt: skip

    def _examples(self, size: Dim, dtype: DType) -> Value:
        """A size as a number, with the batch standing for all examples."""
        total = ops.constant(0, dtype)
        count = ops.cast(self.count, dtype)
        for monomial, factor in size.terms:
            term = ops.constant(factor, dtype)
            for atom in monomial:
                if atom == Symbol(self.batch):
                    term = ops.multiply(term, count)
                else:
                    self.session.fail("E410", f"the size {size} is not a multiple of the batch")
            total = ops.add(total, term)
        return total
