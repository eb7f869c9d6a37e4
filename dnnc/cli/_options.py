"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = [
    "answer",
    "debug_option",
    "file_argument",
    "json_option",
    "memory_option",
    "threads_option",
]


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    # Kept in the context, because errors are reported after the command's own frame is gone.
    ctx.meta[f"dnnc.{param.name}"] = value
    return value


file_argument = click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"
)

json_option = click.option(
    "--json", is_flag=True, is_eager=True, callback=_remember, help="Answer in JSON."
)

debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember,
    help="Show the traceback of a fault of dnnc itself.",
)

memory_option = click.option(
    "--memory",
    metavar="SIZE",
    help="Most memory for the arena of a training step, such as 200MB: values are computed again "
    "rather than kept, with the same results.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads to use; all cores unless given.",
)


def answer(content: dict[str, Any]) -> None:
    """Print the JSON answer of a command that succeeded, in one line."""
    click.echo(json.dumps({"ok": True, **content}, default=_plain))


def _plain(value: object) -> object:
    """NumPy scalars and paths as what JSON knows."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
