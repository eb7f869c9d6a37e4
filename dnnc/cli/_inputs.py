"""Inputs of a prediction from files: `--input x.npy`, `--input image=x.npy`, `--input new.csv`.

An array (.npy) is an input as it is. Any other file is read by the data block that the model is
trained on, in place of the block's own source, so that inputs are prepared as they were for
training; where the block standardizes, by the statistics of its own training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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

    from dnnc.data import learns, load
    from dnnc.train.feed import Feed

    block = _data_block(program, network.name, path)
    wanted = _reading(block, path, names)
    dataset = load(
        wanted,
        constants=program.constants,
        folder=program.folder,
        statistics=program.dataset(block.name).statistics if learns(wanted) else {},
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
    sources = {key: call for key in kept if (call := _source(rules[key].value)) is not None}
    if len(sources) != 1:
        several = f"reads {_listed(sorted(sources))}" if sources else "opens no file"
        raise DnnError(
            Diagnostic(
                "E905",
                f"{path} cannot take the place of the source of `{block.name}`, which {several}",
                block.name_span,
                help="give each input as a NumPy array, NAME=FILE.npy",
            )
        )
    ((name, call),) = sources.items()
    span = block.name_span
    place = tree.Argument(span, None, tree.String(span, str(path.absolute())))
    source = replace(call, arguments=(place, *call.arguments[1:]))
    entries: list[tree.JobEntry] = [tree.Rule(span, "shuffle", tree.Boolean(span, False))]
    for key, rule in rules.items():
        if key == name:
            entries.append(replace(rule, value=source))
        elif key == "standardize" and isinstance(rule.value, tree.ListExpr):
            items = [i for i in rule.value.items if isinstance(i, tree.Name) and i.name in kept]
            entries.append(replace(rule, value=replace(rule.value, items=tuple(items))))
        elif key in kept:
            entries.append(rule)
    return replace(block, entries=tuple(entries))


def _needed(rules: Mapping[str, tree.Rule], wanted: set[str]) -> set[str]:
    """The rules in `wanted` and all that they refer to."""
    from dnnc.data.evaluate import walk

    kept: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in rules and name not in kept:
            kept.add(name)
            wanted |= {node.name for node in walk(rules[name]) if isinstance(node, tree.Name)}
    return kept


def _source(value: tree.Expr) -> tree.Call | None:
    """The call that opens a file, `csv("x.csv")`; of `files(train = …, test = …)` the first."""
    from dnnc.data.sources import SOURCES

    if not isinstance(value, tree.Call) or not isinstance(value.callee, tree.Name):
        return None
    if value.callee.name == "files" and value.arguments:
        return _source(value.arguments[0].value)
    opens = value.callee.name in SOURCES and value.callee.name != "array"
    return value if opens and value.arguments else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _fault(message: str, help: str | None) -> DnnError:
    return DnnError(Diagnostic("E904", message, help=help))
