"""`dnnc explain CODE`: what an error code means."""

from __future__ import annotations

import click

from dnnc.cli._options import answer, report_options


@click.command("explain")
@click.argument("code", required=False)
@report_options
def command(code: str | None, json: bool) -> None:
    """Say what the error code CODE means; without CODE, list all."""
    from dnnc.cli._codes import every_code
    from dnnc.diagnostics import closest

    codes = every_code()
    if code is not None:
        wanted = code.upper()
        if wanted not in codes:
            near = closest(wanted, codes)
            hint = f" Did you mean {near}?" if near else ""
            raise click.UsageError(f"There is no error code {code}.{hint}")
        codes = {wanted: codes[wanted]}
    if json:
        answer({"codes": codes})
        return
    for name, meaning in codes.items():
        click.echo(f"{name}: {meaning}")
