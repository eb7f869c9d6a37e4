"""What a builtin function is: a meaning whose arguments are checked by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dnnc.diagnostics import Span, listing
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.values import Partial

__all__ = ["Builtin"]

_REQUIRED = object()


class Builtin:
    """A builtin function: checks its arguments, then calls its meaning."""

    __slots__ = ("meaning", "name", "parameters")

    def __init__(self, name: str, meaning: Callable[..., Any]) -> None:
        self.name, self.meaning = name, meaning
        parameters = list(inspect.signature(meaning).parameters.values())[1:]
        self.parameters = {
            p.name.rstrip("_"): _REQUIRED if p.default is p.empty else p.default for p in parameters
        }

    def builtin(
        self, el: Expressions, positional: list[Any], named: dict[str, Any], span: Span
    ) -> Any:
        names = list(self.parameters)
        bound = el.match(self, names, positional, named, span)
        missing = [n for n, d in self.parameters.items() if d is _REQUIRED and n not in bound]
        if missing:
            if "shape" in missing:
                return Partial(self, tuple(positional), named, span)
            el.session.fail(
                "E104", f"`{self.name}` needs `{missing[0]}`", span,
                f"it takes {listing(names)}",
            )  # fmt: skip
        return self.meaning(el, *(bound.get(n, d) for n, d in self.parameters.items()))
