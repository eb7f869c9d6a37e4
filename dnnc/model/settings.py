"""Settings and sizes of a model as Python gives them, in the values that the language knows."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Source, closest
from dnnc.elaborate.elaborator import Elaborator
from dnnc.elaborate.session import Session
from dnnc.elaborate.shapes import names_in
from dnnc.elaborate.values import BlockValue
from dnnc.ir.types import DType
from dnnc.syntax import tree
from dnnc.syntax.parse import parse_expression

__all__ = ["element_type", "free_sizes", "split_settings"]


def split_settings(
    block: BlockValue, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings of a model among `given`, and the sizes of its inputs.

    A text is an expression of the language (`activation="gelu"`), but where the setting's own
    default is a text. Raises DnnError with all that are unknown or of no use.
    """
    known = {setting.name: setting for setting in block.definition.settings}
    free = free_sizes(block.definition)
    settings: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    errors = Collector()
    for name, value in given.items():
        try:
            if name in known:
                settings[name] = _value(known[name], value, block)
            elif name in free:
                sizes[name] = _size(name, value)
            else:
                raise _unknown(name, block, [*known, *free])
        except DnnError as error:
            errors.add(error)
    errors.raise_if_any()
    return settings, sizes


def free_sizes(definition: tree.Block) -> dict[str, None]:
    """Names of sizes that the inputs of a model leave open, in the order of the text.

    The first axis is the batch, whose size comes with each call.
    """
    settings = {setting.name for setting in definition.settings}
    names: dict[str, None] = {}
    for port in definition.body:
        if isinstance(port, tree.Port) and port.direction == "in" and port.shape is not None:
            for entry in port.shape.dims[1:]:
                if isinstance(entry, tree.Dimension):
                    names.update(dict.fromkeys(names_in(entry.size)))
    return {name: None for name in names if name not in settings}


def element_type(dtype: str) -> DType:
    """The element type of a network's parameters; DnnError where it is not f32 or f64."""
    if dtype not in ("f32", "f64"):
        raise DnnError(Diagnostic("E412", f'`dtype` is "f32" or "f64", got {dtype!r}'))
    return DType(dtype)


def _unknown(name: str, block: BlockValue, known: list[str]) -> DnnError:
    near = closest(name, known)
    listed = ", ".join(f"`{n}`" for n in known) or "none"
    return DnnError(
        Diagnostic(
            "E102",
            f"model `{block.name}` has no setting or size `{name}`",
            block.definition.name_span,
            f"it has {listed}",
            help=f"did you mean `{near}`?" if near else None,
        )
    )


def _size(name: str, value: Any) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if isinstance(value, bool) or not 0 < size < 2**31:
        raise DnnError(Diagnostic("E412", f"the size `{name}` is a positive number, got {value!r}"))
    return size


def _value(setting: tree.Setting, given: Any, block: BlockValue) -> Any:
    if isinstance(given, str) and not isinstance(setting.default, tree.String):
        expression = parse_expression(Source(f"<{setting.name}>", given))
        return Elaborator(Session(training=False)).expr(expression, block.env)
    value = _plain(given)
    if value is NotImplemented:
        raise DnnError(
            Diagnostic(
                "E412",
                f"the setting `{setting.name}` is a number, a text, a truth value or a list, "
                f"got {type(given).__name__}",
                setting.span,
                "declared here",
            )
        )
    return value


def _plain(value: Any) -> Any:
    """The value in types that the language knows; NotImplemented where it has none for it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return NotImplemented if any(item is NotImplemented for item in items) else items
    return NotImplemented
