"""`-D name=value`: settings, options and constants of a file, replaced in its text.

The text that results is the program that runs: it is checked like any other, and is what a run
folder keeps. A name is one of

    classes             a constant of the file
    epochs              an option of its jobs
    Digits.hidden       a setting of a model, or an option of a data block
    optimizer.lr        an argument of the call that is an option's value
    hidden              a setting, where one model alone has one of that name
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dnnc.diagnostics import (
    Collector,
    Diagnostic,
    DnnError,
    Source,
    Span,
    closest,
    register_codes,
)
from dnnc.syntax import tree
from dnnc.syntax.parse import parse, parse_expression

__all__ = ["override"]

register_codes(
    {
        "E901": "an option -D is not of the form name=value",
        "E902": "an option -D names nothing that can be set in the file",
    }
)

#: Options of a training job that may be given although the file leaves them out.
TRAIN_OPTIONS = (
    "loss",
    "optimizer",
    "clip",
    "metrics",
    "epochs",
    "batch",
    "seed",
    "stop",
    "monitor",
    "dtype",
)


class Edit(NamedTuple):
    """Characters `start` to `end` of a text become `text`."""

    start: int
    end: int
    text: str


def override(source: Source, definitions: Sequence[str]) -> Source:
    """The text with every `name=value` put in place; raises DnnError with all that do not fit."""
    errors = Collector()
    for definition in definitions:
        try:
            source = _override(source, definition)
        except DnnError as error:
            errors.add(error)
    errors.raise_if_any()
    return source


def _override(source: Source, definition: str) -> Source:
    # The whole option is the source of its errors, so that they show it as it was typed.
    option = Source("-D", definition)
    name, sign, value = (part.strip() for part in definition.partition("="))
    if not (name and sign and value):
        raise _fault("E901", f"`-D {definition}` is not of the form name=value", option, definition)
    # Without a comment behind it, which would hide what follows in the line.
    value = parse_expression(Source(f"-D {name}", value)).span.text
    items = parse(source).items
    edits = [edit for item in items for edit in _edits(item, name, value)]
    edits = edits or _only_model_with(items, name, value)
    if not edits:
        raise _fault(
            "E902",
            f"there is nothing named `{name}` to set",
            option,
            name,
            _suggestion(name, items, source.name),
        )
    text = source.text
    for edit in reversed(edits):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return Source(source.name, text)


def _edits(item: tree.Item, name: str, value: str) -> list[Edit]:
    """What to change in a definition that has a target called `name`; empty where it has none."""
    owner, dot, last = name.rpartition(".")
    match item:
        case tree.Const() if item.name == name:
            return [_instead(item.value, value)]
        case tree.Block(kind="model") if dot and item.name == owner:
            return _settings(item, last, value)
        case tree.Data() if dot and item.name == owner:
            return _rule(item, last, value)
        case tree.Job():
            return _rule(item, name, value) or _argument(item, name, value)
        case _:
            return []


def _only_model_with(items: Sequence[tree.Item], name: str, value: str) -> list[Edit]:
    """A setting of this name, of whichever model; nothing where several models have one."""
    models = [item for item in items if isinstance(item, tree.Block) and item.kind == "model"]
    found = [edits for model in models if (edits := _settings(model, name, value))]
    return found[0] if len(found) == 1 else []


def _settings(model: tree.Block, name: str, value: str) -> list[Edit]:
    for setting in model.settings:
        if setting.name == name and setting.default is not None:
            return [_instead(setting.default, value)]
        if setting.name == name:
            return [Edit(setting.span.end, setting.span.end, f" = {value}")]
    return []


def _rule(item: tree.Data | tree.Job, key: str, value: str) -> list[Edit]:
    """The rule `key` set; options of a training job are added where they are missing."""
    for rule in _rules(item):
        if rule.key == key:
            return [_instead(rule.value, value)]
    if isinstance(item, tree.Job) and item.kind == "train" and key in TRAIN_OPTIONS:
        brace = item.span.end - 1
        return [Edit(brace, brace, f"    {key} = {value}\n")]
    return []


def _argument(job: tree.Job, name: str, value: str) -> list[Edit]:
    """`optimizer.lr`: the argument `lr` of the call that is the value of `optimizer`."""
    key, dot, argument = name.partition(".")
    call = next((rule.value for rule in _rules(job) if rule.key == key), None) if dot else None
    if isinstance(call, tree.Name):
        return [Edit(call.span.end, call.span.end, f"({argument} = {value})")]
    if not isinstance(call, tree.Call):
        return []
    for given in call.arguments:
        if given.name == argument:
            return [_instead(given.value, value)]
    end = call.span.end - 1
    return [Edit(end, end, f"{', ' if call.arguments else ''}{argument} = {value}")]


def _rules(item: tree.Data | tree.Job) -> list[tree.Rule]:
    return [entry for entry in item.entries if isinstance(entry, tree.Rule)]


def _instead(value: tree.Expr, text: str) -> Edit:
    return Edit(value.span.start, value.span.end, text)


def _suggestion(name: str, items: Sequence[tree.Item], file: str) -> str:
    known = {target for item in items for target in _targets(item)}
    near = closest(name, known) or next((k for k in known if k.endswith(f".{name}")), None)
    if near:
        return f"did you mean `{near}`?"
    return f"{file} has {', '.join(sorted(known))}" if known else f"{file} has nothing to set"


def _targets(item: tree.Item) -> Iterable[str]:
    """The names by which `-D` reaches something in a definition."""
    match item:
        case tree.Const():
            return (item.name,)
        case tree.Block(kind="model"):
            return tuple(f"{item.name}.{setting.name}" for setting in item.settings)
        case tree.Data():
            return tuple(f"{item.name}.{rule.key}" for rule in _rules(item))
        case tree.Job():
            known = TRAIN_OPTIONS if item.kind == "train" else ()
            return (*(rule.key for rule in _rules(item)), *known)
        case _:
            return ()


def _fault(code: str, message: str, source: Source, part: str, help: str | None = None) -> DnnError:
    return DnnError(Diagnostic(code, message, Span(source, 0, len(part)), help=help))
