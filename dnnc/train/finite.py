"""Where a value that is not finite came from: the operation that made it, and its place.

The program of one step is evaluated operation by operation with the reference meaning of each
operator, then the bad value is followed from the loss back to the operation that made it from good
ones. Walking back rather than forward matters: an infinity may be meant, as in a mask before a
softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from dnnc.diagnostics import DnnError, Note
from dnnc.elaborate.plan import Layer, TrainingPlan
from dnnc.ir.binding import bind_symbols
from dnnc.ir.graph import Graph, Node, Value, sorted_nodes
from dnnc.train.codes import fault
from dnnc.train.evaluate import Compiled

__all__ = ["MiscompiledError", "check_data", "explain"]

_Arrays = dict[Value, np.ndarray]

#: Values beyond this part of the largest number may overflow in sums of another order.
_NEAR = 1e-4


class MiscompiledError(Exception):
    """A compiled program gives values that are not finite where its meaning is far from
    overflow."""


def check_data(batch: Mapping[str, np.ndarray], split: str) -> DnnError | None:
    """E602 where a batch of a split holds NaN or infinity."""
    for name, array in batch.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))[0]
            return fault(
                "E602",
                f"field `{name}` of the {split} split holds {array[tuple(bad)]}",
                notes=(Note(f"in example {bad[0]} of the batch, at {bad[1:].tolist()}"),),
                help="remove or replace such values in the data block",
            )
    return None


def explain(
    plan: TrainingPlan, step: Compiled, inputs: Mapping[str, np.ndarray], at: str
) -> DnnError:
    """The error (E601, E602) for a step that went wrong, from its inputs as they were before it.

    `step` is `plan.step` compiled, which is asked where the reference meaning of the operators
    stays finite; `at` names the step for the message ("step 12 (epoch 2)"). Raises
    MiscompiledError.
    """
    data = {name: inputs[name] for name in plan.fields if name in inputs}
    wrong_data = check_data(data, "training")
    if wrong_data is not None:
        return wrong_data
    graph = plan.step
    arrays = _evaluate(graph, inputs)
    for output in sorted(graph.outputs, key=lambda output: output.updates is not None):
        if _wrong(arrays[output.value]):
            what = _description(output.updates)
            node = _source(output.value, arrays)
            if node is None:
                return fault("E601", f"{what} at {at}", plan.span)
            return _located(plan, node, arrays, f"{what} at {at}")
    if not _near_limits(arrays.values()):
        raise MiscompiledError(_disagreement(step, inputs, at))
    return _near_overflow(plan, step, inputs, f"the loss or a parameter is not finite at {at}")


def _near_limits(arrays: Iterable[np.ndarray]) -> bool:
    """Whether any number comes close to the largest of its type."""
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating) and array.size:
            finite = np.abs(array[np.isfinite(array)])
            if finite.max(initial=0.0) > _NEAR * np.finfo(array.dtype).max:
                return True
    return False


def _disagreement(step: Compiled, inputs: Mapping[str, np.ndarray], at: str) -> str:
    probe = getattr(step, "first_nonfinite", None)
    found = probe(inputs) if probe is not None else None
    made = f", first in `{found[1]}` of {found[0].op.name}" if found is not None else ""
    return f"at {at} the compiled program is not finite{made}; the reference interpreter is"


def _near_overflow(
    plan: TrainingPlan, step: Compiled, inputs: Mapping[str, np.ndarray], message: str
) -> DnnError:
    """The error where only the compiled program, in its own order of sums, leaves the range."""
    probe = getattr(step, "first_nonfinite", None)
    found = probe(inputs) if probe is not None else None
    notes = [Note("by the reference interpreter it is finite: numbers are close to overflow")]
    if found is None:
        return fault("E601", message, plan.span, notes=tuple(notes), help=_REMEDY)
    node, name = found
    layer = _layer(plan.network.layers, node.origin.path)
    if layer is not None:
        notes.append(Note(f"in layer `{layer.path}` ({layer.block})", layer.span))
    span = node.origin.span or plan.span
    label = f"`{name}` is the first that is not finite"
    return fault("E601", message, span, label=label, notes=tuple(notes), help=_REMEDY)


_GUARDS = {
    "log": "keep its operand above zero, as in log(max(x, 1e-6))",
    "sqrt": "keep its operand above zero; the slope of sqrt at 0 is infinite",
    "divide": "keep the divisor away from zero, as in x / (y + 1e-6)",
}
_REMEDY = "a smaller learning rate, `clip = norm(1.0)` or inputs of smaller size often help"


def _description(updates: str | None) -> str:
    return "the loss is not finite" if updates is None else f"`{updates}` becomes not finite"


def _evaluate(graph: Graph, inputs: Mapping[str, np.ndarray]) -> _Arrays:
    """Every value of the graph."""
    sizes = bind_symbols(graph, {item.name: inputs[item.name].shape for item in graph.inputs})
    arrays: _Arrays = {item.value: inputs[item.name] for item in graph.inputs}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            results = node.op.substitute(sizes).evaluate(*(arrays[v] for v in node.operands))
            arrays.update(zip(node.results, results, strict=True))
    return arrays


def _source(value: Value, arrays: _Arrays) -> Node | None:
    """The node that made a bad value from operands that explain it no further."""
    node = value.node
    while node is not None:
        before = _culprit(node, arrays)
        if before is None:
            return node
        node = before.node
    return None


def _culprit(node: Node, arrays: _Arrays) -> Value | None:
    """The operand to blame: one with NaN, else one with an infinity that was not meant."""
    for operand in node.operands:
        if _has_nan(arrays[operand]):
            return operand
    for operand in node.operands:
        if _wrong(arrays[operand]) and not _meant(operand, arrays):
            return operand
    return None


def _meant(value: Value, arrays: _Arrays) -> bool:
    """Whether the infinities of a value were written down as constants."""
    for node in sorted_nodes((value,)):
        makes = any(_wrong(arrays[result]) for result in node.results)
        if makes and node.operands and not any(_wrong(arrays[v]) for v in node.operands):
            return False
    return True


def _located(plan: TrainingPlan, node: Node, arrays: _Arrays, message: str) -> DnnError:
    result = next(v for v in node.results if _wrong(arrays[v]))
    forward = node in sorted_nodes((_loss(plan.step),))
    layer = _layer(plan.network.layers, node.origin.path)
    notes = [Note(_operands(node, arrays))]
    if not forward:
        notes.append(Note("this is in the gradient or the update, not in the forward pass"))
    if layer is not None:
        apart = layer.span if layer.span != node.origin.span else None
        notes.append(Note(f"in layer `{layer.path}` ({layer.block})", apart))
    elif node.origin.path:
        notes.append(Note(f"in `{node.origin.path}`"))
    return fault(
        "E601",
        message,
        node.origin.span or (layer.span if layer else None) or plan.span,
        label=f"`{node.op.name}` is the first to give {_kind(arrays[result])}",
        notes=tuple(notes),
        help=_GUARDS.get(node.op.name, _REMEDY),
    )


def _loss(graph: Graph) -> Value:
    return next(output.value for output in graph.outputs if output.updates is None)


def _layer(layers: Iterable[Layer], path: str) -> Layer | None:
    """The innermost layer that holds an instance path."""
    holders = [item for item in layers if item.path and f"{path}.".startswith(f"{item.path}.")]
    return max(holders, key=lambda item: len(item.path), default=None)


def _operands(node: Node, arrays: _Arrays) -> str:
    if not node.operands:
        return "it has no operands"
    ranges = [_range(v, arrays[v]) for v in node.operands]
    return f"it was given {', '.join(ranges)}"


def _range(value: Value, array: np.ndarray) -> str:
    name = f"`{value.hint}` " if value.hint else ""
    if array.size == 0:
        return f"{name}{value.type}, empty"
    finite = array[np.isfinite(array)] if np.issubdtype(array.dtype, np.floating) else array
    if finite.size == 0:
        return f"{name}{value.type}, nowhere finite"
    if array.ndim == 0:
        return f"{name}{value.type} = {array[()]:.6g}"
    return f"{name}{value.type} from {finite.min():.4g} to {finite.max():.4g}"


def _kind(array: np.ndarray) -> str:
    if _has_nan(array):
        return "nan"
    return "infinity" if (array > 0)[~np.isfinite(array)].any() else "minus infinity"


def _has_nan(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating) and bool(np.isnan(array).any())


def _wrong(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating) and not bool(np.isfinite(array).all())
