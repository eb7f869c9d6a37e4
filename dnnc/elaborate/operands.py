"""Errors of operators whose operands do not fit: where both got their sizes, and what would fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from dnnc.diagnostics import Diagnostic, DnnError, Note, Span, closest
from dnnc.elaborate.session import Session, is_library
from dnnc.elaborate.values import Tensor, quoted
from dnnc.ir.types import broadcast_shapes
from dnnc.syntax import tree

__all__ = ["explain_operands"]

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


def explain_operands(
    session: Session, error: Diagnostic, node: tree.Binary, left: object, right: object
) -> DnnError:
    """The error of `left operator right`, with the origins of the axes that differ."""
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return DnnError(error)
    product = node.operator == "@"
    notes = list(error.notes)
    axes = _differing(left, right, product) if error.code == "E203" else None
    if axes is not None:
        operands = ((node.left, left, axes[0]), (node.right, right, axes[1]))
        found = [_origin(*operand, node) for operand in operands]
        notes = [*(note for note in found if note is not None), *notes]
    return DnnError(
        dataclasses.replace(
            error,
            span=error.span if is_library(node.span) else _sign(node),
            label=f"left is {left.type}, right is {right.type}",
            notes=tuple(notes),
            help=_suggestion(session, node, left, right, product) or error.help,
        )
    )


def _differing(left: Tensor, right: Tensor, product: bool) -> tuple[int, int] | None:
    """The positions of the axes that differ: of `@` the inner ones, else the last that do."""
    if product:
        return left.rank - 1, max(right.rank - 2, 0)
    for back in range(1, min(left.rank, right.rank) + 1):
        a, b = left.shape[-back], right.shape[-back]
        if a != b and a != 1 and b != 1:
            return left.rank - back, right.rank - back
    return None


def _origin(node: tree.Expr, x: Tensor, axis: int, whole: tree.Binary) -> Note | None:
    """Where an operand got an axis: in the shape that it is declared with, or where it was made."""
    if x.rank == 0:
        return None
    span = x.span
    dims = x.declared.dims if x.declared is not None else ()
    if len(dims) == x.rank and not any(isinstance(d, tree.Ellipsis_) for d in dims):
        span = dims[axis].span
    if (
        span is None
        or is_library(span)
        or (not isinstance(node, tree.Name) and _same_line(span, whole))
    ):
        return None
    place = "last" if axis == x.rank - 1 else _ORDINALS[axis] if axis < 6 else f"{axis + 1}th"
    return Note(f"{quoted(node, 'an operand')} got its {place} axis here", span)


def _same_line(span: Span, node: tree.Binary) -> bool:
    source = node.span.source
    return span.source is source and (
        source.position(span.start)[0] == source.position(node.span.start)[0]
    )


def _sign(node: tree.Binary) -> Span:
    """The place of the operator itself."""
    source, at = node.span.source, node.left.span.end
    while not source.text.startswith(node.operator, at) and at < node.right.span.start:
        comment = source.text[at] == "#"
        at = source.text.index("\n", at) if comment else at + 1
    return Span(source, at, at + len(node.operator))


def _suggestion(
    session: Session, node: tree.Binary, left: Tensor, right: Tensor, product: bool
) -> str | None:
    """A name in scope whose tensor would fit in place of an operand that is a name, too."""
    for operand, other, is_right in ((node.right, left, True), (node.left, right, False)):
        if not isinstance(operand, tree.Name) or is_library(operand.span):
            continue
        fitting = {
            name: x
            for name, x in _tensors(session)
            if name != operand.name and _fits(x, other, is_right, product)
        }
        near = closest(operand.name, fitting) or (
            next(iter(fitting)) if len(fitting) == 1 else None
        )
        if near is not None:
            return f"did you mean `{near}: {fitting[near].type}`?"
    return None


def _fits(x: Tensor, other: Tensor, is_right: bool, product: bool) -> bool:
    if x is other or x.dtype is not other.dtype:
        return False
    if product:
        a, b = (other, x) if is_right else (x, other)
        return b.rank == 2 and a.rank >= 2 and a.shape[-1] == b.shape[-2]
    return x.rank == other.rank and broadcast_shapes(x.shape, other.shape) is not None


def _tensors(session: Session) -> Iterator[tuple[str, Tensor]]:
    """Tensors that the user's text can name here."""
    env = session.user_scope()
    seen: set[str] = set()
    for name in env.visible() if env is not None else ():
        binding = env.find(name) if env is not None and name not in seen else None
        seen.add(name)
        if binding is not None and isinstance(binding.value, Tensor):
            yield name, binding.value
