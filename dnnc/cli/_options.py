"""Arguments and options that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "answer",
    "debug_option",
    "memory_option",
    "model_arguments",
    "program_arguments",
    "report_options",
    "threads_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])


def _together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator in the place of several, the outermost first."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    # Kept in the context, because errors are reported after the command's own frame is gone.
    ctx.meta[f"dnnc.{param.name}"] = value
    return value


def _use_threads(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value is not None:
        os.environ["DNNC_THREADS"] = str(value)


#: FILE, and what is replaced in its text.
program_arguments = _together(
    click.argument(
        "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"
    ),
    click.option(
        "-D",
        "definitions",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a constant, a setting (Digits.hidden=128) or an option (epochs=1); repeatable.",
    ),
)

#: These and one of its models, which `dnnc.cli._load.model_name` finds.
model_arguments = _together(program_arguments, click.argument("model", required=False))

debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember,
    help="Show the traceback of a fault of dnnc itself.",
)

#: How a command answers.
report_options = _together(
    click.option("--json", is_flag=True, is_eager=True, callback=_remember, help="Answer in JSON."),
    debug_option,
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
    expose_value=False,
    callback=_use_threads,
    help="Threads to use; all cores unless given.",
)


def answer(content: dict[str, Any]) -> None:
    """Print the JSON answer of a command that succeeded, in one line."""
    click.echo(json.dumps({"ok": True, **content}, default=_plain))


def _plain(value: object) -> object:
    """NumPy scalars and paths as what JSON knows."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
