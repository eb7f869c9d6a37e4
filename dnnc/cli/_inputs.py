"""Inputs of a prediction from files: `--input x.npy`, `--input image=x.npy`, `--input new.csv`.

An array (.npy) is an input as it is. Any other file is read by the data block that the model is
trained on, in place of the block's own source, so that inputs are prepared as they were for
training; where the block standardizes, by the statistics of its own training rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dnnc.cli._load import training_plan
from dnnc.diagnostics import Diagnostic, DnnError, closest, register_codes
from dnnc.syntax import tree

if TYPE_CHECKING:
    import numpy as np

    from dnnc.elaborate.plan import Network
    from dnnc.model import Program

__all__ = ["read_inputs"]

register_codes(
    {
        "E904": "an option --input does not fit the inputs of the model",
        "E905": "a file of --input cannot be read by a data block",
    }
)


def read_inputs(program: Program, network: Network, given: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays for every input of a network, from the options as they were typed."""
    names = list(network.inputs)
    arrays: dict[str, np.ndarray] = {}
    for option in given:
        name, path = _parts(option, names)
        if path.suffix == ".npy":
            arrays.update(_array(path, name, names))
        else:
            wanted = names if name is None else [name]
            arrays.update(_table(program, network, path, wanted))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise _fault(
            f"no values for {_listed(missing)}", f"give `--input {missing[0]}=FILE` for each"
        )
    return arrays


def _parts(option: str, names: Sequence[str]) -> tuple[str | None, Path]:
    """The input's name, where one is given, and the file."""
    name, sign, path = option.partition("=")
    if not sign or Path(option).exists():
        return None, _existing(Path(option))
    if name not in names:
        near = closest(name, names)
        raise _fault(
            f"the model has no input `{name}`",
            f"did you mean `{near}`?" if near else f"its inputs: {_listed(names)}",
        )
    return name, _existing(Path(path))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise _fault(f"there is no file {path}", None)
    return path


def _array(path: Path, name: str | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    import numpy as np

    if name is None and len(names) != 1:
        raise _fault(
            f"{path} is one array, and the inputs are {_listed(names)}",
            f"say which: `--input {names[0]}={path}`",
        )
    try:
        return {name or names[0]: np.load(path, allow_pickle=False)}
    except ValueError as error:
        raise DnnError(Diagnostic("E905", f"{path} is not a NumPy array: {error}")) from None


def _table(
    program: Program, network: Network, path: Path, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The inputs `names` as the fields of the model's data block, read from `path`."""
    import numpy as np

    from dnnc.data import load
    from dnnc.train.feed import Feed

    block = _data_block(program, network.name, path)
    wanted = _reading(block, path, names)
    fitted = any(name == "standardize" for entry in wanted.entries for name in _names(entry))
    dataset = load(
        wanted,
        constants=program.constants,
        folder=program.folder,
        statistics=program.dataset(block.name).statistics if fitted else {},
    )
    (split,) = dataset.splits.values()
    types = {name: network.inputs[name] for name in names}
    return Feed(split, types, split.size, seed=0).convert(split.take(np.arange(split.size)))


def _data_block(program: Program, model: str, path: Path) -> tree.Data:
    """The data block that the model is trained on first."""
    plan = training_plan(program, model)
    if plan is not None:
        return program.datasets[plan.data]
    raise DnnError(
        Diagnostic(
            "E905",
            f"no job trains `{model}`, so nothing tells how to read {path}",
            help="give each input as a NumPy array, NAME=FILE.npy",
        )
    )


def _reading(block: tree.Data, path: Path, names: Sequence[str]) -> tree.Data:
    """The block with `path` as its source, reduced to what the fields `names` depend on.

    All rows are taken, in their order.
    """
    rules = {entry.key: entry for entry in block.entries if isinstance(entry, tree.Rule)}
    kept = _needed(rules, {*names, "missing"})
    call = _first_source(rules["source"].value) if "source" in kept else None
    if call is None:
        raise DnnError(
            Diagnostic(
                "E905",
                f"the data block `{block.name}` has no `source` to replace by {path}",
                block.name_span,
                help="give each input as a NumPy array, NAME=FILE.npy",
            )
        )
    span = block.name_span
    place = tree.Argument(span, None, tree.String(span, str(path.absolute())))
    source = replace(call, arguments=(place, *call.arguments[1:]))
    entries: list[tree.JobEntry] = [tree.Rule(span, "shuffle", tree.Boolean(span, False))]
    for key, rule in rules.items():
        if key == "source":
            entries.append(replace(rule, value=source))
        elif key == "standardize" and isinstance(rule.value, tree.ListExpr):
            items = [i for i in rule.value.items if isinstance(i, tree.Name) and i.name in kept]
            entries.append(replace(rule, value=replace(rule.value, items=tuple(items))))
        elif key in kept:
            entries.append(rule)
    return replace(block, entries=tuple(entries))


def _needed(rules: Mapping[str, tree.Rule], wanted: set[str]) -> set[str]:
    """The rules in `wanted` and all that they refer to."""
    kept: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in rules and name not in kept:
            kept.add(name)
            wanted |= set(_names(rules[name]))
    return kept


def _first_source(value: tree.Expr) -> tree.Call | None:
    """The call that opens a file: `csv("x.csv")`, or the first of those in `files(train = …)`."""
    if not isinstance(value, tree.Call) or not value.arguments:
        return None
    first = value.arguments[0].value
    if isinstance(first, tree.String):
        return value
    return _first_source(first)


def _names(node: object) -> Iterator[str]:
    """Every name in a part of the tree, and the keys of its rules."""
    if isinstance(node, tuple):
        for item in node:
            yield from _names(item)
    elif isinstance(node, tree.Node):
        if isinstance(node, tree.Name):
            yield node.name
        if isinstance(node, tree.Rule):
            yield node.key
        for part in fields(node):
            yield from _names(getattr(node, part.name))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _fault(message: str, help: str | None) -> DnnError:
    return DnnError(Diagnostic("E904", message, help=help))
