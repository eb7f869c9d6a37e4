"""Static check of names: every name in a definition must be able to stand for something.

Elaboration visits only what a network uses, and only the branches that it takes. This walk finds
misspelt names everywhere else.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from dnnc.diagnostics import Diagnostic, Span, suggestion
from dnnc.elaborate.values import Env
from dnnc.syntax import tree

__all__ = ["AMBIENT", "PLACEHOLDER", "check_names", "names_bound", "unknown_names", "walk_tree"]

#: A name in braces in the message of a `require`.
PLACEHOLDER = re.compile(r"\{\s*([A-Za-z_]\w*)\s*\}")
#: Names known without being passed, in some contexts.
AMBIENT = frozenset({"training", "step", "steps", "branches"})


def check_names(file: tree.File, env: Env) -> Iterator[Diagnostic]:
    """Unknown names in functions and blocks."""
    known = set(env.visible()) | AMBIENT
    for item in file.items:
        if isinstance(item, tree.Function | tree.Block):
            local = known | names_bound(item)
            yield from unknown_names((item.settings, item.body), local)
            for node in walk_tree(item.body):
                if isinstance(node, tree.Require) and node.message is not None:
                    for name, span in _placeholders(node.message):
                        if name not in local:
                            yield _unknown(name, span, local)


def unknown_names(node: Any, known: set[str]) -> Iterator[Diagnostic]:
    """Errors for names in a tree that are none of those that are known."""
    for used in _used(node):
        if used.name not in known:
            yield _unknown(used.name, used.span, known)


def _unknown(name: str, span: Span, known: set[str]) -> Diagnostic:
    help = suggestion(name, known)
    return Diagnostic("E101", f"unknown name `{name}`", span, "not found", help=help)


def _placeholders(message: tree.String) -> Iterator[tuple[str, Span]]:
    """The names in braces in a message, and their places."""
    for match in PLACEHOLDER.finditer(message.span.text):
        start = message.span.start
        yield match[1], Span(message.span.source, start + match.start(1), start + match.end(1))


def names_bound(item: tree.Function | tree.Block) -> set[str]:
    """Settings of a definition, and names that its body binds anywhere."""
    return {setting.name for setting in item.settings} | set(_bound(item.body))


def _bound(body: Any) -> Iterator[str]:
    """Names that a body binds anywhere, sizes in shapes and names of layers included."""
    for node in walk_tree(body):
        match node:
            case tree.Bind() | tree.Port() | tree.Scan():
                yield from node.names
            case tree.Parameter() | tree.State() | tree.Carry() | tree.Emit() | tree.For():
                yield node.name
            case tree.Stage() if node.name is not None:
                yield node.name
            case _:
                pass
        if isinstance(node, tree.Port) and node.shape is not None:
            yield from (name.name for name in _used(node.shape))


def _used(body: Any) -> Iterator[tree.Name]:
    return (node for node in walk_tree(body) if isinstance(node, tree.Name))


def walk_tree(node: Any) -> Iterator[tree.Node]:
    """Every node of a tree, without recursion."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, tuple):
            stack.extend(reversed(current))
        elif isinstance(current, tree.Node):
            yield current
            parts = [getattr(current, f.name) for f in dataclasses.fields(current)]
            stack.extend(p for p in reversed(parts) if isinstance(p, tuple | tree.Node))
