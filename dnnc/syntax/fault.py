"""A token the automaton refused, with everything around it that may tell why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dnnc.diagnostics import Source, Span
from dnnc.syntax.machine import Machine
from dnnc.syntax.structure import Structure
from dnnc.syntax.tokens import END, Token

__all__ = ["FRAMES", "Fault"]

#: The rules at which parsing can go on, innermost body first, each with a token that can only be
#: taken where such a part may begin.
FRAMES = {"statement": "PARAM", "entry": "MAXIMIZE", "item": "FN"}


@dataclass
class Fault:
    """The refused token, the text, and the automaton before it.

    Where the token is a misspelt keyword beyond doubt, `reading` is set to its right kind.
    """

    source: Source
    tokens: list[Token]
    index: int
    machine: Machine
    structure: Structure
    reading: str | None = None

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    @property
    def before(self) -> Token | None:
        return self.tokens[self.index - 1] if self.index else None

    @cached_property
    def expected(self) -> set[str]:
        """The kinds of token that could have stood here."""
        return self.machine.expected()

    @cached_property
    def frame(self) -> tuple[str, int]:
        """The kind of body around (`statement`, `entry`, `item`) and its current part's token."""
        for kind, whole in FRAMES.items():
            if whole in self.expected:
                # Everything before is complete, so that a new part begins with this token.
                return kind, self.index
        states, entries = self.machine.states, self.machine.entries
        for place in range(len(states) - 1, -1, -1):
            row = self.machine.table[states[place]]
            for kind in FRAMES:
                if kind in row:
                    return kind, self._token_at(entries[place].start)
        return "expression", 0

    def _token_at(self, offset: int) -> int:
        index = self.index
        while index and self.tokens[index].start > offset:
            index -= 1
        return index

    def span(self, token: Token) -> Span:
        """Where a token stands; for the end of the text, just behind the last token."""
        if token.kind == END and self.index:
            last = self.tokens[token.index - 1].end
            return Span(self.source, last, last)
        return Span(self.source, token.start, token.end)

    def shown(self, token: Token) -> str:
        return "end of the text" if token.kind == END else f"`{token.text}`"

    def follows_directly(self, index: int) -> bool:
        """Whether token `index` touches the one before it."""
        return index > 0 and self.tokens[index - 1].end == self.tokens[index].start

    def same_line(self, first: int, last: int) -> bool:
        return not any(token.first for token in self.tokens[first + 1 : last + 1])
