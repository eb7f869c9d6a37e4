"""Static check of names: every name in a definition must be able to stand for something.

Elaboration visits only what a network uses, and only the branches that it takes. This walk finds
misspelt names everywhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from dnnc.diagnostics import Diagnostic, closest
from dnnc.elaborate.values import Env
from dnnc.syntax import tree

__all__ = ["AMBIENT", "check_names", "walk_tree"]

#: Names known without being passed, in some contexts.
AMBIENT = frozenset({"training", "step", "steps", "branches"})


def check_names(file: tree.File, env: Env) -> Iterator[Diagnostic]:
    """Unknown names in functions and blocks."""
    known = set(env.visible()) | AMBIENT
    for item in file.items:
        if isinstance(item, tree.Function | tree.Block):
            local = known | {s.name for s in item.settings} | set(_bound(item.body))
            for name in _used((item.settings, item.body)):
                if name.name not in local:
                    near = closest(name.name, local)
                    yield Diagnostic(
                        "E101", f"unknown name `{name.name}`", name.span, "not found",
                        help=f"did you mean `{near}`?" if near else None,
                    )  # fmt: skip


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
