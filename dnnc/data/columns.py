"""Members of sources: which there are, and choosing several by pattern."""

from __future__ import annotations

import fnmatch

from dnnc.data.codes import fault
from dnnc.data.signature import Parameter
from dnnc.data.table import Parts, Table
from dnnc.diagnostics import Span, listing, suggestion

#: Methods of tables: `source.columns("pixel_*", without = "label")` and `source.column("a b")`.
METHODS: dict[str, tuple[Parameter, ...]] = {
    "columns": (
        Parameter("patterns", "strings", many=True),
        Parameter("without", "strings", ()),
    ),
    "column": (Parameter("name", "string"),),
}


def check_member(table: Table | Parts, name: str, span: Span) -> None:
    """A member must exist."""
    if name not in table.names:
        raise fault(
            "E504",
            f"{table.what} has no column `{name}`",
            span,
            help=suggestion(name, table.names, f"it has {listing(table.names)}"),
        )


def select(
    table: Table | Parts, patterns: list[str], without: list[str], span: Span
) -> tuple[str, ...]:
    """Members that match a pattern with `*` and `?`, in the file's order.

    Every pattern must match something.
    """
    names = table.names
    for pattern in (*patterns, *without):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise fault(
                "E504",
                f"{table.what} has no column like `{pattern}`",
                span,
                help=suggestion(pattern, names, f"it has {listing(names)}"),
            )
    chosen = tuple(
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in without)
    )
    if not chosen:
        raise fault("E504", f"no column of {table.what} is left", span)
    return chosen
