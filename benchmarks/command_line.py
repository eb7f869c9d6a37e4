"""What the command lines of the benchmarks share: which cases, and how many threads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks.machine import pin

__all__ = ["make_parser", "parse"]


def make_parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m module`, with --threads."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of each framework")
    return parser


def parse(
    parser: argparse.ArgumentParser,
    choose: Callable[[Sequence[str] | None], object] | None = None,
) -> argparse.Namespace:
    """The arguments; this process keeps to as many processors as threads from now on.

    With `choose` there is --only: `cases` is what that makes of it. Exits where it raises
    ValueError.
    """
    if choose is not None:
        parser.add_argument(
            "--only", nargs="+", metavar="CASE", help="such as mlp, lenet-train, '*-b1'"
        )
    arguments = parser.parse_args()
    if choose is not None:
        try:
            arguments.cases = choose(arguments.only)
        except ValueError as error:
            parser.error(str(error))
    pin(arguments.threads)
    return arguments
