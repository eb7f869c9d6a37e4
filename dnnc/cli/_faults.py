"""How errors reach the user: diagnostics, interrupts, closed pipes, faults of the compiler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dnnc.diagnostics import DnnError

__all__ = ["colours", "reported"]

#: Exit codes besides 0 and click's 2. 70 is EX_SOFTWARE of sysexits.h.
INPUT_ERROR, FAULT, INTERRUPTED = 1, 70, 130


@contextmanager
def reported(ctx: click.Context) -> Iterator[None]:
    """Turn whatever a command raises into output and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except KeyboardInterrupt as stop:
        # A training run that a signal has stopped knows the signal's code and where it is kept.
        folder = getattr(stop, "folder", None)
        hint = f"; --resume goes on with the run in {folder}" if folder else ""
        click.echo(f"\ndnnc: interrupted{hint}", err=True)
        ctx.exit(getattr(stop, "exit_code", INTERRUPTED))
    except BrokenPipeError:
        _forget_output()
        ctx.exit(0)
    except Exception as error:
        ctx.exit(_report(ctx, error))


def colours(stream: object) -> bool:
    """Whether to colour what goes to `stream`: only on a terminal, not with NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def _report(ctx: click.Context, error: Exception) -> int:
    from dnnc.diagnostics import DnnError

    if isinstance(error, DnnError):
        _report_diagnostics(ctx, error)
        return INPUT_ERROR
    if isinstance(error, OSError) and error.filename is not None:
        click.echo(f"error: {error.filename}: {error.strerror}", err=True)
        return INPUT_ERROR
    _report_fault(ctx, error)
    return FAULT


def _report_diagnostics(ctx: click.Context, error: DnnError) -> None:
    if ctx.meta.get("dnnc.json"):
        import json

        found = [diagnostic.as_json() for diagnostic in error.diagnostics]
        click.echo(json.dumps({"ok": False, "diagnostics": found}))
        return
    colour = colours(sys.stderr)
    for diagnostic in error.diagnostics:
        text = diagnostic.render()
        click.echo((_painted(text) if colour else text) + "\n", err=True, color=colour)
    count = len(error.diagnostics)
    if count > 1:
        click.echo(f"{count} errors", err=True)


def _painted(text: str) -> str:
    """A rendered diagnostic with its code, margin, carets and remedy coloured."""
    import re

    rules = (
        (r"^error\[\w+\]", {"fg": "red", "bold": True}),
        (r"(?m)^\s*\d* \|(?= |$)|^\s*-->", {"fg": "blue", "bold": True}),
        (r"(?m)\^+( .*)?$", {"fg": "red", "bold": True}),
        (r"(?m)= help:", {"fg": "green", "bold": True}),
        (r"(?m)= note:", {"fg": "cyan"}),
    )
    for pattern, style in rules:
        text = re.sub(pattern, lambda m, s=style: click.style(m.group(), **s), text)  # type: ignore[misc]
    return text


def _report_fault(ctx: click.Context, error: Exception) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    click.echo(f"dnnc: internal error: {type(error).__name__}: {error}", err=True)
    click.echo("This is a fault of dnnc itself, not of your file.", err=True)
    if ctx.meta.get("dnnc.debug") or os.environ.get("DNNC_DEBUG", "0") not in ("", "0"):
        click.echo(text, err=True)
        return
    import tempfile

    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="dnnc-fault-", suffix=".txt", delete=False
    ) as report:
        report.write(f"command: {' '.join(sys.argv)}\n\n{text}")
    click.echo(f"The traceback is in {report.name}; --debug shows it here.", err=True)


def _forget_output() -> None:
    """Send what is still buffered nowhere: its reader is gone, and closing it would fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(null, stream.fileno())
        except (OSError, ValueError):
            continue
