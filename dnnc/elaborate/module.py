"""A file and its imports: every definition under its name, on top of the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dnnc.diagnostics import Collector, Diagnostic, DnnError, Note, Source, Span
from dnnc.elaborate.builtins import builtin_environment
from dnnc.elaborate.elaborator import Elaborator
from dnnc.elaborate.resolve import check_names
from dnnc.elaborate.session import PoisonError, Session
from dnnc.elaborate.values import BlockValue, Env, FunctionValue, Namespace, Poison
from dnnc.std import library_items
from dnnc.syntax import tree
from dnnc.syntax.parse import parse, read_source

__all__ = ["Module", "library_environment", "load_module", "survey_module"]

#: Files importing files; deeper is taken for a circle that changes its paths.
IMPORT_DEPTH = 32


@dataclass(slots=True, eq=False)
class Module:
    """One file: names in scope at its top level, and what it asks to be done."""

    source: Source
    env: Env
    models: dict[str, BlockValue] = field(default_factory=dict)
    datasets: dict[str, tree.Data] = field(default_factory=dict)
    jobs: list[tree.Job] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)  # this file and all it imports
    errors: Collector = field(default_factory=Collector)  # faults of its definitions

    @property
    def folder(self) -> Path:
        return Path(self.source.name).parent

    def constants(self) -> dict[str, Any]:
        """Constants by name, for data blocks."""
        plain = (int, float, str, bool, list)
        return {n: b.value for n, b in self.env.names.items() if isinstance(b.value, plain)}


@dataclass(frozen=True, slots=True)
class _Importing:
    """Files whose imports are being read, and those that have been."""

    stack: tuple[str, ...]
    modules: dict[str, Module] = field(default_factory=dict)


@lru_cache(maxsize=1)
def library_environment() -> Env:
    """Builtins, then every definition of the standard library."""
    env = Env(builtin_environment())
    for item in library_items():
        _define(item, env)
    return env


def _define(item: tree.Item, env: Env) -> None:
    if isinstance(item, tree.Function):
        env.define(item.name, FunctionValue(item, env), item.span)
    elif isinstance(item, tree.Block):
        env.define(item.name, BlockValue(item, env), item.name_span)


def load_module(source: Source, constants: Mapping[str, Any] | None = None) -> Module:
    """Parse a file and define its names; raises DnnError with every error found."""
    module = survey_module(source, constants)
    module.errors.raise_if_any()
    return module


def survey_module(
    source: Source,
    constants: Mapping[str, Any] | None = None,
    _importing: _Importing | None = None,
) -> Module:
    """Parse a file and define its names; raises DnnError where it cannot be parsed.

    Faults of definitions are kept in `errors`: what does not depend on them can still be checked.
    `constants` overrides constants of the file.
    """
    importing = _importing or _Importing(())
    file = parse(source)
    module = Module(source, Env(library_environment()), sources=[source])
    errors = module.errors
    session = Session(training=False, errors=errors)
    elaborator = Elaborator(session)
    for item in file.items:
        try:
            _add(item, module, elaborator, dict(constants or {}), importing)
        except (DnnError, PoisonError) as error:
            if isinstance(error, DnnError):
                errors.add(error)
            name = getattr(item, "name", None)
            if name and module.env.local(name) is None:
                module.env.define(name, Poison(), item.span)
    for diagnostic in check_names(file, module.env):
        errors.add(DnnError(diagnostic))
    return module


def _add(
    item: tree.Item, module: Module, el: Elaborator, constants: dict[str, Any],
    importing: _Importing,
) -> None:  # fmt: skip
    match item:
        case tree.Import():
            _import(item, module, importing)
        case tree.Const():
            _unique(item.name, item.span, module)
            value = (
                constants[item.name] if item.name in constants else el.expr(item.value, module.env)
            )
            module.env.define(item.name, value, item.span)
        case tree.Function() | tree.Block():
            _unique(item.name, getattr(item, "name_span", item.span), module)
            _distinct_names(item)
            _define(item, module.env)
            if isinstance(item, tree.Block) and item.kind == "model":
                module.models[item.name] = BlockValue(item, module.env)
        case tree.Data():
            _unique(item.name, item.name_span, module)
            module.env.define(item.name, item, item.name_span)
            module.datasets[item.name] = item
        case tree.Job():
            module.jobs.append(item)


def _unique(name: str, span: Span, module: Module) -> None:
    known = module.env.names.get(name)
    if known is not None:
        notes = (Note("it is defined here", known.span),) if known.span else ()
        raise DnnError(Diagnostic("E120", f"`{name}` is defined twice", span, notes=notes))


def _distinct_names(item: tree.Function | tree.Block) -> None:
    """E120 where settings, inputs and outputs share a name."""
    declared = [(setting.name, setting.span) for setting in item.settings]
    ports = [node for node in item.body if isinstance(node, tree.Port)]
    declared += [(name, port.span) for port in ports for name in port.names]
    seen: dict[str, Span] = {}
    for name, span in declared:
        if name in seen:
            notes = (Note("first here", seen[name]),)
            raise DnnError(Diagnostic("E120", f"`{name}` is declared twice", span, notes=notes))
        seen[name] = span


def _import(item: tree.Import, module: Module, importing: _Importing) -> None:
    path = module.folder / item.path.value
    key = str(path.resolve())
    here = str(Path(module.source.name).resolve())
    if key in (*importing.stack, here) or len(importing.stack) >= IMPORT_DEPTH:
        raise DnnError(Diagnostic("E121", f"`{item.path.value}` imports itself", item.path.span))
    if not path.is_file():
        raise DnnError(
            Diagnostic(
                "E122", f"there is no file `{path}`", item.path.span,
                help="paths are relative to the importing file",
            )
        )  # fmt: skip
    imported = importing.modules.get(key)
    if imported is None:
        inner = _Importing((*importing.stack, here), importing.modules)
        source = _imported_source(path, item)
        imported = importing.modules[key] = survey_module(source, _importing=inner)
        imported.errors.raise_if_any()
    module.sources.extend(s for s in imported.sources if s not in module.sources)
    name = item.name or path.stem
    _unique(name, item.span, module)
    module.env.define(name, Namespace(name, imported.env), item.span)


def _imported_source(path: Path, item: tree.Import) -> Source:
    try:
        return read_source(path)
    except DnnError as error:
        placed = [replace(d, span=item.path.span) for d in error.diagnostics]
        raise DnnError(placed) from None
