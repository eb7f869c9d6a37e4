"""What a builtin function is: a meaning whose arguments are checked by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from dnnc.diagnostics import Span, closest
from dnnc.elaborate.evaluate import Expressions
from dnnc.elaborate.values import Partial, count_of

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
        if len(positional) > len(names):
            el.session.fail(
                "E103", f"`{self.name}` got {count_of(len(positional), 'argument')}", span,
                f"it takes {len(names)}: {', '.join(f'`{n}`' for n in names)}",
            )  # fmt: skip
        bound = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in self.parameters:
                near = closest(name, names)
                el.session.fail(
                    "E102", f"`{self.name}` has no setting `{name}`",
                    el.argument_span(name, span),
                    f"its settings: {', '.join(f'`{n}`' for n in names)}",
                    f"did you mean `{near}`?" if near else None,
                )  # fmt: skip
            if name in bound:
                el.session.fail(
                    "E106", f"`{name}` is given twice, by position and by name",
                    el.argument_span(name, span),
                )  # fmt: skip
            bound[name] = value
        missing = [n for n, d in self.parameters.items() if d is _REQUIRED and n not in bound]
        if missing:
            if "shape" in missing:
                return Partial(self, tuple(positional), named, span)
            el.session.fail(
                "E104", f"`{self.name}` needs `{missing[0]}`", span,
                f"it takes {', '.join(f'`{n}`' for n in names)}",
            )  # fmt: skip
        return self.meaning(el, *(bound.get(n, d) for n, d in self.parameters.items()))
