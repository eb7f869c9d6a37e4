"""A model with its settings → graphs: the walk through its blocks, and the network that results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dnnc import ops
from dnnc.diagnostics import Collector, Note, Span, listing, suggestion
from dnnc.elaborate.elaborator import Elaborator
from dnnc.elaborate.plan import Network
from dnnc.elaborate.session import Session
from dnnc.elaborate.shapes import is_free, names_in
from dnnc.elaborate.values import Axis, BlockValue, Env, Instance, Size, Tensor, size_of
from dnnc.ir.dims import Dim, dim
from dnnc.ir.graph import Graph, Input, Output, Value, sorted_nodes, uncollected
from dnnc.ir.rewrite import replace
from dnnc.ir.types import DType, TensorType
from dnnc.syntax import tree

__all__ = ["FieldShape", "Walk", "build_network", "graph_of", "walk_model"]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """What a data field brings: element type and shape of one example."""

    dtype: DType
    shape: tuple[int, ...]
    span: Span | None = None


@dataclass(slots=True, eq=False)
class Walk:
    """A model elaborated once: its session, its names in scope, inputs and outputs."""

    elaborator: Elaborator
    env: Env
    block: BlockValue
    settings: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    batch: str  # the symbol of the first axis

    @property
    def session(self) -> Session:
        return self.elaborator.session

    def has_sizes_of(self, fields: Mapping[str, FieldShape]) -> bool:
        """Whether each input has the very sizes of its field, so that elaborating with the fields
        gives the same."""
        types = {name: tensor.value.type for name, tensor in self.inputs.items()}
        return fields.keys() >= types.keys() and all(
            type.shape[1:] == tuple(map(dim, fields[name].shape))
            and not (type.dtype.is_integer and fields[name].dtype.is_float)
            for name, type in types.items()
        )


def walk_model(
    block: BlockValue,
    settings: Mapping[str, Any],
    *,
    training: bool,
    dtype: DType = DType.F32,
    sizes: Mapping[str, int] | None = None,
    fields: Mapping[str, FieldShape] | None = None,
    span: Span | None = None,
) -> Walk:
    """Elaborate a model; raises DnnError with every independent error.

    `sizes` fixes symbols of the inputs. With `fields`, each input takes its sizes from the field of
    its name, but for the batch.
    """
    session = Session(training=training, dtype=dtype, sizes=dict(sizes or {}))
    session.ambient["training"] = training
    el = Elaborator(session)
    definition = block.definition
    place = span or definition.name_span
    env = Env(block.env)
    instance = Instance("", block.name, span=definition.name_span)
    env.define("$layer", instance, None)
    env.define("branches", [], None)
    errors = Collector()
    with uncollected(), session.collecting(errors), session.at(place):
        bound = _named_settings(el, block, settings, place)
        with session.at(definition.name_span):
            el.bind_settings(block, bound, env, definition.name_span)
        inputs = _inputs(el, definition, env, fields)
        batch = _batch(el, definition, inputs)
        with session.frame("model", block.name, definition.name_span):
            outputs = el.run_block(definition, dict(inputs), env, definition.name_span)
        el.keep_states(instance, env)
    errors.raise_if_any()
    values = {s.name: _binding(env, s.name) for s in definition.settings}
    return Walk(el, env, block, values, inputs, outputs, batch)


def _binding(env: Env, name: str) -> Any:
    binding = env.find(name)
    return binding.value if binding else None


def _named_settings(
    el: Elaborator, block: BlockValue, settings: Mapping[str, Any], span: Span
) -> dict[str, Any]:
    known = [s.name for s in block.definition.settings]
    for name in settings:
        if name not in known:
            el.session.fail(
                "E102", f"model `{block.name}` has no setting `{name}`", span,
                f"its settings: {listing(known) or 'none'}", suggestion(name, known),
            )  # fmt: skip
    return dict(settings)


def _inputs(
    el: Elaborator, definition: tree.Block, env: Env, fields: Mapping[str, FieldShape] | None
) -> dict[str, Tensor]:
    """Fresh values for the inputs, with types from their shapes, from `sizes` and from the data."""
    inputs: dict[str, Tensor] = {}
    symbols = Env(env)
    axes: dict[str, Axis] = {}
    for port in definition.body:
        if not isinstance(port, tree.Port) or port.direction != "in":
            continue
        if port.shape is None:
            el.session.fail("E312", "an input of a model needs a shape", port.span)
        for name in port.names:
            with el.session.at(port.span):
                field = _field(el, name, port, fields)
                inputs[name] = _input(el, name, port.shape, field, symbols, axes)
    if not inputs:
        el.session.fail("E312", f"model `{definition.name}` has no input", definition.name_span)
    return inputs


def _field(
    el: Elaborator, name: str, port: tree.Port, fields: Mapping[str, FieldShape] | None
) -> FieldShape | None:
    if fields is None:
        return None
    if name not in fields:
        el.session.fail(
            "E406", f"the input `{name}` has no data field of that name", port.span,
            f"the data has {listing(fields) or 'no fields'}",
            suggestion(name, fields, f"add `{name} = …` to the data block"),
        )  # fmt: skip
    return fields[name]


def _input(
    el: Elaborator,
    name: str,
    shape: tree.Shape,
    field: FieldShape | None,
    symbols: Env,
    axes: dict[str, Axis],
) -> Tensor:
    dims: list[Dim] = []
    named: list[Axis | None] = []
    given = field.shape if field is not None and len(field.shape) == len(shape.dims) - 1 else None
    for position, entry in enumerate(shape.dims):
        if isinstance(entry, tree.Ellipsis_):
            el.session.fail("E214", "an input of a model names every axis", entry.span)
        hint = given[position - 1] if given is not None and position else None
        size = _dimension(el, entry, hint, symbols)
        dims.append(size)
        is_name = isinstance(entry.size, tree.Name)
        label = entry.size.name if is_name else None  # type: ignore[union-attr]
        named.append(axes.setdefault(label, Axis(label)) if label else None)
        if entry.bound is not None and size.name is not None:
            bound = size_of(el.expr(entry.bound, symbols))
            if bound is not None:
                el.session.bounds[size.name] = bound
    dtype = el.dtype(shape) if shape.dtype else el.session.dtype
    el.check_rank(len(dims))
    type_ = TensorType(dtype, tuple(dims))
    if field is not None:
        _check_field(el, name, type_, field, shape)
    return Tensor(Value(type_, hint=name), tuple(named), shape.span, shape)


def _dimension(el: Elaborator, entry: tree.Dimension, hint: int | None, symbols: Env) -> Dim:
    """A size of an input: a number, a known size, or a symbol, fixed where the data tells it."""
    free = [name for name in names_in(entry.size) if is_free(name, symbols)]
    for name in free:
        known = el.session.sizes.get(name)
        if known is None and hint is not None and isinstance(entry.size, tree.Name):
            known = hint
        symbols.define(name, Size(dim(known if known is not None else name)), entry.span)
    size = size_of(el.expr(entry.size, symbols))
    if size is None:
        el.session.fail("E112", "a size is a whole number", entry.span)
    if size.constant is not None and not 0 < size.constant < 2**31:
        el.session.fail("E114", f"{size} is no size of an axis", entry.span)
    return size


def _check_field(
    el: Elaborator, name: str, type_: TensorType, field: FieldShape, shape: tree.Shape
) -> None:
    notes = (Note("the field is made here", field.span),) if field.span else ()
    rest = type_.with_shape(type_.shape[1:]).elements.constant
    count = 1
    for size in field.shape:
        count *= size
    if rest != count:
        el.session.fail(
            "E407", f"the input `{name}` needs {_listed(type_.shape[1:])} an example, "
            f"the data field has {_listed(field.shape)}", shape.span, notes=notes,
            help="change the shape, or `reshape` the field in the data block",
        )  # fmt: skip
    if type_.dtype.is_integer and field.dtype.is_float:
        el.session.fail(
            "E407", f"the input `{name}` is {type_.dtype}, the data field is {field.dtype}",
            shape.span, notes=notes,
        )  # fmt: skip


def _listed(shape: Iterable[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _batch(el: Elaborator, definition: tree.Block, inputs: Mapping[str, Tensor]) -> str:
    """The symbol that all inputs have first."""
    names = {t.shape[0].name if t.rank else None for t in inputs.values()}
    name = names.pop()
    if names or name is None:
        el.session.fail(
            "E407", "the first axis of every input is the batch, of one name",
            definition.name_span, help="write `in x: [batch, …]`",
        )  # fmt: skip
    return name


# --- graphs ---------------------------------------------------------------------------------------


def graph_of(
    name: str,
    session: Session,
    outputs: Mapping[str, Value],
    data: Mapping[str, Value],
    updates: Mapping[str, Value] | None = None,
    keep: bool = True,
) -> Graph:
    """A graph of outputs and updates over data, parameters, states and scalars.

    Parameters and states that nothing needs are left out unless `keep`.
    """
    updates = updates or {}
    results = [Output(n, v) for n, v in outputs.items()]
    results += [Output(n, v, updates=n) for n, v in updates.items()]
    wanted = tuple(output.value for output in results)
    used = {o for node in sorted_nodes(wanted) for o in node.operands} | set(wanted)
    inputs = [Input(n, v, "data") for n, v in data.items()]
    for declared in session.declared.values():
        if keep or declared.value in used or declared.variable.name in updates:
            inputs.append(Input(declared.variable.name, declared.value, declared.role))
    for scalar, value in (
        ("seed", session.seed), ("step", session.step), ("steps", session.steps)
    ):  # fmt: skip
        if value in used:
            inputs.append(Input(scalar, value, "scalar"))
    symbols = frozenset().union(*(i.value.type.symbols for i in inputs)) if inputs else frozenset()
    bounds = {s: b for s, b in session.bounds.items() if s in symbols}
    return Graph(name, tuple(inputs), tuple(results), bounds)


def build_network(walk: Walk) -> Network:
    """The network of a walk that predicts (`training = false`)."""
    session = walk.session
    declared = session.declared
    # Initial values are drawn at step 0, before the first step of training.
    start = {session.step: ops.constant(0, DType.I64)}
    values = replace([d.initial for d in declared.values()], start)
    initial = Graph(
        "initial",
        (Input("seed", session.seed, "scalar"),),
        tuple(Output(n, v) for n, v in zip(declared, values, strict=True)),
    )
    predict = graph_of(
        "predict",
        session,
        {n: t.value for n, t in walk.outputs.items()},
        {n: t.value for n, t in walk.inputs.items()},
    )
    return Network(
        name=walk.block.name,
        settings=walk.settings,
        inputs={n: t.type for n, t in walk.inputs.items()},
        outputs={n: t.type for n, t in walk.outputs.items()},
        parameters={n: d.variable for n, d in declared.items() if d.role == "parameter"},
        states={n: d.variable for n, d in declared.items() if d.role == "state"},
        layers=tuple(session.layers),
        initial=initial,
        predict=predict,
        span=walk.block.definition.name_span,
    )
