"""The LALR tables of `grammar/dnnc.lark`, as Lark makes them and `tables.json` ships them.

    python -m dnnc.syntax.tables    # make the shipped file anew, after the grammar has changed

The tables are plain data that `machine` interprets, with the digest of the grammar that they are
of. A grammar that is being worked on has another one: then Lark compiles it in each process.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["STARTS", "Rule", "Tables", "compile_grammar", "grammar_path", "load_tables"]

#: The symbols a text may be parsed as.
STARTS = ("start", "expression")

_SHIPPED = Path(__file__).with_name("tables.json")


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
    """The tables of the grammar as it is."""
    grammar = grammar_path().read_bytes()
    data = json.loads(_SHIPPED.read_bytes())
    if data["grammar"] != _digest(grammar):
        data = compile_grammar(grammar.decode())
    return _unpack(data)


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
    automaton = {
        number: {
            names[symbol]: _action(action, rules)
            for symbol, action in sorted(state.items(), key=lambda item: names[item[0]])
        }
        for number, state in table["states"].items()
    }
    # Lark's numbers differ from run to run; these follow from the grammar.
    order = _order(automaton, [table["start_states"][start] for start in STARTS])
    states = [
        {symbol: order[to] if to >= 0 else to for symbol, to in automaton[number].items()}
        for number in order
    ]
    terminals = [entry for entry in memo.values() if entry["__type__"] == "TerminalDef"]
    return {
        "rules": packed,
        "states": states,
        "starts": {start: order[table["start_states"][start]] for start in STARTS},
        "ends": {start: order[table["end_states"][start]] for start in STARTS},
        "patterns": _terminals(terminals, "PatternRE", lambda name, text: (name, text)),
        "literals": _terminals(terminals, "PatternStr", lambda name, text: (text, name)),
    }


def _order(automaton: dict[int, dict[str, int]], starts: list[int]) -> dict[int, int]:
    """A number for each state, in the order in which a walk from the first ones meets them."""
    found = {number: k for k, number in enumerate(starts)}
    waiting = list(starts)
    for number in waiting:
        for to in automaton[number].values():
            if to >= 0 and to not in found:
                found[to] = len(found)
                waiting.append(to)
    return found


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


def _digest(grammar: bytes) -> str:
    return hashlib.sha256(grammar).hexdigest()


def main() -> None:
    """Write the shipped tables."""
    grammar = grammar_path().read_bytes()
    data = {"grammar": _digest(grammar), **compile_grammar(grammar.decode())}
    # A line for each state, so that changes can be seen.
    parts = [f'"{name}": {_lines(value)}' for name, value in data.items()]
    _SHIPPED.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _lines(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) + "\n]"


if __name__ == "__main__":
    main()
