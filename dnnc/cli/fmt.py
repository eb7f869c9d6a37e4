"""`dnnc fmt FILE...`: lay files out in the one standard form."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dnnc.cli._options import debug_option


@click.command("fmt")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@debug_option
def command(files: tuple[Path, ...], check: bool) -> None:
    """Format .dnn files in place; a folder means all of its .dnn files, - standard input.

    Comments stay. A file that is laid out already is not touched; one with errors is reported and
    left as it is.
    """
    from dnnc.diagnostics import Collector, DnnError

    errors = Collector()
    changed = 0
    for path in _expanded(files):
        try:
            changed += _format(path, check)
        except DnnError as error:
            errors.add(error)
    errors.raise_if_any()
    if check and changed:
        click.get_current_context().exit(1)


def _expanded(files: tuple[Path, ...]) -> list[Path]:
    """The files themselves, folders replaced by the .dnn files below them."""
    found: list[Path] = []
    for path in files:
        found.extend(sorted(path.rglob("*.dnn")) if path.is_dir() else [path])
    return found


def _format(path: Path, check: bool) -> bool:
    """Format one file; whether it changed (or would, with `check`)."""
    from dnnc.diagnostics import Source
    from dnnc.syntax.format import format_source
    from dnnc.syntax.parse import read_source

    if str(path) == "-":
        text = sys.stdin.read()
        result = format_source(Source("<stdin>", text))
        if not check:
            click.echo(result, nl=False)
        return result != text
    result = format_source(read_source(path))
    # In bytes, because a byte order mark and the line ends of other systems go away too.
    if result.encode() == path.read_bytes():
        return False
    if check:
        click.echo(f"would reformat {path}", err=True)
    else:
        _replace(path, result)
        click.echo(f"reformatted {path}", err=True)
    return True


def _replace(path: Path, text: str) -> None:
    """Write all or nothing: after a crash the old file is there. Links and modes are kept."""
    from dnnc.cache import write_atomically

    target = path.resolve()
    mode = target.stat().st_mode
    write_atomically(target, text.encode())
    target.chmod(mode)
