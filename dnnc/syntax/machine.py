"""The LALR(1) automaton: shifts tokens, reduces rules, and tells what it would accept.

What a rule means is the business of its `Actions`: the tree builder and the formatter drive the
same automaton with different ones. Nothing here recurses, so the depth of a text is limited by the
parser's own rules and never by Python's stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from dnnc.diagnostics import Diagnostic
from dnnc.syntax.tables import Tables
from dnnc.syntax.tokens import END, Token

__all__ = ["Actions", "Entry", "Machine", "Run"]


class Run(list[Any]):
    """The parts of a repetition, to be spliced into the rule around it."""


class Entry(NamedTuple):
    """A value on the stack, the characters `[start, end)` it was read from, and its depth."""

    value: Any
    start: int
    end: int
    depth: int


class Actions(Protocol):
    """What is made of the rules."""

    #: Whether fixed words and signs are handed over too, or only the parts with a meaning.
    wants_all_tokens: bool
    #: Faults found inside a token.
    faults: list[Diagnostic]

    def token(self, token: Token) -> Any:
        """The value of a shifted token; the end of the text comes last, its value is not used."""

    def reduce(self, action: str, parts: list[Any], entry: Entry) -> tuple[Any, int]:
        """The value of a rule, and its depth; `entry` has the span and the deepest part's depth."""


class Machine:
    """One parse in progress."""

    def __init__(self, tables: Tables, start: str, actions: Actions) -> None:
        self.rules, self.table = tables.rules, tables.states
        self.end_state = tables.ends[start]
        self.actions = actions
        self.states: list[int] = [tables.starts[start]]
        self.entries: list[Entry] = []

    @property
    def row(self) -> dict[str, int]:
        """The actions of the current state; names of rules in it are what may follow here."""
        return self.table[self.states[-1]]

    @property
    def result(self) -> Any:
        """The value of the whole text, once the end was fed."""
        return self.entries[-1].value

    def accepts(self, kind: str) -> bool:
        """Whether a token of this kind may come next, all pending reductions considered."""
        table, rules, states = self.table, self.rules, self.states
        below = len(states)  # states[:below] + above is the stack as it would be
        above: list[int] = []
        state = states[-1]
        while True:
            action = table[state].get(kind)
            if action is None:
                return False
            if action >= 0:
                return True
            rule = rules[-1 - action]
            if rule.size <= len(above):
                del above[len(above) - rule.size :]
            else:
                below -= rule.size - len(above)
                above.clear()
            state = table[above[-1] if above else states[below - 1]][rule.origin]
            above.append(state)
            if kind == END and state == self.end_state:
                return True

    def expected(self) -> set[str]:
        """The kinds of token that may come next."""
        return {kind for kind in self.row if kind.isupper() or kind == END if self.accepts(kind)}

    def feed(self, kind: str, token: Token) -> bool:
        """Take a token as one of this kind; False, and nothing changed, where it may not stand."""
        if not self.accepts(kind):
            return False
        self.settle(kind, token.start)
        value = self.actions.token(token)
        if kind != END:
            self.states.append(self.row[kind])
            self.entries.append(Entry(value, token.start, token.end, 0))
        return True

    def settle(self, kind: str, at: int) -> None:
        """Do the reductions due before an acceptable token of this kind, which begins at `at`."""
        states, table, rules = self.states, self.table, self.rules
        while (action := table[states[-1]][kind]) < 0:
            rule = rules[-1 - action]
            if rule.passes:
                states.pop()
            else:
                self._reduce(rule.action, rule.size, rule.keep, rule.run, at)
            states.append(table[states[-1]][rule.origin])
            if kind == END and states[-1] == self.end_state:
                return

    def unwind(self, symbols: Sequence[str]) -> bool:
        """Drop what is unfinished, back to where one of these rules may begin; whether any was."""
        before = len(self.states)
        while not any(symbol in self.row for symbol in symbols):
            self.states.pop()
            self.entries.pop()
        return len(self.states) < before

    def _reduce(self, action: str, size: int, keep: tuple[bool, ...], run: bool, at: int) -> None:
        entries = self.entries
        taken = entries[len(entries) - size :]
        if size:
            del entries[-size:], self.states[-size:]
        everything = self.actions.wants_all_tokens
        parts: list[Any] = Run()
        depth = 0
        for index, entry in enumerate(taken):
            depth = max(depth, entry.depth)
            if isinstance(entry.value, Run):
                if parts:
                    parts.extend(entry.value)
                else:
                    parts = entry.value
            elif everything or keep[index]:
                parts.append(entry.value)
        start, end = (taken[0].start, taken[-1].end) if taken else (at, at)
        entry = Entry(None, start, end, depth)
        if run:
            entries.append(Entry(parts, start, end, depth))
        else:
            value, depth = self.actions.reduce(action, parts, entry)
            entries.append(Entry(value, start, end, depth))
