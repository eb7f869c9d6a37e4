"""`dnnc new [NAME]`: a commented file to start from, with a little data of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import click

from dnnc.cli._options import debug_option


@click.command("new")
@click.argument("name", default="", metavar="[NAME]")
@click.option(
    "--kind",
    type=click.Choice(["images", "table", "text"]),
    default="images",
    show_default=True,
    help="What the network works on.",
)
@debug_option
def command(name: str, kind: str) -> None:
    """Write NAME.dnn, a commented file to start from, and a small made-up data set beside it.

    NAME is the kind unless given. Files that exist are never overwritten.
    """
    path = Path((name or kind).removesuffix(".dnn"))
    if not path.name or not set(path.name).isdisjoint('"\\\n'):
        raise click.UsageError(f"{name!r} cannot be the name of a file")
    ending, make = _DATA[kind]
    starter = resources.files("dnnc.cli").joinpath("starters", f"{kind}.dnn")
    files = {
        path.with_name(f"{path.name}.dnn"): starter.read_text("utf-8").replace("NAME", path.name),
        path.with_name(f"{path.name}.{ending}"): make(random.Random(1)),
    }
    taken = [str(file) for file in files if file.exists()]
    if taken:
        raise click.ClickException(f"{' and '.join(taken)} would be overwritten; give another NAME")
    for file, text in files.items():
        # Exclusive creation, so that a file that appears meanwhile is not overwritten either.
        with file.open("x", encoding="utf-8", newline="") as output:
            output.write(text)
    click.echo(f"wrote {' and '.join(map(str, files))}; next: dnnc run {next(iter(files))}")


def _images(draw: random.Random) -> str:
    """300 pictures of 8 x 8 pixels with level, upright or slanting stripes, and noise."""
    lines = [",".join([f"pixel_{i}" for i in range(64)] + ["label"])]
    for number in range(300):
        label = number % 3
        offset = draw.randrange(4)
        pixels = []
        for place in range(64):
            row, column = divmod(place, 8)
            phase = (row, column, row + column)[label] + offset
            bright = 12 if phase % 4 < 2 else 3
            pixels.append(min(16, max(0, bright + draw.randrange(-3, 4))))
        lines.append(",".join([*map(str, pixels), ("level", "upright", "slanting")[label]]))
    return "\n".join(lines) + "\n"


def _table(draw: random.Random) -> str:
    """240 plants of three kinds that overlap a little."""
    means = {"fern": (30, 25, 12, 8), "moss": (6, 20, 60, 5), "reed": (90, 8, 9, 14)}
    lines = ["height,width,leaves,weight,kind"]
    for number in range(240):
        kind = sorted(means)[number % 3]
        values = [draw.gauss(mean, 0.3 * mean) for mean in means[kind]]
        lines.append(",".join([*(f"{value:.2f}" for value in values), kind]))
    return "\n".join(lines) + "\n"


def _text(draw: random.Random) -> str:
    """600 short sentences out of few words."""
    subjects = ("the cat", "a dog", "the old fox", "my bird", "the farmer")
    verbs = ("sees", "follows", "likes", "hears", "waits for")
    objects = ("the moon", "a red boat", "the long road", "rain", "the morning")
    lines = [
        f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(objects)}." for _ in range(600)
    ]
    return "\n".join(lines) + "\n"


_DATA: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "images": ("csv", _images),
    "table": ("csv", _table),
    "text": ("txt", _text),
}
