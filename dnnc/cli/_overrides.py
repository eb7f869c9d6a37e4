"""`-D name=value`: settings, options and constants of a file, replaced in its tree.

The tree is what the rest of the compiler sees, so that an override is checked like the text that it
replaces. A name is one of

    classes             a constant of the file
    epochs              an option of its jobs
    Digits.hidden       a setting of a model, or an option of a data block
    optimizer.lr        an argument of the call that is an option's value
    hidden              a setting, where one model alone has one of that name
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

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
from dnnc.syntax.parse import parse_expression

__all__ = ["override"]

register_codes(
    {
        "E901": "an option -D is not of the form name=value",
        "E902": "an option -D names nothing that can be set in the file",
    }
)

#: Options of a training job that may be given although the file leaves them out.
TRAIN_OPTIONS = ("batch", "clip", "epochs", "loss", "metrics", "optimizer", "seed", "stop")

Change: TypeAlias = Callable[[tree.Expr], tree.Item]


def override(file: tree.File, definitions: Sequence[str]) -> tree.File:
    """The tree with every `name=value` put in place; raises DnnError with all that do not fit."""
    errors = Collector()
    for definition in definitions:
        try:
            file = _override(file, definition)
        except DnnError as error:
            errors.add(error)
    errors.raise_if_any()
    return file


def _override(file: tree.File, definition: str) -> tree.File:
    # The whole option is the source of its value, so that errors show it as it was typed.
    source = Source("-D", definition)
    name, sign, text = definition.partition("=")
    name = name.strip()
    if not sign or not name or not text.strip():
        raise _fault("E901", f"`-D {definition}` is not of the form name=value", source, definition)
    value = parse_expression(Source(f"-D {name}", text.strip()))
    items = list(file.items)
    places = [index for index, item in enumerate(items) if _reaches(item, name)]
    if not places:
        places = _only_model_with(items, name)
    if not places:
        known = {target for item in items for target in _targets(item)}
        near = closest(name, known) or next((k for k in known if k.endswith(f".{name}")), None)
        listed = ", ".join(sorted(known - set(TRAIN_OPTIONS)) or sorted(known))
        help = f"did you mean `{near}`?" if near else f"{file.span.source.name} has {listed}"
        raise _fault("E902", f"there is nothing named `{name}` to set", source, name, help)
    for index in places:
        items[index] = _replaced(items[index], name, value)
    return replace(file, items=tuple(items))


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


def _reaches(item: tree.Item, name: str) -> bool:
    """Whether `name` is a target of the definition, or an argument of a call in its rules."""
    if name in _targets(item):
        return True
    key, dot, _ = name.partition(".")
    return (
        bool(dot)
        and isinstance(item, tree.Job)
        and any(rule.key == key and _as_call(rule.value) for rule in _rules(item))
    )


def _as_call(value: tree.Expr) -> tree.Call | None:
    """A call, or a bare name as a call without arguments: `adam` is `adam()`."""
    if isinstance(value, tree.Call):
        return value
    return tree.Call(value.span, value, ()) if isinstance(value, tree.Name) else None


def _rules(item: tree.Data | tree.Job) -> list[tree.Rule]:
    return [entry for entry in item.entries if isinstance(entry, tree.Rule)]


def _only_model_with(items: list[tree.Item], name: str) -> list[int]:
    """The place of the one model with a setting of this name; nothing where there are several."""
    found = [
        index
        for index, item in enumerate(items)
        if isinstance(item, tree.Block)
        and item.kind == "model"
        and any(setting.name == name for setting in item.settings)
    ]
    return found if len(found) == 1 else []


def _replaced(item: tree.Item, name: str, value: tree.Expr) -> tree.Item:
    """The definition with `name`, one of its targets, set to `value`."""
    last = name.rpartition(".")[2]
    match item:
        case tree.Const():
            return replace(item, value=value)
        case tree.Block():
            settings = tuple(
                replace(setting, default=value) if setting.name == last else setting
                for setting in item.settings
            )
            return replace(item, settings=settings)
        case tree.Data():
            return replace(item, entries=_with_rule(item.entries, last, value))
        case tree.Job():
            return replace(item, entries=_with_option(item, name, value))
        case _:
            raise AssertionError(f"{type(item).__name__} has no targets")


def _with_option(job: tree.Job, name: str, value: tree.Expr) -> tuple[tree.JobEntry, ...]:
    rules = {rule.key: rule for rule in _rules(job)}
    key, dot, argument = name.partition(".")
    call = _as_call(rules[key].value) if dot and name not in rules else None
    if call is None:
        return _with_rule(job.entries, name, value)
    others = tuple(given for given in call.arguments if given.name != argument)
    added = tree.Argument(value.span, argument, value)
    return _with_rule(job.entries, key, replace(call, arguments=(*others, added)))


def _with_rule(
    entries: tuple[tree.JobEntry, ...], key: str, value: tree.Expr
) -> tuple[tree.JobEntry, ...]:
    """The entries with the rule `key` set, or added at the end."""
    if not any(isinstance(entry, tree.Rule) and entry.key == key for entry in entries):
        return (*entries, tree.Rule(value.span, key, value))
    return tuple(
        replace(entry, value=value) if isinstance(entry, tree.Rule) and entry.key == key else entry
        for entry in entries
    )


def _fault(code: str, message: str, source: Source, part: str, help: str | None = None) -> DnnError:
    return DnnError(Diagnostic(code, message, Span(source, 0, len(part)), help=help))
