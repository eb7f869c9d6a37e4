"""The LALR tables of `grammar/dnnc.lark`: made by Lark once, kept as JSON in the cache.

Lark compiles the grammar; the tables are plain data that `machine` interprets. A run that finds
them in the cache imports no Lark.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dnnc.cache import Shelf

__all__ = ["STARTS", "Rule", "Tables", "compile_grammar", "grammar_path", "load_tables"]

#: The symbols a text may be parsed as.
STARTS = ("start", "expression")

#: Raised by one whenever the layout of the cached data changes.
FORMAT = 1
_SHELF = Shelf("parser", ".json", most=20)


@dataclass(frozen=True, slots=True)
class Rule:
    """One production.

    `action` names what is done with its parts: the alias, or the rule itself. `keep` tells which
    parts carry meaning. A rule that `passes` hands on its only part; a `run` is a repetition whose
    parts belong to the rule around it.
    """

    origin: str
    action: str
    size: int
    keep: tuple[bool, ...]
    passes: bool
    run: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """The automaton and the terminals.

    `states[s][symbol]` is the next state, or -1 - r for "reduce rule r". `patterns` holds the
    terminals given by an expression, `literals` the terminal of every fixed text.
    """

    rules: tuple[Rule, ...]
    states: tuple[dict[str, int], ...]
    starts: dict[str, int]
    ends: dict[str, int]
    patterns: dict[str, str]
    literals: dict[str, str]


def grammar_path() -> Path:
    """The grammar: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).parents[1]
    installed = package / "grammar" / "dnnc.lark"
    return installed if installed.exists() else package.parent / "grammar" / "dnnc.lark"


@lru_cache(maxsize=1)
def load_tables() -> Tables:
    """The tables from the cache, or compiled and stored there; a broken entry is made again."""
    grammar = grammar_path().read_bytes()
    key = _key(grammar)
    entry = _SHELF.read(key)
    if entry is None:
        entry = json.dumps(compile_grammar(grammar.decode()), separators=(",", ":")).encode()
        _SHELF.write(key, entry)
    return _unpack(json.loads(entry))


def compile_grammar(grammar: str, strict: bool = False) -> dict[str, Any]:
    """Run Lark over the grammar and give the tables as plain data."""
    from lark import Lark
    from lark.grammar import Rule as LarkRule
    from lark.lexer import TerminalDef

    parser = Lark(grammar, parser="lalr", start=list(STARTS), strict=strict)
    data, memo = parser.memo_serialize([TerminalDef, LarkRule])
    table = data["parser"]["parser"]
    rules: dict[int, int] = {}
    packed: list[list[Any]] = []
    for key, entry in memo.items():
        if entry["__type__"] == "Rule":
            rules[key] = len(packed)
            packed.append(_pack_rule(entry))
    names = table["tokens"]
    states = [
        {
            names[symbol]: _action(action, rules)
            for symbol, action in table["states"][number].items()
        }
        for number in range(len(table["states"]))
    ]
    terminals = [entry for entry in memo.values() if entry["__type__"] == "TerminalDef"]
    return {
        "rules": packed,
        "states": states,
        "starts": table["start_states"],
        "ends": table["end_states"],
        "patterns": _terminals(terminals, "PatternRE", lambda name, text: (name, text)),
        "literals": _terminals(terminals, "PatternStr", lambda name, text: (text, name)),
    }


def _terminals(terminals: list[dict[str, Any]], kind: str, entry: Any) -> dict[str, str]:
    return dict(
        entry(terminal["name"], terminal["pattern"]["value"])
        for terminal in terminals
        if terminal["pattern"]["__type__"] == kind
    )


def _action(action: tuple[int, Any], rules: dict[int, int]) -> int:
    reduces, target = action
    return -1 - rules[target["@"]] if reduces else int(target)


def _pack_rule(rule: dict[str, Any]) -> list[Any]:
    origin = rule["origin"]["name"]
    parts = rule["expansion"]
    passes = rule["options"]["expand1"] and rule["alias"] is None and len(parts) == 1
    keep = [not part.get("filter_out", False) for part in parts]
    return [origin, rule["alias"] or origin, len(parts), keep, passes, origin.startswith("_")]


def _unpack(data: dict[str, Any]) -> Tables:
    rules = tuple(
        Rule(origin, action, size, tuple(keep), passes, run)
        for origin, action, size, keep, passes, run in data["rules"]
    )
    return Tables(
        rules,
        tuple(data["states"]),
        data["starts"],
        data["ends"],
        data["patterns"],
        data["literals"],
    )


def _key(grammar: bytes) -> str:
    """Everything the tables depend on: the grammar, Lark, Python and this module's format."""
    digest = hashlib.sha256(grammar)
    spec = find_spec("lark")
    if spec is not None and spec.origin is not None:
        # The file holds Lark's version; importing Lark to ask for it would cost what is saved.
        digest.update(Path(spec.origin).read_bytes())
    digest.update(f"{sys.version_info[:3]} {FORMAT}".encode())
    return digest.hexdigest()
