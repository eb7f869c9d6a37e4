"""The command `dnnc`. One file a command: every module here without an underscore is one.

Importing this package costs click and nothing else; a command's file imports what it needs when it
runs, so that `--help` and `check` start fast.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
from typing import Any, NoReturn

import click

from dnnc import __version__
from dnnc.cli._faults import reported

__all__ = ["command", "main"]


class Commands(click.Group):
    """The commands by file name. Whatever goes wrong in one is answered here, once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = importlib.import_module(f"dnnc.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from dnnc.diagnostics import closest

            near = closest(name, self.list_commands(ctx))
            hint = f" Did you mean '{near}'?" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with reported(ctx):
            from dnnc import environment

            environment.check()
            return super().invoke(ctx)


@click.group("dnnc", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dnnc %(version)s")
def command() -> None:
    """A compiler for neural networks: .dnn files become fast CPU programs.

    Exit codes: 0 success, 1 errors in the input, 2 wrong usage, 70 a fault of dnnc itself.
    """


def main() -> NoReturn:
    """Entry point of the installed command."""
    for stream in (sys.stdout, sys.stderr):
        # A sign that the terminal's encoding lacks is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    command(prog_name="dnnc")
    raise AssertionError("click exits by itself")
